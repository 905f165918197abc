// SPDX-License-Identifier: Apache-2.0
//! `discovery.k8s.io/v1 EndpointSlice`.

use std::net::IpAddr;
use std::sync::Arc;

use ::kube::api::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use super::{Decoded, Decoder, Error, Fault, HEADLESS, NotOurs};
use super::{address, annotations, label, port, protocol, wire};
use crate::model::{Endpoint, EndpointSlice, Hints, Object, ObjectKey, ObjectName, SlicePort};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

pub(super) fn decode(decoder: &mut Decoder, slice: &wire::EndpointSlice) -> Result<Decoded, Error> {
    let meta = &slice.metadata;
    let name = decoder.name("EndpointSlice", meta)?;
    let err = |field: String, fault| Error::new("EndpointSlice", meta, field, fault);

    let Some(service) = label(meta, SERVICE_NAME).filter(|name| !name.is_empty()) else {
        return Ok(Decoded::NotOurs(ObjectKey::Slice(name), NotOurs::NoService));
    };
    if label(meta, HEADLESS).is_some() {
        return Ok(Decoded::NotOurs(ObjectKey::Slice(name), NotOurs::Headless));
    }
    if decoder.is_other_proxys(meta) {
        return Ok(Decoded::NotOurs(ObjectKey::Slice(name), NotOurs::OtherProxy));
    }
    let family = match slice.address_type.as_deref() {
        Some("IPv4") => "IPv4",
        Some("IPv6") => "IPv6",
        Some("FQDN") => return Ok(Decoded::NotOurs(ObjectKey::Slice(name), NotOurs::Fqdn)),
        None | Some("") => return Err(err("addressType".into(), Fault::Missing)),
        Some(other) => {
            let fault = Fault::Unknown { value: other.into(), expected: "IPv4, IPv6 or FQDN" };
            return Err(err("addressType".into(), fault));
        }
    };

    let mut endpoints = Vec::with_capacity(slice.endpoints.as_ref().map_or(0, Vec::len));
    for (index, item) in slice.endpoints.iter().flatten().enumerate() {
        let ip = first_address(item, family)
            .map_err(|fault| err(format!("endpoints[{index}].addresses[0]"), fault))?;
        endpoints.push(endpoint(decoder, item, ip));
    }
    let service =
        ObjectName { namespace: Arc::clone(&name.namespace), name: decoder.names.get(service) };
    Ok(Decoded::Ours(Object::Slice(EndpointSlice {
        name,
        service,
        ports: ports(slice).map_err(|(field, fault)| err(field, fault))?,
        endpoints,
        triggered: triggered(meta),
        annotations: annotations(meta),
    })))
}

fn first_address(item: &wire::Endpoint, family: &'static str) -> Result<IpAddr, Fault> {
    let text = item.addresses.as_ref().and_then(|all| all.first()).ok_or(Fault::Missing)?;
    let ip = address::ip(text)?;
    if ip.is_ipv4() == (family == "IPv4") {
        Ok(ip)
    } else {
        Err(Fault::WrongFamily { value: text.clone(), expected: family })
    }
}

fn endpoint(decoder: &mut Decoder, item: &wire::Endpoint, ip: IpAddr) -> Endpoint {
    let conditions = item.conditions.unwrap_or_default();
    let ready = conditions.ready.unwrap_or(true);
    let node = item.node_name.as_deref().filter(|name| !name.is_empty());
    Endpoint {
        ip,
        ready,
        serving: conditions.serving.unwrap_or(true),
        terminating: conditions.terminating.unwrap_or(false),
        node: node.map(|name| decoder.names.get(name)),
        hints: item.hints.as_ref().and_then(|wanted| hints(decoder, wanted)),
    }
}

fn hints(decoder: &mut Decoder, wanted: &wire::Hints) -> Option<Arc<Hints>> {
    let mut names = |hints: &Option<Vec<wire::Hint>>| -> Vec<Arc<str>> {
        hints.iter().flatten().map(|hint| decoder.names.get(hint.name.as_str())).collect()
    };
    let hints = Hints { zones: names(&wanted.for_zones), nodes: names(&wanted.for_nodes) };
    (hints != Hints::default()).then(|| decoder.hints.get(hints))
}

/// A port without a number means every port; no proxy can serve it, and it is left out.
fn ports(slice: &wire::EndpointSlice) -> Result<Vec<SlicePort>, (String, Fault)> {
    let mut ports = Vec::with_capacity(slice.ports.as_ref().map_or(0, Vec::len));
    for (index, item) in slice.ports.iter().flatten().enumerate() {
        let Some(number) = item.port else { continue };
        ports.push(SlicePort {
            name: item.name.clone().unwrap_or_default(),
            protocol: protocol(item.protocol.as_deref())
                .map_err(|fault| (format!("ports[{index}].protocol"), fault))?,
            port: port(number).map_err(|fault| (format!("ports[{index}].port"), fault))?,
        });
    }
    Ok(ports)
}

/// Serves only a metric, so a malformed one is no reason to refuse the slice.
fn triggered(meta: &ObjectMeta) -> Option<i64> {
    let text = meta.annotations.as_ref()?.get(TRIGGER_TIME)?;
    i64::try_from(text.parse::<Timestamp>().ok()?.as_nanosecond()).ok()
}
