// SPDX-License-Identifier: Apache-2.0
//! An uplink that is a VLAN's device, whose tagged frames the driver hook of the device below finishes.

use std::os::fd::AsFd as _;
use std::process::Command;
use std::time::Instant;

use culvert::agent::acceleration::Acceleration;
use culvert::config::Acceleration as Wanted;
use culvert::datapath::netlink::Vlan;
use libbpf_rs::libbpf_sys as sys;
use libbpf_rs::{TC_INGRESS, TcHookBuilder};
use nix::net::if_::if_nametoindex;

use super::wire::{Wires, mac, transfer};
use super::xdp_attach::view_of;
use super::xdp_wire::{finished, pass_all, without_checksum_offload};
use crate::raw_program::insn::Assembler;
use crate::raw_program::raw::{self, Hook};
use crate::support::netns::NetNs;
use crate::support::node::FAMILIES;

/// Of many segments, and short enough for an emulated processor.
const LENGTH: usize = 256 << 10;

const ID: i32 = 7;
const LINK: &str = "eth0.7";

fn index(name: &str) -> i32 {
    if_nametoindex(name).unwrap() as i32
}

/// Runs `code` on what a device receives.
fn attach(device: &str, code: &Assembler) {
    let program = raw::load(Hook::Tc, "test_vlan", code).unwrap();
    let mut hook = TcHookBuilder::new(program.as_fd());
    hook.ifindex(index(device)).handle(1).priority(1);
    hook.hook(TC_INGRESS).create().unwrap().attach().unwrap();
}

/// One end of a cable does for the VLAN's device where the kernel has none: what comes out of the other
/// end gets the tag and goes out of `eth0`, and what comes in there with the tag loses it.
fn stand_in(ns: &NetNs) {
    const VLAN_TCI: i16 = 24; // In `struct __sk_buff`.
    const TAG: i32 = u16::from_ne_bytes([0x81, 0]) as i32;
    ns.ip(&format!("link add {LINK} type veth peer name below"));
    let mac = mac(ns, "eth0").map(|byte| format!("{byte:02x}")).join(":");
    ns.ip(&format!("link set {LINK} address {mac} up"));
    ns.ip("link set below addrgenmode none up");
    ns.run(|| {
        let mut down = Assembler::default();
        down.set(2, TAG);
        down.set(3, ID);
        down.call(sys::BPF_FUNC_skb_vlan_push);
        down.set(1, index("eth0"));
        down.set(2, 0);
        down.call(sys::BPF_FUNC_redirect);
        down.exit();
        attach("below", &down);

        let mut up = Assembler::default();
        up.load_u32(2, 1, VLAN_TCI);
        up.and(2, 0xfff);
        up.xor(2, ID);
        let ours = up.jump_if_zero(2);
        up.set(0, 0);
        up.exit();
        up.land(ours);
        up.call(sys::BPF_FUNC_skb_vlan_pop);
        up.set(1, index(LINK));
        up.set(2, sys::BPF_F_INGRESS as i32);
        up.call(sys::BPF_FUNC_redirect);
        up.exit();
        attach("eth0", &up);
    });
}

/// A veth pair would hand tags over beside the frames, which no cable does.
fn tags_in_frames(ns: &NetNs) {
    let status = ns.run(|| {
        let mut ethtool = Command::new("ethtool");
        ethtool.args(["-K", "eth0", "rxvlan", "off", "txvlan", "off"]).status().unwrap()
    });
    assert!(status.success(), "{status}");
    without_checksum_offload(ns, "eth0");
}

/// `link` makes the VLAN's device above `eth0`.
fn is_finished_below(link: impl Fn(&NetNs)) {
    let wires = Wires::over(LINK, |ns| {
        tags_in_frames(ns);
        link(ns);
    });
    let _peer = pass_all(&wires.outside, "eth0");
    let mut view = view_of(&wires.node, &["eth0", LINK]);
    let [eth0, vlan] = ["eth0", LINK].map(|name| wires.node.run(|| index(name) as u32));
    view.uplinks.remove(&eth0);
    let tag = Vlan { parent: eth0, tag: 0x8100_0000 | ID as u32 };
    view.links.get_mut(&vlan).unwrap().vlan = Some(tag);
    let mut acceleration = Acceleration::new(Wanted::Native);
    let datapath = wires.objects.datapath();
    wires.node.run(|| acceleration.step(&view, datapath, Instant::now()).unwrap());
    let sampled = acceleration.due().unwrap();
    wires.node.run(|| acceleration.step(&view, datapath, sampled).unwrap());
    assert_eq!(acceleration.of_device(LINK), ("native", "being watched"));

    for family in FAMILIES {
        let before = finished(&wires.objects);
        transfer(&wires, family, family.remote, LENGTH);
        // Payload alone is 180 full segments a way.
        let finished = finished(&wires.objects) - before;
        assert!(finished > 300, "{finished} frames: {family:?}");
    }
}

#[test]
fn tagged_frames_are_finished_by_the_driver_of_the_device_below() {
    is_finished_below(stand_in);
}

#[test]
#[ignore = "needs VLAN devices (8021q), which the kernels of tests/vm have"]
fn frames_of_a_vlan_device_are_finished_by_the_driver_of_the_device_below() {
    is_finished_below(|ns| {
        ns.ip(&format!("link add link eth0 name {LINK} type vlan id {ID}"));
        ns.ip(&format!("link set {LINK} up"));
    });
}
