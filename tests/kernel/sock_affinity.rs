// SPDX-License-Identifier: Apache-2.0
//! bpf_sock and sessionAffinity: a client is a pod by its address, or the node.

use std::net::{IpAddr, UdpSocket};

use culvert::abi::{
    Addr, Affinity, AffinityKey, Client, SERVICE_AFFINITY, SlotRange, TargetStatus,
};
use culvert::datapath::host;

use crate::support::objects::{Frontend, Served, UDP};
use crate::support::sockets::{SocketNode, namespace, receiver, udp};

const VIP: &str = "10.96.0.1:53";
const VIP6: &str = "[fd00:96::1]:53";
const BACKENDS: [&str; 3] = ["10.1.0.1:53", "10.1.0.2:53", "10.1.0.3:53"];
const BACKENDS6: [&str; 3] = ["[fd00:1::1]:53", "[fd00:1::2]:53", "[fd00:1::3]:53"];
const TIMEOUT: u32 = 100;

/// By chance all agree once in 3^39 runs.
const TIMES: usize = 40;

fn sticky<'a>(node: &'a SocketNode, vip: &str, backends: &[&str]) -> Served<'a> {
    let service = node.objects.serve(Frontend::cluster_ip(vip, UDP), backends);
    service.change(|service| {
        service.flags |= SERVICE_AFFINITY;
        service.affinity_timeout = TIMEOUT;
    });
    service
}

/// The servers of one namespace. Bound once: a child that another test starts meanwhile keeps a
/// closed one's port for a moment.
struct Servers {
    vip: &'static str,
    any: &'static str,
    sockets: [UdpSocket; 3],
}

impl Servers {
    fn of(vip: &'static str) -> Self {
        let (any, backends) =
            if vip == VIP { ("0.0.0.0:0", BACKENDS) } else { ("[::]:0", BACKENDS6) };
        Self { vip, any, sockets: backends.map(udp) }
    }

    /// The backend that a new socket's datagram reaches, and one that a connected one's does.
    fn asked(&self) -> [usize; 2] {
        let reached = || receiver(&self.sockets.each_ref()).0;
        let client = udp(self.any);
        client.send_to(b"question", self.vip).unwrap();
        let datagram = reached();
        let client = udp(self.any);
        client.connect(self.vip).unwrap();
        client.send(b"question").unwrap();
        [datagram, reached()]
    }
}

#[track_caller]
fn agreed(reached: impl IntoIterator<Item = [usize; 2]>) -> usize {
    let all: Vec<usize> = reached.into_iter().flatten().collect();
    assert!(all.iter().all(|each| *each == all[0]), "{all:?}");
    all[0]
}

fn entry(node: &SocketNode, client: Addr, service: &Served<'_>) -> Option<Affinity> {
    let key = AffinityKey { client, service: service.id, pad: 0 };
    node.objects.maps().affinities.get(&key).unwrap()
}

fn addr(text: &str) -> Addr {
    text.parse::<IpAddr>().unwrap().into()
}

#[test]
fn a_pod_is_known_by_its_address_and_the_node_as_one_client() {
    let node = SocketNode::new();
    let pod = namespace();
    let Ok(cookie) = pod.run(host::netns_cookie) else {
        return eprintln!("this kernel tells no cookie of a namespace");
    };
    let (v4, v6) = (addr("10.244.1.5"), addr("fd00:244:1::5"));
    node.objects.maps().clients.set(&cookie, &Client { v4, v6 }).unwrap();
    for (vip, backends, pod_addr) in [(VIP, BACKENDS, v4), (VIP6, BACKENDS6, v6)] {
        let in_pod = node.pod(&pod, || Servers::of(vip));
        let in_host = node.host(|| Servers::of(vip));
        let service = sticky(&node, vip, &backends);
        let targets = service.targets();
        let of_pod = agreed(node.pod(&pod, || [(); TIMES].map(|()| in_pod.asked())));
        let stored = entry(&node, pod_addr, &service).unwrap();
        assert_eq!(stored.target, targets[of_pod].index);
        assert_eq!(stored.target_epoch, targets[of_pod].epoch);

        let of_node = agreed(node.host(|| [(); TIMES].map(|()| in_host.asked())));
        assert_eq!(entry(&node, Addr::ZERO, &service).unwrap().target, targets[of_node].index);

        // What the pod was given for its packets counts for its sockets.
        let other = targets[(of_pod + 1) % 3];
        let key = AffinityKey { client: pod_addr, service: service.id, pad: 0 };
        let given = Affinity { target: other.index, target_epoch: other.epoch, ..stored };
        node.objects.maps().affinities.set(&key, &given).unwrap();
        assert_eq!(agreed([node.pod(&pod, || in_pod.asked())]), (of_pod + 1) % 3);
    }
}

/// A namespace of nobody's, and every pod where the kernel tells the agent no cookie.
#[test]
fn a_pod_without_a_known_address_is_a_client_of_its_own() {
    let node = SocketNode::new();
    let service = sticky(&node, VIP, &BACKENDS);
    let pods = [namespace(), namespace()];
    for pod in &pods {
        agreed(node.pod(pod, || {
            let servers = Servers::of(VIP);
            [(); TIMES].map(|()| servers.asked())
        }));
    }
    let entries = node.objects.maps().affinities.entries().unwrap();
    let clients: Vec<IpAddr> = entries.iter().map(|(key, _)| key.client.ip()).collect();
    assert_eq!(clients.len(), 2, "{clients:?}");
    for client in &clients {
        let IpAddr::V6(client) = client else { panic!("{clients:?}") };
        // The prefix that RFC 6666 lets nobody use.
        assert_eq!(client.segments()[..4], [0x100, 0, 0, 0], "{clients:?}");
    }
    assert!(entries.iter().all(|(key, _)| key.service == service.id));
}

#[test]
fn it_ends_with_its_time_and_each_connection_restarts_that() {
    let node = SocketNode::new();
    let service = sticky(&node, VIP, &BACKENDS);
    let servers = node.host(|| Servers::of(VIP));
    let ask = || node.host(|| servers.asked());
    let first = agreed([ask()]);
    let key = AffinityKey { client: Addr::ZERO, service: service.id, pad: 0 };
    let map = &node.objects.maps().affinities;
    let age = |ticks| {
        let mut entry = map.get(&key).unwrap().unwrap();
        entry.last_used = entry.last_used.wrapping_sub(ticks);
        map.set(&key, &entry).unwrap();
        entry.last_used
    };
    let aged = age(TIMEOUT - 10);
    assert_eq!(agreed([ask()]), first);
    assert!(entry(&node, Addr::ZERO, &service).unwrap().last_used > aged);

    let expired = || {
        age(TIMEOUT + 10);
        agreed([ask()])
    };
    assert!((0..TIMES).any(|_| expired() != first));
}

#[test]
fn it_ends_with_its_backend_and_keeps_to_the_range() {
    let node = SocketNode::new();
    let service = sticky(&node, VIP, &BACKENDS);
    let targets = service.targets();
    let servers = node.host(|| Servers::of(VIP));
    let ask = || node.host(|| servers.asked());
    let first = agreed([ask()]);

    // Alive, and no longer for this client. The new choice is the one that is kept.
    let second = (first + 1) % 3;
    let only = SlotRange { first: second as u16, count: 1 };
    service.change(|service| service.inside = only);
    assert_eq!(agreed([ask()]), second);
    service.change(|service| service.inside = SlotRange { first: 0, count: 3 });
    assert_eq!(agreed((0..TIMES).map(|_| ask())), second);

    // The list gets another order: it is the backend that is kept, not the slot.
    service.set_backends(&[targets[2], targets[0], targets[1]]);
    service.change(|service| service.flags |= SERVICE_AFFINITY);
    assert_eq!(agreed((0..TIMES).map(|_| ask())), second);

    node.objects.set_target(&targets[second], TargetStatus::Gone);
    let left: Vec<_> = targets.iter().copied().filter(|each| *each != targets[second]).collect();
    service.set_backends(&left);
    service.change(|service| service.flags |= SERVICE_AFFINITY);
    assert_ne!(agreed((0..TIMES).map(|_| ask())), second);
}
