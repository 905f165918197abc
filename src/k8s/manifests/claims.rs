// SPDX-License-Identifier: Apache-2.0
//! Which file has the word on an object that several files hold: the first by name.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::ObjectKey;

#[derive(Debug, Default)]
pub(super) struct Claims(HashMap<ObjectKey, Claim>);

#[derive(Debug)]
struct Claim {
    owner: Arc<str>,
    /// Nearly always empty.
    others: Vec<Arc<str>>,
}

/// What the end of a claim leaves.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Dropped {
    /// Another file had the word all along.
    Nothing,
    /// No file holds the object any more.
    Object,
    /// This file has the word now.
    Owner(Arc<str>),
}

impl Claims {
    /// Whether `file`, which holds `key`, has the word on it.
    pub fn add(&mut self, key: &ObjectKey, file: &Arc<str>) -> bool {
        let Some(claim) = self.0.get_mut(key) else {
            let claim = Claim { owner: Arc::clone(file), others: Vec::new() };
            self.0.insert(key.clone(), claim);
            return true;
        };
        if claim.owner == *file {
            return true;
        }
        if *file < claim.owner {
            claim.others.retain(|other| other != file);
            claim.others.push(std::mem::replace(&mut claim.owner, Arc::clone(file)));
            return true;
        }
        if !claim.others.contains(file) {
            claim.others.push(Arc::clone(file));
        }
        false
    }

    pub fn drop(&mut self, key: &ObjectKey, file: &Arc<str>) -> Dropped {
        let Some(claim) = self.0.get_mut(key) else { return Dropped::Nothing };
        if claim.owner != *file {
            claim.others.retain(|other| other != file);
            return Dropped::Nothing;
        }
        let first = claim.others.iter().enumerate().min_by_key(|(_, other)| Arc::clone(other));
        match first.map(|(index, _)| index) {
            Some(index) => {
                claim.owner = claim.others.swap_remove(index);
                Dropped::Owner(Arc::clone(&claim.owner))
            }
            None => {
                self.0.remove(key);
                Dropped::Object
            }
        }
    }

    /// Objects in more than one file: which, the file that is used, one that is not.
    pub fn contested(&self) -> impl Iterator<Item = (&ObjectKey, &Arc<str>, &Arc<str>)> {
        self.0.iter().flat_map(|(key, claim)| {
            claim.others.iter().map(move |other| (key, &claim.owner, other))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_by_name_has_the_word_whatever_the_order_of_arrival() {
        let key = ObjectKey::Node("n1".into());
        let [a, b, c] = ["a", "b", "c"].map(Arc::<str>::from);
        let mut claims = Claims::default();
        assert!(claims.add(&key, &b));
        assert!(!claims.add(&key, &c));
        assert!(claims.add(&key, &a));
        assert!(!claims.add(&key, &c));
        assert_eq!(claims.contested().count(), 2);
        assert_eq!(claims.drop(&key, &a), Dropped::Owner(b.clone()));
        assert_eq!(claims.drop(&key, &c), Dropped::Nothing);
        assert_eq!(claims.contested().count(), 0);
        assert_eq!(claims.drop(&key, &b), Dropped::Object);
        assert_eq!(claims.drop(&key, &b), Dropped::Nothing);
    }
}
