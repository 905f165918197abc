// SPDX-License-Identifier: Apache-2.0
//! A node for socket tests: a network namespace that is the host, others that are pods, and the
//! socket hooks over all of them. Backends are addresses on each one's loopback device.

use std::fs::File;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::{Duration, Instant};

use culvert::abi;
use culvert::datapath::host;
use libbpf_rs::Link;

use super::cgroup::Cgroup;
use super::interrupt::uninterrupted;
use super::netns::NetNs;
use super::objects::Objects;

const PROGRAMS: [&str; 11] = [
    "connect4",
    "connect6",
    "sendmsg4",
    "sendmsg6",
    "recvmsg4",
    "recvmsg6",
    "getpeername4",
    "getpeername6",
    "post_bind4",
    "post_bind6",
    "sock_release",
];

/// What has no part in this.
const OTHERS: [&str; 7] = [
    "from_container",
    "to_container",
    "from_netdev",
    "to_netdev",
    "from_overlay",
    "to_overlay",
    "xdp_entry",
];

/// Backends' addresses, with nothing on the way to them but loopback.
const ADDRESSES: [&str; 8] = [
    "10.1.0.1/32",
    "10.1.0.2/32",
    "10.1.0.3/32",
    "10.9.9.9/32",
    "fd00:1::1/128",
    "fd00:1::2/128",
    "fd00:1::3/128",
    "fd00:9::9/128",
];

pub struct SocketNode {
    links: Vec<(&'static str, Link)>,
    cgroup: Cgroup,
    netns: NetNs,
    pub objects: Objects,
}

impl SocketNode {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut abi::Config)) -> Self {
        let netns = namespace();
        // As the agent does it where the kernel does not tell: nobody is the host then.
        let cookie = netns.run(|| host::netns_cookie().unwrap_or(0));
        let objects = Objects::load_without(&OTHERS, |config| {
            config.host_netns_cookie = cookie;
            config.socket_lb = 1;
            config.bind_protection = 1;
            change(config);
        });
        let cgroup = Cgroup::new();
        let directory = File::open(cgroup.path()).unwrap();
        let attach =
            |name| (name, objects.program(name).attach_cgroup(directory.as_raw_fd()).unwrap());
        let links = PROGRAMS.map(attach).into();
        Self { links, cgroup, netns, objects }
    }

    /// Takes one hook away.
    pub fn detach(&mut self, program: &str) {
        self.links.retain(|(name, _)| *name != program);
    }

    /// Runs `ip` with these arguments on the host.
    pub fn ip(&self, args: &str) {
        self.netns.ip(args);
    }

    /// Runs `f` as a program of the host.
    pub fn host<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.cgroup.run(|| self.netns.run(f))
    }

    /// Runs `f` in the network namespace of the test itself.
    pub fn outer<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.cgroup.run(f)
    }

    /// Runs `f` as a program in `pod`.
    pub fn pod<T: Send>(&self, pod: &NetNs, f: impl FnOnce() -> T + Send) -> T {
        self.cgroup.run(|| pod.run(f))
    }
}

/// A network namespace in which every backend's address is its own.
pub fn namespace() -> NetNs {
    let netns = NetNs::new();
    for address in ADDRESSES {
        // Else an IPv6 address is tentative until a kernel worker has run, loopback or not.
        let nodad = if address.contains(':') { " nodad" } else { "" };
        netns.ip(&format!("addr add {address} dev lo{nodad}"));
    }
    netns
}

/// Keeps `netns` open for as long as it lives, and is a path to it.
pub fn handle(netns: &NetNs) -> File {
    netns.run(|| File::open("/proc/thread-self/ns/net").unwrap())
}

pub fn udp(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

/// The one of `servers` that a datagram reaches, and its sender.
pub fn receiver(servers: &[&UdpSocket]) -> (usize, SocketAddr) {
    let start = Instant::now();
    for server in servers {
        server.set_nonblocking(true).unwrap();
    }
    loop {
        for (index, server) in servers.iter().enumerate() {
            if let Ok((_, from)) = server.recv_from(&mut [0; 64]) {
                return (index, from);
            }
        }
        assert!(start.elapsed() < Duration::from_secs(5), "no server got the datagram");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Whom `client` sees as the sender of the datagram that `server` sends it.
pub fn sender_seen(server: &UdpSocket, client: &UdpSocket, to: SocketAddr) -> SocketAddr {
    server.send_to(b"reply", to).unwrap();
    uninterrupted(|| client.recv_from(&mut [0; 64])).unwrap().1
}
