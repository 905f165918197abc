// SPDX-License-Identifier: Apache-2.0
//! Properties over random objects, changes, restarts, crashes and failed writes.

mod rest;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::select;

use super::support::{Kernel, endpoint, http, ip, name, pod, service, slice, writes};
use crate::abi::{Addr, SERVICE_HAS_ENDPOINTS, ServiceKey, ServiceKind};
use crate::lb::Owner;
use crate::lb::frontends::{families, frontends};
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
            service.internal_policy = internal;
            service.external_policy = external;
            service.source_ranges = ranges.iter().map(|text| text.parse().unwrap()).collect();
            service.load_balancer_class = foreign.then(|| "example.com/lb".into());
            if shared {
                service.external_ips = vec![ip("192.0.2.1")];
                service.ingress = vec![IngressAddress { ip: ip("192.0.2.2"), proxied: false }];
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

/// What the objects ask for, said in the plainest way.
#[derive(Default)]
struct World {
    services: BTreeMap<String, Service>,
    slices: BTreeMap<usize, EndpointSlice>,
    pods: BTreeMap<String, Pod>,
}

type Set = BTreeSet<(Addr, u16)>;

impl World {
    fn endpoints(&self, service: &Service, port: usize, v6: bool, local: bool) -> Set {
        let port = &service.ports[port];
        let of = self.slices.values().filter(|s| s.service == service.name);
        let all: Vec<(&Endpoint, u16)> = of
            .flat_map(|s| {
                let ports =
                    s.ports.iter().filter(|p| p.name == port.name && p.protocol == port.protocol);
                ports.flat_map(|p| s.endpoints.iter().map(|e| (e, p.port)))
            })
            .filter(|(e, _)| e.ip.is_ipv6() == v6)
            .collect();
        // An address is one endpoint, whichever slice says most for it.
        let pick = |usable: &dyn Fn(&Endpoint) -> bool| -> Set {
            all.iter()
                .filter(|(e, _)| usable(e))
                .filter(|(e, _)| !local || e.node.as_deref() == Some("here"))
                .map(|(e, port)| (Addr::from(e.ip), *port))
                .collect()
        };
        let ready = pick(&|e| e.ready);
        let all_ready: Set =
            all.iter().filter(|(e, _)| e.ready).map(|(e, p)| (Addr::from(e.ip), *p)).collect();
        if !ready.is_empty() {
            return ready;
        }
        pick(&|e| e.serving && e.terminating).difference(&all_ready).copied().collect()
    }

    /// Whether `kernel` serves exactly this.
    fn check(&self, kernel: &Kernel) {
        let mut expected = BTreeSet::new();
        for service in self.services.values() {
            for v6 in families(service) {
                for (number, port) in service.ports.iter().enumerate() {
                    for (key, kind) in
                        frontends(service, port, v6, &kernel.balancer.context().serve)
                    {
                        expected.insert(key);
                        self.check_frontend(kernel, key, (service, number, v6, kind));
                    }
                }
            }
        }
        for (key, pod) in self.host_ports(&expected) {
            assert_eq!(kernel.inside(key), [format!("{}:80", pod.ips[0])], "of {}", pod.name);
            assert_eq!(kernel.outside(key), kernel.inside(key));
            expected.insert(key);
        }
        let found: BTreeSet<ServiceKey> = kernel.tables.services.keys().copied().collect();
        assert_eq!(found, expected);
        self.check_nothing_is_left_over(kernel);
        self.check_addresses(kernel);
    }

    /// Each hostPort that no service has, with its newest pod.
    fn host_ports(&self, services: &BTreeSet<ServiceKey>) -> BTreeMap<ServiceKey, &Pod> {
        let mut newest: BTreeMap<ServiceKey, &Pod> = BTreeMap::new();
        for pod in self.pods.values().filter(|pod| !pod.finished) {
            let port = &pod.host_ports[0];
            let vip = port.host_ip.map_or(Addr::V4_WILDCARD, Addr::from);
            let key = ServiceKey::new(vip, port.host_port, Protocol::Tcp.number());
            if port.host_port >= 30000 || services.contains(&key) {
                continue;
            }
            let has = newest.entry(key).or_insert(pod);
            if (pod.created, &pod.uid) > (has.created, &has.uid) {
                *has = pod;
            }
        }
        newest
    }

    /// Somebody who asks for `key` has it, and if it is this service, with the right endpoints.
    fn check_frontend(
        &self,
        kernel: &Kernel,
        key: ServiceKey,
        of: (&Service, usize, bool, ServiceKind),
    ) {
        let (service, port, v6, kind) = of;
        let list =
            kernel.balancer.lists().find(|l| l.id == kernel.tables.services[&key].id).unwrap();
        let Owner::Service(owner) = list.owner else { panic!("{} has {key:?}", list.owner) };
        assert!(self.services.contains_key(&*owner.name), "served by {owner}");
        if *owner != service.name || list.port != service.ports[port].port {
            return;
        }
        let cluster = self.endpoints(service, port, v6, false);
        let local = self.endpoints(service, port, v6, true);
        let under = |policy| if policy == TrafficPolicy::Local { &local } else { &cluster };
        let (inside, outside) = match kind {
            ServiceKind::ClusterIp => (under(service.internal_policy), &Set::new()),
            _ => (&cluster, under(service.external_policy)),
        };
        let set = |names: Vec<String>| -> Set {
            let addresses = names.iter().map(|n| n.parse::<std::net::SocketAddr>().unwrap());
            addresses.map(|a| (a.ip().into(), a.port())).collect()
        };
        assert_eq!(&set(kernel.inside(key)), inside, "inside of {key:?}");
        assert_eq!(&set(kernel.outside(key)), outside, "outside of {key:?}");
        let flags = kernel.tables.services[&key].flags;
        assert_eq!(flags & SERVICE_HAS_ENDPOINTS != 0, !cluster.is_empty());
    }

    fn tell(&self, kernel: &mut Kernel) {
        kernel.balancer.list_services(self.services.values().cloned().collect());
        kernel.balancer.list_slices(self.slices.values().cloned().collect());
        kernel.balancer.list_pods(self.pods.values().cloned().collect());
    }
}

fn run(steps: Vec<Step>, targets: u32) -> (World, Kernel) {
    let mut world = World::default();
    let mut kernel = Kernel::with_targets(targets);
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
                writes(&plans).into_iter().take(number).for_each(|write| kernel.write(write));
                for plan in plans {
                    let owner = plan.owner.clone().unwrap();
                    kernel.balancer.failed(plan);
                    kernel.balancer.retry(&owner);
                }
            }
            Step::Crash(number) => {
                let plans = kernel.balancer.plan(4);
                writes(&plans).into_iter().take(number).for_each(|write| kernel.write(write));
                kernel.restart();
                world.tell(&mut kernel);
                kernel.sync();
                kernel.prune();
            }
        }
    }
    kernel.sync();
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
