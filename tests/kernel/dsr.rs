// SPDX-License-Identifier: Apache-2.0
//! Direct server return by option, one packet at a time: the LB node.

use culvert::abi::{DsrDispatch, Flow, Outcome, SERVICE_DSR, ServiceKind};

use super::host::flows;
use crate::support::dsr::{self, KEY, Mark};
use crate::support::node::{FAMILIES, Family, Node, TC_REDIRECT, V4};
use crate::support::objects::{Frontend, SCTP, Served, TCP, UDP};
use crate::support::packet::{ACK, FIN, Packet, SYN, sctp, tcp, udp};

pub(super) fn node() -> Node {
    let node = Node::with(|config| config.dsr_dispatch = DsrDispatch::Option as u8);
    node.objects.maps().set_dsr_keys([KEY, [0; 16]]).unwrap();
    node
}

/// A load balancer's frontend whose backends answer by themselves.
pub(super) fn serve<'a>(node: &'a Node, vip: &str, proto: u8, backends: &[&str]) -> Served<'a> {
    let frontend = Frontend::cluster_ip(vip, proto).kind(ServiceKind::LoadBalancer);
    let served = node.objects.serve(frontend, backends);
    served.change(|service| service.flags |= SERVICE_DSR);
    served
}

pub(super) fn request(family: Family, proto: u8, port: u16) -> Packet {
    let (src, dst) = (family.at(family.client, 40001), family.at(family.vip, port));
    match proto {
        TCP => tcp(&src, &dst, SYN),
        UDP => udp(&src, &dst),
        SCTP => sctp(&src, &dst),
        other => panic!("protocol {other}"),
    }
}

/// Sends `packet` through the LB node; it must come out with the option.
#[track_caller]
pub(super) fn marked(node: &Node, packet: &Packet) -> (Packet, Mark) {
    let (action, frame) = node.wire(packet);
    assert_eq!(action, TC_REDIRECT, "{packet:?}: {:?}", node.outcomes());
    dsr::parse(&KEY, &frame)
}

#[test]
fn the_client_keeps_its_address_and_the_option_names_the_service() {
    for family in FAMILIES {
        for proto in [TCP, UDP, SCTP] {
            let node = node();
            let backend = family.at(family.remote, 8080);
            let vip = family.at(family.vip, 80);
            let _service = serve(&node, &vip, proto, &[&backend]);

            let request = request(family, proto, 80);
            let (sent, mark) = marked(&node, &request);
            assert_eq!((sent.src, sent.dst), (request.src, backend.parse().unwrap()));
            assert_eq!((sent.ttl, &sent.payload), (request.ttl - 1, &request.payload));
            let service = vip.parse().unwrap();
            assert_eq!(mark, Mark { service, client_port: Some(40001) });
        }
    }
}

#[test]
fn an_acknowledged_connection_goes_on_without_the_option() {
    for family in FAMILIES {
        let node = node();
        let backend = family.at(family.remote, 8080);
        let _service = serve(&node, &family.at(family.vip, 80), TCP, &[&backend]);
        let syn = request(family, TCP, 80);
        marked(&node, &syn);
        marked(&node, &Packet { flags: ACK, ..syn.clone() });
        assert_eq!(flows(&node), (2, 0), "confirmed by one side alone");

        // Each tick begins with one that carries it: of three, two lie in one tick.
        let frames: Vec<_> =
            (0..3).map(|_| node.wire(&Packet { flags: ACK, ..syn.clone() }).1).collect();
        let plain: Vec<_> = frames.iter().filter(|frame| dsr::take(frame).is_none()).collect();
        assert!(plain.len() >= 2, "{frames:02x?}");
        let sent = Packet::parse(plain[0]);
        assert_eq!((sent.src, sent.dst), (syn.src, backend.parse().unwrap()));

        // A SYN begins anew, whatever is known.
        marked(&node, &syn);
    }
}

#[test]
fn a_connection_met_in_its_middle_carries_the_option() {
    for family in FAMILIES {
        let node = node();
        let backend = family.at(family.remote, 8080);
        let _service = serve(&node, &family.at(family.vip, 80), TCP, &[&backend]);
        let data = Packet { flags: ACK, ..request(family, TCP, 80) };
        let (_, first) = marked(&node, &data);
        assert_eq!(first.client_port, Some(40001));
        // Whose port that is at the backend's node, nobody here knows, also in later ticks.
        marked(&node, &data);
        let table = &node.objects.maps().flows;
        for (key, flow) in table.entries().unwrap() {
            table.set(&key, &Flow { created: flow.created.wrapping_sub(9), ..flow }).unwrap();
        }
        for _ in 0..3 {
            marked(&node, &data);
        }
    }
}

#[test]
fn one_client_port_through_two_services_gets_another_for_the_second() {
    for family in FAMILIES {
        for proto in [TCP, UDP, SCTP] {
            let node = node();
            let backend = family.at(family.remote, 8080);
            let _one = serve(&node, &family.at(family.vip, 80), proto, &[&backend]);
            let _two = serve(&node, &family.at(family.vip, 81), proto, &[&backend]);

            let (one, first) = marked(&node, &request(family, proto, 80));
            let (two, second) = marked(&node, &request(family, proto, 81));
            assert_eq!(one.src.port(), 40001);
            assert_ne!(two.src.port(), 40001);
            assert_eq!(first.client_port, Some(40001));
            assert_eq!(second.client_port, Some(40001));
            assert_eq!(second.service.port(), 81);
        }
    }
}

#[test]
fn local_backends_and_other_services_are_served_as_before() {
    for family in FAMILIES {
        let node = node();
        let local = family.at(family.pod, 8080);
        let remote = family.at(family.remote, 8080);
        let _dsr = serve(&node, &family.at(family.vip, 80), TCP, &[&local]);
        let frontend = Frontend::cluster_ip(&family.at(family.vip, 81), TCP);
        let _snat = node.objects.serve(frontend.kind(ServiceKind::LoadBalancer), &[&remote]);

        let sent = node.wire_ok(&request(family, TCP, 80));
        assert_eq!(sent.dst, local.parse().unwrap());
        let sent = node.wire_ok(&request(family, TCP, 81));
        assert_eq!(sent.src.ip(), family.node.parse::<std::net::IpAddr>().unwrap());
    }
}

#[test]
fn the_clients_fin_alone_ends_a_flow() {
    let node = node();
    let backend = V4.at(V4.remote, 8080);
    let service = serve(&node, &V4.at(V4.vip, 80), TCP, &[&backend]);
    let syn = request(V4, TCP, 80);
    marked(&node, &syn);
    marked(&node, &Packet { flags: ACK, ..syn.clone() });
    node.wire(&Packet { flags: FIN | ACK, ..syn.clone() });
    // The port is used again: a closing flow gives way to a new choice.
    let other = V4.at("10.244.2.6", 8080);
    service.set_backends(&[node.objects.target(&other)]);
    service.change(|service| service.flags |= SERVICE_DSR);
    assert_eq!(marked(&node, &syn).0.dst, other.parse().unwrap());
}

#[test]
fn a_header_without_room_for_the_option_gets_snat_or_goes_without() {
    let node = node();
    let backend = V4.at(V4.remote, 8080);
    let _service = serve(&node, &V4.at(V4.vip, 80), TCP, &[&backend]);
    let nops = |count: usize| vec![1; count];

    // 24 bytes of others' options leave the 16 that ours takes.
    let syn = request(V4, TCP, 80);
    let (action, frame) =
        node.raw("from_netdev", node.uplink, &dsr::insert(&syn.bytes(), &nops(24)));
    assert_eq!(action, TC_REDIRECT);
    let (rest, ours) = dsr::take(&frame).unwrap();
    assert_eq!((ours[0], ours.len(), rest[14]), (0x9a, 16, 0x4b));

    // Of an open flow they travel without.
    let data = Packet { flags: ACK, ..syn.clone() };
    let frame = dsr::insert(&data.bytes(), &nops(28));
    let (action, out) = node.raw("from_netdev", node.uplink, &frame);
    assert_eq!((action, out[14], out[34]), (TC_REDIRECT, 0x4c, 1));
    assert_eq!(node.counted(Outcome::NoRoom), 1);
    marked(&node, &data);

    // A new flow gets the node's address, as without direct return.
    let syn = Packet { src: V4.at(V4.client, 40002).parse().unwrap(), ..syn };
    let frame = dsr::insert(&syn.bytes(), &nops(28));
    let (action, out) = node.raw("from_netdev", node.uplink, &frame);
    assert_eq!((action, &out[26..30]), (TC_REDIRECT, &[10, 9, 0, 1][..]));
}

/// To the option it means that there is none (and RFC 6335 gives it to nobody).
#[test]
fn a_client_port_of_0_gets_snat() {
    for family in FAMILIES {
        for proto in [TCP, UDP] {
            let node = node();
            let backend = family.at(family.remote, 8080);
            let _service = serve(&node, &family.at(family.vip, 80), proto, &[&backend]);
            let src = family.at(family.client, 0).parse().unwrap();
            let sent = node.wire_ok(&Packet { src, ..request(family, proto, 80) });
            assert_eq!(sent.src.ip(), family.node.parse::<std::net::IpAddr>().unwrap());
            assert_ne!(sent.src.port(), 0);
            assert_eq!(sent.dst, backend.parse().unwrap());
        }
    }
}
