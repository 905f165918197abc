// SPDX-License-Identifier: Apache-2.0
//! Two packets of one connection on two processors at once.

use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::thread;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::host::{node_port, request};
use crate::support::node::{FAMILIES, Family, Node, TC_REDIRECT};
use crate::support::objects::{TCP, UDP};
use crate::support::packet::{ACK, Packet, SYN};

/// So many that something comes between any two steps of a processor a few times.
const CONNECTIONS: u16 = 10_000;

/// Two threads pass it together.
#[derive(Default)]
struct Line(AtomicUsize);

impl Line {
    fn pass(&self, round: usize) {
        self.0.fetch_add(1, Ordering::AcqRel);
        let mut spins = 0_u32;
        while self.0.load(Ordering::Acquire) < 2 * round {
            spins += 1;
            // Somebody else's turn on the other processor.
            if spins.is_multiple_of(4096) {
                thread::yield_now();
            }
            std::hint::spin_loop();
        }
    }
}

/// What the second processor meets while the first meets a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Second {
    /// The flow's very first packet, which comes twice.
    First,
    Request,
    Answer,
}

struct Race {
    node: Node,
    family: Family,
    proto: u8,
    /// The backend's.
    host: &'static str,
    second: Second,
    line: Line,
    /// The client's towards the backend.
    port: AtomicU16,
    astray: AtomicUsize,
}

impl Race {
    fn new(family: Family, proto: u8, host: &'static str, second: Second) -> Self {
        let node = Node::with_options(|options| {
            for map in ["flows", "flows_new"] {
                options.map_sizes.insert(map.to_owned(), 4 * u32::from(CONNECTIONS));
            }
        });
        let (line, port) = (Line::default(), AtomicU16::new(0));
        Self { node, family, proto, host, second, line, port, astray: AtomicUsize::new(0) }
    }

    fn check(&self, right: bool) {
        self.astray.fetch_add(usize::from(!right), Ordering::Relaxed);
    }

    /// Returns what the backend gets.
    fn request(&self, frame: &[u8]) -> Packet {
        let (action, out) = self.node.raw_inside("from_netdev", self.node.uplink, frame);
        self.check(action == TC_REDIRECT);
        Packet::parse(&out)
    }

    /// What the backend got was `got`.
    fn answer(&self, got: &Packet, flags: u8) {
        let pod = self.host == self.family.pod;
        let (hook, device) =
            if pod { ("from_container", self.node.pod) } else { ("from_netdev", self.node.uplink) };
        let (action, out) = self.node.raw_inside(hook, device, &got.answer(flags).bytes());
        let service = request(self.family, self.proto).dst;
        self.check(action == TC_REDIRECT && Packet::parse(&out).src == service);
    }

    /// One of two sides, on a processor of its own and in the node's namespace.
    fn run(&self, side: usize, on: CpuSet) {
        sched_setaffinity(Pid::from_raw(0), &on).unwrap();
        for number in 0..CONNECTIONS {
            let mut first = request(self.family, self.proto);
            first.src.set_port(1024 + number);
            let later = Packet { flags: ACK, ..first.clone() }.bytes();
            let round = 4 * usize::from(number);
            if self.second == Second::First {
                self.line.pass(round + 1);
                let port = self.request(&first.bytes()).src.port();
                if side == 0 {
                    self.port.store(port, Ordering::Relaxed);
                }
                self.line.pass(round + 2);
                self.check(self.port.load(Ordering::Relaxed) == port);
                self.line.pass(round + 3);
                self.check(self.request(&later).src.port() == port);
                self.line.pass(round + 4);
                continue;
            }
            if side == 0 {
                let got = self.request(&first.bytes());
                if self.proto == TCP {
                    self.answer(&got, SYN | ACK);
                }
                self.port.store(got.src.port(), Ordering::Relaxed);
            }
            self.line.pass(round + 1);
            let port = self.port.load(Ordering::Relaxed);
            let mut got = first.clone();
            got.dst = self.family.at(self.host, 8080).parse().unwrap();
            got.src.set_port(port);
            if self.host == self.family.remote {
                got.src.set_ip(self.family.node.parse().unwrap());
            }
            self.line.pass(round + 2);
            if side == 0 || self.second == Second::Request {
                self.check(self.request(&later).src.port() == port);
            } else {
                self.answer(&got, ACK);
            }
            self.line.pass(round + 3);
            // And what comes next.
            if side == 0 {
                self.answer(&got, ACK);
                self.check(self.request(&later).src.port() == port);
            }
            self.line.pass(round + 4);
        }
    }
}

/// Two that this process may run on.
fn processors() -> [CpuSet; 2] {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let mut each = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap());
    [(); 2].map(|()| {
        let mut one = CpuSet::new();
        one.set(each.next().expect("two processors to race on")).unwrap();
        one
    })
}

fn race(proto: u8, second: Second) {
    for family in FAMILIES {
        for host in [family.remote, family.pod] {
            let race = Race::new(family, proto, host, second);
            let backend = family.at(host, 8080);
            let _service = race.node.objects.serve(node_port(family, proto), &[&backend]);
            thread::scope(|scope| {
                for (side, on) in processors().into_iter().enumerate() {
                    let race = &race;
                    scope.spawn(move || race.node.ns.run(|| race.run(side, on)));
                }
            });
            let astray = race.astray.into_inner();
            assert_eq!(astray, 0, "of {CONNECTIONS} to {host}: {:?}", race.node.outcomes());
        }
    }
}

/// A client acknowledges the answer to its SYN and sends at once: either packet confirms the
/// connection, and both go where its SYN went, from the same port.
#[test]
fn two_packets_that_confirm_a_connection_go_the_same_way() {
    race(TCP, Second::Request);
}

#[test]
fn an_answer_finds_the_connection_that_is_being_confirmed() {
    race(TCP, Second::Answer);
}

/// Here it is the answer that confirms.
#[test]
fn a_datagram_and_the_first_answer_find_the_same_flow() {
    race(UDP, Second::Answer);
}

#[test]
fn two_first_packets_open_one_flow() {
    race(TCP, Second::First);
    race(UDP, Second::First);
}
