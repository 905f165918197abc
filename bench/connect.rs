// SPDX-License-Identifier: Apache-2.0
//! What the socket hooks add to connect() and to an unconnected sendto(), on this kernel.
//!
//! Prints `name<TAB>value<TAB>unit` lines. Needs root. One UDP socket calls again and again: to the
//! backend where no program is attached, then to the service with them. The difference is the whole
//! price of a service, since per packet nothing is left to do; the median is over rounds. `first` is
//! a socket's first connect, in which the kernel makes the record of its translation. `hook` is what a
//! program that only returns adds: the part of the price that is the kernel's.

#![allow(clippy::unwrap_used)] // Where a call fails there is nothing to measure.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

#[path = "connect/hook.rs"]
mod hook;

#[path = "packets"]
#[expect(dead_code, reason = "shared with the bench of packets, of which this needs a part")]
mod programs {
    pub mod insn;
    pub mod load;
}

#[path = "../tests/support"]
#[expect(dead_code, reason = "shared with the kernel tests, of which this needs a part")]
mod support {
    pub mod cgroup;
    pub mod interrupt;
    pub mod netns;
    pub mod objects;
    pub mod pins;
    pub mod sockets;
}

use hook::EmptyHooks;
use support::objects::{Frontend, UDP};
use support::sockets::{SocketNode, namespace};

const ROUNDS: usize = 5;
const CONNECTS: u32 = 200_000;
const BLOCK: u32 = 500;
/// In which the kernel lets the programs of a removed cgroup go: as long as there is one anywhere, all
/// sockets' calls take the way to it, a good half of what is to be measured.
const LET_GO: Duration = Duration::from_secs(1);
const DATAGRAMS: u32 = 50_000;
/// New sockets a block.
const SOCKETS: usize = 200;

/// Addresses of one family.
struct Plan {
    suffix: &'static str,
    any: &'static str,
    vip: &'static str,
    backend: &'static str,
}

const PLANS: [Plan; 2] = [
    Plan { suffix: "", any: "0.0.0.0:0", vip: "10.96.0.1:80", backend: "10.1.0.1:8080" },
    Plan { suffix: "_v6", any: "[::]:0", vip: "[fd00:96::1]:80", backend: "[fd00:1::1]:8080" },
];

/// Nanoseconds a call.
#[derive(Clone, Copy)]
struct Times {
    connect: f64,
    first: f64,
    sendto: f64,
}

fn main() {
    pin_to_last_cpu();
    for plan in PLANS {
        let mut rounds: [Vec<f64>; 5] = Default::default();
        for _ in 0..ROUNDS {
            thread::sleep(LET_GO);
            let plain = namespace().run(|| time(&plan, plan.backend));

            let empty = EmptyHooks::new();
            let hook = empty.cgroup.run(|| namespace().run(|| time(&plan, plan.backend)));

            let node = SocketNode::new();
            node.objects.serve(Frontend::cluster_ip(plan.vip, UDP), &[plan.backend]);
            let service = node.host(|| time(&plan, plan.vip));
            let other = node.host(|| time(&plan, plan.backend));

            rounds[0].push(service.connect - plain.connect);
            rounds[1].push(service.sendto - plain.sendto);
            rounds[2].push(other.connect - plain.connect);
            rounds[3].push(service.first - plain.first);
            rounds[4].push(hook.connect - plain.connect);
            eprintln!(
                "connect{0} {1:.0} ns plain, {2:.0} service, {3:.0} other address; \
                 sendto{0} {4:.0} plain, {5:.0} service",
                plan.suffix,
                plain.connect,
                service.connect,
                other.connect,
                plain.sendto,
                service.sendto
            );
        }
        let names = [
            "connect_added_ns",
            "sendto_added_ns",
            "connect_other_added_ns",
            "connect_first_added_ns",
            "connect_hook_added_ns",
        ];
        for (name, values) in names.into_iter().zip(rounds) {
            println!("{name}{}\t{:.0}\tns", plan.suffix, median(values));
        }
    }
}

/// The backend is there and never reads: its queue is full soon, and every datagram costs the same.
fn time(plan: &Plan, to: &str) -> Times {
    let to: SocketAddr = to.parse().unwrap();
    let _backend = UdpSocket::bind(plan.backend).unwrap();
    let client = UdpSocket::bind(plan.any).unwrap();
    let connect = each(CONNECTS, || client.connect(to).unwrap());

    let first = (0..50).map(|_| first_connects(plan, to)).fold(f64::MAX, f64::min);
    let client = UdpSocket::bind(plan.any).unwrap();
    let send = || {
        client.send_to(b"x", to).unwrap();
    };
    each(DATAGRAMS / 10, send);
    Times { connect, first, sendto: each(DATAGRAMS, send) }
}

fn first_connects(plan: &Plan, to: SocketAddr) -> f64 {
    let sockets: Vec<UdpSocket> =
        (0..SOCKETS).map(|_| UdpSocket::bind(plan.any).unwrap()).collect();
    let start = Instant::now();
    for socket in &sockets {
        socket.connect(to).unwrap();
    }
    start.elapsed().as_nanos() as f64 / SOCKETS as f64
}

/// Nanoseconds a call, of the fastest block: on a machine with other work the rest measures that.
fn each(times: u32, mut call: impl FnMut()) -> f64 {
    let mut block = || {
        let start = Instant::now();
        for _ in 0..BLOCK {
            call();
        }
        start.elapsed().as_nanos() as f64 / f64::from(BLOCK)
    };
    (0..times / BLOCK).map(|_| block()).fold(f64::MAX, f64::min)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The first CPU is where interrupts tend to go.
fn pin_to_last_cpu() {
    let mut cpus = CpuSet::new();
    cpus.set(std::thread::available_parallelism().unwrap().get() - 1).unwrap();
    sched_setaffinity(Pid::from_raw(0), &cpus).unwrap();
}
