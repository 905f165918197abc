// SPDX-License-Identifier: Apache-2.0
//! An uplink that is a VLAN's device: tc below it leaves tagged frames to it, and it serves them.

use nix::net::if_::if_nametoindex;

use super::wire::{Wires, transfer_large};

#[test]
#[ignore = "needs VLAN devices (8021q), which the kernels of tests/vm have"]
fn a_vlan_device_is_an_uplink_like_any_other() {
    transfer_large(|| {
        let wires = Wires::over("eth0.7", |ns| {
            ns.ip("link add link eth0 name eth0.7 type vlan id 7");
            ns.ip("link set eth0.7 up");
        });
        // The device below has an address of its own in many networks, and then is one as well.
        wires.node.run(|| {
            let below = if_nametoindex("eth0").unwrap();
            wires.objects.datapath().attach_uplink(below, "eth0").unwrap();
        });
        wires
    });
}
