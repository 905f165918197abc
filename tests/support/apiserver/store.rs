// SPDX-License-Identifier: Apache-2.0
//! Objects with their versions and history, as an API server keeps them.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

/// `namespace` is empty for nodes.
pub type Key = (String, String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    Services,
    EndpointSlices,
    Nodes,
    Pods,
}

impl Resource {
    pub const ALL: [Self; 4] = [Self::Services, Self::EndpointSlices, Self::Nodes, Self::Pods];

    pub fn plural(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::EndpointSlices => "endpointslices",
            Self::Nodes => "nodes",
            Self::Pods => "pods",
        }
    }

    pub fn kind(self) -> &'static str {
        match self {
            Self::Services => "Service",
            Self::EndpointSlices => "EndpointSlice",
            Self::Nodes => "Node",
            Self::Pods => "Pod",
        }
    }

    pub fn group(self) -> &'static str {
        if self == Self::EndpointSlices { "discovery.k8s.io" } else { "" }
    }

    pub fn api_version(self) -> &'static str {
        if self == Self::EndpointSlices { "discovery.k8s.io/v1" } else { "v1" }
    }

    pub fn path(self) -> String {
        let root = if self == Self::EndpointSlices { "/apis" } else { "/api" };
        format!("{root}/{}/{}", self.api_version(), self.plural())
    }

    /// The empty object that a bookmark carries.
    pub fn bookmark(self, version: u64, end_of_list: bool) -> Value {
        let mut object = match self {
            Self::Services => json!({"spec": {}, "status": {"loadBalancer": {}}}),
            Self::EndpointSlices => json!({"addressType": "", "endpoints": null, "ports": null}),
            Self::Nodes => json!({"spec": {}, "status": {"daemonEndpoints": {}, "nodeInfo": {}}}),
            Self::Pods => json!({"spec": {"containers": null}, "status": {}}),
        };
        object["kind"] = self.kind().into();
        object["apiVersion"] = self.api_version().into();
        object["metadata"] = json!({"resourceVersion": version.to_string()});
        if end_of_list {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        object
    }
}

/// One change. `before` and `after` are both there for a modification.
#[derive(Clone, Debug)]
pub struct Event {
    pub version: u64,
    pub resource: Resource,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

#[derive(Debug)]
pub struct Store {
    pub version: u64,
    objects: BTreeMap<(Resource, Key), Value>,
    history: Vec<Event>,
    /// Watches and pages from before this version are told 410.
    pub oldest: u64,
    /// Lists of which not all pages have been fetched.
    snapshots: HashMap<(Resource, u64), Vec<Value>>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            version: 100,
            objects: BTreeMap::new(),
            history: Vec::new(),
            oldest: 0,
            snapshots: HashMap::new(),
        }
    }
}

impl Store {
    /// Creates or replaces. `object` names its kind.
    pub fn set(&mut self, mut object: Value) {
        let kind = object["kind"].as_str().expect("an object has a kind").to_owned();
        let resource = Resource::ALL.into_iter().find(|r| r.kind() == kind).expect("a known kind");
        let key = key(&object);
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let before = self.objects.insert((resource, key), object.clone());
        self.record(resource, before, Some(object));
    }

    pub fn delete(&mut self, resource: Resource, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        let before = self.objects.remove(&(resource, key)).expect("the object is there");
        self.version += 1;
        self.record(resource, Some(before), None);
    }

    fn record(&mut self, resource: Resource, before: Option<Value>, after: Option<Value>) {
        self.history.push(Event { version: self.version, resource, before, after });
    }

    /// Drops the history; a client that needs it is told that it has expired.
    pub fn forget(&mut self) {
        self.history.clear();
        self.oldest = self.version;
    }

    /// Compacts: who comes with an older version is told so. Open watches are not disturbed.
    pub fn expire(&mut self) {
        self.version += 1;
        self.oldest = self.version;
        self.snapshots.clear();
    }

    pub fn list(&self, resource: Resource, wanted: &Selector) -> Vec<Value> {
        let all = self.objects.iter().filter(|((of, _), _)| *of == resource);
        all.map(|(_, object)| object.clone()).filter(|object| wanted.matches(object)).collect()
    }

    pub fn snapshot(&mut self, resource: Resource, objects: Vec<Value>) {
        self.snapshots.insert((resource, self.version), objects);
    }

    /// `None`: expired.
    pub fn rest(&self, resource: Resource, version: u64) -> Option<&Vec<Value>> {
        self.snapshots.get(&(resource, version))
    }

    /// What a watch that has seen `version` sees next.
    pub fn since(&self, resource: Resource, version: u64, wanted: &Selector) -> Vec<Value> {
        let seen = self.history.partition_point(|event| event.version <= version);
        let new = self.history[seen..].iter().filter(|event| event.resource == resource);
        new.filter_map(|event| wanted.event(event)).collect()
    }
}

fn key(object: &Value) -> Key {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

/// The selectors the agent uses: labels that must be absent, and fields as JSON pointers.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    pub absent_labels: Vec<String>,
    pub fields: Vec<(String, String)>,
}

impl Selector {
    pub fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.absent_labels.iter().all(|label| labels.get(label).is_none())
            && self.fields.iter().all(|(field, value)| {
                object.pointer(field).is_some_and(|found| found == value.as_str())
            })
    }

    /// An object that leaves the selection is deleted for this watch, one that enters is added.
    fn event(&self, event: &Event) -> Option<Value> {
        let before = event.before.as_ref().filter(|object| self.matches(object));
        let after = event.after.as_ref().filter(|object| self.matches(object));
        let (name, object) = match (before, after) {
            (None, None) => return None,
            (None, Some(after)) => ("ADDED", after),
            (Some(_), Some(after)) => ("MODIFIED", after),
            (Some(before), None) => ("DELETED", before),
        };
        let mut object = object.clone();
        object["metadata"]["resourceVersion"] = event.version.to_string().into();
        Some(json!({"type": name, "object": object}))
    }
}
