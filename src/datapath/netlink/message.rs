// SPDX-License-Identifier: Apache-2.0
//! Route netlink messages, reduced to what [`super::state`] decides by.

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressScope,
};
use rtnetlink::packet_route::link::{
    InfoData, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};

use super::{Link, Vlan};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Link {
        ifindex: u32,
        link: Link,
    },
    LinkGone {
        ifindex: u32,
    },
    Address(Address),
    AddressGone {
        ifindex: u32,
        net: IpNet,
    },
    /// A route that makes addresses the node's which no device has (AnyIP).
    Local(Local),
    LocalGone {
        net: IpNet,
    },
    /// `default`: one that decides which devices are external.
    Route {
        default: bool,
    },
    /// `mac` is empty while it is not known.
    Neighbour {
        ifindex: u32,
        ip: IpAddr,
        mac: Vec<u8>,
        failed: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) ifindex: u32,
    pub(super) net: IpNet,
    /// Fit to be a source address towards other machines.
    pub(super) source: bool,
    pub(super) secondary: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Local {
    pub(super) ifindex: u32,
    pub(super) net: IpNet,
}

/// `None` for messages that change nothing we look at.
pub(super) fn event(message: &Message) -> Option<Event> {
    match message {
        Message::NewLink(message) => link(message),
        Message::DelLink(message) => {
            is_device(message).then_some(Event::LinkGone { ifindex: message.header.index })
        }
        Message::NewAddress(message) => address(message).map(Event::Address),
        Message::DelAddress(message) => {
            address(message).map(|gone| Event::AddressGone { ifindex: gone.ifindex, net: gone.net })
        }
        Message::NewRoute(message) => local(message).map(Event::Local).or_else(|| route(message)),
        Message::DelRoute(message) => {
            let gone = local(message).map(|local| Event::LocalGone { net: local.net });
            gone.or_else(|| route(message))
        }
        Message::NewNeighbour(message) => neighbour(message),
        _ => None,
    }
}

/// A bridge reports its ports with messages of another family.
fn is_device(message: &LinkMessage) -> bool {
    u8::from(message.header.interface_family) == libc::AF_UNSPEC as u8
}

pub(super) fn link(message: &LinkMessage) -> Option<Event> {
    if !is_device(message) {
        return None;
    }
    let flags = message.header.flags;
    let mut link = Link {
        name: String::new(),
        mtu: 0,
        up: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        loopback: flags.contains(LinkFlags::Loopback),
        mac: Vec::new(),
        vlan: vlan(&message.attributes),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(mac) => link.mac.clone_from(mac),
            _ => {}
        }
    }
    Some(Event::Link { ifindex: message.header.index, link })
}

fn vlan(attributes: &[LinkAttribute]) -> Option<Vlan> {
    let (mut parent, mut tag) = (None, None);
    for attribute in attributes {
        match attribute {
            LinkAttribute::Link(ifindex) => parent = Some(*ifindex),
            LinkAttribute::LinkNetNsId(_) => return None,
            LinkAttribute::LinkInfo(infos) => tag = infos.iter().find_map(vlan_tag),
            _ => {}
        }
    }
    Some(Vlan { parent: parent?, tag: tag? })
}

fn vlan_tag(info: &LinkInfo) -> Option<u32> {
    let LinkInfo::Data(InfoData::Vlan(infos)) = info else { return None };
    let id = infos.iter().find_map(|info| match info {
        InfoVlan::Id(id) => Some(u32::from(*id)),
        _ => None,
    });
    let protocol = infos.iter().find_map(|info| match info {
        InfoVlan::Protocol(protocol) => Some(u32::from(u16::from(*protocol))),
        _ => None,
    });
    Some(protocol? << 16 | id?)
}

pub(super) fn address(message: &AddressMessage) -> Option<Address> {
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            // On a point-to-point device this is the other side's.
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    let net = IpNet::new(local.or(address)?, message.header.prefix_len).ok()?;
    let unfit = AddressFlags::Deprecated | AddressFlags::Tentative | AddressFlags::Dadfailed;
    // To IPv6 the secondary bit means temporary (RFC 8981): soon gone.
    let secondary = flags.contains(AddressFlags::Secondary);
    let temporary = secondary && net.addr().is_ipv6();
    Some(Address {
        ifindex: message.header.index,
        net,
        source: message.header.scope == AddressScope::Universe
            && !flags.intersects(unfit)
            && !temporary,
        secondary,
    })
}

/// A route of the local table that somebody has set; the kernel's come and go with addresses.
pub(super) fn local(message: &RouteMessage) -> Option<Local> {
    let header = &message.header;
    let wanted = header.kind == RouteType::Local
        && header.table == libc::RT_TABLE_LOCAL
        && header.protocol != RouteProtocol::Kernel
        && !header.flags.contains(RouteFlags::Cloned);
    if !wanted {
        return None;
    }
    let (mut ip, mut ifindex) = (None, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(v4)) => ip = Some((*v4).into()),
            RouteAttribute::Destination(RouteAddress::Inet6(v6)) => ip = Some((*v6).into()),
            RouteAttribute::Oif(on) => ifindex = *on,
            _ => {}
        }
    }
    let net = IpNet::new(ip?, header.destination_prefix_length).ok()?;
    Some(Local { ifindex, net: net.trunc() })
}

/// Routes of the tables that forward.
fn route(message: &RouteMessage) -> Option<Event> {
    let local = matches!(
        message.header.kind,
        RouteType::Local | RouteType::Broadcast | RouteType::Anycast | RouteType::Multicast
    );
    if local || message.header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let default = message.header.destination_prefix_length == 0;
    Some(Event::Route { default })
}

/// The devices of a default route in the main table.
pub(super) fn default_devices(message: &RouteMessage) -> Vec<u32> {
    let header = &message.header;
    let wanted = header.destination_prefix_length == 0
        && header.kind == RouteType::Unicast
        && header.table == RouteHeader::RT_TABLE_MAIN
        && !header.flags.contains(RouteFlags::Cloned);
    if !wanted {
        return Vec::new();
    }
    let mut devices = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(ifindex) => devices.push(*ifindex),
            RouteAttribute::MultiPath(hops) => {
                devices.extend(hops.iter().map(|hop| hop.interface_index));
            }
            _ => {}
        }
    }
    devices
}

pub(super) fn neighbour(message: &NeighbourMessage) -> Option<Event> {
    let (mut ip, mut mac) = (None, Vec::new());
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => ip = Some((*v4).into()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => ip = Some((*v6).into()),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac.clone_from(bytes),
            _ => {}
        }
    }
    let state = message.header.state;
    // Nobody resolves these, and multicast ones come and go with the addresses.
    if state == NeighbourState::Noarp {
        return None;
    }
    let failed = state == NeighbourState::Failed;
    Some(Event::Neighbour { ifindex: message.header.ifindex, ip: ip?, mac, failed })
}
