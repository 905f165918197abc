// SPDX-License-Identifier: Apache-2.0
//! One frontend, one client: what the programs make of what the map holds for it.

use std::net::IpAddr;

use super::{Facts, Fate, Side, Verdict, is_wildcard, socket_address};
use crate::abi::{
    Hook, Outcome, SERVICE_AFFINITY, SERVICE_DELEGATE, SERVICE_DSR, SERVICE_HAS_ENDPOINTS,
    SERVICE_MAGLEV, SERVICE_SOURCE_RANGES, SERVICE_SOURCE_RANGES_DENY, Service, ServiceKey,
    ServiceKind, SlotRange,
};
use crate::lb::endpoints::{Candidate, Class};
use crate::lb::list::{List, target};
use crate::lb::value::policies;
use crate::model;

/// A frontend with all that decides about its clients.
#[derive(Clone, Copy)]
pub(super) struct Case<'a> {
    pub(super) service: &'a model::Service,
    pub(super) key: ServiceKey,
    pub(super) kind: ServiceKind,
    /// As the map holds it.
    pub(super) value: Service,
    pub(super) list: &'a List,
    pub(super) endpoints: &'a [Candidate],
    /// The address that was asked about.
    pub(super) asked: Option<IpAddr>,
}

impl Case<'_> {
    /// One verdict for each group of clients that fare alike.
    pub(super) fn verdicts(&self, facts: &Facts<'_>) -> Vec<Verdict> {
        together(facts.sides().map(|side| self.verdict(side, facts)))
    }

    fn verdict(&self, side: Side, facts: &Facts<'_>) -> Verdict {
        let hooks = facts.hooks(side, self.key.proto);
        let say = |fate, reason: String| verdict(side, hooks, fate, reason);
        let by_socket = hooks == [Hook::Socket];
        if let Some(why) = self.passes(side, facts) {
            return say(Fate::Passed, why);
        }
        if side == Side::Outside && self.kind == ServiceKind::ClusterIp {
            let why = "a cluster IP is not served to the outside; a pod's own node serves it there";
            return say(Fate::Dropped, why.to_owned()).counted(Outcome::DropClusterIp);
        }
        let fail = |errno: &str, why: String, counted| match by_socket {
            true => say(Fate::Refused, format!("{why} ({errno})")).counted(counted),
            false => say(Fate::Dropped, why).counted(counted),
        };
        let range = self.range(side);
        // Sockets find out about endpoints first, packets about their sender's right to them.
        if let Some(client) = self.denied(side, facts)
            && !(by_socket && range.count == 0)
        {
            let why = format!("loadBalancerSourceRanges keep {client} out");
            return fail("EHOSTUNREACH", why, Outcome::DropDenied);
        }
        if range.count > 0 {
            return self.served(say(Fate::Served, String::new()), side, facts);
        }
        if self.value.flags & SERVICE_HAS_ENDPOINTS != 0 {
            let why = "policy Local, and no endpoint on this node".to_owned();
            return fail("EHOSTUNREACH", why, Outcome::DropNoLocal);
        }
        let how = if by_socket { "ECONNREFUSED" } else { "TCP reset or ICMP error" };
        say(Fate::Refused, format!("no endpoint is ready, nor serving while it terminates ({how})"))
            .counted(Outcome::Rejected)
    }

    fn served(&self, mut verdict: Verdict, side: Side, facts: &Facts<'_>) -> Verdict {
        let range = self.range(side);
        let (first, count) = (usize::from(range.first), usize::from(range.count));
        let chosen = &self.endpoints[first..first + count];
        let by_socket = verdict.hooks == [Hook::Socket.name()];
        let mut why = match self.kind {
            ServiceKind::HostPort => "the pod that has this hostPort".to_owned(),
            _ if count == 1 => {
                format!("policy {}, the only endpoint that counts", self.policy(side))
            }
            _ => format!("policy {}, one of {count} endpoints", self.policy(side)),
        };
        match chosen[0].class {
            Class::TerminatingLocal | Class::TerminatingRemote => {
                why.push_str(" (terminating: none is ready)");
            }
            Class::HintedLocal | Class::HintedRemote => why.push_str(" (topology hints)"),
            _ => {}
        }
        if self.value.flags & SERVICE_SOURCE_RANGES != 0
            && facts.client.is_none()
            && side != Side::Node
        {
            let deny = self.value.flags & SERVICE_SOURCE_RANGES_DENY != 0;
            let place = if deny { "outside" } else { "inside" };
            why.push_str(&format!("; only clients {place} loadBalancerSourceRanges"));
        }
        if self.value.flags & SERVICE_DELEGATE != 0 && !by_socket {
            why.push_str("; those of this node through a proxy in the node's stack");
        }
        verdict.reason = why;
        verdict.endpoints = chosen.iter().map(|e| socket_address(e.addr, e.port)).collect();
        // Tables are for clients outside.
        let maglev = side == Side::Outside && self.value.algorithm == SERVICE_MAGLEV;
        verdict.algorithm =
            (count > 1).then(|| if maglev { "maglev" } else { "random" }.to_owned());
        let dsr = self.value.flags & SERVICE_DSR != 0;
        verdict.mode = (side == Side::Outside).then(|| if dsr { "DSR" } else { "SNAT" }.to_owned());
        verdict.remembered = self.remembered(side, range, facts);
        verdict
    }

    fn policy(&self, side: Side) -> String {
        let (outside, inside) = policies(self.service, self.kind);
        let policy = if side == Side::Outside { outside } else { Some(inside) };
        policy.map(|policy| format!("{policy:?}")).unwrap_or_default()
    }

    fn range(&self, side: Side) -> SlotRange {
        if side == Side::Outside { self.value.outside } else { self.value.inside }
    }

    /// Why the connection is not even looked up, or finds another's frontend.
    fn passes(&self, side: Side, facts: &Facts<'_>) -> Option<String> {
        if facts.hooks(side, self.key.proto).is_empty() {
            let why = "nothing balances the node's own connections here: that takes `socketLB`, \
                       and TCP or UDP";
            return Some(why.to_owned());
        }
        let withheld = self.kind == ServiceKind::ExternalIp && side != Side::Outside;
        if withheld && !facts.external_ips_inside && !facts.owns(self.key.vip.ip()) {
            let why = "an externalIP that the node does not own is kept from clients in the \
                       cluster (CVE-2020-8554); `externalIPs.servedInside` says otherwise";
            return Some(why.to_owned());
        }
        let wildcard = is_wildcard(self.key.vip);
        let vip = self.key.vip.ip();
        if !wildcard && vip.is_loopback() && side != Side::Node {
            return Some(format!("{vip} is every client's own loopback address"));
        }
        let ip = self.asked.filter(|_| wildcard)?;
        facts.bars_wildcard(ip, side)
    }

    /// The client, if source ranges keep it out. The node itself always gets in.
    fn denied(&self, side: Side, facts: &Facts<'_>) -> Option<IpAddr> {
        if self.value.flags & SERVICE_SOURCE_RANGES == 0 || side == Side::Node {
            return None;
        }
        let (client, _) = facts.client?;
        let named = self.service.source_ranges.iter().any(|range| range.contains(&client));
        let deny = self.value.flags & SERVICE_SOURCE_RANGES_DENY != 0;
        (named == deny).then_some(client)
    }

    /// What affinity gives the client, where that is still one of `range`.
    fn remembered(&self, side: Side, range: SlotRange, facts: &Facts<'_>) -> Option<String> {
        if self.value.flags & SERVICE_AFFINITY == 0 {
            return None;
        }
        let (client, _) = facts.client?;
        let client = if side == Side::Node { crate::abi::Addr::ZERO } else { client.into() };
        let (last, age) = (facts.remembered)(self.list.id, client)?;
        if age > self.value.affinity_timeout {
            return None;
        }
        let first = usize::from(range.first);
        let slots = self.list.slots.get(first..first + usize::from(range.count))?;
        let backend = slots.iter().find(|backend| target(backend) == last)?;
        Some(socket_address(backend.addr, backend.port.get()))
    }
}

impl Verdict {
    fn counted(mut self, as_: Outcome) -> Self {
        self.counted = Some(as_.name().to_owned());
        self
    }
}

fn verdict(side: Side, hooks: &[Hook], fate: Fate, reason: String) -> Verdict {
    Verdict {
        from: vec![side],
        hooks: hooks.iter().map(|hook| hook.name().to_owned()).collect(),
        fate,
        reason,
        counted: None,
        algorithm: None,
        mode: None,
        remembered: None,
        endpoints: Vec::new(),
    }
}

/// Clients that fare alike share a verdict.
fn together(verdicts: impl Iterator<Item = Verdict>) -> Vec<Verdict> {
    let mut all: Vec<Verdict> = Vec::new();
    for verdict in verdicts {
        let like = |other: &&mut Verdict| {
            Verdict { from: Vec::new(), ..(**other).clone() }
                == Verdict { from: Vec::new(), ..verdict.clone() }
        };
        match all.iter_mut().find(like) {
            Some(other) => other.from.extend(verdict.from),
            None => all.push(verdict),
        }
    }
    all
}

/// Connections to an address where no frontend has the port. `vip`: what `vips` holds for it.
pub(super) fn unknown(ip: IpAddr, vip: Option<u32>, facts: &Facts<'_>) -> Vec<Verdict> {
    use crate::abi::{VIP_CLUSTER_IP, VIP_EXTERNAL, VIP_FOREIGN};
    use crate::model::Protocol;

    together(facts.sides().map(|side| {
        let hooks = facts.hooks(side, Protocol::Tcp.number());
        let say = |fate, reason: &str| verdict(side, hooks, fate, reason.to_owned());
        if facts.owns(ip) {
            return say(Fate::Passed, "the node's own address: its programs answer, or nobody");
        }
        let Some(flags) = vip else {
            return say(Fate::Passed, "no address of a service: the routing table decides");
        };
        if flags & VIP_FOREIGN != 0 {
            let why = "a load balancer of a class that is not ours may serve the port; \
                       `loadBalancer.classes` names ours";
            return say(Fate::Passed, why);
        }
        let cluster_ip = flags & VIP_CLUSTER_IP != 0;
        match side {
            _ if hooks.is_empty() => say(Fate::Passed, "nothing looks at the node's own sockets"),
            Side::Node | Side::Pod if cluster_ip => {
                say(Fate::Refused, "no service has that port of the cluster IP")
                    .counted(Outcome::DropUnknownPort)
            }
            Side::Node | Side::Pod => {
                say(Fate::Passed, "others than we may serve that port of the address")
            }
            Side::Outside if flags & VIP_EXTERNAL == 0 => {
                say(Fate::Dropped, "a cluster IP is not served to the outside")
                    .counted(Outcome::DropClusterIp)
            }
            Side::Outside => say(Fate::Refused, "no service has that port of the address")
                .counted(Outcome::DropUnknownPort),
        }
    }))
}
