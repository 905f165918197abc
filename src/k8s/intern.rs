// SPDX-License-Identifier: Apache-2.0
//! One allocation for each distinct value, however many objects mention it.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

/// Shares equal values: 100,000 endpoints name a few hundred nodes, and a few zones in their hints.
#[derive(Debug)]
pub struct Interner<T: ?Sized> {
    values: HashSet<Arc<T>>,
    /// At this size, values that nobody else holds any more are let go.
    sweep_at: usize,
}

impl<T: ?Sized> Default for Interner<T> {
    fn default() -> Self {
        Self { values: HashSet::new(), sweep_at: 1024 }
    }
}

impl<T: ?Sized + Eq + Hash> Interner<T> {
    pub fn get(&mut self, value: impl Borrow<T> + Into<Arc<T>>) -> Arc<T> {
        if let Some(known) = self.values.get(value.borrow()) {
            return Arc::clone(known);
        }
        if self.values.len() >= self.sweep_at {
            self.values.retain(|value| Arc::strong_count(value) > 1);
            self.sweep_at = (self.values.len() * 2).max(1024);
        }
        let value: Arc<T> = value.into();
        self.values.insert(Arc::clone(&value));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_share_one_allocation() {
        let mut interner = Interner::<str>::default();
        let (first, second) = (interner.get("zone-a"), interner.get("zone-a"));
        assert!(Arc::ptr_eq(&first, &second));
        assert!(!Arc::ptr_eq(&first, &interner.get("zone-b")));
    }

    #[test]
    fn names_nobody_holds_are_let_go() {
        let mut interner = Interner::<str>::default();
        let kept = interner.get("kept");
        for number in 0..10_000 {
            interner.get(format!("gone-{number}").as_str());
        }
        assert!(interner.values.len() <= 1025, "{} names kept", interner.values.len());
        assert!(Arc::ptr_eq(&kept, &interner.get("kept")));
    }
}
