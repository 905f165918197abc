// SPDX-License-Identifier: Apache-2.0
//! The text of a file to model objects. What cannot be used is named, the rest is not held up.

use std::thread;

use serde::Deserialize;
use serde_json::Value;

use super::document::{Document, split};
use super::header::{Header, Meaning};
use super::yaml;
use crate::k8s::decode::{self, Decoded, Decoder, NotOurs, Wire};
use crate::k8s::wire;
use crate::model::{Kind, Object, ObjectKey, Problem};

/// From here on a second thread earns its start.
const PARALLEL_FROM: usize = 256;

/// The objects of `text` that are Culvert's to serve, in their order, and a problem for each
/// document that cannot be used. Kinds that Culvert does not read are passed over in silence.
///
/// `origin` names the text in problems: the file's path.
pub fn parse(text: &str, origin: &str) -> (Vec<Object>, Vec<Problem>) {
    let (mut objects, mut problems) = (Vec::new(), Vec::new());
    let jobs: Vec<_> = split(text).into_iter().map(|document| Job { document, origin }).collect();
    for parsed in parse_documents(&jobs, None) {
        objects.extend(parsed.objects);
        problems.extend(parsed.problems);
    }
    (objects, problems)
}

/// What one document held.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub objects: Vec<Object>,
    /// Well, and not Culvert's to serve.
    pub not_ours: Vec<(ObjectKey, NotOurs)>,
    pub problems: Vec<Problem>,
}

/// A document to parse.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job<'t> {
    pub document: Document<'t>,
    /// Names the file in problems.
    pub origin: &'t str,
}

/// Parses documents on all processors. The answer has one entry a job, in their order.
pub(super) fn parse_documents(jobs: &[Job<'_>], proxy_name: Option<&str>) -> Vec<Parsed> {
    let run = |jobs: &[Job<'_>]| -> Vec<Parsed> {
        let mut decoder = Decoder::new(proxy_name.map(str::to_owned));
        jobs.iter().map(|job| one(&job.document, job.origin, &mut decoder)).collect()
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    if threads == 1 || jobs.len() < PARALLEL_FROM {
        return run(jobs);
    }
    thread::scope(|scope| {
        let share = jobs.len().div_ceil(threads);
        let parts: Vec<_> = jobs.chunks(share).map(|part| scope.spawn(move || run(part))).collect();
        parts.into_iter().flat_map(|part| part.join().expect("parsing does not panic")).collect()
    })
}

/// Why a document, or an item of a list, is of no use.
enum Fault {
    Syntax(yaml::Error),
    Object(decode::Error),
}

fn one(document: &Document<'_>, origin: &str, decoder: &mut Decoder) -> Parsed {
    let mut parsed = Parsed::default();
    let mut take = |result: Result<Option<Decoded>, Fault>, prefix: &str| match result {
        Ok(None) => {}
        Ok(Some(Decoded::NotOurs(key, why))) => parsed.not_ours.push((key, why)),
        Ok(Some(Decoded::Ours(object))) => {
            // Nearly always the only one; room for four of them in 20,000 documents is 20 MB.
            if parsed.objects.is_empty() {
                parsed.objects.reserve_exact(1);
            }
            parsed.objects.push(object);
        }
        Err(fault) => parsed.problems.push(problem(fault, document, origin, prefix)),
    };
    let meaning = match Header::of(document.text) {
        Ok(header) => header.meaning(),
        Err(error) => {
            take(Err(Fault::Syntax(error)), "");
            return parsed;
        }
    };
    match meaning {
        Meaning::Foreign => {}
        Meaning::Wrong(message) => {
            take(Err(Fault::Syntax(yaml::Error { line: 0, field: String::new(), message })), "");
        }
        Meaning::One(kind) => {
            let result = match kind {
                Kind::Service => typed::<wire::Service>(document.text, decoder),
                Kind::EndpointSlice => typed::<wire::EndpointSlice>(document.text, decoder),
                Kind::Node => typed::<wire::Node>(document.text, decoder),
                Kind::Pod => typed::<wire::Pod>(document.text, decoder),
            };
            take(result, "");
        }
        Meaning::List(kind) => match yaml::parse::<List>(document.text) {
            Err(error) => take(Err(Fault::Syntax(error)), ""),
            Ok(list) => {
                for (index, value) in list.items.into_iter().flatten().enumerate() {
                    take(item(kind, value, decoder), &format!("items[{index}]."));
                }
            }
        },
    }
    parsed
}

#[derive(Deserialize)]
struct List {
    items: Option<Vec<Value>>,
}

/// One item of a list. In a list of one kind the items need not name their kind.
fn item(kind: Option<Kind>, value: Value, decoder: &mut Decoder) -> Result<Option<Decoded>, Fault> {
    let syntax = |field: String, message| Fault::Syntax(yaml::Error { line: 0, field, message });
    let kind = match kind {
        Some(kind) => kind,
        None => {
            let text = |field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
            let header = Header { api_version: text("apiVersion"), kind: text("kind") };
            match header.meaning() {
                Meaning::One(kind) => kind,
                Meaning::Foreign => return Ok(None),
                Meaning::List(_) => {
                    return Err(syntax("kind".into(), "a list inside a list".into()));
                }
                Meaning::Wrong(message) => return Err(syntax(String::new(), message)),
            }
        }
    };
    match kind {
        Kind::Service => from_value::<wire::Service>(value, decoder),
        Kind::EndpointSlice => from_value::<wire::EndpointSlice>(value, decoder),
        Kind::Node => from_value::<wire::Node>(value, decoder),
        Kind::Pod => from_value::<wire::Pod>(value, decoder),
    }
}

fn from_value<T: Wire>(value: Value, decoder: &mut Decoder) -> Result<Option<Decoded>, Fault> {
    let wire: T = serde_path_to_error::deserialize(value).map_err(|error| {
        let field = error.path().to_string();
        Fault::Syntax(yaml::Error { line: 0, field, message: error.into_inner().to_string() })
    })?;
    ours(wire.decode(decoder))
}

fn typed<T: Wire>(text: &str, decoder: &mut Decoder) -> Result<Option<Decoded>, Fault> {
    let wire: T = yaml::parse(text).map_err(Fault::Syntax)?;
    ours(wire.decode(decoder))
}

fn ours(decoded: Result<Decoded, decode::Error>) -> Result<Option<Decoded>, Fault> {
    match decoded.map_err(Fault::Object)? {
        // An API server has such slices for reasons of its own; in a file it is a slip.
        Decoded::NotOurs(_, NotOurs::NoService) => Err(Fault::Syntax(yaml::Error {
            line: 0,
            field: "metadata.labels".into(),
            message: "no `kubernetes.io/service-name`; name the service of this slice".into(),
        })),
        decoded => Ok(Some(decoded)),
    }
}

fn problem(fault: Fault, document: &Document<'_>, origin: &str, prefix: &str) -> Problem {
    let (object, line, field, joint, message) = match fault {
        Fault::Syntax(error) => (None, error.line, error.field, ": ", error.message),
        Fault::Object(error) => (Some(error.object), 0, error.field, " ", error.fault.to_string()),
    };
    let field = if field.is_empty() { field } else { format!("{prefix}{field}") };
    let line = match line {
        0 => yaml::line_of(document.text, if field.is_empty() { prefix } else { &field }),
        line => line,
    };
    let mut subject =
        format!("{origin} document {} line {}", document.number, document.line_offset + line);
    if let Some(object) = object {
        subject.push_str(&format!(" ({object})"));
    }
    let message = if field.is_empty() { message } else { format!("`{field}`{joint}{message}") };
    Problem { subject, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n\
                        spec:\n  clusterIP: 10.96.0.10\n  ports:\n  - port: 80\n";

    fn problems(text: &str) -> Vec<(String, String)> {
        parse(text, "a.yaml").1.into_iter().map(|p| (p.subject, p.message)).collect()
    }

    #[test]
    fn a_bad_document_is_named_and_the_good_beside_it_are_used() {
        let text = format!(
            "{GOOD}---\napiVersion: v1\nkind: Service\nmetadata:\n  name: far\nspec:\n  \
             clusterIP: 10.96.0.11\n  ports:\n  - name: a\n    port: 80\n  - name: b\n    \
             port: 70000\n---\n{}",
            GOOD.replace("web", "api")
        );
        let (objects, _) = parse(&text, "a.yaml");
        let names: Vec<_> = objects
            .iter()
            .map(|object| match object {
                Object::Service(service) => service.name.to_string(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(names, ["shop/web", "shop/api"]);
        assert_eq!(
            problems(&text),
            [(
                "a.yaml document 2 line 19 (Service far)".to_owned(),
                "`spec.ports[1].port` is 70000, not a number from 1 to 65535".to_owned()
            )]
        );
    }

    #[test]
    fn a_value_of_the_wrong_type_is_named_with_field_and_line() {
        let text = GOOD.replace("port: 80", "port: eighty");
        let found = problems(&text);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, "a.yaml document 1 line 7");
        assert_eq!(found[0].1, "`spec.ports[0].port`: not a whole number");
    }

    #[test]
    fn text_that_is_no_yaml_is_named_with_its_line() {
        let found = problems("apiVersion: v1\nkind: Service\nspec: [1, 2\nmetadata: {\n");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].0.starts_with("a.yaml document 1 line "), "{}", found[0].0);
        assert!(!found[0].1.contains('\n'), "{}", found[0].1);
    }

    #[test]
    fn the_items_of_a_list_are_taken_one_by_one() {
        let text = "kind: List\napiVersion: v1\nitems:\n\
            - {apiVersion: v1, kind: ConfigMap}\n\
            - apiVersion: v1\n  kind: Service\n  metadata: {name: a}\n  \
              spec: {clusterIP: 10.96.0.1, ports: [{port: 1}]}\n\
            - apiVersion: v1\n  kind: Service\n  metadata: {name: b}\n  \
              spec: {clusterIP: 10.96.0.1.1, ports: [{port: 1}]}\n";
        assert_eq!(parse(text, "a.yaml").0.len(), 1);
        assert_eq!(
            problems(text),
            [(
                "a.yaml document 1 line 12 (Service b)".to_owned(),
                "`items[2].spec.clusterIP` is `10.96.0.1.1`, not an IP address".to_owned()
            )]
        );
    }

    #[test]
    fn a_slice_without_its_service_is_named() {
        let text = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: web-1\n\
                    addressType: IPv4\n";
        let found = problems(text);
        assert_eq!(found[0].0, "a.yaml document 1 line 4");
        assert!(found[0].1.contains("kubernetes.io/service-name"), "{}", found[0].1);
    }

    #[test]
    fn many_documents_keep_their_order() {
        let text: Vec<_> = (0..1000).map(|n| GOOD.replace("web", &format!("web-{n}"))).collect();
        let (objects, problems) = parse(&text.join("---\n"), "a.yaml");
        assert_eq!(problems, []);
        for (number, object) in objects.iter().enumerate() {
            let Object::Service(service) = object else { panic!("{object:?}") };
            assert_eq!(service.name.to_string(), format!("shop/web-{number}"));
        }
        assert_eq!(objects.len(), 1000);
    }
}
