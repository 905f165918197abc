// SPDX-License-Identifier: Apache-2.0
//! Looks for one service in the files, whoever's it is.

use std::io;
use std::path::Path;

use super::document::split;
use super::files;
use super::parse::{Job, parse_documents};
use crate::k8s::Found;
use crate::model::{ObjectKey, ObjectName};

/// What the files of `directory` have under `name`.
///
/// # Errors
/// The directory cannot be listed.
pub fn find(directory: &Path, proxy_name: Option<&str>, name: &ObjectName) -> io::Result<Found> {
    let key = ObjectKey::Service(name.clone());
    let mut unusable = None;
    for file in files::names(directory)? {
        let path = directory.join(&*file);
        let Ok(files::Content::Text(_, text)) = files::read(&path, None) else { continue };
        let origin = path.display().to_string();
        let jobs: Vec<_> =
            split(&text).into_iter().map(|document| Job { document, origin: &origin }).collect();
        for parsed in parse_documents(&jobs, proxy_name) {
            if parsed.objects.iter().any(|object| object.key() == key) {
                return Ok(Found::Ours);
            }
            if let Some((_, why)) = parsed.not_ours.iter().find(|(other, _)| *other == key) {
                return Ok(Found::NotOurs(*why));
            }
            // A problem names its object at the end, without a namespace where it has none.
            let named = |subject: &str| {
                let short = &*name.namespace == "default"
                    && subject.ends_with(&format!("(Service {})", name.name));
                short || subject.ends_with(&format!("(Service {name})"))
            };
            let problem = parsed.problems.into_iter().find(|problem| named(&problem.subject));
            unusable = unusable.or(problem.map(|p| format!("{}: {}", p.subject, p.message)));
        }
    }
    Ok(unusable.map_or(Found::Nothing, Found::Unusable))
}
