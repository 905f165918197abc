// SPDX-License-Identifier: Apache-2.0
//! The namespace to measure in: the devices, addresses and routes of a node with two pods.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

pub const PEER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
pub const UPLINK_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];

/// Where pods' packets appear on the node, and the address the pods send to.
#[derive(Clone, Copy, Debug)]
pub struct Pod {
    pub ifindex: u32,
    pub mac: [u8; 6],
    pub host_mac: [u8; 6],
}

/// Puts this process into a fresh namespace with the devices, addresses and routes of a node.
pub fn enter_namespace() -> Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
        .context("cannot make a network namespace; are you root?")?;
    for (path, value) in [
        ("/proc/sys/net/ipv4/ip_forward", "1"),
        ("/proc/sys/net/ipv6/conf/all/forwarding", "1"),
        ("/proc/sys/net/ipv6/conf/default/accept_dad", "0"),
    ] {
        fs::write(path, value).with_context(|| format!("cannot write `{path}`"))?;
    }
    let [uplink_mac, peer_mac] = [UPLINK_MAC, PEER_MAC].map(mac_text);
    let script = format!(
        "link set lo up
         link add up0 address {uplink_mac} type veth peer name up1
         link add lxc0 address 02:00:00:01:00:00 type veth peer name pod0 address 02:00:00:02:00:00
         link add lxc1 address 02:00:00:01:00:01 type veth peer name pod1 address 02:00:00:02:00:01
         link set up0 up
         link set up1 up
         link set lxc0 up
         link set lxc1 up
         link set pod0 up
         link set pod1 up
         addr add 192.168.50.1/24 dev up0
         addr add fd00:50::1/64 dev up0 nodad
         neigh add 192.168.50.2 lladdr {peer_mac} dev up0 nud permanent
         neigh add fd00:50::2 lladdr {peer_mac} dev up0 nud permanent
         route add 10.0.2.0/24 via 192.168.50.2
         route add 10.200.0.0/16 via 192.168.50.2
         route add 10.0.1.10 dev lxc0
         route add 10.0.1.11 dev lxc1
         -6 route add fd00:2::/64 via fd00:50::2
         -6 route add fd00:c::/64 via fd00:50::2
         -6 route add fd00:1::10 dev lxc0
         -6 route add fd00:1::11 dev lxc1"
    );
    for line in script.lines() {
        let status = Command::new("ip").args(line.split_whitespace()).status()?;
        if !status.success() {
            bail!("`ip {}` failed", line.trim());
        }
    }
    Ok(())
}

pub fn pod(device: &str, number: u8) -> Result<Pod> {
    Ok(Pod {
        ifindex: ifindex(device)?,
        mac: [0x02, 0, 0, 0x02, 0, number],
        host_mac: [0x02, 0, 0, 0x01, 0, number],
    })
}

pub fn ifindex(device: &str) -> Result<u32> {
    nix::net::if_::if_nametoindex(device).with_context(|| format!("there is no device `{device}`"))
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
