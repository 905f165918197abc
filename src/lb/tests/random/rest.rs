// SPDX-License-Identifier: Apache-2.0
//! What lies in the tables beside frontends.

use std::collections::{BTreeMap, BTreeSet};

use super::World;
use crate::abi::{
    Addr, SERVICE_SOURCE_RANGES, ServiceKind, SourceRangeKey, TargetStatus, VIP_CLUSTER_IP,
    VIP_EXTERNAL, VIP_FOREIGN,
};
use crate::lb::Owner;
use crate::lb::tests::support::Kernel;

impl World {
    /// Every address of a frontend and every range of a guarded list, and no other.
    pub(super) fn check_addresses(&self, kernel: &Kernel) {
        let mut vips: BTreeMap<Addr, u32> = BTreeMap::new();
        let mut host_ports = 0;
        let mut ranges = BTreeSet::new();
        for (key, value) in &kernel.tables.services {
            let list = kernel.balancer.lists().find(|list| list.id == value.id).unwrap();
            let service = match list.owner {
                Owner::Service(name) => &self.services[&*name.name],
                Owner::HostPort(key) if key.vip == Addr::V4_WILDCARD => {
                    host_ports += 1;
                    continue;
                }
                Owner::HostPort(key) => {
                    vips.entry(key.vip).or_default();
                    continue;
                }
            };
            let flags = match ServiceKind::from_number(value.kind).unwrap() {
                ServiceKind::NodePort => continue,
                ServiceKind::ClusterIp => VIP_CLUSTER_IP,
                ServiceKind::LoadBalancer => {
                    let of = |range: &&ipnet::IpNet| range.addr().is_ipv6() == list.v6;
                    let all = service.source_ranges.iter().filter(of);
                    let keys: Vec<_> =
                        all.map(|range| SourceRangeKey::new(list.id, *range)).collect();
                    let guarded = value.flags & SERVICE_SOURCE_RANGES != 0;
                    assert_eq!(guarded, !keys.is_empty(), "{key:?}");
                    ranges.extend(keys);
                    let foreign = service.load_balancer_class.is_some();
                    VIP_EXTERNAL | if foreign { VIP_FOREIGN } else { 0 }
                }
                _ => VIP_EXTERNAL,
            };
            *vips.entry(key.vip).or_default() |= flags;
        }
        let found = kernel.tables.vips.iter().map(|(addr, vip)| (*addr, vip.flags));
        assert_eq!(found.collect::<BTreeMap<_, _>>(), vips);
        assert_eq!(kernel.tables.source_ranges, ranges);
        assert_eq!(kernel.tables.host_ports, host_ports);
    }

    pub(super) fn check_nothing_is_left_over(&self, kernel: &Kernel) {
        let tables = &kernel.tables;
        let slots: usize = kernel.balancer.lists().map(|list| list.slots.len()).sum();
        assert_eq!(tables.backends.len(), slots);
        let mut used = BTreeSet::new();
        for (key, backend) in &tables.backends {
            assert!(used.insert(backend.target), "target {} has two backends", backend.target);
            let state = tables.targets[&backend.target];
            assert_eq!(state.epoch, backend.target_epoch);
            assert_eq!(u32::from(state.slot), key.slot, "of target {}", backend.target);
            assert!(
                state.status == TargetStatus::Active as u8
                    || state.status == TargetStatus::Terminating as u8
            );
        }
        for (index, state) in &tables.targets {
            assert!(
                used.contains(index) || state.status == TargetStatus::Gone as u8,
                "target {index} lives on"
            );
        }
    }
}
