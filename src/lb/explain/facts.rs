// SPDX-License-Identifier: Apache-2.0
//! What decides besides services: the node's addresses, its hooks, and who asks.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use super::Side;
use crate::abi::{Addr, Hook, OWNED_LOOPBACK, OWNED_NODEPORT, Owned};
use crate::lb::targets::Target;
use crate::model::Protocol;

/// Whose sockets are balanced when they connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sockets {
    Nobodys,
    TheNodes,
    Everyones,
}

/// The target that a client of a backend list, by its id, was given last, and how many ticks ago.
pub type Remembered<'a> = dyn Fn(u32, Addr) -> Option<(Target, u32)> + 'a;

/// See the module's words.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    pub owned: &'a BTreeMap<Addr, Owned>,
    /// externalIPs that the node does not own are served to pods and the node too.
    pub external_ips_inside: bool,
    pub sockets: Sockets,
    /// The driver hook is on some device.
    pub accelerated: bool,
    /// The client, where one was named.
    pub client: Option<(IpAddr, Side)>,
    pub remembered: &'a Remembered<'a>,
}

impl fmt::Debug for Facts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facts").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Facts<'_> {
    pub(super) fn sides(&self) -> impl Iterator<Item = Side> {
        let client = self.client;
        Side::ALL.into_iter().filter(move |side| client.is_none_or(|(_, own)| own == *side))
    }

    pub(super) fn owns(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.owned.contains_key(&Addr::from(ip))
    }

    /// The programs that meet a new connection; none where nobody does.
    pub(super) fn hooks(&self, side: Side, proto: u8) -> &'static [Hook] {
        let by_socket = proto != Protocol::Sctp.number();
        match (side, self.sockets) {
            (Side::Node, Sockets::TheNodes | Sockets::Everyones)
            | (Side::Pod, Sockets::Everyones)
                if by_socket =>
            {
                &[Hook::Socket]
            }
            (Side::Node, _) => &[],
            (Side::Pod, _) => &[Hook::FromContainer],
            (Side::Outside, _) if self.accelerated => &[Hook::Xdp, Hook::FromNetdev],
            (Side::Outside, _) => &[Hook::FromNetdev],
        }
    }

    /// Why a wildcard frontend does not serve `ip` to clients of `side`; None: it does.
    pub(super) fn bars_wildcard(&self, ip: IpAddr, side: Side) -> Option<String> {
        if ip.is_loopback() && side != Side::Node {
            return Some(format!("{ip} is every client's own loopback address"));
        }
        let flags = match self.owned.get(&Addr::from(ip)) {
            Some(owned) => owned.flags,
            None if ip.is_loopback() => OWNED_LOOPBACK,
            None => 0,
        };
        let open = flags & OWNED_NODEPORT != 0;
        let open = open || (flags & OWNED_LOOPBACK != 0 && side == Side::Node);
        (!open).then(|| format!("{ip} is none of the addresses in `nodePort.addresses`"))
    }

    /// The node's addresses of one family that serve wildcards.
    pub(super) fn wildcard_addresses(&self, v6: bool) -> Vec<String> {
        let open = |owned: &Owned| owned.flags & OWNED_NODEPORT != 0;
        let all = self.owned.iter().filter(|(addr, owned)| addr.is_v4() != v6 && open(owned));
        all.map(|(addr, _)| addr.ip().to_string()).collect()
    }
}
