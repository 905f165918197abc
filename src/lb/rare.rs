// SPDX-License-Identifier: Apache-2.0
//! Collections that few services have anything in.

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};

/// One word while it is empty; a collection itself is three, in each of some 10,000 records.
#[derive(Debug)]
pub(super) struct Rare<C>(Option<Box<C>>);

impl<C> Default for Rare<C> {
    fn default() -> Self {
        Self(None)
    }
}

/// A collection that has a constant for itself without anything in it.
pub(super) trait Empty: Default + 'static {
    const EMPTY: &'static Self;
    fn has_none(&self) -> bool;
}

impl<T: 'static> Empty for Vec<T> {
    const EMPTY: &'static Self = &Self::new();
    fn has_none(&self) -> bool {
        self.is_empty()
    }
}

impl<T: 'static> Empty for BTreeSet<T> {
    const EMPTY: &'static Self = &Self::new();
    fn has_none(&self) -> bool {
        self.is_empty()
    }
}

impl<C: Empty> Deref for Rare<C> {
    type Target = C;

    fn deref(&self) -> &C {
        self.0.as_deref().unwrap_or(C::EMPTY)
    }
}

impl<C: Empty> DerefMut for Rare<C> {
    fn deref_mut(&mut self) -> &mut C {
        self.0.get_or_insert_default()
    }
}

impl<C: Empty> Rare<C> {
    pub(super) fn take(&mut self) -> C {
        self.0.take().map(|all| *all).unwrap_or_default()
    }

    /// Gives back the place of a collection in which nothing is left.
    pub(super) fn shrink(&mut self) {
        if self.0.as_ref().is_some_and(|all| all.has_none()) {
            self.0 = None;
        }
    }
}

impl<T: 'static> FromIterator<T> for Rare<Vec<T>> {
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Self {
        let all: Vec<T> = all.into_iter().collect();
        if all.is_empty() { Self(None) } else { Self(Some(Box::new(all))) }
    }
}
