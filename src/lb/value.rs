// SPDX-License-Identifier: Apache-2.0
//! What the maps hold for one frontend, its address and its clients' ranges.

use std::time::Duration;

use super::annotations::Annotations;
use super::endpoints::Ranges;
use super::frontends::Serve;
use super::list::List;
use crate::abi::{
    Addr, SERVICE_AFFINITY, SERVICE_DELEGATE, SERVICE_DSR, SERVICE_HAS_ENDPOINTS, SERVICE_RANDOM,
    SERVICE_SOURCE_RANGES, SERVICE_SOURCE_RANGES_DENY, Service, ServiceKey, ServiceKind,
    SourceRangeKey, VIP_CLUSTER_IP, VIP_EXTERNAL, VIP_FOREIGN, ticks,
};
use crate::model::{self, ServiceType, TrafficPolicy};

/// The policies for clients outside and inside the cluster. None: not served to the outside, so a
/// packet for it that comes in from there is not ours.
pub(super) fn policies(
    service: &model::Service,
    kind: ServiceKind,
) -> (Option<TrafficPolicy>, TrafficPolicy) {
    match kind {
        ServiceKind::ClusterIp => (None, service.internal_policy),
        _ => (Some(service.external_policy), TrafficPolicy::Cluster),
    }
}

/// What `services` holds for one frontend.
pub(super) fn value(
    service: &model::Service,
    annotations: &Annotations,
    list: &List,
    ranges: Ranges,
    (key, kind): (&ServiceKey, ServiceKind),
    serve: &Serve,
) -> Service {
    let (outside, inside) = policies(service, kind);
    // The node's own sockets may name a loopback address; no packet comes to it honestly.
    let outside = outside.filter(|_| !key.vip.ip().is_loopback());
    let outside = outside.map(|policy| ranges.under(policy)).unwrap_or_default();
    let inside = ranges.under(inside);
    let mut flags = 0;
    if ranges.cluster.count > 0 {
        flags |= SERVICE_HAS_ENDPOINTS;
    }
    if service.affinity_timeout.is_some() {
        flags |= SERVICE_AFFINITY;
    }
    if is_ranged(kind, serve) && source_ranges(service, list).next().is_some() {
        flags |= SERVICE_SOURCE_RANGES;
        if annotations.deny {
            flags |= SERVICE_SOURCE_RANGES_DENY;
        }
    }
    if kind != ServiceKind::ClusterIp && kind != ServiceKind::HostPort && annotations.delegate {
        flags |= SERVICE_DELEGATE;
    }
    if serve.forwarding.is_dsr(service, annotations, kind, list.key.protocol) {
        flags |= SERVICE_DSR;
    }
    Service {
        id: list.id,
        generation: list.generation,
        outside,
        inside,
        flags,
        kind: kind as u8,
        // `Tables` knows better.
        algorithm: SERVICE_RANDOM,
        affinity_timeout: service.affinity_timeout.map_or(0, seconds),
        maglev_offset: 0,
        maglev_size: 0,
    }
}

/// The ranges of `list`. As kube-proxy has it, a family without a range of its own is open.
pub(super) fn source_ranges(
    service: &model::Service,
    list: &List,
) -> impl Iterator<Item = SourceRangeKey> {
    let ranges = if service.r#type == ServiceType::LoadBalancer {
        service.source_ranges.as_slice()
    } else {
        &[]
    };
    let (id, v6) = (list.id, list.key.v6);
    let ours = ranges.iter().filter(move |range| range.addr().is_ipv6() == v6);
    ours.map(move |range| SourceRangeKey::new(id, *range))
}

fn is_ranged(kind: ServiceKind, serve: &Serve) -> bool {
    match kind {
        ServiceKind::LoadBalancer => true,
        ServiceKind::NodePort | ServiceKind::ExternalIp => serve.source_ranges_all_types,
        ServiceKind::ClusterIp | ServiceKind::HostPort => false,
    }
}

/// What `vips` holds for the address of an exact frontend; None for a wildcard.
pub(super) fn vip(
    service: &model::Service,
    key: &ServiceKey,
    kind: ServiceKind,
    serve: &Serve,
) -> Option<u32> {
    if key.vip == Addr::V4_WILDCARD || key.vip == Addr::V6_WILDCARD {
        return None;
    }
    let class = service.load_balancer_class.as_ref();
    Some(match kind {
        ServiceKind::ClusterIp => VIP_CLUSTER_IP,
        ServiceKind::LoadBalancer if class.is_some_and(|class| !serve.classes.contains(class)) => {
            VIP_EXTERNAL | VIP_FOREIGN
        }
        ServiceKind::LoadBalancer | ServiceKind::ExternalIp => VIP_EXTERNAL,
        // An address of the node: whatever else asks for it is for the node's stack.
        ServiceKind::NodePort | ServiceKind::HostPort => 0,
    })
}

fn seconds(seconds: u32) -> u32 {
    ticks(Duration::from_secs(seconds.into()))
}
