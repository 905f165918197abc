// SPDX-License-Identifier: Apache-2.0
//! Every drop is told with its reason, its hook and whose packet it was.

use std::net::SocketAddr;
use std::time::Duration;

use culvert::abi::{
    DsrDispatch, EVENT_DROP, Event, Hook, Outcome, SERVICE_HAS_ENDPOINTS, SERVICE_SOURCE_RANGES,
    ServiceKind, SlotRange,
};
use culvert::datapath::events::Events;
use culvert::datapath::host::ticks_now;
use tokio::runtime::{Builder, Runtime};

use super::dsr_end::dispatched;
use super::host::{node_port, request};
use super::{dsr as option, dsr_ipip, full};
use crate::support::dsr::{self, KEY};
use crate::support::node::{FAMILIES, Family, Node};
use crate::support::objects::{Frontend, SCTP, Served, TCP, UDP};
use crate::support::packet::pieces::cut;
use crate::support::packet::{ACK, Packet, SYN, sctp, tcp};

/// A node and the reader of what it tells.
pub(super) struct Told {
    pub(super) node: Node,
    runtime: Runtime,
    events: Events,
}

impl Told {
    pub(super) fn new(node: Node) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let events = runtime.block_on(async { Events::open(node.objects.maps(), 16).unwrap() });
        Self { node, runtime, events }
    }

    #[track_caller]
    pub(super) fn next(&mut self) -> Event {
        let next =
            async { tokio::time::timeout(Duration::from_secs(10), self.events.next()).await };
        self.runtime.block_on(next).expect("no event came").expect("the reader ended")
    }

    /// Lets `frame` in at `program` on `device`: it must be dropped for `why`, and told with `ends`.
    #[track_caller]
    fn drops(
        &mut self,
        program: &str,
        frame: &[u8],
        why: Outcome,
        ends: Option<(SocketAddr, SocketAddr)>,
    ) {
        let hook = Hook::ALL.iter().find(|hook| hook.name() == program).unwrap();
        let device = match hook {
            Hook::FromContainer | Hook::ToContainer => self.node.pod,
            _ => self.node.uplink,
        };
        let before = self.node.counted(why);
        self.node.raw(program, device, frame);
        assert_eq!(self.node.counted(why), before + 1, "{why:?}: {:?}", self.node.outcomes());
        let event = self.next();
        assert_eq!(event.r#type, EVENT_DROP, "{event:?}");
        assert_eq!(Outcome::from_number(event.outcome.into()), Some(why), "{event:?}");
        assert_eq!(u32::from(event.hook), hook.number(), "{why:?}, {event:?}");
        assert_eq!(event.ifindex, device, "{why:?}");
        let told = |addr: culvert::abi::Addr, port: u16| SocketAddr::new(addr.ip(), port);
        if let Some(ends) = ends {
            let saw = (told(event.saddr, event.sport.get()), told(event.daddr, event.dport.get()));
            assert_eq!(saw, ends, "{why:?}");
        }
    }

    /// As [`Self::drops`], of a whole packet.
    #[track_caller]
    pub(super) fn drops_packet(&mut self, program: &str, packet: &Packet, why: Outcome) {
        self.drops(program, &packet.bytes(), why, Some((packet.src, packet.dst)));
    }
}

/// Of a fragment as such.
fn without_ports((src, dst): (SocketAddr, SocketAddr)) -> (SocketAddr, SocketAddr) {
    (SocketAddr::new(src.ip(), 0), SocketAddr::new(dst.ip(), 0))
}

fn frontend(family: Family, port: u16, kind: ServiceKind) -> Frontend {
    Frontend::cluster_ip(&family.at(family.vip, port), TCP).kind(kind)
}

fn from_client(family: Family, port: u16) -> Packet {
    tcp(&family.at(family.client, 40001), &family.at(family.vip, port), SYN)
}

fn from_pod(family: Family, port: u16) -> Packet {
    tcp(&family.at(family.pod, 40001), &family.at(family.vip, port), SYN)
}

/// Its slots are empty.
fn emptied(served: &Served<'_>) {
    served.change(|service| {
        let range = SlotRange { first: 0, count: 1 };
        (service.outside, service.inside) = (range, range);
        service.flags = SERVICE_HAS_ENDPOINTS;
    });
}

#[test]
fn what_a_service_refuses() {
    let mut told = Told::new(Node::new());
    for family in FAMILIES {
        let (nowhere, of) = if family.v6 { ("fd66::1", "-6") } else { ("198.18.66.1", "-4") };
        told.node.ns.ip(&format!("{of} route add blackhole {nowhere}"));
        let remote = family.at(family.remote, 8080);
        let nowhere = family.at(nowhere, 8080);
        let wire = "from_netdev";

        told.node.objects.serve(frontend(family, 80, ServiceKind::ClusterIp), &[&remote]);
        told.drops_packet(wire, &from_client(family, 80), Outcome::DropClusterIp);
        told.drops_packet("from_container", &from_pod(family, 99), Outcome::DropUnknownPort);

        let service = frontend(family, 81, ServiceKind::LoadBalancer);
        told.node.objects.serve(service, &[&remote]).change(|service| {
            service.outside = SlotRange::default();
        });
        told.drops_packet(wire, &from_client(family, 81), Outcome::DropNoLocal);
        told.drops_packet(wire, &from_client(family, 99), Outcome::DropUnknownPort);

        // Too large to be held until its first comes.
        let long = Packet { payload: vec![7; 3400], ..from_client(family, 81) };
        let later = &cut(&long.bytes(), 1704)[1];
        let ends = Some(without_ports((long.src, long.dst)));
        told.drops(wire, later, Outcome::DropFragment, ends);

        let service = frontend(family, 82, ServiceKind::LoadBalancer);
        emptied(&told.node.objects.serve(service, &[]));
        told.drops_packet(wire, &from_client(family, 82), Outcome::DropNoBackend);
        told.drops_packet("from_container", &from_pod(family, 82), Outcome::DropNoBackend);

        let service = frontend(family, 83, ServiceKind::LoadBalancer);
        told.node.objects.serve(service, &[&nowhere]);
        told.drops_packet(wire, &from_client(family, 83), Outcome::DropNoRoute);
        told.drops_packet("from_container", &from_pod(family, 83), Outcome::DropNoRoute);

        let service = frontend(family, 84, ServiceKind::LoadBalancer);
        let served = told.node.objects.serve(service, &[&remote]);
        served.change(|service| service.flags |= SERVICE_SOURCE_RANGES);
        told.drops_packet(wire, &from_client(family, 84), Outcome::DropDenied);
        told.drops_packet("from_container", &from_pod(family, 84), Outcome::DropDenied);
    }
}

#[test]
fn what_is_wrong_with_a_packet() {
    let mut told = Told::new(Node::new());
    for family in FAMILIES {
        let remote = family.at(family.remote, 8080);
        for proto in [TCP, UDP, SCTP] {
            told.node.objects.serve(node_port(family, proto), &[&remote]);
        }
        let plain = request(family, TCP);
        let l4 = if family.v6 { 54 } else { 34 };
        for program in ["from_netdev", "from_container"] {
            told.drops(program, &plain.bytes()[..l4 + 3], Outcome::DropMalformed, None);
        }
        let foreign = tcp(&family.at(family.other_pod, 1), &remote, SYN);
        told.drops_packet("from_container", &foreign, Outcome::DropSpoofed);
        told.drops_packet("from_netdev", &plain.clone().ttl(1), Outcome::DropTtl);

        let mut large = request(family, UDP);
        told.node.wire_ok(&large);
        large.payload = vec![7; 1600];
        told.drops_packet("from_netdev", &large, Outcome::DropTooBig);

        let ends = (plain.src, plain.dst);
        let chunks = sctp(&ends.0.to_string(), &ends.1.to_string());
        let long = Packet { payload: vec![3; 2000], ..chunks.clone() };
        let first = &cut(&long.bytes(), 1000)[0];
        told.drops("from_netdev", first, Outcome::DropProtocol, Some(without_ports(ends)));
        let short = chunks.bytes();
        let short = &short[..short.len() - 1];
        told.drops("from_netdev", short, Outcome::DropRewrite, Some(ends));
        let taken = told.node.wire_ok(&chunks).src;
        let host = sctp(&taken.to_string(), &remote);
        let short = host.bytes();
        let ends = Some((host.src, host.dst));
        told.drops("to_netdev", &short[..short.len() - 1], Outcome::DropRewrite, ends);
    }
}

#[test]
fn what_has_no_source_left() {
    let node = Node::with(|config| (config.snat_port_min, config.snat_port_max) = (50000, 50000));
    let mut told = Told::new(node);
    for family in FAMILIES {
        told.node.objects.serve(node_port(family, TCP), &[&family.at(family.remote, 8080)]);
        told.node.wire_ok(&request(family, TCP));
        let second = Packet {
            src: family.at(family.client, 40002).parse().unwrap(),
            ..request(family, TCP)
        };
        told.drops_packet("from_netdev", &second, Outcome::DropSnatExhausted);
    }
    let uplinks = &told.node.objects.maps().uplinks;
    let mut uplink = uplinks.get(&told.node.uplink).unwrap().unwrap();
    (uplink.snat_v4, uplink.snat_v6) = (culvert::abi::Addr::ZERO, culvert::abi::Addr::ZERO);
    uplinks.set(&told.node.uplink, &uplink).unwrap();
    for family in FAMILIES {
        let third = Packet {
            src: family.at(family.client, 40003).parse().unwrap(),
            ..request(family, TCP)
        };
        told.drops_packet("from_netdev", &third, Outcome::DropSnatAddress);
    }
}

#[test]
fn what_finds_no_place() {
    let mut told = Told::new(full::node(DsrDispatch::Off, 0));
    for family in FAMILIES {
        told.node.objects.serve(
            frontend(family, 80, ServiceKind::LoadBalancer),
            &[&family.at(family.pod, 8080)],
        );
        told.drops_packet("from_netdev", &from_client(family, 80), Outcome::DropFlowsFull);
        told.node.objects.serve(
            frontend(family, 80, ServiceKind::ClusterIp),
            &[&family.at(family.other_pod, 8080)],
        );
        told.drops_packet("from_container", &from_pod(family, 80), Outcome::DropFlowsFull);
    }
}

#[test]
fn what_was_dispatched_wrongly() {
    let mut told = Told::new(option::node());
    for family in FAMILIES {
        let (packet, mark) = dispatched(family, &option::request(family, TCP, 80), 40001);
        let ends = Some((packet.src, packet.dst));
        let forged = dsr::option(b"another key here", &packet, &mark);
        let frame = dsr::with_option(&packet, &forged);
        told.drops("from_netdev", &frame, Outcome::DropDsrTag, ends);

        let frame = dsr::with_option(&packet, &dsr::option(&KEY, &packet, &mark));
        told.node.raw("from_netdev", told.node.uplink, &frame);
        told.node.leave_ok(&packet.answer(SYN | ACK));
        let (again, other) = dispatched(family, &option::request(family, TCP, 81), 40001);
        let frame = dsr::with_option(&again, &dsr::option(&KEY, &again, &other));
        told.drops("from_netdev", &frame, Outcome::DropDsrConflict, ends);
        told.drops_packet("from_overlay", &packet, Outcome::DropDsrMalformed);
    }
    let mut told = Told::new(dsr_ipip::node(DsrDispatch::Ipip));
    for family in FAMILIES {
        let request = option::request(family, TCP, 80);
        let frame = dsr_ipip::encapsulated(family, dsr_ipip::lb(family), &request);
        told.drops(
            "from_netdev",
            &frame,
            Outcome::DropDsrService,
            Some((request.src, request.dst)),
        );
    }
}

#[test]
fn what_is_still_in_the_former_maps() {
    let mut told = Told::new(Node::new());
    told.node.objects.maps().handover.set(&0, &(ticks_now() + 60)).unwrap();
    for family in FAMILIES {
        let remote = family.at(family.remote, 8080);
        told.node.objects.serve(frontend(family, 80, ServiceKind::LoadBalancer), &[&remote]);
        let (client, pod) = (from_client(family, 80), from_pod(family, 80));
        told.node.wire_ok(&client);
        told.node.leave_ok(&pod);
        told.node.objects.forget_flows();
        let later = |packet: Packet| Packet { flags: ACK, ..packet };
        told.drops_packet("from_netdev", &later(client), Outcome::DropHandover);
        told.drops_packet("from_container", &later(pod), Outcome::DropHandover);
    }
}
