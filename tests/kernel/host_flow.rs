// SPDX-License-Identifier: Apache-2.0
//! The life of bpf_host's flows: opened, confirmed, kept apart, moved, closed.

use std::sync::atomic::{AtomicUsize, Ordering};

use culvert::abi::{Outcome, Zone};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, socket};

use super::host::{flows, node_port, request};
use crate::support::node::{FAMILIES, Node, TC_DROP, TC_NEXT, TC_REDIRECT, V4, endpoint, ip};
use crate::support::objects::{TCP, UDP};
use crate::support::packet::{ACK, Packet, RST, SYN, tcp};

#[test]
fn another_pod_cannot_use_a_flow_that_is_not_its_own() {
    let node = Node::new();
    let _service = node.objects.serve(node_port(V4, TCP), &[&V4.at(V4.pod, 8080)]);
    let sent = node.wire_ok(&request(V4, TCP));
    let forged = sent.answer(SYN | ACK).bytes();
    let (action, _) = node.raw("from_container", node.other_pod, &forged);
    assert_eq!((action, node.counted(Outcome::DropSpoofed)), (TC_DROP, 1));
}

#[test]
fn the_handshake_moves_a_flow_out_of_the_floods_reach() {
    let node = Node::new();
    let _service = node.objects.serve(node_port(V4, TCP), &[&V4.at(V4.remote, 8080)]);
    let request = request(V4, TCP);
    let syn = node.wire_ok(&request);
    assert_eq!(flows(&node), (0, 2));
    node.wire_ok(&syn.answer(SYN | ACK));
    assert_eq!(flows(&node), (0, 2));
    node.wire_ok(&Packet { flags: ACK, ..request.clone() });
    assert_eq!(flows(&node), (2, 0));
    assert_eq!(node.wire_ok(&Packet { flags: ACK, ..request }).src, syn.src);
}

#[test]
fn segments_that_nobody_answers_stay_in_the_floods_reach() {
    let node = Node::new();
    let _service = node.objects.serve(node_port(V4, TCP), &[&V4.at(V4.remote, 8080)]);
    for _ in 0..3 {
        node.wire_ok(&Packet { flags: ACK, ..request(V4, TCP) });
    }
    assert_eq!(flows(&node), (0, 2));
}

#[test]
fn a_datagram_flow_is_confirmed_by_its_answer() {
    let node = Node::new();
    let _service = node.objects.serve(node_port(V4, UDP), &[&V4.at(V4.remote, 53)]);
    let request = request(V4, UDP);
    let sent = node.wire_ok(&request);
    node.wire_ok(&request);
    assert_eq!(flows(&node), (0, 2));
    node.wire_ok(&sent.answer(0));
    assert_eq!(flows(&node), (2, 0));
}

#[test]
fn a_port_the_host_itself_uses_is_not_given_away() {
    let node = Node::new();
    let _service = node.objects.serve(node_port(V4, UDP), &[&V4.at(V4.remote, 53)]);
    let _host = node.ns.run(|| {
        let address: SockaddrStorage =
            V4.at(V4.node, 40001).parse::<std::net::SocketAddrV4>().unwrap().into();
        let fd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::empty(), None).unwrap();
        bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &address).unwrap();
        fd
    });
    assert_ne!(node.wire_ok(&request(V4, UDP)).src.port(), 40001);
}

#[test]
fn a_clients_port_that_is_a_node_port_is_not_the_nodes_source() {
    // By default the two ranges do not meet.
    let node = Node::with(|config| config.snat_port_min = 1024);
    let _service = node.objects.serve(node_port(V4, TCP), &[&V4.at(V4.remote, 8080)]);
    for port in [30000, 30081, 32767] {
        let mut request = request(V4, TCP);
        request.src.set_port(port);
        let source = node.wire_ok(&request).src.port();
        assert!(!(30000..=32767).contains(&source), "{port} became {source}");
    }
}

#[test]
fn a_host_connection_that_a_flow_already_answers_gets_another_port() {
    for family in FAMILIES {
        let node = Node::new();
        let backend = family.at(family.remote, 8080);
        let _service = node.objects.serve(node_port(family, TCP), &[&backend]);
        let taken = node.wire_ok(&request(family, TCP)).src;

        let host = tcp(&taken.to_string(), &backend, SYN);
        let (action, frame) = node.raw("to_netdev", node.uplink, &host.bytes());
        let sent = Packet::parse(&frame);
        assert_eq!((action, sent.dst), (TC_NEXT, host.dst));
        assert_ne!(sent.src, taken);
        let (action, frame) = node.wire(&sent.answer(SYN | ACK));
        assert_eq!((action, Packet::parse(&frame).dst), (TC_NEXT, taken));
    }
}

/// Takes the backend that `sent` went to out of `service`.
#[test]
fn a_pods_entry_is_not_hit_from_the_wire() {
    let node = Node::new();
    let _service = node.objects.serve(node_port(V4, TCP), &[&V4.at(V4.pod, 8080)]);
    let sent = node.wire_ok(&request(V4, TCP));
    let zones: Vec<u8> =
        node.objects.maps().flows_new.entries().unwrap().iter().map(|(key, _)| key.zone).collect();
    assert!(zones.contains(&(Zone::Pod as u8)) && zones.contains(&(Zone::Wire as u8)));
    let forged = sent.answer(SYN | ACK).bytes();
    let (action, frame) = node.raw("from_netdev", node.uplink, &forged);
    assert_eq!((action, frame), (TC_NEXT, forged));
}

#[test]
fn an_entry_made_anew_still_belongs_to_its_pod() {
    for family in FAMILIES {
        let node = Node::new();
        let _service = node.objects.serve(node_port(family, TCP), &[&family.at(family.pod, 8080)]);
        let request = request(family, TCP);
        let sent = node.wire_ok(&request);
        let maps = node.objects.maps();
        let entries = maps.flows_new.entries().unwrap();
        let answer = entries.iter().find(|(key, _)| key.zone == Zone::Pod as u8).unwrap();
        maps.flows_new.remove(&answer.0).unwrap();
        node.wire_ok(&request);

        let forged = sent.answer(SYN | ACK).bytes();
        assert_eq!(node.raw("from_container", node.other_pod, &forged).0, TC_DROP);
        assert_eq!(node.counted(Outcome::DropSpoofed), 1);
        assert_eq!(node.leave_ok(&sent.answer(SYN | ACK)).dst, request.src);
    }
}

#[test]
fn a_pod_that_was_made_anew_under_its_address_answers() {
    let node = Node::new();
    let _service = node.objects.serve(node_port(V4, TCP), &[&V4.at(V4.pod, 8080)]);
    let sent = node.wire_ok(&request(V4, TCP));
    node.objects.maps().endpoints.set(&ip(V4.pod), &endpoint(node.other_pod)).unwrap();
    let answer = sent.answer(RST | ACK).bytes();
    assert_eq!(node.raw("from_container", node.other_pod, &answer).0, TC_REDIRECT);
    assert_eq!(node.raw("from_container", node.pod, &answer).0, TC_DROP);
}

#[test]
fn a_refused_connection_stays_in_the_floods_reach() {
    let node = Node::new();
    let _service = node.objects.serve(node_port(V4, TCP), &[&V4.at(V4.remote, 8080)]);
    let syn = node.wire_ok(&request(V4, TCP));
    let reply = node.wire_ok(&syn.answer(RST | ACK));
    assert_eq!((reply.dst, flows(&node)), (request(V4, TCP).src, (0, 2)));
}

#[test]
fn a_direct_connection_to_a_host_server_beside_its_service_keeps_its_answers() {
    for family in FAMILIES {
        let node = Node::new();
        let backend = family.at(family.node, 8080);
        let _service = node.objects.serve(node_port(family, TCP), &[&backend]);
        for (program, device, client) in
            [("from_netdev", node.uplink, family.client), ("from_container", node.pod, family.pod)]
        {
            let way = |packet: &Packet| {
                let (action, frame) = node.raw(program, device, &packet.bytes());
                assert_eq!(action, TC_NEXT);
                Packet::parse(&frame)
            };
            let client = family.at(client, 40001);
            let requests = [request(family, TCP).dst.to_string(), backend.clone()]
                .map(|to| tcp(&client, &to, SYN));
            let sent = requests.each_ref().map(way);
            assert_ne!(sent[0].src, sent[1].src, "{client}: the server cannot tell them apart");
            for (request, sent) in requests.iter().zip(&sent) {
                let answer = sent.answer(SYN | ACK).bytes();
                let back = if device == node.pod { "to_container" } else { "to_netdev" };
                let reply = Packet::parse(&node.raw(back, device, &answer).1);
                assert_eq!((reply.src, reply.dst), (request.dst, request.src));
            }
        }
    }
}

#[test]
fn two_cpus_that_open_one_flow_make_one() {
    const ROUNDS: u16 = 1000;
    let node = Node::new();
    let backends = [V4.remote, "10.244.2.6", "10.244.2.7"].map(|host| V4.at(host, 53));
    let backends = backends.each_ref().map(String::as_str);
    let _service = node.objects.serve(node_port(V4, UDP), &backends);
    let frames: Vec<Vec<u8>> = (0..ROUNDS)
        .map(|round| {
            let mut packet = request(V4, UDP);
            packet.src.set_port(20000 + round);
            packet.bytes()
        })
        .collect();
    // Two threads send the same datagram at the same moment, as near as they get to it.
    let arrived = AtomicUsize::new(0);
    let send = || {
        node.ns.run(|| {
            let each = |(round, frame): (usize, &Vec<u8>)| {
                arrived.fetch_add(1, Ordering::SeqCst);
                while arrived.load(Ordering::SeqCst) < 2 * (round + 1) {
                    std::hint::spin_loop();
                }
                let sent = Packet::parse(&node.raw_inside("from_netdev", node.uplink, frame).1);
                (sent.src, sent.dst)
            };
            frames.iter().enumerate().map(each).collect::<Vec<_>>()
        })
    };
    let sent = std::thread::scope(|scope| {
        let threads = [scope.spawn(send), scope.spawn(send)];
        threads.map(|thread| thread.join().unwrap())
    });
    let strayed = sent[0].iter().zip(&sent[1]).filter(|(one, other)| one != other).count();
    assert_eq!((strayed, flows(&node)), (0, (0, 2 * usize::from(ROUNDS))));
}
