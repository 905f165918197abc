// SPDX-License-Identifier: Apache-2.0
//! Where the plan's objects differ from what a source lists.

use std::collections::BTreeSet;

use crate::lb::balancer::Balancer;
use crate::model::{Change, EndpointSlice, Kind, Object, ObjectKey, Pod, Problem, Service};

/// The names of the fields in which two structs differ.
macro_rules! differing_fields {
    ($one:expr, $other:expr, [$($field:ident),+ $(,)?]) => {{
        let mut fields: Vec<&str> = Vec::new();
        $(if $one.$field != $other.$field {
            fields.push(stringify!($field).trim_start_matches("r#"));
        })+
        fields.join(", ")
    }};
}

impl Balancer {
    /// Every service, slice and pod of `listed` that is known otherwise here, and those that only
    /// one of the two has. Pods without hostPorts are of no interest.
    pub fn source_differences(&self, listed: &[Change]) -> Vec<(ObjectKey, Problem)> {
        let mut found = Vec::new();
        for change in listed {
            let Change::Listed(kind, objects) = change else { continue };
            let mut extra = self.known(*kind);
            for object in objects {
                let Some(key) = self.judged(object) else { continue };
                let here = extra.remove(&key);
                let message = match (here, self.unlike(object)) {
                    (true, None) => continue,
                    (true, Some(fields)) => {
                        format!("the source has another version of it: {fields} differ")
                    }
                    (false, _) => "the source has it and the agent does not know it".to_owned(),
                };
                found.push((key, message));
            }
            let message = "the agent knows it and the source does not have it";
            found.extend(extra.into_iter().map(|key| (key, message.to_owned())));
        }
        let problem = |(key, message): (ObjectKey, String)| {
            let problem = Problem { subject: key.to_string(), message };
            (key, problem)
        };
        found.into_iter().map(problem).collect()
    }

    fn known(&self, kind: Kind) -> BTreeSet<ObjectKey> {
        match kind {
            Kind::Service => self.objects().names().cloned().map(ObjectKey::Service).collect(),
            Kind::EndpointSlice => {
                self.objects().slice_names().cloned().map(ObjectKey::Slice).collect()
            }
            Kind::Pod => self.pod_names().cloned().map(ObjectKey::Pod).collect(),
            Kind::Node => BTreeSet::new(),
        }
    }

    /// None: nothing here depends on the object.
    fn judged(&self, object: &Object) -> Option<ObjectKey> {
        match object {
            Object::Pod(pod) if !self.keeps_pod(pod) => None,
            Object::Node(_) => None,
            _ => Some(object.key()),
        }
    }

    /// The fields in which what is known here differs; None: in none.
    fn unlike(&self, object: &Object) -> Option<String> {
        let fields = match object {
            Object::Service(service) => {
                let ours = self.objects().service(&service.name)?;
                service_fields(ours, service)
            }
            Object::Slice(slice) => slice_fields(self.objects().slice(&slice.name)?, slice),
            Object::Pod(pod) => pod_fields(self.pod(&pod.name)?, pod),
            Object::Node(_) => String::new(),
        };
        (!fields.is_empty()).then_some(fields)
    }
}

fn service_fields(ours: &Service, theirs: &Service) -> String {
    differing_fields!(
        ours,
        theirs,
        [
            r#type,
            cluster_ips,
            external_ips,
            ingress,
            ports,
            external_policy,
            internal_policy,
            affinity_timeout,
            source_ranges,
            load_balancer_class,
            health_check_node_port,
            distribution,
            annotations,
        ]
    )
}

fn slice_fields(ours: &EndpointSlice, theirs: &EndpointSlice) -> String {
    differing_fields!(ours, theirs, [service, ports, endpoints, triggered])
}

fn pod_fields(ours: &Pod, theirs: &Pod) -> String {
    differing_fields!(ours, theirs, [uid, created, node, ips, host_ports, annotations])
}
