// SPDX-License-Identifier: Apache-2.0
//! Properties over random objects, changes, restarts, crashes and failed writes.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::select;

use super::support::{Kernel, endpoint, http, ip, name, pod, service, slice, writes};
use super::world::World;
use crate::lb::Selection;
use crate::model::{
    Endpoint, EndpointSlice, IngressAddress, Pod, Protocol, Service, ServiceType, TrafficPolicy,
};

#[derive(Clone, Debug)]
enum Step {
    SetService(Service),
    RemoveService(usize),
    SetSlice(EndpointSlice),
    RemoveSlice(usize),
    SetPod(Pod),
    RemovePod(usize),
    Sync,
    /// The n-th write of the next batch fails, and with it all after it.
    Fail(usize),
    /// The agent dies before the n-th write of the next batch, and a new one adopts.
    Crash(usize),
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

pub(super) const MAGLEV: &str = "service.culvert.io/lb-algorithm";

fn any_service() -> impl Strategy<Value = Service> {
    let vip = select(vec!["10.96.0.1", "10.96.0.2", "fd00::1"]);
    let policy = || select(vec![TrafficPolicy::Cluster, TrafficPolicy::Local]);
    let kind =
        select(vec![ServiceType::ClusterIp, ServiceType::NodePort, ServiceType::LoadBalancer]);
    let proto = select(vec![Protocol::Tcp, Protocol::Udp]);
    let range = select(vec!["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"]);
    (
        0..NAMES.len(),
        prop::collection::btree_set(vip, 1..3),
        1u16..3,
        policy(),
        policy(),
        kind,
        proto,
        (any::<bool>(), prop::collection::btree_set(range, 0..3), any::<bool>()),
    )
        .prop_map(|(of, vips, ports, internal, external, kind, proto, more)| {
            let (shared, ranges, foreign) = more;
            // Cluster IPs differ by service, so that only external addresses are fought for.
            let mut service = service(NAMES[of], &[]);
            service.cluster_ips = vips
                .into_iter()
                .map(|text| match ip(text) {
                    std::net::IpAddr::V4(v4) => {
                        (v4.to_bits() + 16 * of as u32).to_be_bytes().into()
                    }
                    std::net::IpAddr::V6(v6) => {
                        (v6.to_bits() + 16 * of as u128).to_be_bytes().into()
                    }
                })
                .collect();
            service.ports = (0..ports).map(|n| http(["x", "y"][usize::from(n)], 80 + n)).collect();
            for port in &mut service.ports {
                port.protocol = proto;
                port.node_port = Some(30000 + port.port + u16::from(shared) * 100 * of as u16);
            }
            service.r#type = kind;
            if shared {
                service.annotations.insert(MAGLEV.into(), "maglev".into());
            }
            service.internal_policy = internal;
            service.external_policy = external;
            service.source_ranges = ranges.iter().map(|text| text.parse().unwrap()).collect();
            service.load_balancer_class = foreign.then(|| "example.com/lb".into());
            if shared {
                service.external_ips = vec![ip("192.0.2.1")];
                service.ingress = vec![IngressAddress { ip: ip("192.0.2.2"), proxied: false }];
                service.health_check_node_port = Some(32000 + of as u16 % 2);
            }
            service
        })
}

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    let address =
        select(vec!["10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4", "fd01::1", "fd01::2"]);
    (address, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(address, ready, serving, terminating)| Endpoint {
            ready: ready && !terminating,
            serving: serving || (ready && !terminating),
            terminating,
            // An address is on one node, whatever slices say of it.
            node: match address {
                "10.1.0.1" | "fd01::1" => Some("here".into()),
                "10.1.0.2" | "10.1.0.3" => Some("there".into()),
                _ => None,
            },
            ..endpoint(address)
        },
    )
}

fn any_slice() -> impl Strategy<Value = EndpointSlice> {
    let proto = select(vec![Protocol::Tcp, Protocol::Udp]);
    (0..6usize, 0..NAMES.len(), prop::collection::vec(any_endpoint(), 0..5), proto, any::<bool>())
        .prop_map(|(number, of, endpoints, proto, two)| {
            let mut slice = slice("", endpoints).of(NAMES[of]);
            slice.name = name(&format!("s{number}"));
            slice.ports[0].protocol = proto;
            slice.ports[0].name = "x".into();
            if two {
                let mut second = slice.ports[0].clone();
                second.name = "y".into();
                slice.ports.push(second);
            }
            slice
        })
}

fn any_pod() -> impl Strategy<Value = Pod> {
    let host_ip = select(vec![None, Some("0.0.0.0"), Some("192.0.2.1"), Some("192.0.2.9")]);
    let port = select(vec![80u16, 8080, 30080]);
    (0..NAMES.len(), host_ip, port, 0i64..3, any::<bool>()).prop_map(
        |(of, host_ip, port, created, finished)| Pod {
            created,
            finished,
            ..pod(NAMES[of], &format!("10.1.1.{of}"), host_ip, port)
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any_service().prop_map(Step::SetService),
        1 => (0..NAMES.len()).prop_map(Step::RemoveService),
        6 => any_slice().prop_map(Step::SetSlice),
        1 => (0..6usize).prop_map(Step::RemoveSlice),
        3 => any_pod().prop_map(Step::SetPod),
        1 => (0..NAMES.len()).prop_map(Step::RemovePod),
        4 => Just(Step::Sync),
        1 => (0..20usize).prop_map(Step::Fail),
        1 => (0..20usize).prop_map(Step::Crash),
    ]
}

fn run(steps: Vec<Step>, targets: u32) -> (World, Kernel) {
    let mut world = World::default();
    // Room for some of the services.
    let selection = Selection { words: 5 * 750, ..Selection::default() };
    let mut kernel = Kernel::choosing(targets, selection, "here");
    for step in steps {
        match step {
            Step::SetService(service) => {
                kernel.balancer.set_service(service.clone());
                world.services.insert(service.name.name.to_string(), service);
            }
            Step::RemoveService(number) => {
                kernel.balancer.remove_service(&name(NAMES[number]));
                world.services.remove(NAMES[number]);
            }
            Step::SetSlice(slice) => {
                kernel.balancer.set_slice(slice.clone());
                let number = slice.name.name[1..].parse().unwrap();
                world.slices.insert(number, slice);
            }
            Step::RemoveSlice(number) => {
                kernel.balancer.remove_slice(&name(&format!("s{number}")));
                world.slices.remove(&number);
            }
            Step::SetPod(pod) => {
                kernel.balancer.set_pod(pod.clone());
                world.pods.insert(pod.name.name.to_string(), pod);
            }
            Step::RemovePod(number) => {
                kernel.balancer.remove_pod(&name(NAMES[number]));
                world.pods.remove(NAMES[number]);
            }
            Step::Sync => {
                kernel.sync();
            }
            Step::Fail(number) => {
                let plans = kernel.balancer.plan(4);
                if number > 0 {
                    kernel.write_tables(&plans);
                }
                writes(&plans).into_iter().take(number).for_each(|write| kernel.write(write));
                for plan in plans {
                    let owner = plan.owner.clone().unwrap();
                    kernel.balancer.failed(plan);
                    kernel.balancer.retry(&owner);
                }
                super::audit::agrees(&kernel);
            }
            Step::Crash(number) => {
                let plans = kernel.balancer.plan(4);
                if number > 0 {
                    kernel.write_tables(&plans);
                }
                writes(&plans).into_iter().take(number).for_each(|write| kernel.write(write));
                kernel.restart();
                world.tell(&mut kernel);
                kernel.sync();
                kernel.prune();
            }
        }
    }
    kernel.sync();
    super::audit::agrees(&kernel);
    (world, kernel)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_tables_end_as_the_objects_ask(steps in prop::collection::vec(any_step(), 1..40)) {
        let (world, kernel) = run(steps, 1024);
        world.check(&kernel);
    }

    #[test]
    fn targets_that_are_reused_are_never_shared(steps in prop::collection::vec(any_step(), 1..40)) {
        let (_, kernel) = run(steps, 12);
        super::explain::agrees(&kernel);
        let mut used = BTreeSet::new();
        for backend in kernel.tables.backends.values() {
            prop_assert!(used.insert(backend.target));
            prop_assert_eq!(kernel.tables.targets[&backend.target].epoch, backend.target_epoch);
        }
    }

    #[test]
    fn a_restart_changes_no_table(steps in prop::collection::vec(any_step(), 1..40)) {
        let (world, mut kernel) = run(steps, 1024);
        // Which of two claimants has a frontend is not in the tables.
        if kernel.balancer.problems().is_empty() {
            let before = kernel.tables.clone();
            kernel.restart();
            world.tell(&mut kernel);
            kernel.sync();
            kernel.prune();
            prop_assert_eq!(&kernel.tables, &before);
        }
        world.check(&kernel);
    }
}
