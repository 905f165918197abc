// SPDX-License-Identifier: Apache-2.0
//! The wire between a pod and its host: one veth pair, with addresses, routes and neighbours.
//!
//! The pod's address is a /32 or /128: everything else is behind the gateway, which no device has.
//! Both ends know each other's MAC for good, so nothing ever waits for ARP or ND on this wire.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd as _;

use futures_util::TryStreamExt as _;
use nix::net::if_::if_nametoindex;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags};
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteScope};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::api::{Allocation, PodAddress};
use super::names::Attachment;
use super::netns;
use super::sysctl;

pub type Mac = [u8; 6];

/// A veth pair that stands.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// Of the host side.
    pub ifindex: u32,
    pub pod_mac: Mac,
    pub host_mac: Mac,
}

/// Locally administered addresses that follow from the attachment. Set by us so that nothing on
/// the host (udev's `MACAddressPolicy`) changes them later.
pub fn macs(attachment: &Attachment) -> (Mac, Mac) {
    let id = u64::from_str_radix(&attachment.id(), 16).unwrap_or_default().to_be_bytes();
    let pod = [id[2] & 0xfc | 0x02, id[3], id[4], id[5], id[6], id[7]];
    let mut host = pod;
    host[0] ^= 0x04;
    (pod, host)
}

/// As `ip` prints it.
pub fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Makes the pair and everything on both ends. Whoever gets an error calls [`remove`].
///
/// # Errors
/// The kernel's, each saying which step it refused. `AlreadyExists` when the pod has a device of
/// that name.
pub fn make(pod_netns: &File, attachment: &Attachment, given: &Allocation) -> io::Result<Pair> {
    let name = attachment.host_ifname();
    let (pod_mac, host_mac) = macs(attachment);
    let peer = LinkUnspec::new_with_name(&attachment.ifname)
        .mtu(given.mtu)
        .address(pod_mac.to_vec())
        .setns_by_fd(pod_netns.as_raw_fd())
        .build();
    let veth = LinkVeth::new(&name, &attachment.ifname)
        .mtu(given.mtu)
        .address(host_mac.to_vec())
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();

    netns::with_netlink(async |netlink| {
        let made = netlink.link().add(veth).execute().await;
        made.map_err(|cause| failed(&format!("make the veth pair `{name}`"), cause))
    })?;
    netns::inside(pod_netns, || {
        netns::with_netlink(async |netlink| pod_side(&netlink, attachment, given, host_mac).await)
    })?;
    sysctl::let_forward(&name)?;
    let ifindex = if_nametoindex(name.as_str())?;
    netns::with_netlink(async |netlink| host_side(&netlink, ifindex, given, pod_mac).await)?;
    Ok(Pair { ifindex, pod_mac, host_mac })
}

/// Removes the host's device `name`, and with it the pod's. Nothing there is fine.
pub fn remove(name: &str) -> io::Result<()> {
    let Ok(ifindex) = if_nametoindex(name) else { return Ok(()) };
    netns::with_netlink(async |netlink| match netlink.link().del(ifindex).execute().await {
        Err(cause) if errno(&cause) != Some(libc::ENODEV) => {
            Err(failed(&format!("remove `{name}`"), cause))
        }
        _ => Ok(()),
    })
}

async fn pod_side(
    netlink: &Handle,
    attachment: &Attachment,
    given: &Allocation,
    host_mac: Mac,
) -> io::Result<()> {
    let device = &attachment.ifname;
    let ifindex = if_nametoindex(device.as_str())?;
    for address in &given.addresses {
        let step = || format!("give `{device}` the address `{}`", address.ip);
        add_address(netlink, ifindex, address.ip).await.map_err(|cause| failed(&step(), cause))?;
    }
    set_up(netlink, ifindex, device).await?;

    let gateways = given.addresses.iter().map(|address| address.gateway);
    let hairpins = given.hairpin.iter().copied().filter(|hairpin| {
        given.addresses.iter().any(|address| address.ip.is_ipv4() == hairpin.is_ipv4())
    });
    for neighbour in gateways.chain(hairpins.clone()) {
        let step = || format!("tell `{device}` the neighbour `{neighbour}`");
        let add = add_neighbour(netlink, ifindex, neighbour, host_mac).await;
        add.map_err(|cause| failed(&step(), cause))?;
    }
    for hairpin in hairpins {
        let step = || format!("route `{hairpin}` out of `{device}`");
        let mut own = given.addresses.iter().map(|address| address.ip);
        let own = own.find(|ip| ip.is_ipv4() == hairpin.is_ipv4());
        let route = answered_from(on_link(hairpin, ifindex), own);
        let add = netlink.route().add(route).replace().execute().await;
        add.map_err(|cause| failed(&step(), cause))?;
    }
    for PodAddress { ip: _, gateway } in &given.addresses {
        let step = || format!("route everything over `{gateway}` on `{device}`");
        for route in [on_link(*gateway, ifindex), default_over(*gateway, ifindex)] {
            let add = netlink.route().add(route).replace().execute().await;
            add.map_err(|cause| failed(&step(), cause))?;
        }
    }
    Ok(())
}

async fn host_side(
    netlink: &Handle,
    ifindex: u32,
    given: &Allocation,
    pod_mac: Mac,
) -> io::Result<()> {
    set_up(netlink, ifindex, "the host side").await?;
    for PodAddress { ip, .. } in &given.addresses {
        let step = || format!("route `{ip}` to the pod");
        let add = netlink.route().add(on_link(*ip, ifindex)).replace().execute().await;
        add.map_err(|cause| failed(&step(), cause))?;
        let add = add_neighbour(netlink, ifindex, *ip, pod_mac).await;
        add.map_err(|cause| failed(&step(), cause))?;
    }
    Ok(())
}

async fn add_address(netlink: &Handle, ifindex: u32, ip: IpAddr) -> Result<(), rtnetlink::Error> {
    let mut request = netlink.address().add(ifindex, ip, full_length(ip));
    if ip.is_ipv6() {
        // Nobody else can have it, and a tentative address is of no use to a starting container.
        let message = request.message_mut();
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    request.execute().await
}

async fn add_neighbour(
    netlink: &Handle,
    ifindex: u32,
    ip: IpAddr,
    mac: Mac,
) -> Result<(), rtnetlink::Error> {
    let request = netlink.neighbours().add(ifindex, ip).state(NeighbourState::Permanent);
    request.link_layer_address(&mac).replace().execute().await
}

async fn set_up(netlink: &Handle, ifindex: u32, device: &str) -> io::Result<()> {
    let up = LinkUnspec::new_with_index(ifindex).up().build();
    let set = netlink.link().set(up).execute().await;
    set.map_err(|cause| failed(&format!("set `{device}` up"), cause))
}

fn on_link(ip: IpAddr, ifindex: u32) -> RouteMessage {
    match ip {
        IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(v4, 32)
            .output_interface(ifindex)
            .scope(RouteScope::Link)
            .build(),
        IpAddr::V6(v6) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(v6, 128)
            .output_interface(ifindex)
            .build(),
    }
}

/// A server that answers a hairpinned datagram must do so from the pod's own address. To a
/// link-local one, RFC 6724 would have it answer from the device's link-local address.
fn answered_from(mut route: RouteMessage, own: Option<IpAddr>) -> RouteMessage {
    route.attributes.extend(own.map(|ip| RouteAttribute::PrefSource(ip.into())));
    route
}

fn default_over(gateway: IpAddr, ifindex: u32) -> RouteMessage {
    match gateway {
        IpAddr::V4(v4) => {
            RouteMessageBuilder::<Ipv4Addr>::new().gateway(v4).output_interface(ifindex).build()
        }
        IpAddr::V6(v6) => {
            RouteMessageBuilder::<Ipv6Addr>::new().gateway(v6).output_interface(ifindex).build()
        }
    }
}

/// Every address of device `ifindex` in the calling thread's namespace, without link-local ones.
pub async fn addresses(netlink: &Handle, ifindex: u32) -> io::Result<Vec<IpAddr>> {
    let all: Vec<_> = netlink
        .address()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(|cause| failed("list the addresses", cause))?;
    let of_device = all.into_iter().filter(|message| message.header.index == ifindex);
    let local =
        of_device.flat_map(|message| message.attributes).filter_map(|attribute| match attribute {
            AddressAttribute::Address(ip) => Some(ip),
            _ => None,
        });
    Ok(local.filter(|ip| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())).collect())
}

/// Whether a default route over a gateway leaves through device `ifindex`.
pub async fn has_default_route(netlink: &Handle, v6: bool, ifindex: u32) -> io::Result<bool> {
    let query = if v6 {
        RouteMessageBuilder::<Ipv6Addr>::new().build()
    } else {
        RouteMessageBuilder::<Ipv4Addr>::new().build()
    };
    let family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let all: Vec<RouteMessage> = netlink
        .route()
        .get(query)
        .execute()
        .try_collect()
        .await
        .map_err(|cause| failed("list the routes", cause))?;
    Ok(all.iter().any(|route| {
        route.header.address_family == family
            && route.header.destination_prefix_length == 0
            && route.attributes.contains(&RouteAttribute::Oif(ifindex))
            && route.attributes.iter().any(|a| matches!(a, RouteAttribute::Gateway(_)))
    }))
}

/// 32 or 128.
pub const fn full_length(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.code.map(|code| -code.get()),
        _ => None,
    }
}

/// The kernel's own words, after what it refused.
fn failed(step: &str, cause: rtnetlink::Error) -> io::Error {
    let system = errno(&cause).map(io::Error::from_raw_os_error);
    let kind = system.as_ref().map_or(io::ErrorKind::Other, io::Error::kind);
    let cause = system.map_or_else(|| cause.to_string(), |system| system.to_string());
    io::Error::new(kind, format!("cannot {step}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_ends_have_different_unicast_local_addresses() {
        for container in 0..64 {
            let (pod, host) =
                macs(&Attachment { container_id: container.to_string(), ifname: "eth0".into() });
            assert_ne!(pod, host);
            for mac in [pod, host] {
                assert_eq!(mac[0] & 0x03, 0x02, "{}", mac_text(mac));
            }
        }
    }
}
