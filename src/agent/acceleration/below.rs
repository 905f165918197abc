// SPDX-License-Identifier: Apache-2.0
//! Where external devices' frames come in: a VLAN device has no driver, the device below it has.

use std::collections::{BTreeMap, BTreeSet};

use crate::abi::XdpVlanKey;
use crate::datapath::netlink::{Link, View};

/// Tags that the driver hook reads.
const TAGS_MAX: usize = 2;

/// The device at the bottom of `ifindex`, and the tags that its frames have there, outer first.
/// A device under more tags than the hook reads stays by itself, and has no driver to attach to.
fn below(links: &BTreeMap<u32, Link>, ifindex: u32) -> (u32, Vec<u32>) {
    let mut tags = Vec::new();
    let mut at = ifindex;
    while let Some(vlan) = links.get(&at).and_then(|link| link.vlan) {
        if !links.contains_key(&vlan.parent) {
            break;
        }
        tags.insert(0, vlan.tag);
        if tags.len() > TAGS_MAX {
            return (ifindex, Vec::new());
        }
        at = vlan.parent;
    }
    (at, tags)
}

/// The devices whose driver serves the external ones, by ifindex.
pub(super) fn hosts(view: &View) -> BTreeMap<u32, &Link> {
    let hosts = view.uplinks.keys().map(|ifindex| below(&view.links, *ifindex).0);
    hosts.filter_map(|ifindex| Some((ifindex, view.links.get(&ifindex)?))).collect()
}

/// The name of the device whose driver serves external device `name`.
pub(super) fn host_of<'v>(view: &'v View, name: &str) -> Option<&'v str> {
    let (ifindex, _) = view.uplinks.iter().find(|(_, uplink)| uplink.name == name)?;
    Some(&view.links.get(&below(&view.links, *ifindex).0)?.name)
}

/// The devices that VLANs lie above, external ones or not.
pub(super) fn carriers(view: &View) -> BTreeSet<u32> {
    let tagged = view.links.iter().filter(|(_, link)| link.vlan.is_some());
    tagged.map(|(ifindex, _)| below(&view.links, *ifindex).0).collect()
}

/// What map `xdp_vlans` should hold for the hooks on `attached`.
pub(super) fn vlans(view: &View, attached: &BTreeSet<u32>) -> BTreeMap<XdpVlanKey, u32> {
    let tagged = view.uplinks.keys().filter_map(|&ifindex| {
        let (parent, tags) = below(&view.links, ifindex);
        let outer = *tags.first()?;
        let inner = tags.get(1).copied().unwrap_or_default();
        attached.contains(&parent).then_some((XdpVlanKey { parent, outer, inner }, ifindex))
    });
    tagged.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::netlink::{Uplink, Vlan};

    const CUSTOMER: u32 = 0x8100_0000;
    const SERVICE: u32 = 0x88a8_0000;

    fn view(links: &[(u32, Option<Vlan>)], uplinks: &[u32]) -> View {
        let name = |ifindex: u32| format!("eth{ifindex}");
        let link = |ifindex, vlan| Link {
            name: name(ifindex),
            mtu: 1500,
            up: true,
            loopback: false,
            mac: Vec::new(),
            vlan,
        };
        let uplink =
            |ifindex| Uplink { name: name(ifindex), mtu: 1500, snat_v4: None, snat_v6: None };
        View {
            links: links.iter().map(|&(ifindex, vlan)| (ifindex, link(ifindex, vlan))).collect(),
            uplinks: uplinks.iter().map(|&ifindex| (ifindex, uplink(ifindex))).collect(),
            ..View::default()
        }
    }

    fn on(parent: u32, tag: u32) -> Option<Vlan> {
        Some(Vlan { parent, tag })
    }

    #[test]
    fn a_vlan_is_served_by_the_device_below() {
        let stacked = [
            (2, None),
            (3, on(2, CUSTOMER | 100)),
            (4, on(2, SERVICE | 7)),
            (5, on(4, CUSTOMER | 9)),
            (6, on(2, CUSTOMER | 8)),
        ];
        let view = view(&stacked, &[3, 5]);
        assert_eq!(hosts(&view).keys().collect::<Vec<_>>(), [&2]);
        assert_eq!(host_of(&view, "eth5"), Some("eth2"));
        assert_eq!(host_of(&view, "eth2"), None, "no external device");
        assert_eq!(carriers(&view), BTreeSet::from([2]));
        let single = XdpVlanKey { parent: 2, outer: CUSTOMER | 100, inner: 0 };
        let double = XdpVlanKey { parent: 2, outer: SERVICE | 7, inner: CUSTOMER | 9 };
        let expected = BTreeMap::from([(single, 3), (double, 5)]);
        assert_eq!(vlans(&view, &BTreeSet::from([2])), expected);
        assert_eq!(vlans(&view, &BTreeSet::new()), BTreeMap::new(), "not attached");
    }

    #[test]
    fn what_the_hook_cannot_read_has_no_driver() {
        let deep = [
            (2, None),
            (3, on(2, CUSTOMER | 1)),
            (4, on(3, CUSTOMER | 2)),
            (5, on(4, CUSTOMER | 3)),
        ];
        let deep = view(&deep, &[5]);
        assert_eq!(hosts(&deep).keys().collect::<Vec<_>>(), [&5]);
        assert_eq!(vlans(&deep, &BTreeSet::from([2, 5])), BTreeMap::new());
        let foreign = view(&[(3, on(2, CUSTOMER | 1))], &[3]);
        assert_eq!(hosts(&foreign).keys().collect::<Vec<_>>(), [&3], "not in this namespace");
    }
}
