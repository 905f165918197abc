// SPDX-License-Identifier: Apache-2.0
//! Direct server return in the driver hook, one packet at a time.

use culvert::abi::DsrDispatch;

use super::dsr::{marked, request, serve};
use super::dsr_ipip;
use super::host::flows;
use super::xdp::{XDP_PASS, driver};
use crate::support::dsr::{self, KEY, Mark};
use crate::support::node::{FAMILIES, ROUTER_MAC, TC_REDIRECT};
use crate::support::objects::{SCTP, TCP, UDP};
use crate::support::packet::{ACK, Packet, SYN};

const XDP_TX: u32 = 3;

#[test]
fn a_first_packet_leaves_with_the_option() {
    for family in FAMILIES {
        // SCTP's CRC would change with a port.
        for (proto, port) in [(TCP, 8080), (UDP, 8080), (SCTP, 80)] {
            let node = dsr_ipip::node(DsrDispatch::Option);
            let (vip, backend) = (family.at(family.vip, 80), family.at(family.remote, port));
            let _service = serve(&node, &vip, proto, &[&backend]);
            let request = request(family, proto, 80);
            let (action, frame) = driver(&node, &request.bytes());
            assert_eq!(action, XDP_TX, "{:?}", node.outcomes());
            let (sent, mark) = dsr::parse(&KEY, &frame);
            assert_eq!((sent.src, sent.dst), (request.src, backend.parse().unwrap()));
            assert_eq!((sent.dmac, sent.ttl), (ROUTER_MAC, request.ttl - 1));
            assert_eq!(sent.payload, request.payload);
            assert_eq!(mark, Mark { service: vip.parse().unwrap(), client_port: Some(40001) });
            assert_eq!(flows(&node), (0, 2));
        }
    }
}

#[test]
fn what_the_driver_could_not_mark_nobody_takes_for_told() {
    for family in FAMILIES {
        let node = dsr_ipip::node(DsrDispatch::Option);
        let backend = family.at(family.remote, 8080);
        let _service = serve(&node, &family.at(family.vip, 80), SCTP, &[&backend]);
        let request = request(family, SCTP, 80);
        assert_eq!(driver(&node, &request.bytes()), (XDP_PASS, request.bytes()));
        let entries = node.objects.maps().flows_new.entries().unwrap();
        let told: Vec<u8> = entries.iter().map(|(_, flow)| flow.told).collect();
        assert_eq!(told, [0, 0]);
        marked(&node, &request);
    }
}

#[test]
fn an_established_connection_is_forwarded_and_one_met_in_its_middle_is_marked() {
    for family in FAMILIES {
        for opened in [true, false] {
            let node = dsr_ipip::node(DsrDispatch::Option);
            let backend = family.at(family.remote, 8080);
            let _service = serve(&node, &family.at(family.vip, 80), TCP, &[&backend]);
            let data = Packet { flags: ACK, ..request(family, TCP, 80) };
            if opened {
                marked(&node, &Packet { flags: SYN, ..data.clone() });
            } else {
                marked(&node, &data);
            }
            marked(&node, &data);
            // The first of a tick goes up; one of three does not.
            let frames: Vec<_> = (0..3)
                .filter_map(|_| {
                    let (action, frame) = driver(&node, &data.bytes());
                    if action == XDP_PASS {
                        assert_eq!(node.wire(&data).0, TC_REDIRECT);
                    }
                    (action == XDP_TX).then_some(frame)
                })
                .collect();
            assert!(!frames.is_empty(), "{:?}", node.outcomes());
            for frame in frames {
                let sent = match dsr::take(&frame) {
                    // Marked until the tick ends in which it was met.
                    Some(_) => dsr::parse(&KEY, &frame).0,
                    None => Packet::parse(&frame),
                };
                assert_eq!((sent.src, sent.dst), (data.src, backend.parse().unwrap()));
            }
        }
    }
}

#[test]
fn a_packet_is_encapsulated() {
    for family in FAMILIES {
        for proto in [TCP, UDP, SCTP] {
            let node = dsr_ipip::node(DsrDispatch::Ipip);
            let backend = family.at(family.remote, 8080);
            let _service = serve(&node, &family.at(family.vip, 80), proto, &[&backend]);
            let request = request(family, proto, 80);
            let (action, frame) = driver(&node, &request.bytes());
            assert_eq!(action, XDP_TX, "{:?}", node.outcomes());
            let (from, to) = (family.node.parse().unwrap(), family.remote.parse().unwrap());
            let expected = dsr::encapsulate(&request.bytes(), from, to, 8080);
            assert_eq!(frame[..6], ROUTER_MAC);
            assert_eq!(frame[12..], expected[12..]);
        }
    }
}

#[test]
fn a_syn_is_clamped_or_goes_up() {
    for family in FAMILIES {
        let node = dsr_ipip::node(DsrDispatch::Option);
        let backend = family.at(family.remote, 8080);
        let _service = serve(&node, &family.at(family.vip, 80), TCP, &[&backend]);
        let mut syn = request(family, TCP, 80);
        for (port, announced) in [(40001, 1460), (40002, 500)] {
            syn.src.set_port(port);
            let most = if family.v6 { 1408 } else { 1444 };
            let (action, frame) = driver(&node, &dsr::with_mss(&syn, 0, announced));
            assert_eq!(action, XDP_TX, "{:?}", node.outcomes());
            assert_eq!(dsr::mss(&dsr::parse(&KEY, &frame).0, 0), announced.min(most));
        }
        syn.src.set_port(40003);
        let frame = dsr::with_mss(&syn, 1, 1460);
        assert_eq!(driver(&node, &frame), (XDP_PASS, frame));
    }
}

#[test]
fn a_syn_that_finds_no_port_goes_up_as_it_came() {
    for family in FAMILIES {
        let node = dsr_ipip::node_with(DsrDispatch::Option, |config| {
            (config.snat_port_min, config.snat_port_max) = (40001, 40001);
        });
        let backend = family.at(family.remote, 8080);
        let _first = serve(&node, &family.at(family.vip, 80), TCP, &[&backend]);
        let _second = serve(&node, &family.at(family.vip, 81), TCP, &[&backend]);
        let frame = |port| dsr::with_mss(&request(family, TCP, port), 0, 1460);
        assert_eq!(driver(&node, &frame(80)).0, XDP_TX, "{:?}", node.outcomes());
        assert_eq!(driver(&node, &frame(81)), (XDP_PASS, frame(81)));
        assert_eq!(flows(&node), (0, 2));
    }
}
