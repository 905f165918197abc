// SPDX-License-Identifier: Apache-2.0
//! One allocation for each distinct name, however many objects mention it.

use std::collections::HashSet;
use std::sync::Arc;

/// Shares equal strings: 100,000 endpoints name a few hundred nodes and zones.
#[derive(Debug)]
pub struct Interner {
    names: HashSet<Arc<str>>,
    /// At this size, names that nobody else holds any more are let go.
    sweep_at: usize,
}

impl Default for Interner {
    fn default() -> Self {
        Self { names: HashSet::new(), sweep_at: 1024 }
    }
}

impl Interner {
    pub fn get(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return Arc::clone(known);
        }
        if self.names.len() >= self.sweep_at {
            self.names.retain(|name| Arc::strong_count(name) > 1);
            self.sweep_at = (self.names.len() * 2).max(1024);
        }
        let name: Arc<str> = name.into();
        self.names.insert(Arc::clone(&name));
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_share_one_allocation() {
        let mut interner = Interner::default();
        let (first, second) = (interner.get("zone-a"), interner.get("zone-a"));
        assert!(Arc::ptr_eq(&first, &second));
        assert!(!Arc::ptr_eq(&first, &interner.get("zone-b")));
    }

    #[test]
    fn names_nobody_holds_are_let_go() {
        let mut interner = Interner::default();
        let kept = interner.get("kept");
        for number in 0..10_000 {
            interner.get(&format!("gone-{number}"));
        }
        assert!(interner.names.len() <= 1025, "{} names kept", interner.names.len());
        assert!(Arc::ptr_eq(&kept, &interner.get("kept")));
    }
}
