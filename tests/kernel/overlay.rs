// SPDX-License-Identifier: Apache-2.0
//! The backend's node behind the Geneve device, one packet at a time: what the tunnel option says.
//!
//! A test run has no tunnel, so a generated program gives the packet one before it jumps into
//! `from_overlay`. Wires are in `dsr_wire`, where the kernel has the device.

use std::mem::size_of;
use std::os::fd::{AsFd as _, AsRawFd as _};

use culvert::abi::{DsrDispatch, Outcome};
use libbpf_rs::libbpf_sys as sys;
use libbpf_rs::{MapCore as _, MapFlags, MapHandle, MapType};

use super::dsr::request;
use super::dsr_end::dispatched;
use super::dsr_ipip;
use super::host::flows;
use crate::raw_program::insn::Assembler;
use crate::raw_program::raw::{self, Hook, NOT_REACHED};
use crate::support::dsr::{self, KEY, Mark};
use crate::support::node::{FAMILIES, Node, POD_MAC, TC_DROP, TC_REDIRECT};
use crate::support::objects::{SCTP, TCP, UDP};
use crate::support::packet::{ACK, Packet, SYN};

/// Bytes of `struct bpf_tunnel_key` in Linux 5.10.
const TUNNEL_KEY: i32 = 28;
const FRAME: u8 = 10;

/// Writes `bytes`, padded, below the frame pointer; returns where they are.
fn store(code: &mut Assembler, bytes: &[u8], below: i16) -> i16 {
    let at = below - bytes.len().next_multiple_of(8) as i16;
    for (index, word) in bytes.chunks(8).enumerate() {
        let mut padded = [0; 8];
        padded[..word.len()].copy_from_slice(word);
        code.set_wide(4, u64::from_ne_bytes(padded));
        code.store_u64(FRAME, 4, at + 8 * index as i16);
    }
    at
}

/// As if the Geneve device had brought `frame` with `option`; verdict and packet.
fn tunnelled(node: &Node, frame: &[u8], option: &[u8]) -> (u32, Vec<u8>) {
    let options = sys::bpf_map_create_opts {
        sz: size_of::<sys::bpf_map_create_opts>() as u64,
        ..Default::default()
    };
    let programs =
        MapHandle::create(MapType::ProgArray, Some("test_programs"), 4, 4, 1, &options).unwrap();
    let target = node.objects.program("from_overlay").as_fd().as_raw_fd();
    programs.update(&0_u32.to_ne_bytes(), &target.to_ne_bytes(), MapFlags::ANY).unwrap();

    let mut code = Assembler::default();
    code.copy(6, 1);
    let key = store(&mut code, &[0; TUNNEL_KEY as usize], 0);
    let at = store(&mut code, option, key);
    code.copy(1, 6);
    code.copy(2, FRAME);
    code.add(2, key.into());
    code.set(3, TUNNEL_KEY);
    code.set(4, 0);
    code.call(sys::BPF_FUNC_skb_set_tunnel_key);
    code.copy(1, 6);
    code.copy(2, FRAME);
    code.add(2, at.into());
    code.set(3, option.len() as i32);
    code.call(sys::BPF_FUNC_skb_set_tunnel_opt);
    code.copy(1, 6);
    code.set_map(2, programs.as_fd());
    code.set(3, 0);
    code.call(sys::BPF_FUNC_tail_call);
    code.set(0, NOT_REACHED);
    code.exit();
    let program = raw::load(Hook::Tc, "test_tunnel", &code).unwrap();
    let ifindex = node.uplink;
    let run = || raw::run(Hook::Tc, program.as_fd(), frame, ifindex, 1).unwrap().0;
    let outcome = node.ns.run(run);
    assert_ne!(outcome.verdict, NOT_REACHED as u32);
    (outcome.verdict, outcome.packet)
}

/// The option as RFC 8926 has it, class and type as docs/design.md says.
fn option(key: &[u8; 16], packet: &Packet, mark: &Mark) -> Vec<u8> {
    let mut said = match mark.service.ip() {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    said.extend(mark.service.port().to_be_bytes());
    said.extend(mark.client_port.unwrap_or(0).to_be_bytes());
    if mark.client_port.is_some() {
        said.extend(dsr::tag(key, packet, mark));
    }
    let mut out = vec![0x01, 0x4b, 0x81, (said.len() / 4) as u8];
    out.extend(said);
    out
}

#[track_caller]
fn deliver(node: &Node, packet: &Packet, option: &[u8]) -> Packet {
    let (action, out) = tunnelled(node, &packet.bytes(), option);
    assert_eq!(action, TC_REDIRECT, "{packet:?}: {:?}", node.outcomes());
    let delivered = Packet::parse(&out);
    assert_eq!((delivered.src, delivered.dst), (packet.src, packet.dst));
    assert_eq!((delivered.dmac, &delivered.payload), (POD_MAC, &packet.payload));
    delivered
}

fn node(change: impl FnOnce(&mut culvert::abi::Config) + Send) -> Node {
    dsr_ipip::node_with(DsrDispatch::Geneve, change)
}

#[test]
fn the_pod_answers_from_the_service_address_that_the_tunnel_named() {
    for family in FAMILIES {
        for proto in [TCP, UDP, SCTP] {
            for flags in [SYN, ACK] {
                let flags = if proto == TCP { flags } else { 0 };
                let node = node(|_| {});
                let request = Packet { flags, ..request(family, proto, 80) };
                let (packet, mark) = dispatched(family, &request, 40001);
                let delivered = deliver(&node, &packet, &option(&KEY, &packet, &mark));
                let answer = node.leave_ok(&delivered.answer(flags | ACK));
                assert_eq!((answer.src, answer.dst), (request.dst, request.src));
            }
        }
    }
}

#[test]
fn two_services_of_one_client_port_stay_apart_without_a_changed_port() {
    for family in FAMILIES {
        let node = node(|_| {});
        for port in [80, 81, 80] {
            let request = request(family, UDP, port);
            let (packet, mark) = dispatched(family, &request, 40001);
            let (action, out) = tunnelled(&node, &packet.bytes(), &option(&KEY, &packet, &mark));
            assert_eq!(action, TC_REDIRECT, "{:?}", node.outcomes());
            let answer = node.leave_ok(&Packet::parse(&out).answer(0));
            assert_eq!((answer.src, answer.dst), (request.dst, request.src), "port {port}");
        }
    }
}

#[test]
fn strangers_tunnels_are_refused_and_counted() {
    for family in FAMILIES {
        let node = node(|_| {});
        let (packet, mark) = dispatched(family, &request(family, TCP, 80), 40001);
        let right = option(&KEY, &packet, &mark);
        let plain = option(&KEY, &packet, &Mark { client_port: None, ..mark });
        let mut last = right.clone();
        *last.last_mut().unwrap() ^= 1;
        let forged = [option(b"another key here", &packet, &mark), plain, last];
        for (count, option) in (1..).zip(&forged) {
            assert_eq!(tunnelled(&node, &packet.bytes(), option).0, TC_DROP, "{option:02x?}");
            assert_eq!(node.counted(Outcome::DropDsrTag), count);
        }

        let change = |at: usize, to: u8| {
            let mut option = right.clone();
            option[at] = to;
            option
        };
        // Another class, another type, more than came, less than came.
        let odd = [change(1, 0x4c), change(2, 0x01), change(3, 10), change(3, 1)];
        for (count, option) in (1..).zip(odd.iter().chain([&right[..right.len() - 4].to_vec()])) {
            assert_eq!(tunnelled(&node, &packet.bytes(), option).0, TC_DROP, "{option:02x?}");
            assert_eq!(node.counted(Outcome::DropDsrMalformed), count);
        }
        assert_eq!(flows(&node), (0, 0));
    }
}

#[test]
fn the_plain_form_is_read_where_the_switch_says_so() {
    for family in FAMILIES {
        let node = node(|config| config.dsr_plain_in = 1);
        let request = request(family, UDP, 80);
        let (packet, mark) = dispatched(family, &request, 40001);
        let plain = option(&KEY, &packet, &Mark { client_port: None, ..mark });
        let delivered = deliver(&node, &packet, &plain);
        let answer = node.leave_ok(&delivered.answer(0));
        assert_eq!((answer.src, answer.dst), (request.dst, request.src));
    }
}

#[test]
fn what_is_for_no_pod_of_this_node_is_dropped() {
    for family in FAMILIES {
        let node = node(|_| {});
        let (mut packet, mark) = dispatched(family, &request(family, TCP, 80), 40001);
        packet.dst = family.at(family.remote, 8080).parse().unwrap();
        let option = option(&KEY, &packet, &mark);
        assert_eq!(tunnelled(&node, &packet.bytes(), &option).0, TC_DROP);
        assert_eq!(node.counted(Outcome::DropDsrService), 1);
        assert_eq!(flows(&node), (0, 0));
    }
}
