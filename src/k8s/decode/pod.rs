// SPDX-License-Identifier: Apache-2.0
//! `v1 Pod`.

use std::net::IpAddr;

use super::{Decoded, Decoder, Error, Fault};
use super::{address, annotations, optional_port, port, protocol, wire};
use crate::model::{HostPort, Object, Pod};

pub(super) fn decode(decoder: &mut Decoder, pod: &wire::Pod) -> Result<Decoded, Error> {
    let meta = &pod.metadata;
    let name = decoder.name("Pod", meta)?;
    let err = |(field, fault): (String, Fault)| Error::new("Pod", meta, field, fault);

    let spec = pod.spec.as_ref();
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    Ok(Decoded::Ours(Object::Pod(Pod {
        name,
        uid: meta.uid.clone().unwrap_or_default(),
        created: meta.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
        node: spec.and_then(|spec| spec.node_name.clone()).filter(|node| !node.is_empty()),
        ips: ips(status).map_err(err)?,
        host_network: spec.and_then(|spec| spec.host_network).unwrap_or(false),
        finished: matches!(phase, Some("Succeeded" | "Failed")),
        host_ports: spec.map_or_else(|| Ok(Vec::new()), host_ports).map_err(err)?,
        annotations: annotations(meta),
    })))
}

/// `podIPs`, or `podIP` where only that is set. A pod without a sandbox has none yet.
fn ips(status: Option<&wire::PodStatus>) -> Result<Vec<IpAddr>, (String, Fault)> {
    let Some(status) = status else { return Ok(Vec::new()) };
    let mut ips = Vec::new();
    for (index, item) in status.pod_ips.iter().flatten().enumerate() {
        let Some(text) = item.ip.as_deref().filter(|ip| !ip.is_empty()) else { continue };
        let ip = address::ip(text);
        ips.push(ip.map_err(|fault| (format!("status.podIPs[{index}].ip"), fault))?);
    }
    let one = status.pod_ip.as_deref().filter(|ip| !ip.is_empty());
    if let (true, Some(text)) = (ips.is_empty(), one) {
        ips.push(address::ip(text).map_err(|fault| ("status.podIP".into(), fault))?);
    }
    Ok(ips)
}

fn host_ports(spec: &wire::PodSpec) -> Result<Vec<HostPort>, (String, Fault)> {
    let sidecar =
        |container: &&wire::Container| container.restart_policy.as_deref() == Some("Always");
    let main = spec.containers.iter().flatten().enumerate().map(|(i, c)| ("containers", i, c));
    let side = spec.init_containers.iter().flatten().enumerate();
    let side = side.filter(|(_, c)| sidecar(c)).map(|(i, c)| ("initContainers", i, c));

    let mut host_ports = Vec::new();
    for (list, index, container) in main.chain(side) {
        for (number, item) in container.ports.iter().flatten().enumerate() {
            let at = |field: &str| format!("spec.{list}[{index}].ports[{number}].{field}");
            let host_port =
                optional_port(item.host_port).map_err(|fault| (at("hostPort"), fault))?;
            let Some(host_port) = host_port else { continue };
            let wanted =
                item.container_port.ok_or_else(|| (at("containerPort"), Fault::Missing))?;
            let host_ip = item.host_ip.as_deref().filter(|ip| !ip.is_empty());
            host_ports.push(HostPort {
                host_ip: host_ip
                    .map(address::ip)
                    .transpose()
                    .map_err(|fault| (at("hostIP"), fault))?,
                host_port,
                container_port: port(wanted).map_err(|fault| (at("containerPort"), fault))?,
                protocol: protocol(item.protocol.as_deref())
                    .map_err(|fault| (at("protocol"), fault))?,
            });
        }
    }
    Ok(host_ports)
}
