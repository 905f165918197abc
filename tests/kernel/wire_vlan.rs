// SPDX-License-Identifier: Apache-2.0
//! An uplink that is a VLAN's device: tc below it leaves tagged frames to it, and it serves them.

use nix::net::if_::if_nametoindex;

use super::wire::{Wires, transfer};
use crate::support::node::FAMILIES;

/// Of many segments, and short enough for an emulated processor.
const LENGTH: usize = 256 << 10;

#[test]
#[ignore = "needs VLAN devices (8021q), which the kernels of tests/vm have"]
fn a_vlan_device_is_an_uplink_like_any_other() {
    let wires = Wires::over("eth0.7", |ns| {
        ns.ip("link add link eth0 name eth0.7 type vlan id 7");
        ns.ip("link set eth0.7 up");
    });
    // The device below is an uplink of its own in many networks.
    wires.node.run(|| {
        let below = if_nametoindex("eth0").unwrap();
        wires.objects.datapath().attach_uplink(below, "eth0").unwrap();
    });
    for family in FAMILIES {
        transfer(&wires, family, family.remote, LENGTH);
    }
}
