// SPDX-License-Identifier: Apache-2.0
//! What a pod hears of its neighbours: everyone is behind the host's MAC.

use crate::support::node::{HOST_MAC, Node, POD_MAC, TC_NEXT, TC_REDIRECT, V6};

#[test]
fn arp_for_anything_but_its_own_address_is_answered_with_the_hosts_mac() {
    let node = Node::new();
    let ask = |target: [u8; 4]| {
        let mut frame = [[0xff; 6], POD_MAC].concat();
        frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend(POD_MAC);
        frame.extend([10, 244, 1, 5]);
        frame.extend([0; 6]);
        frame.extend(target);
        node.raw("from_container", node.pod, &frame)
    };
    let (action, reply) = ask([10, 244, 1, 1]);
    assert_eq!(action, TC_REDIRECT);
    assert_eq!(&reply[..12], [POD_MAC, HOST_MAC].concat());
    assert_eq!(&reply[20..32], [&[0, 2][..], &HOST_MAC, &[10, 244, 1, 1]].concat());
    assert_eq!(&reply[32..42], [&POD_MAC[..], &[10, 244, 1, 5]].concat());
    assert_eq!(ask([10, 244, 1, 5]).0, TC_NEXT, "its own address was claimed");
}

#[test]
fn a_neighbour_solicitation_is_answered_with_the_hosts_mac() {
    let node = Node::new();
    let ask_at = |mac: [u8; 6], source: &str, to: &str, target: &str| {
        let address = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap();
        let [source, to, target] = [source, to, target].map(address);
        let mut frame = [mac, POD_MAC].concat();
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 24, 58, 255]);
        frame.extend(source.octets());
        frame.extend(to.octets());
        frame.extend([135, 0, 0, 0, 0, 0, 0, 0]);
        frame.extend(target.octets());
        node.raw("from_container", node.pod, &frame)
    };
    let ask = |to: &str, target: &str| ask_at(HOST_MAC, V6.pod, to, target);
    // The second wants to know whether its neighbour is still there.
    let probe = ask_at(HOST_MAC, "fe80::5", "fd00:1::1", "fd00:1::1");
    for (action, reply) in [ask("ff02::1:ff00:1", "fd00:1::1"), probe] {
        assert_eq!(action, TC_REDIRECT);
        assert_eq!(&reply[..12], [POD_MAC, HOST_MAC].concat());
        assert_eq!((reply[54], reply[58]), (136, 0x60));
        assert_eq!(&reply[78..86], [&[2, 1][..], &HOST_MAC].concat());
        crate::support::packet::icmp::check_icmpv6(&reply);
    }
    let group = [0x33, 0x33, 0xff, 0, 0, 1];
    let (action, _) = ask_at(group, "fe80::5", "ff02::1:ff00:1", "fd00:1::1");
    assert_eq!(action, TC_NEXT, "the stack knows its own link's MAC");
    assert_eq!(ask("ff02::1:ff00:5", V6.pod).0, TC_NEXT, "its own address was claimed");
}
