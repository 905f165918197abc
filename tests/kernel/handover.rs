// SPDX-License-Identifier: Apache-2.0
//! Maps that are replaced under traffic: what old programs store where the new ones do not look.

use culvert::abi::Outcome;
use culvert::datapath::Datapath;
use culvert::datapath::host::ticks_now;

use super::host::{node_port, request};
use crate::support::node::{FAMILIES, Family, Node, TC_DROP, TC_NEXT, TC_REDIRECT};
use crate::support::objects::{TCP, UDP};
use crate::support::packet::{ACK, Packet, SYN};
use crate::support::pins::all_programs_but;

const PROGRAMS: [&str; 3] = ["from_container", "from_netdev", "to_netdev"];

/// A node whose next agent has copied the flows, but has put none of its programs to work.
struct Upgrade {
    node: Node,
    next: Datapath,
}

impl Upgrade {
    fn begin() -> Self {
        let node = Node::new();
        // Before their maps are replaced.
        for name in PROGRAMS {
            node.objects.program(name);
        }
        let next = node.ns.run(|| next_agent(&node, 2048));
        node.objects.maps().handover.set(&0, &(ticks_now() + 60)).unwrap();
        Self { node, next }
    }

    /// What the next agent's programs do.
    fn next(&self, program: &str, device: u32, packet: &Packet) -> (u32, Vec<u8>) {
        let run = || Node::raw_of(&self.next.program(program).unwrap(), device, &packet.bytes());
        self.node.ns.run(run)
    }

    fn noted(&self) -> usize {
        self.node.objects.maps().handover_keys.entries().unwrap().len()
    }

    /// The request as the backend gets it from the old programs, and where its answers are met.
    fn opened(&self, family: Family, host: &str, proto: u8) -> (Packet, &'static str, u32) {
        let (action, out) = self.node.wire(&request(family, proto));
        let local = host == family.node;
        let expected = if local { TC_NEXT } else { TC_REDIRECT };
        assert_eq!(action, expected, "{host}: {:?}", self.node.outcomes());
        let (program, device) = match host {
            _ if local => ("to_netdev", self.node.uplink),
            _ if host == family.pod => ("from_container", self.node.pod),
            _ => ("from_netdev", self.node.uplink),
        };
        (Packet::parse(&out), program, device)
    }
}

/// With `flows` places for flows.
fn next_agent(node: &Node, flows: u32) -> Datapath {
    node.objects.successor(|options| {
        options.programs_off = all_programs_but(&PROGRAMS).collect();
        for map in ["flows", "flows_new"] {
            options.map_sizes.insert(map.to_owned(), flows);
        }
    })
}

fn hosts(family: Family) -> [&'static str; 3] {
    [family.remote, family.pod, family.node]
}

#[test]
fn what_opens_meanwhile_waits_until_it_is_carried_over() {
    for family in FAMILIES {
        for proto in [TCP, UDP] {
            for host in hosts(family) {
                let mut upgrade = Upgrade::begin();
                let objects = &upgrade.node.objects;
                let _service = objects.serve(node_port(family, proto), &[&family.at(host, 8080)]);
                let (sent, program, device) = upgrade.opened(family, host, proto);
                assert_eq!(upgrade.noted(), 2);

                let asked = request(family, proto);
                let answer = sent.answer(SYN | ACK);
                assert_eq!(upgrade.next(program, device, &answer).0, TC_DROP, "{host}");
                let mut withheld = 1;
                if proto == TCP {
                    let data = Packet { flags: ACK, ..asked.clone() };
                    let uplink = upgrade.node.uplink;
                    assert_eq!(upgrade.next("from_netdev", uplink, &data).0, TC_DROP);
                    withheld = 2;
                }
                assert_eq!(upgrade.node.counted(Outcome::DropHandover), withheld);

                upgrade.next.settle().unwrap();
                let (action, out) = upgrade.next(program, device, &answer);
                assert_ne!(action, TC_DROP, "{host}: {:?}", upgrade.node.outcomes());
                let got = Packet::parse(&out);
                assert_eq!((got.src, got.dst), (asked.dst, asked.src), "{host}");
            }
        }
    }
}

/// A SYN or a datagram that comes again gets what the first one got.
#[test]
fn what_may_open_a_flow_does_not_wait() {
    for family in FAMILIES {
        for proto in [TCP, UDP] {
            for host in hosts(family) {
                let upgrade = Upgrade::begin();
                let objects = &upgrade.node.objects;
                let _service = objects.serve(node_port(family, proto), &[&family.at(host, 8080)]);
                let (sent, program, device) = upgrade.opened(family, host, proto);
                let asked = request(family, proto);
                let (_, out) = upgrade.next("from_netdev", upgrade.node.uplink, &asked);
                let again = Packet::parse(&out);
                assert_eq!((again.src, again.dst), (sent.src, sent.dst));
                let (action, out) = upgrade.next(program, device, &sent.answer(SYN | ACK));
                assert_ne!(action, TC_DROP, "{host}: {:?}", upgrade.node.outcomes());
                assert_eq!(Packet::parse(&out).src, asked.dst);
            }
        }
    }
}

#[test]
fn nothing_is_noted_or_withheld_at_other_times() {
    for family in FAMILIES {
        // None goes on, or an agent died in the middle of one.
        for until in [0, ticks_now() - 1] {
            let upgrade = Upgrade::begin();
            let maps = upgrade.node.objects.maps();
            let backend = family.at(family.remote, 8080);
            let _service = upgrade.node.objects.serve(node_port(family, TCP), &[&backend]);
            let (sent, program, device) = upgrade.opened(family, family.remote, TCP);
            maps.handover.set(&0, &until).unwrap();
            let answer = sent.answer(SYN | ACK);
            // As it came, for the host's stack: it is nobody's.
            assert_eq!(upgrade.next(program, device, &answer), (TC_NEXT, answer.bytes()));

            let noted = upgrade.noted();
            let other = request(family, TCP).src.port() + 1;
            let mut asked = request(family, TCP);
            asked.src.set_port(other);
            upgrade.node.wire_ok(&asked);
            assert_eq!(upgrade.noted(), noted);
        }
    }
}

#[test]
fn an_agent_ends_what_it_or_the_one_before_has_begun() {
    let upgrade = Upgrade::begin();
    let family = FAMILIES[0];
    let backend = family.at(family.remote, 8080);
    let _service = upgrade.node.objects.serve(node_port(family, TCP), &[&backend]);
    let maps = upgrade.node.objects.maps();
    let ended = |next: &Datapath| {
        next.catch_up().unwrap();
        assert_eq!(maps.handover.get(&0).unwrap(), Some(0));
        assert_eq!(upgrade.noted(), 0);
    };
    upgrade.opened(family, family.remote, TCP);
    assert_eq!(upgrade.noted(), 2);
    ended(&upgrade.next);
    assert_eq!(upgrade.next.maps().flows_new.entries().unwrap().len(), 2);

    // The next one finds the maps as it wants them.
    maps.handover.set(&0, &(ticks_now() + 60)).unwrap();
    let mut asked = request(family, TCP);
    asked.src.set_port(40077);
    upgrade.node.wire_ok(&asked);
    assert_eq!(upgrade.noted(), 2);
    ended(&upgrade.node.ns.run(|| next_agent(&upgrade.node, 2048)));
}
