// SPDX-License-Identifier: Apache-2.0
//! API objects to model values.
//!
//! A value that cannot be used is an [`Error`] that names object and field, and costs only that
//! object. Objects that are well but not Culvert's to serve come back as [`Decoded::NotOurs`].

mod address;
mod error;
mod node;
mod pod;
mod service;
mod slice;

use std::collections::BTreeMap;

use ::kube::api::ObjectMeta;
use serde::de::DeserializeOwned;

use super::intern::Interner;
use super::wire;
use crate::model::{Hints, Kind, Object, ObjectKey, ObjectName, Protocol};
pub use error::{Error, Fault};

/// Set by the slice controllers on slices of headless services.
pub(super) const HEADLESS: &str = "service.kubernetes.io/headless";
/// Names another proxy than the cluster's default one.
pub(super) const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// Annotations under these prefixes are kept: our own, and those people bring along.
const ANNOTATIONS: [&str; 5] =
    ["culvert.io/", "service.culvert.io/", "service.cilium.io/", "io.cilium/", "cilium.io/"];

/// What became of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    Ours(Object),
    NotOurs(ObjectKey, NotOurs),
}

/// Why an object is none of our business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOurs {
    /// `clusterIP: None`, or a slice of such a service.
    Headless,
    /// `type: ExternalName` is DNS alone.
    ExternalName,
    /// The label `service.kubernetes.io/service-proxy-name` names another proxy.
    OtherProxy,
    /// A slice without the label `kubernetes.io/service-name` belongs to no service.
    NoService,
    /// `addressType: FQDN`.
    Fqdn,
}

/// Turns API objects into model values, sharing the names they have in common.
#[derive(Debug, Default)]
pub struct Decoder {
    names: Interner<str>,
    hints: Interner<Hints>,
    proxy_name: Option<String>,
}

impl Decoder {
    /// `proxy_name` is the value of the label `service.kubernetes.io/service-proxy-name` that
    /// Culvert answers to, next to objects without that label.
    pub fn new(proxy_name: Option<String>) -> Self {
        Self { proxy_name, ..Self::default() }
    }

    /// `namespace/name`; an absent namespace is `default`, as for `kubectl apply`.
    fn name(&mut self, kind: &'static str, meta: &ObjectMeta) -> Result<ObjectName, Error> {
        let name = plain_name(kind, meta)?;
        let namespace = meta.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        Ok(ObjectName {
            namespace: self.names.get(namespace.unwrap_or("default")),
            name: self.names.get(name),
        })
    }

    fn is_other_proxys(&self, meta: &ObjectMeta) -> bool {
        label(meta, PROXY_NAME).is_some_and(|name| self.proxy_name.as_deref() != Some(name))
    }
}

/// An API object that Culvert reads.
pub trait Wire: ::kube::Resource<DynamicType = ()> + DeserializeOwned {
    const KIND: Kind;

    /// The key of the object, for a deletion: nothing but its name is looked at.
    ///
    /// # Errors
    /// The object has no name.
    fn key(&self, decoder: &mut Decoder) -> Result<ObjectKey, Error>;

    /// # Errors
    /// A value of the object cannot be used.
    fn decode(&self, decoder: &mut Decoder) -> Result<Decoded, Error>;
}

impl Wire for wire::Service {
    const KIND: Kind = Kind::Service;

    fn key(&self, decoder: &mut Decoder) -> Result<ObjectKey, Error> {
        decoder.name("Service", &self.metadata).map(ObjectKey::Service)
    }

    fn decode(&self, decoder: &mut Decoder) -> Result<Decoded, Error> {
        service::decode(decoder, self)
    }
}

impl Wire for wire::EndpointSlice {
    const KIND: Kind = Kind::EndpointSlice;

    fn key(&self, decoder: &mut Decoder) -> Result<ObjectKey, Error> {
        decoder.name("EndpointSlice", &self.metadata).map(ObjectKey::Slice)
    }

    fn decode(&self, decoder: &mut Decoder) -> Result<Decoded, Error> {
        slice::decode(decoder, self)
    }
}

impl Wire for wire::Node {
    const KIND: Kind = Kind::Node;

    fn key(&self, _: &mut Decoder) -> Result<ObjectKey, Error> {
        plain_name("Node", &self.metadata).map(|name| ObjectKey::Node(name.to_owned()))
    }

    fn decode(&self, _: &mut Decoder) -> Result<Decoded, Error> {
        node::decode(self)
    }
}

impl Wire for wire::Pod {
    const KIND: Kind = Kind::Pod;

    fn key(&self, decoder: &mut Decoder) -> Result<ObjectKey, Error> {
        decoder.name("Pod", &self.metadata).map(ObjectKey::Pod)
    }

    fn decode(&self, decoder: &mut Decoder) -> Result<Decoded, Error> {
        pod::decode(decoder, self)
    }
}

fn plain_name<'m>(kind: &'static str, meta: &'m ObjectMeta) -> Result<&'m str, Error> {
    meta.name
        .as_deref()
        .filter(|name| !name.is_empty())
        .ok_or_else(|| Error::new(kind, meta, "metadata.name", Fault::Missing))
}

fn label<'m>(meta: &'m ObjectMeta, key: &str) -> Option<&'m str> {
    meta.labels.as_ref()?.get(key).map(String::as_str)
}

/// The annotations that mean something to us.
fn annotations(meta: &ObjectMeta) -> BTreeMap<String, String> {
    let known = |key: &str| ANNOTATIONS.iter().any(|prefix| key.starts_with(prefix));
    let all = meta.annotations.iter().flatten();
    all.filter(|(key, _)| known(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// `protocol`, which the API server sets to TCP where it is absent.
fn protocol(text: Option<&str>) -> Result<Protocol, Fault> {
    match text {
        None | Some("" | "TCP") => Ok(Protocol::Tcp),
        Some("UDP") => Ok(Protocol::Udp),
        Some("SCTP") => Ok(Protocol::Sctp),
        Some(other) => {
            Err(Fault::Unknown { value: other.to_owned(), expected: "TCP, UDP or SCTP" })
        }
    }
}

fn port(number: i64) -> Result<u16, Fault> {
    u16::try_from(number).ok().filter(|port| *port != 0).ok_or(Fault::OutOfRange {
        value: number,
        min: 1,
        max: 65535,
    })
}

/// A port where 0 means none.
fn optional_port(number: Option<i64>) -> Result<Option<u16>, Fault> {
    number.filter(|number| *number != 0).map(port).transpose()
}
