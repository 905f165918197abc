// SPDX-License-Identifier: Apache-2.0
//! Direct server return: which keys sign, which are taken, and what is done without one.

use culvert::abi::{DsrDispatch, Outcome};

use super::dsr::{marked, node, request, serve};
use super::dsr_end::dispatched;
use crate::support::dsr::{self, KEY};
use crate::support::node::{FAMILIES, Family, Node, TC_DROP, TC_REDIRECT};
use crate::support::objects::UDP;
use crate::support::packet::Packet;

const NONE: [u8; 16] = [0; 16];
const OTHER: [u8; 16] = *b"another test key";

fn delivered(node: &Node, family: Family, key: &[u8; 16]) -> u32 {
    let (packet, mark) = dispatched(family, &request(family, UDP, 80), 40001);
    let frame = dsr::with_option(&packet, &dsr::option(key, &packet, &mark));
    node.raw("from_netdev", node.uplink, &frame).0
}

#[test]
fn the_first_key_signs_and_each_is_taken() {
    for family in FAMILIES {
        for keys in [[KEY, OTHER], [OTHER, KEY]] {
            let node = node();
            node.objects.maps().set_dsr_keys(keys).unwrap();
            for key in keys {
                assert_eq!(delivered(&node, family, &key), TC_REDIRECT, "{:?}", node.outcomes());
            }
            assert_eq!(delivered(&node, family, &[7; 16]), TC_DROP);
            assert_eq!(node.counted(Outcome::DropDsrTag), 1);

            let backend = family.at(family.remote, 8080);
            let _service = serve(&node, &family.at(family.vip, 80), UDP, &[&backend]);
            let (action, frame) = node.wire(&request(family, UDP, 80));
            assert_eq!(action, TC_REDIRECT);
            // Panics at any other key's tag.
            dsr::parse(&keys[0], &frame);
        }
    }
}

#[test]
fn without_a_key_requests_get_snat_and_none_is_taken() {
    for family in FAMILIES {
        let node = node();
        node.objects.maps().set_dsr_keys([NONE; 2]).unwrap();
        assert_eq!(delivered(&node, family, &NONE), TC_DROP, "zero is no key");
        let backend = family.at(family.remote, 8080);
        let _service = serve(&node, &family.at(family.vip, 80), UDP, &[&backend]);
        let sent = node.wire_ok(&request(family, UDP, 80));
        assert_eq!(sent.src.ip().to_string(), family.node);
        node.objects.maps().set_dsr_keys([KEY, NONE]).unwrap();
        let later = Packet {
            src: family.at(family.client, 40002).parse().unwrap(),
            ..request(family, UDP, 80)
        };
        assert_eq!(marked(&node, &later).0.src, later.src, "new flows follow at once");
    }
}

#[test]
fn without_an_address_of_the_family_nothing_is_encapsulated() {
    for family in FAMILIES {
        let node = super::dsr_ipip::node(DsrDispatch::Ipip);
        let zero = culvert::abi::Addr::ZERO;
        node.objects.maps().set_dsr_sources([zero; 2]).unwrap();
        let backend = family.at(family.remote, 8080);
        let _service = serve(&node, &family.at(family.vip, 80), UDP, &[&backend]);
        let sent = node.wire_ok(&request(family, UDP, 80));
        assert_eq!(sent.src.ip().to_string(), family.node);
    }
}
