// SPDX-License-Identifier: Apache-2.0
//! `v1 Node`.

use super::{Decoded, Error, address, plain_name, wire};
use crate::model::{AddressKind, Node, NodeAddress, Object};

pub(super) fn decode(node: &wire::Node) -> Result<Decoded, Error> {
    let meta = &node.metadata;
    let name = plain_name("Node", meta)?.to_owned();
    let err = |field: String, fault| Error::new("Node", meta, field, fault);

    let mut addresses = Vec::new();
    let reported = node.status.as_ref().and_then(|status| status.addresses.as_deref());
    for (index, item) in reported.unwrap_or_default().iter().enumerate() {
        // The others (Hostname, InternalDNS, ExternalDNS) are names.
        let kind = match item.r#type.as_str() {
            "InternalIP" => AddressKind::Internal,
            "ExternalIP" => AddressKind::External,
            _ => continue,
        };
        let ip = address::ip(&item.address)
            .map_err(|fault| err(format!("status.addresses[{index}].address"), fault))?;
        addresses.push(NodeAddress { kind, ip });
    }

    let spec = node.spec.as_ref();
    let all = spec.and_then(|spec| spec.pod_cidrs.as_deref()).unwrap_or_default();
    let mut pod_cidrs = Vec::new();
    for (index, text) in all.iter().enumerate() {
        pod_cidrs.push(
            address::cidr(text).map_err(|fault| err(format!("spec.podCIDRs[{index}]"), fault))?,
        );
    }
    let one = spec.and_then(|spec| spec.pod_cidr.as_deref()).filter(|cidr| !cidr.is_empty());
    if let (true, Some(text)) = (pod_cidrs.is_empty(), one) {
        pod_cidrs.push(address::cidr(text).map_err(|fault| err("spec.podCIDR".into(), fault))?);
    }

    let taints = spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    Ok(Decoded::Ours(Object::Node(Node {
        name,
        addresses,
        pod_cidrs,
        labels: meta.labels.clone().unwrap_or_default(),
        taints: taints.iter().map(|taint| taint.key.clone()).collect(),
        deleting: meta.deletion_timestamp.is_some(),
    })))
}
