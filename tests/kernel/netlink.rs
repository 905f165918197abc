// SPDX-License-Identifier: Apache-2.0
//! The view of the node's network, and what is written into it.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use culvert::abi::{Addr, OWNED_LOOPBACK, OWNED_NODEPORT};
use culvert::datapath::netlink::{self, Filter, Route, Routes, Serving, View};
use culvert::datapath::sysctl;
use tokio::sync::watch;

use crate::support::netns::NetNs;

#[test]
fn an_address_that_comes_or_goes_is_seen() {
    let node = Node::new();
    node.follow(Filter::default(), async |network| {
        assert_eq!(network.flags("127.0.0.1"), Some(OWNED_LOOPBACK));
        assert_eq!(network.flags("10.9.0.2"), Some(OWNED_NODEPORT));
        node.ns.ip("addr add 192.0.2.7/32 dev lo");
        network.until(|view| view.owned.contains_key(&addr("192.0.2.7"))).await;
        node.ns.ip("addr del 192.0.2.7/32 dev lo");
        network.until(|view| !view.owned.contains_key(&addr("192.0.2.7"))).await;
    });
}

#[test]
fn an_uplink_comes_with_its_default_route_and_goes_with_its_device() {
    let node = Node::new();
    node.follow(Filter::default(), async |network| {
        assert!(network.now().uplinks.is_empty());
        node.ns.ip("route add default via 10.9.0.1");
        let view = network.until(|view| !view.uplinks.is_empty()).await;
        let uplink = view.uplinks.values().next().unwrap();
        assert_eq!((uplink.name.as_str(), uplink.mtu), ("eth0", 1500));
        assert_eq!(uplink.snat_v4, Some([10, 9, 0, 2].into()));

        node.ns.ip("link set eth0 mtu 1400");
        network.until(|view| view.uplinks.values().all(|each| each.mtu == 1400)).await;
        node.ns.ip("link del eth0");
        let view = network.until(|view| view.uplinks.is_empty()).await;
        assert!(!view.owned.contains_key(&addr("10.9.0.2")));
    });
}

#[test]
fn a_filter_that_changes_is_applied_at_once() {
    let node = Node::new();
    node.follow(Filter::default(), async |network| {
        let filter = Filter {
            node_ips: vec!["10.9.0.2".parse().unwrap()],
            node_port_addresses: Serving::Inside(vec!["192.0.2.0/24".parse().unwrap()]),
            ..Default::default()
        };
        network.filter.send(filter).unwrap();
        network.until(|view| !view.uplinks.is_empty()).await;
        assert_eq!(network.flags("10.9.0.2"), Some(0));
    });
}

#[test]
fn the_epoch_moves_on_routes_links_and_changed_neighbours_and_not_on_churn() {
    let node = Node::new();
    node.ns.ip("addr add fd09::2/64 dev eth0 nodad");
    node.follow(Filter::default(), async |network| {
        let neighbour = async |network: &mut Network, ip, mac, state, moves| {
            let before = network.now().route_epoch;
            let change = format!("neigh replace {ip} lladdr {mac} dev eth0 nud {state}");
            node.ns.ip(&change);
            assert_eq!(network.settled(&node.ns).await > before, moves, "{change}");
        };
        const MAC: &str = "02:00:00:00:00:01";
        for (ip, to, via) in
            [("10.9.0.9", "10.77.0.0/16", "10.9.0.1"), ("fd09::9", "fd77::/64", "fd09::1")]
        {
            for state in ["reachable", "stale", "delay", "probe", "reachable"] {
                neighbour(network, ip, MAC, state, false).await;
            }
            neighbour(network, ip, "02:00:00:00:00:02", "reachable", true).await;

            let before = network.now().route_epoch;
            node.ns.ip(&format!("route add {to} via {via}"));
            let added = network.settled(&node.ns).await;
            assert!(added > before, "a route to {to} was added");
            node.ns.ip(&format!("route del {to}"));
            assert!(network.settled(&node.ns).await > added, "a route to {to} was removed");
        }
        let before = network.now().route_epoch;
        node.ns.ip("link set eth0 mtu 1400");
        let resized = network.settled(&node.ns).await;
        assert!(resized > before, "a link has another MTU");
        node.ns.ip("link set eth0 down");
        assert!(network.settled(&node.ns).await > resized, "a link went down");
    });
}

#[test]
fn a_reader_that_fell_behind_lists_anew() {
    const MANY: u32 = 4000;
    let node = Node::new();
    let batch = tempfile::NamedTempFile::new().unwrap();
    let lines: String =
        (0..MANY).map(|n| format!("addr add 10.200.{}.{}/32 dev lo\n", n / 256, n % 256)).collect();
    fs::write(batch.path(), lines).unwrap();
    node.follow(Filter::default(), async |network| {
        let before = network.now().owned.len();
        // The watch shares this thread: while `ip` runs, nobody reads, and the queue overflows.
        node.ns.ip(&format!("-batch {}", batch.path().display()));
        let view = network.until(|view| view.owned.len() >= before + MANY as usize).await;
        assert_eq!(view.owned.len(), before + MANY as usize);
    });
}

#[test]
fn only_our_routes_are_listed_and_removed() {
    let node = Node::new();
    node.ns.ip("route add 10.50.0.0/24 via 10.9.0.1");
    node.ns.ip("addr add fd09::2/64 dev eth0 nodad");
    node.enter(async {
        let routes = Routes::open().unwrap();
        let ifindex = nix::net::if_::if_nametoindex("eth0").unwrap();
        let route = |to: &str, via: &str| Route {
            to: to.parse().unwrap(),
            via: Some(via.parse().unwrap()),
            ifindex,
        };
        let v4 = route("10.60.0.0/24", "10.9.0.1");
        let v6 = route("fd60::/64", "fd09::1");
        routes.set(&v4).await.unwrap();
        routes.set(&v6).await.unwrap();
        assert_eq!(routes.list().await.unwrap(), [v4, v6]);

        let moved = route("10.60.0.0/24", "10.9.0.7");
        routes.set(&moved).await.unwrap();
        assert_eq!(routes.list().await.unwrap(), [moved, v6]);

        // Somebody else's route to the same place is not ours to remove.
        routes.remove(&route("10.50.0.0/24", "10.9.0.1")).await.unwrap();
        let table = fs::read_to_string("/proc/thread-self/net/route").unwrap();
        assert!(table.contains("0000320A"), "{table}");

        for _ in 0..2 {
            routes.remove(&v6).await.unwrap();
            assert_eq!(routes.list().await.unwrap(), [moved]);
        }
        routes.set(&v6).await.unwrap();
        let nowhere = ["10.70.0.0/24", "fd70::/64"].map(|to| Route {
            to: to.parse().unwrap(),
            via: None,
            ifindex: 0,
        });
        for route in &nowhere {
            routes.set(route).await.unwrap();
            routes.set(route).await.unwrap();
        }
        assert_eq!(routes.list().await.unwrap(), [moved, nowhere[0], v6, nowhere[1]]);
        for (to, family) in [("10.70.0.9", "-4"), ("fd70::9", "-6")] {
            let found =
                std::process::Command::new("ip").args([family, "route", "get", to]).output();
            let said = String::from_utf8(found.unwrap().stderr).unwrap();
            assert!(said.contains("No route to host"), "{to}: {said}");
        }
        for route in &nowhere {
            routes.remove(route).await.unwrap();
        }
        assert_eq!(routes.clear().await.unwrap(), [moved, v6]);
        assert_eq!(routes.list().await.unwrap(), []);
        let table = fs::read_to_string("/proc/thread-self/net/route").unwrap();
        assert!(table.contains("0000320A"), "{table}");

        let error = routes.set(&route("10.61.0.0/24", "192.168.9.9")).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot add the route to 10.61.0.0/24 via 192.168.9.9");
    });
}

#[test]
fn settings_are_changed_once_and_the_old_ones_told() {
    let node = Node::new();
    let write = |key: &str, value: &str| fs::write(format!("/proc/sys/net/{key}"), value).unwrap();
    let read = |key: &str| fs::read_to_string(format!("/proc/sys/net/{key}")).unwrap();
    node.ns.run(|| {
        write("ipv4/ip_forward", "0");
        write("ipv6/conf/eth0/accept_ra", "1");
        let changed = sysctl::enable_forwarding().unwrap();
        assert!(changed.iter().any(|each| each.key == "net.ipv4.ip_forward" && each.old == "0"));
        assert_eq!(read("ipv4/ip_forward").trim(), "1");
        assert_eq!(read("ipv6/conf/all/forwarding").trim(), "1");
        assert_eq!(read("ipv6/conf/eth0/accept_ra").trim(), "2");
        assert_eq!(sysctl::enable_forwarding().unwrap(), []);

        write("ipv4/ip_local_reserved_ports", "8080,30100-30200");
        let changed = sysctl::reserve_ports(30000..=32767).unwrap().unwrap();
        assert_eq!(changed.old, "8080,30100-30200");
        assert_eq!(read("ipv4/ip_local_reserved_ports").trim(), "8080,30000-32767");
        assert_eq!(sysctl::reserve_ports(30000..=32767).unwrap(), None);

        write("ipv4/conf/eth0/rp_filter", "1");
        write("ipv4/conf/all/rp_filter", "1");
        assert_eq!(sysctl::relax_rp_filter("eth0").unwrap().unwrap().new, "2");
        write("ipv4/conf/all/rp_filter", "0");
        assert_eq!(sysctl::relax_rp_filter("eth0").unwrap().unwrap().new, "0");
    });
}

/// A node with one device, connected to a peer.
pub(super) struct Node {
    pub(super) ns: NetNs,
    _peer: NetNs,
}

impl Node {
    pub(super) fn new() -> Self {
        let node = Self { ns: NetNs::new(), _peer: NetNs::new() };
        // Duplicate address detection takes seconds and moves routes.
        let path = "/proc/sys/net/ipv6/conf/default/accept_dad";
        node.ns.run(|| fs::write(path, "0")).unwrap();
        node.ns.veth("eth0", "10.9.0.2/24", &node._peer, "eth0", "10.9.0.1/24");
        node
    }

    fn enter(&self, f: impl Future<Output = ()> + Send) {
        self.ns.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(f);
        });
    }

    /// Runs `f` beside a watch of this node's network.
    pub(super) fn follow(&self, filter: Filter, f: impl AsyncFnOnce(&mut Network) + Send) {
        self.ns.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let (filter, filter_rx) = watch::channel(filter);
                let (view_tx, view) = watch::channel(Arc::new(View::default()));
                let watching = tokio::spawn(netlink::watch(filter_rx, view_tx));
                let mut network = Network { filter, view };
                network.until(|view| !view.owned.is_empty()).await;
                network.settled(&self.ns).await;
                f(&mut network).await;
                drop(network);
                watching.await.unwrap().unwrap();
            });
        });
    }
}

pub(super) struct Network {
    pub(super) filter: watch::Sender<Filter>,
    view: watch::Receiver<Arc<View>>,
}

impl Network {
    fn now(&self) -> Arc<View> {
        self.view.borrow().clone()
    }

    pub(super) fn flags(&self, ip: &str) -> Option<u32> {
        self.now().owned.get(&addr(ip)).map(|owned| owned.flags)
    }

    pub(super) async fn until(&mut self, right: impl Fn(&View) -> bool) -> Arc<View> {
        let found = self.view.wait_for(|view| right(view));
        let found = tokio::time::timeout(Duration::from_secs(10), found).await;
        found.expect("the network never looked as it should").unwrap().clone()
    }

    /// The epoch after everything that has happened so far. A host address on loopback marks the
    /// end: it moves nothing by itself.
    pub(super) async fn settled(&mut self, ns: &NetNs) -> u64 {
        ns.ip("addr add 192.0.2.99/32 dev lo");
        self.until(|view| view.owned.contains_key(&addr("192.0.2.99"))).await;
        ns.ip("addr del 192.0.2.99/32 dev lo");
        self.until(|view| !view.owned.contains_key(&addr("192.0.2.99"))).await.route_epoch
    }
}

pub(super) fn addr(ip: &str) -> Addr {
    ip.parse::<std::net::IpAddr>().unwrap().into()
}
