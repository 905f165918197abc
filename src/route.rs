// SPDX-License-Identifier: Apache-2.0
//! Pure: the kernel routes this node wants towards pods.
//!
//! Its own pod CIDRs are unreachable but for the pods that are there: a packet to an address that no
//! pod has would otherwise follow the default route, and the router would send it back.
//! With `autoDirectNodeRoutes` every pod CIDR of another node is reached through that node's
//! InternalIP, which must be a neighbour: a router in between would not know the pods.

use std::collections::{BTreeMap, HashMap};
use std::mem::discriminant;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{AddressKind, Node, Problem};

/// Where a pod CIDR is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHop {
    Gateway {
        via: IpAddr,
        ifindex: u32,
    },
    /// The sender is told that there is no such pod.
    Unreachable,
}

/// Routes by destination. The destinations have no host bits.
pub type Table = BTreeMap<IpNet, NextHop>;

/// An address of this node with the prefix that is on its device's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnLink {
    pub net: IpNet,
    pub ifindex: u32,
}

/// One change of the kernel's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Adds the route, or replaces the one we have to this destination.
    Set {
        to: IpNet,
        hop: NextHop,
    },
    Remove {
        to: IpNet,
        hop: NextHop,
    },
}

/// The routes to the pods of all `nodes`, and what stands in their way: those of `this`, and when
/// `direct` those of the others. A CIDR that two nodes have goes to the first by name.
pub fn desired<'a>(
    this: &str,
    direct: bool,
    nodes: impl IntoIterator<Item = &'a Node>,
    links: &[OnLink],
) -> (Table, Vec<Problem>) {
    let mut nodes: Vec<&Node> = nodes.into_iter().collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let own: Vec<IpNet> =
        nodes.iter().filter(|n| n.name == this).flat_map(|n| n.pod_cidrs.iter().copied()).collect();

    let mut table: Table = own.iter().map(|cidr| (cidr.trunc(), NextHop::Unreachable)).collect();
    let mut owners: HashMap<IpNet, &str> = HashMap::new();
    let mut problems = Vec::new();
    for node in nodes.into_iter().filter(|node| direct && node.name != this) {
        let mut problem = |message: String| {
            problems.push(Problem { subject: format!("Node {}", node.name), message });
        };
        for cidr in node.pod_cidrs.iter().map(IpNet::trunc) {
            if own.iter().any(|own| own.contains(&cidr) || cidr.contains(own)) {
                problem(format!("pod CIDR `{cidr}` overlaps this node's; give it another"));
                continue;
            }
            if let Some(owner) = owners.get(&cidr) {
                problem(format!("pod CIDR `{cidr}` is Node `{owner}`'s too; give it another"));
                continue;
            }
            match next_hop(node, &cidr, links) {
                Ok(hop) => {
                    table.insert(cidr, hop);
                    owners.insert(cidr, &node.name);
                }
                Err(message) => problem(message),
            }
        }
    }
    (table, problems)
}

/// The pods of `nodes` that lie outside `native`, what the network is said to route by itself. A
/// family without such a CIDR is not judged.
pub fn outside_native<'a>(
    nodes: impl IntoIterator<Item = &'a Node>,
    native: &[IpNet],
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for node in nodes {
        for cidr in &node.pod_cidrs {
            let v6 = cidr.addr().is_ipv6();
            let mut routed = native.iter().filter(|net| net.addr().is_ipv6() == v6).peekable();
            if routed.peek().is_some() && !routed.any(|net| net.contains(cidr)) {
                let key = if v6 { "ipv6NativeRoutingCIDR" } else { "ipv4NativeRoutingCIDR" };
                problems.push(Problem {
                    subject: format!("Node {}", node.name),
                    message: format!("pod CIDR `{cidr}` lies outside `{key}`; widen that"),
                });
            }
        }
    }
    problems
}

fn next_hop(node: &Node, cidr: &IpNet, links: &[OnLink]) -> Result<NextHop, String> {
    let v6 = cidr.addr().is_ipv6();
    let internal = |kind| kind == AddressKind::Internal;
    let addresses: Vec<IpAddr> = node
        .addresses
        .iter()
        .filter(|address| internal(address.kind) && address.ip.is_ipv6() == v6)
        .map(|address| address.ip)
        .collect();
    let Some(first) = addresses.first() else {
        let family = if v6 { "IPv6" } else { "IPv4" };
        return Err(format!("there is no {family} InternalIP to reach pod CIDR `{cidr}` through"));
    };
    let hops = addresses.iter().filter_map(|ip| {
        let on = links.iter().filter(|link| link.net.contains(ip) && link.net.addr() != *ip);
        let nearest = on.max_by_key(|link| link.net.prefix_len())?;
        Some(NextHop::Gateway { via: *ip, ifindex: nearest.ifindex })
    });
    hops.into_iter().next().ok_or_else(|| {
        format!(
            "InternalIP `{first}` is on no link of this node, so its pods cannot be reached \
             directly; use `routingMode: tunnel`, or turn `autoDirectNodeRoutes` off and let \
             your routers know the pod CIDRs"
        )
    })
}

/// The changes that turn `actual`, the routes that are ours, into `desired`. Removals come last:
/// a destination is never without the route that it keeps. Only between a gateway and none it is,
/// for an instant: the kernel keeps both, as they differ in their metric.
pub fn plan(desired: &Table, actual: &Table) -> Vec<Write> {
    let unlike = |a: &NextHop, b: &NextHop| discriminant(a) != discriminant(b);
    let turned = actual
        .iter()
        .filter(|(to, hop)| desired.get(to).is_some_and(|wanted| unlike(wanted, hop)))
        .map(|(to, hop)| Write::Remove { to: *to, hop: *hop });
    let missing = desired
        .iter()
        .filter(|(to, hop)| actual.get(to) != Some(hop))
        .map(|(to, hop)| Write::Set { to: *to, hop: *hop });
    let stale = actual
        .iter()
        .filter(|(to, _)| !desired.contains_key(to))
        .map(|(to, hop)| Write::Remove { to: *to, hop: *hop });
    turned.chain(missing).chain(stale).collect()
}

#[cfg(test)]
mod tests;
