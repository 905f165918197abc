// SPDX-License-Identifier: Apache-2.0
//! `v1 Service`.

use std::net::IpAddr;

use super::{Decoded, Decoder, Error, Fault, HEADLESS, NotOurs};
use super::{address, annotations, label, optional_port, port, protocol, wire};
use crate::model::{
    IngressAddress, Object, ObjectKey, Service, ServicePort, ServiceType, TrafficDistribution,
    TrafficPolicy,
};

/// What the API server writes where `sessionAffinityConfig` is absent, in seconds.
const AFFINITY_TIMEOUT: i64 = 10_800;

pub(super) fn decode(decoder: &mut Decoder, service: &wire::Service) -> Result<Decoded, Error> {
    let meta = &service.metadata;
    let name = decoder.name("Service", meta)?;
    let err = |field: String, fault| Error::new("Service", meta, field, fault);

    let Some(spec) = &service.spec else {
        return Err(err("spec".into(), Fault::Missing));
    };
    let r#type = match spec.r#type.as_deref() {
        Some("ExternalName") => {
            return Ok(Decoded::NotOurs(ObjectKey::Service(name), NotOurs::ExternalName));
        }
        None | Some("" | "ClusterIP") => ServiceType::ClusterIp,
        Some("NodePort") => ServiceType::NodePort,
        Some("LoadBalancer") => ServiceType::LoadBalancer,
        Some(other) => {
            let expected = "ClusterIP, NodePort, LoadBalancer or ExternalName";
            return Err(err("spec.type".into(), Fault::Unknown { value: other.into(), expected }));
        }
    };
    let first_ip = spec.cluster_ips.as_ref().and_then(|all| all.first()).map(String::as_str);
    if spec.cluster_ip.as_deref().or(first_ip) == Some("None") || label(meta, HEADLESS).is_some() {
        return Ok(Decoded::NotOurs(ObjectKey::Service(name), NotOurs::Headless));
    }
    if decoder.is_other_proxys(meta) {
        return Ok(Decoded::NotOurs(ObjectKey::Service(name), NotOurs::OtherProxy));
    }

    let is_api_server = (&*name.namespace, &*name.name) == ("default", "kubernetes");
    let service = Service {
        name,
        r#type,
        cluster_ips: cluster_ips(spec).map_err(|(field, fault)| err(field, fault))?,
        external_ips: ips("spec.externalIPs", spec.external_ips.as_deref())
            .map_err(|(field, fault)| err(field, fault))?,
        ingress: ingress(service.status.as_ref()).map_err(|(field, fault)| err(field, fault))?,
        ports: ports(r#type, spec).map_err(|(field, fault)| err(field, fault))?,
        external_policy: policy(spec.external_traffic_policy.as_deref())
            .map_err(|fault| err("spec.externalTrafficPolicy".into(), fault))?,
        internal_policy: policy(spec.internal_traffic_policy.as_deref())
            .map_err(|fault| err("spec.internalTrafficPolicy".into(), fault))?,
        affinity_timeout: affinity(spec).map_err(|(field, fault)| err(field, fault))?,
        source_ranges: each(
            "spec.loadBalancerSourceRanges",
            spec.load_balancer_source_ranges.as_deref(),
            |text| address::cidr(text),
        )
        .map_err(|(field, fault)| err(field, fault))?,
        load_balancer_class: spec.load_balancer_class.clone().filter(|class| !class.is_empty()),
        health_check_node_port: optional_port(spec.health_check_node_port)
            .map_err(|fault| err("spec.healthCheckNodePort".into(), fault))?,
        distribution: distribution(spec.traffic_distribution.as_deref()),
        annotations: annotations(meta),
        cluster: meta.uid.clone().filter(|_| is_api_server),
    };
    if !has_frontend(&service) {
        return Err(err("spec".into(), Fault::NoFrontend));
    }
    Ok(Decoded::Ours(Object::Service(service)))
}

type Field<T> = Result<T, (String, Fault)>;

fn each<T, U>(
    field: &str,
    items: Option<&[T]>,
    decode: impl Fn(&T) -> Result<U, Fault>,
) -> Field<Vec<U>> {
    let items = items.unwrap_or_default();
    // Collecting would leave room for four.
    let mut all = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        all.push(decode(item).map_err(|fault| (format!("{field}[{index}]"), fault))?);
    }
    Ok(all)
}

fn ips(field: &str, items: Option<&[String]>) -> Field<Vec<IpAddr>> {
    each(field, items, |text| address::ip(text))
}

/// `clusterIPs`, or `clusterIP` where a manifest names only that.
fn cluster_ips(spec: &wire::ServiceSpec) -> Field<Vec<IpAddr>> {
    match (spec.cluster_ips.as_deref(), spec.cluster_ip.as_deref()) {
        (Some(all @ [_, ..]), _) => ips("spec.clusterIPs", Some(all)),
        (_, None | Some("")) => Ok(Vec::new()),
        (_, Some(one)) => address::ip(one)
            .map(|ip| vec![ip])
            .map_err(|fault| ("spec.clusterIP".to_owned(), fault)),
    }
}

/// Entries with only a host name have no address to serve.
fn ingress(status: Option<&wire::ServiceStatus>) -> Field<Vec<IngressAddress>> {
    let entries = status
        .and_then(|status| status.load_balancer.as_ref())
        .and_then(|load_balancer| load_balancer.ingress.as_deref())
        .unwrap_or_default();
    let mut addresses = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let Some(text) = entry.ip.as_deref().filter(|ip| !ip.is_empty()) else { continue };
        let ip = address::ip(text)
            .map_err(|fault| (format!("status.loadBalancer.ingress[{index}].ip"), fault))?;
        // KEP-1860: absent means VIP; what is neither must not be short-circuited.
        let proxied = entry.ip_mode.as_deref().is_some_and(|mode| mode != "VIP");
        addresses.push(IngressAddress { ip, proxied });
    }
    Ok(addresses)
}

fn ports(r#type: ServiceType, spec: &wire::ServiceSpec) -> Field<Vec<ServicePort>> {
    let items = spec.ports.as_deref().unwrap_or_default();
    if items.is_empty() {
        return Err(("spec.ports".into(), Fault::Missing));
    }
    let mut ports: Vec<ServicePort> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let at = |field: &str| format!("spec.ports[{index}].{field}");
        let number = item.port.ok_or_else(|| (at("port"), Fault::Missing))?;
        let decoded = ServicePort {
            name: item.name.clone().unwrap_or_default(),
            protocol: protocol(item.protocol.as_deref())
                .map_err(|fault| (at("protocol"), fault))?,
            port: port(number).map_err(|fault| (at("port"), fault))?,
            node_port: optional_port(item.node_port)
                .map_err(|fault| (at("nodePort"), fault))?
                .filter(|_| r#type != ServiceType::ClusterIp),
        };
        if ports.iter().any(|other| other.name == decoded.name) {
            return Err((at("name"), Fault::Duplicate(decoded.name)));
        }
        if ports.iter().any(|o| (o.protocol, o.port) == (decoded.protocol, decoded.port)) {
            let twice = format!("{}/{}", decoded.port, decoded.protocol.name());
            return Err((at("port"), Fault::Duplicate(twice)));
        }
        ports.push(decoded);
    }
    Ok(ports)
}

fn policy(text: Option<&str>) -> Result<TrafficPolicy, Fault> {
    match text {
        None | Some("" | "Cluster") => Ok(TrafficPolicy::Cluster),
        Some("Local") => Ok(TrafficPolicy::Local),
        Some(other) => Err(Fault::Unknown { value: other.into(), expected: "Cluster or Local" }),
    }
}

fn affinity(spec: &wire::ServiceSpec) -> Field<Option<u32>> {
    match spec.session_affinity.as_deref() {
        None | Some("" | "None") => return Ok(None),
        Some("ClientIP") => {}
        Some(other) => {
            let fault = Fault::Unknown { value: other.into(), expected: "None or ClientIP" };
            return Err(("spec.sessionAffinity".into(), fault));
        }
    }
    let config = spec.session_affinity_config.as_ref();
    let seconds = config
        .and_then(|config| config.client_ip.as_ref()?.timeout_seconds)
        .unwrap_or(AFFINITY_TIMEOUT);
    u32::try_from(seconds).ok().filter(|seconds| (1..=86_400).contains(seconds)).map(Some).ok_or((
        "spec.sessionAffinityConfig.clientIP.timeoutSeconds".into(),
        Fault::OutOfRange { value: seconds, min: 1, max: 86_400 },
    ))
}

/// Values of later Kubernetes versions mean no preference that we know how to follow.
fn distribution(text: Option<&str>) -> Option<TrafficDistribution> {
    match text? {
        "PreferClose" | "PreferSameZone" => Some(TrafficDistribution::PreferSameZone),
        "PreferSameNode" => Some(TrafficDistribution::PreferSameNode),
        _ => None,
    }
}

fn has_frontend(service: &Service) -> bool {
    !service.cluster_ips.is_empty()
        || !service.external_ips.is_empty()
        || !service.ingress.is_empty()
        || service.ports.iter().any(|port| port.node_port.is_some())
}
