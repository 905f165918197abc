// SPDX-License-Identifier: Apache-2.0
//! Sources that no packet from the network may have (RFC 1122 section 3.2.1.3, RFC 4291 section 2.5
//! to 2.7): nothing is opened for them, for nobody could be answered.

use culvert::abi::DsrDispatch;

use super::dsr::{request, serve};
use super::dsr_ipip::node;
use super::host::flows;
use super::xdp::{XDP_PASS, driver};
use crate::support::node::{FAMILIES, Family, TC_DROP, TC_REDIRECT};
use crate::support::objects::{TCP, UDP};
use crate::support::packet::{Packet, SYN};

const fn martians(family: Family) -> &'static [&'static str] {
    if family.v6 {
        &["::", "::1", "fe80::7", "ff01::7", "ff0e::1"]
    } else {
        &[
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.255.0.1",
            "224.0.0.1",
            "239.1.2.3",
            "255.255.255.255",
        ]
    }
}

/// Next to them, and in use somewhere.
const fn others(family: Family) -> &'static [&'static str] {
    if family.v6 {
        &["::2", "fec0::7", "fd00:7::7", "2002::1"]
    } else {
        &["1.0.0.1", "126.1.2.3", "128.0.0.1", "223.255.255.1", "240.0.0.1", "169.254.1.1"]
    }
}

#[test]
fn no_service_answers_a_source_that_nobody_can_have() {
    for dispatch in [DsrDispatch::Off, DsrDispatch::Ipip, DsrDispatch::Option] {
        for family in FAMILIES {
            for (proto, backend) in [(TCP, family.remote), (UDP, family.pod)] {
                let node = node(dispatch);
                let backend = family.at(backend, 8080);
                let _service = serve(&node, &family.at(family.vip, 80), proto, &[&backend]);
                let from = |source: &str| {
                    let src = family.at(source, 40000).parse().unwrap();
                    let flags = if proto == TCP { SYN } else { 0 };
                    Packet { flags, src, ..request(family, proto, 80) }
                };
                for source in martians(family) {
                    let packet = from(source);
                    let (up, same) = driver(&node, &packet.bytes());
                    assert_eq!((up, same), (XDP_PASS, packet.bytes()), "{source}");
                    assert_eq!(node.wire(&packet).0, TC_DROP, "{source}");
                    assert_eq!(flows(&node), (0, 0), "{source}");
                }
                let all = martians(family).len() as u64;
                let dropped = ("from_netdev", "spoofed_source", all);
                assert!(node.outcomes().contains(&dropped), "{:?}", node.outcomes());
                for source in others(family) {
                    assert_eq!(node.wire(&from(source)).0, TC_REDIRECT, "{source}");
                }
            }
        }
    }
}
