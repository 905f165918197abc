// SPDX-License-Identifier: Apache-2.0
//! A router that has several nodes for an address moves a connection to the backend's own, or away
//! from it: that node was one end of direct server return and is the LB node now, or the reverse.

use culvert::abi::{DsrDispatch, Outcome};

use super::dsr::{request, serve};
use super::dsr_end::dispatched;
use super::dsr_ipip::{self, encapsulated, lb};
use crate::support::dsr::{self, KEY};
use crate::support::node::{FAMILIES, Family, Node, TC_DROP, TC_REDIRECT};
use crate::support::objects::{SCTP, TCP, UDP};
use crate::support::packet::{ACK, Packet, RST, SYN};

/// How another LB node brings a packet: by option from a port, or in a packet.
#[derive(Clone, Copy, Debug)]
enum Way {
    Option(u16),
    Ipip,
}

const WAYS: [Way; 3] = [Way::Option(40001), Way::Option(50001), Way::Ipip];

impl Way {
    fn node(self) -> Node {
        dsr_ipip::node(match self {
            Self::Option(_) => DsrDispatch::Option,
            Self::Ipip => DsrDispatch::Ipip,
        })
    }

    fn frame(self, family: Family, request: &Packet) -> Vec<u8> {
        match self {
            Self::Option(port) => {
                let (packet, mark) = dispatched(family, request, port);
                dsr::with_option(&packet, &dsr::option(&KEY, &packet, &mark))
            }
            Self::Ipip => encapsulated(family, lb(family), request),
        }
    }

    /// What the pod gets of `request`, whose backend another LB node has chosen.
    #[track_caller]
    fn brought(self, node: &Node, family: Family, request: &Packet) -> Packet {
        let frame = self.frame(family, request);
        let (action, out) = node.raw("from_netdev", node.uplink, &frame);
        assert_eq!(action, TC_REDIRECT, "{self:?}: {:?}", node.outcomes());
        Packet::parse(&out)
    }
}

/// The pod has one client, and its answers reach that.
#[track_caller]
fn assert_one(node: &Node, request: &Packet, first: &Packet, got: &Packet) {
    assert_eq!((got.src, got.dst), (first.src, first.dst));
    let answer = node.leave_ok(&got.answer(SYN | ACK));
    assert_eq!((answer.src, answer.dst), (request.dst, request.src));
}

fn each(test: impl Fn(Family, u8, Way)) {
    for family in FAMILIES {
        for proto in [TCP, UDP, SCTP] {
            WAYS.into_iter().for_each(|way| test(family, proto, way));
        }
    }
}

fn later(proto: u8, request: &Packet) -> Packet {
    Packet { flags: if proto == TCP { ACK } else { 0 }, ..request.clone() }
}

#[test]
fn what_another_node_brought_goes_on_where_its_backend_is() {
    each(|family, proto, way| {
        let node = way.node();
        let backend = family.at(family.pod, 8080);
        let _service = serve(&node, &family.at(family.vip, 80), proto, &[&backend]);
        let syn = request(family, proto, 80);
        let data = later(proto, &syn);
        let first = way.brought(&node, family, &syn);
        assert_one(&node, &syn, &first, &first);
        for _ in 0..2 {
            assert_one(&node, &syn, &first, &node.wire_ok(&data));
            assert_one(&node, &syn, &first, &way.brought(&node, family, &data));
        }
    });
}

#[test]
fn what_began_where_its_backend_is_goes_on_when_another_node_brings_it() {
    each(|family, proto, way| {
        let node = way.node();
        let backend = family.at(family.pod, 8080);
        // The port towards the backend is the client's own for the first alone.
        let services = [81, 80].map(|port| {
            let service = serve(&node, &family.at(family.vip, port), proto, &[&backend]);
            let syn = request(family, proto, port);
            let first = node.wire_ok(&syn);
            assert_one(&node, &syn, &first, &first);
            (service, syn, first)
        });
        assert_ne!(services[0].2.src, services[1].2.src);
        for (_, syn, first) in &services {
            let data = later(proto, syn);
            for _ in 0..2 {
                assert_one(&node, syn, first, &way.brought(&node, family, &data));
                assert_one(&node, syn, first, &node.wire_ok(&data));
            }
        }
    });
}

#[test]
fn a_connection_that_is_over_is_not_gone_on_with() {
    for family in FAMILIES {
        for way in WAYS {
            let node = way.node();
            let backend = family.at(family.pod, 8080);
            let _service = serve(&node, &family.at(family.vip, 80), TCP, &[&backend]);
            let syn = request(family, TCP, 80);
            let over = way.brought(&node, family, &syn);
            node.leave_ok(&over.answer(RST));
            let first = node.wire_ok(&syn);
            assert_ne!(first.src, over.src, "{way:?}: the tuple is still the old one's");
            assert_one(&node, &syn, &first, &first);
        }
    }
}

/// What another node has chosen a backend for gets no other one here.
#[test]
fn what_has_lost_its_flow_is_dropped() {
    for family in FAMILIES {
        let node = Way::Ipip.node();
        let backend = family.at(family.pod, 8080);
        let _service = serve(&node, &family.at(family.vip, 80), TCP, &[&backend]);
        let syn = request(family, TCP, 80);
        let first = node.wire_ok(&syn);
        // Its answers' tuple has another owner by now.
        let half_open = &node.objects.maps().flows_new;
        let is_answer = |key: &culvert::abi::FlowKey| key.dport.get() == first.src.port();
        let entries = half_open.entries().unwrap();
        let (key, mut flow) = entries.into_iter().find(|(key, _)| is_answer(key)).unwrap();
        flow.sport = 99.into();
        half_open.set(&key, &flow).unwrap();
        let frame = Way::Ipip.frame(family, &Packet { flags: RST, ..syn });
        assert_eq!(node.raw("from_netdev", node.uplink, &frame).0, TC_DROP);
        assert_eq!(node.counted(Outcome::DropDsrConflict), 1);
    }
}
