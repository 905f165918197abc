// SPDX-License-Identifier: Apache-2.0
//! What the files of a directory hold, and what of it changed since the last look.
//!
//! Objects are not kept here, only which file and which document each came from: a document whose
//! text did not change is not parsed again. A file with something wrong in it takes nothing away:
//! what it held before and now lacks may be in the very document that cannot be read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::claims::{Claims, Dropped};
use super::document::split;
use super::files::{self, Stamp};
use super::parse::{Job, Parsed, parse_documents};
use crate::model::{Change, Kind, Object, ObjectKey, Problem};

/// Bytes of text held at once while many files are read.
const BATCH: usize = 2 << 20;

#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    proxy_name: Option<String>,
    hasher: RandomState,
    files: BTreeMap<Arc<str>, File>,
    claims: Claims,
}

#[derive(Debug, Default)]
struct File {
    stamp: Option<Stamp>,
    /// What each document holds. The hash of its text, unless something was wrong with it: that
    /// is told anew each time, as its line may have moved.
    documents: Vec<(Option<u64>, Vec<ObjectKey>)>,
    /// Held by an earlier version and not seen since, because the file has not been whole since.
    kept: Vec<ObjectKey>,
    problems: Vec<Problem>,
}

impl File {
    fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.documents.iter().flat_map(|(_, keys)| keys).chain(&self.kept)
    }
}

impl Directory {
    pub fn new(path: PathBuf, proxy_name: Option<String>) -> Self {
        Self {
            path,
            proxy_name,
            hasher: RandomState::new(),
            files: BTreeMap::new(),
            claims: Claims::default(),
        }
    }

    /// Looks at every file.
    ///
    /// # Errors
    /// The directory cannot be listed. Nothing is taken as gone.
    pub fn scan(&mut self) -> io::Result<Vec<Change>> {
        let mut names: BTreeSet<Arc<str>> = files::names(&self.path)?;
        names.extend(self.files.keys().cloned());
        Ok(self.compare(&names, |file| file.stamp))
    }

    /// Looks at the files named. They are read even where their stamps did not move: two changes
    /// within one tick of the kernel's clock leave the same stamp.
    pub fn look(&mut self, names: &BTreeSet<Arc<str>>) -> Vec<Change> {
        self.compare(names, |_| None)
    }

    fn compare(
        &mut self,
        names: &BTreeSet<Arc<str>>,
        stamp: impl Fn(&File) -> Option<Stamp>,
    ) -> Vec<Change> {
        let mut changes = Changes::default();
        let mut changed = Vec::new();
        let mut size = 0;
        for name in names {
            let before = self.files.get(name).and_then(&stamp);
            match files::read(&self.path.join(&**name), before) {
                Ok(files::Content::Unchanged) => {}
                Ok(files::Content::Gone) => self.forget(name, &mut changes),
                Ok(files::Content::Text(stamp, text)) => {
                    size += text.len();
                    changed.push((Arc::clone(name), stamp, text));
                }
                Err(error) => {
                    let message = format!("cannot be read ({error}); what it held stays in force");
                    let problem = Problem { subject: self.origin(name), message };
                    let file = self.files.entry(Arc::clone(name)).or_default();
                    (file.stamp, file.problems) = (None, vec![problem]);
                }
            }
            if size >= BATCH {
                self.take(&std::mem::take(&mut changed), &mut changes);
                size = 0;
            }
        }
        self.take(&changed, &mut changes);
        self.reload(&mut changes);
        changes.list()
    }

    fn forget(&mut self, name: &Arc<str>, changes: &mut Changes) {
        let Some(file) = self.files.remove(name) else { return };
        let keys: BTreeSet<_> = file.keys().cloned().collect();
        keys.into_iter().for_each(|key| self.drop_claim(key, name, changes));
    }

    pub fn problems(&self) -> Vec<Problem> {
        let files = self.files.values().flat_map(|file| &file.problems).cloned();
        files
            .chain(self.claims.contested().map(|(key, first, other)| Problem {
                subject: self.origin(other),
                message: format!(
                    "{} is also in `{first}`, which is used; remove it from one of the two",
                    describe(key)
                ),
            }))
            .collect()
    }

    /// Parses what is new in the changed files and takes it over.
    fn take(&mut self, changed: &[(Arc<str>, Stamp, String)], changes: &mut Changes) {
        let origins: Vec<_> = changed.iter().map(|(name, ..)| self.origin(name)).collect();
        let mut jobs = Vec::new();
        let mut versions = Vec::new();
        for ((name, stamp, text), origin) in changed.iter().zip(&origins) {
            let old = self.files.remove(name).unwrap_or_default();
            let before: BTreeSet<_> = old.keys().cloned().collect();
            let mut known: HashMap<u64, Vec<ObjectKey>> =
                old.documents.into_iter().filter_map(|(hash, keys)| Some((hash?, keys))).collect();
            let mut documents = Vec::new();
            for document in split(text) {
                let hash = self.hasher.hash_one(document.text);
                let keys = known.remove(&hash);
                if keys.is_none() {
                    jobs.push(Job { document, origin });
                }
                documents.push((hash, keys));
            }
            versions.push(Version { name, origin, stamp: *stamp, before, documents });
        }
        let mut parsed = parse_documents(&jobs, self.proxy_name.as_deref()).into_iter();
        for version in versions {
            self.replace(version, &mut parsed, changes);
        }
    }

    fn replace(
        &mut self,
        version: Version<'_>,
        parsed: &mut impl Iterator<Item = Parsed>,
        changes: &mut Changes,
    ) {
        let Version { name, origin, stamp, before, documents } = version;
        let mut file = File { stamp: Some(stamp), ..File::default() };
        let problem = |message| Problem { subject: origin.to_owned(), message };
        if documents.is_empty() && !before.is_empty() {
            // Half-way between truncation and writing, more often than not.
            file.problems.push(problem("is empty; delete it to take away what it held".into()));
        }
        let mut seen = BTreeSet::new();
        for (hash, known) in documents {
            if let Some(keys) = known {
                seen.extend(keys.iter().cloned());
                file.documents.push((Some(hash), keys));
                continue;
            }
            let fresh = parsed.next().unwrap_or_default();
            let problems = file.problems.len();
            file.problems.extend(fresh.problems);
            let mut keys = Vec::with_capacity(fresh.objects.len());
            for object in fresh.objects {
                let key = object.key();
                if !seen.insert(key.clone()) {
                    let message = format!("{} is there twice; the first is used", describe(&key));
                    file.problems.push(problem(message));
                    continue;
                }
                if self.claims.add(&key, name) {
                    changes.set(key.clone(), object);
                }
                keys.push(key);
            }
            let sound = file.problems.len() == problems;
            file.documents.push((sound.then_some(hash), keys));
        }
        let missing: Vec<_> = before.into_iter().filter(|key| !seen.contains(key)).collect();
        if file.problems.is_empty() {
            missing.into_iter().for_each(|key| self.drop_claim(key, name, changes));
        } else {
            file.kept = missing;
        }
        self.files.insert(Arc::clone(name), file);
    }

    fn drop_claim(&mut self, key: ObjectKey, name: &Arc<str>, changes: &mut Changes) {
        match self.claims.drop(&key, name) {
            Dropped::Nothing => {}
            Dropped::Object => changes.remove(key),
            Dropped::Owner(heir) => {
                changes.heirs.entry(heir).or_default().insert(key);
            }
        }
    }

    /// Fetches objects whose first file no longer has them from the next file that does.
    fn reload(&mut self, changes: &mut Changes) {
        for (name, wanted) in std::mem::take(&mut changes.heirs) {
            let Ok(files::Content::Text(_, text)) = files::read(&self.path.join(&*name), None)
            else {
                continue; // It has just changed again, and is looked at again.
            };
            let origin = self.origin(&name);
            let jobs: Vec<_> = split(&text)
                .into_iter()
                .map(|document| Job { document, origin: &origin })
                .collect();
            for object in parse_documents(&jobs, self.proxy_name.as_deref())
                .into_iter()
                .flat_map(|parsed| parsed.objects)
            {
                let key = object.key();
                if wanted.contains(&key) {
                    changes.set_if_absent(key, object);
                }
            }
        }
    }

    fn origin(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }
}

/// A changed file, cut into documents.
struct Version<'c> {
    name: &'c Arc<str>,
    origin: &'c str,
    stamp: Stamp,
    /// All that the version before it held.
    before: BTreeSet<ObjectKey>,
    /// The hash of each document, and what it holds if it was there before.
    documents: Vec<(u64, Option<Vec<ObjectKey>>)>,
}

/// The outcome of one look, one entry an object.
#[derive(Debug, Default)]
struct Changes {
    objects: BTreeMap<ObjectKey, Option<Object>>,
    heirs: BTreeMap<Arc<str>, BTreeSet<ObjectKey>>,
}

impl Changes {
    fn set(&mut self, key: ObjectKey, object: Object) {
        self.objects.insert(key, Some(object));
    }

    fn set_if_absent(&mut self, key: ObjectKey, object: Object) {
        self.objects.entry(key).or_insert(Some(object));
    }

    fn remove(&mut self, key: ObjectKey) {
        self.objects.insert(key, None);
    }

    fn list(self) -> Vec<Change> {
        let change = |(key, object)| match object {
            Some(object) => Change::Set(object),
            None => Change::Removed(key),
        };
        self.objects.into_iter().map(change).collect()
    }
}

fn describe(key: &ObjectKey) -> String {
    match key {
        ObjectKey::Service(name) => format!("{} `{name}`", Kind::Service.name()),
        ObjectKey::Slice(name) => format!("{} `{name}`", Kind::EndpointSlice.name()),
        ObjectKey::Node(name) => format!("{} `{name}`", Kind::Node.name()),
        ObjectKey::Pod(name) => format!("{} `{name}`", Kind::Pod.name()),
    }
}
