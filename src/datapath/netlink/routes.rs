// SPDX-License-Identifier: Apache-2.0
//! Routes to the pods of other nodes, and to those of this one that are not there.
//!
//! They carry a protocol number of our own, so that what we remove is only ever what we added,
//! and so that `ip route show proto 212` shows them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::watch::Connection;
use super::{Error, io};

/// `rtm_protocol` of our routes; not in `rtnetlink.h` or any `rt_protos` known to us.
pub const PROTOCOL: u8 = 212;

/// The metric of unreachable routes. Whoever has a route to the same destination goes first: the
/// bridge of another network plugin, say.
const LAST_RESORT: u32 = 0x7fff_ffff;

/// A pod CIDR, reached through its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    pub to: IpNet,
    /// None: unreachable.
    pub via: Option<IpAddr>,
    /// 0 for what is unreachable.
    pub ifindex: u32,
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.via {
            Some(via) => write!(f, "{} via {via}", self.to),
            None => write!(f, "{}, unreachable", self.to),
        }
    }
}

/// Reads and writes our routes in the main table.
pub struct Routes {
    handle: Handle,
    _connection: Connection,
}

impl std::fmt::Debug for Routes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Routes")
    }
}

impl Routes {
    /// Must be called in a Tokio runtime.
    pub fn open() -> Result<Self, Error> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Socket)?;
        Ok(Self { handle, _connection: Connection::run(connection) })
    }

    /// Adds the route, or replaces the one that leads to the same destination.
    pub async fn set(&self, route: &Route) -> Result<(), Error> {
        let request = self.handle.route().add(message(route)).replace();
        request.execute().await.map_err(|error| failed("add", route, error))
    }

    /// Removes our route. Its being gone is no failure.
    pub async fn remove(&self, route: &Route) -> Result<(), Error> {
        match self.handle.route().del(message(route)).execute().await {
            Ok(()) => Ok(()),
            Err(error) if io(error.clone()).raw_os_error() == Some(libc::ESRCH) => Ok(()),
            Err(error) => Err(failed("remove", route, error)),
        }
    }

    /// Removes all our routes and tells which they were, for `culvert cleanup`.
    pub async fn clear(&self) -> Result<Vec<Route>, Error> {
        let routes = self.list().await?;
        for route in &routes {
            self.remove(route).await?;
        }
        Ok(routes)
    }

    /// Our routes, and nobody else's.
    pub async fn list(&self) -> Result<Vec<Route>, Error> {
        let mut routes = Vec::new();
        let v4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
        for family in [v4, v6] {
            let mut listed = self.handle.route().get(family).execute();
            loop {
                match listed.try_next().await {
                    Ok(Some(each)) => routes.extend(ours(&each)),
                    Ok(None) => break,
                    Err(error) => {
                        return Err(Error::List { what: "routes", source: io(error) });
                    }
                }
            }
        }
        routes.sort();
        Ok(routes)
    }
}

fn failed(action: &'static str, route: &Route, error: rtnetlink::Error) -> Error {
    Error::Route { action, route: *route, source: io(error) }
}

fn message(route: &Route) -> RouteMessage {
    let protocol = RouteProtocol::Other(PROTOCOL);
    let length = route.to.prefix_len();
    let Some(via) = route.via else {
        return match route.to.network() {
            IpAddr::V4(to) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(to, length)
                .kind(RouteType::Unreachable)
                .priority(LAST_RESORT)
                .protocol(protocol)
                .build(),
            IpAddr::V6(to) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(to, length)
                .kind(RouteType::Unreachable)
                .priority(LAST_RESORT)
                .protocol(protocol)
                .build(),
        };
    };
    match (route.to.network(), via) {
        (IpAddr::V4(to), IpAddr::V4(via)) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(to, length)
            .gateway(via)
            .output_interface(route.ifindex)
            .protocol(protocol)
            .build(),
        // RFC 5549: IPv4 through an IPv6 next hop.
        (IpAddr::V4(to), IpAddr::V6(via)) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(to, length)
            .via(via)
            .output_interface(route.ifindex)
            .protocol(protocol)
            .build(),
        (IpAddr::V6(to), via) => {
            let builder = RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(to, length)
                .output_interface(route.ifindex)
                .protocol(protocol);
            match via {
                IpAddr::V6(via) => builder.gateway(via).build(),
                // The kernel has no such route and says so.
                IpAddr::V4(via) => builder.gateway(via.to_ipv6_mapped()).build(),
            }
        }
    }
}

fn ours(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    let wanted = header.protocol == RouteProtocol::Other(PROTOCOL)
        && header.table == RouteHeader::RT_TABLE_MAIN
        && matches!(header.kind, RouteType::Unicast | RouteType::Unreachable);
    if !wanted {
        return None;
    }
    let (mut to, mut via, mut ifindex) = (None, None, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => to = ip(address),
            RouteAttribute::Gateway(address) => via = ip(address),
            RouteAttribute::Via(rtnetlink::packet_route::route::RouteVia::Inet6(v6)) => {
                via = Some((*v6).into());
            }
            RouteAttribute::Oif(index) => ifindex = *index,
            _ => {}
        }
    }
    let to = IpNet::new(to?, header.destination_prefix_length).ok()?;
    if header.kind == RouteType::Unreachable {
        // IPv6 puts it on the loopback device.
        return Some(Route { to, via: None, ifindex: 0 });
    }
    Some(Route { to, via: Some(via?), ifindex })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}
