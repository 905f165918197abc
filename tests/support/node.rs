// SPDX-License-Identifier: Apache-2.0
//! One node for one-packet tests: a namespace with an uplink and two pods, whose neighbours are
//! known, and the datapath loaded in it. Nothing is attached: packets go through `BPF_PROG_TEST_RUN`.

use std::net::{IpAddr, SocketAddr};

use culvert::abi::{self, Endpoint, OWNED_NODEPORT, Outcome, Settings, Uplink};
use culvert::datapath::Options;
use libbpf_rs::{ProgramInput, ProgramMut};
use nix::net::if_::if_nametoindex;

use super::netns::NetNs;
use super::objects::Objects;
use super::packet::Packet;

/// Whoever comes next in the chain, and in the end the stack.
pub const TC_NEXT: u32 = u32::MAX;
pub const TC_DROP: u32 = 2;
pub const TC_REDIRECT: u32 = 7;

/// The addresses of one family, so that a test runs over both.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    pub v6: bool,
    pub node: &'static str,
    /// Outside the cluster, behind the router.
    pub client: &'static str,
    /// A pod of another node.
    pub remote: &'static str,
    pub pod: &'static str,
    pub other_pod: &'static str,
    pub vip: &'static str,
    pub hairpin: &'static str,
}

pub const V4: Family = Family {
    v6: false,
    node: "10.9.0.1",
    client: "192.0.2.7",
    remote: "10.244.2.5",
    pod: "10.244.1.5",
    other_pod: "10.244.1.6",
    vip: "203.0.113.80",
    hairpin: "169.254.42.1",
};

pub const V6: Family = Family {
    v6: true,
    node: "fd09::1",
    client: "2001:db8::7",
    remote: "fd00:2::5",
    pod: "fd00:1::5",
    other_pod: "fd00:1::6",
    vip: "2001:db8:80::1",
    hairpin: "fe80::a9fe:2a01",
};

pub const FAMILIES: [Family; 2] = [V4, V6];

impl Family {
    pub fn at(&self, host: &str, port: u16) -> String {
        SocketAddr::new(host.parse().unwrap(), port).to_string()
    }
}

pub const POD_MAC: [u8; 6] = [2, 0, 0, 0, 1, 5];
pub const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 9, 9];
pub const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];

/// A pod's entry, of which only the packets show anything.
pub fn endpoint(ifindex: u32) -> Endpoint {
    Endpoint { ifindex, mac: POD_MAC, host_mac: HOST_MAC, netns_cookie: 0, netns_number: 0, pad: 0 }
}

pub struct Node {
    pub ns: NetNs,
    pub objects: Objects,
    pub uplink: u32,
    pub pod: u32,
    pub other_pod: u32,
}

impl Node {
    pub fn new() -> Self {
        Self::with(|_| ())
    }

    pub fn with(change: impl FnOnce(&mut abi::Config) + Send) -> Self {
        Self::with_options(|options| change(&mut options.config))
    }

    pub fn with_options(change: impl FnOnce(&mut Options) + Send) -> Self {
        let ns = NetNs::new();
        for (dev, peer) in [("eth0", "wire"), ("lxc1", "pod1"), ("lxc2", "pod2")] {
            ns.ip(&format!("link add {dev} type veth peer name {peer}"));
            ns.ip(&format!("link set {dev} up"));
            ns.ip(&format!("link set {peer} up"));
        }
        // Where `Packet` sends its frames.
        ns.ip("link set eth0 address 02:00:00:00:00:01");
        ns.ip("addr add 10.9.0.1/24 dev eth0");
        ns.ip("addr add fd09::1/64 dev eth0 nodad");
        for (router, family) in [("10.9.0.254", "-4"), ("fd09::fe", "-6")] {
            ns.ip(&format!("neigh add {router} lladdr 02:00:00:00:00:fe dev eth0 nud permanent"));
            ns.ip(&format!("{family} route add default via {router}"));
        }
        ns.run(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        });
        let index = |name: &str| ns.run(|| if_nametoindex(name).unwrap());
        let (uplink, pod, other_pod) = (index("eth0"), index("lxc1"), index("lxc2"));
        let objects = ns.run(|| Objects::load_lazily(change));
        let node = Self { ns, objects, uplink, pod, other_pod };
        node.fill();
        node
    }

    fn fill(&self) {
        let maps = self.objects.maps();
        for family in FAMILIES {
            self.objects.own(family.node, OWNED_NODEPORT);
            for (address, ifindex) in [(family.pod, self.pod), (family.other_pod, self.other_pod)] {
                maps.endpoints.set(&ip(address), &endpoint(ifindex)).unwrap();
            }
        }
        let uplink = Uplink {
            snat_v4: ip(V4.node),
            snat_v6: ip(V6.node),
            snat_v4_target: 0,
            snat_v6_target: 0,
            snat_v4_epoch: 0,
            snat_v6_epoch: 0,
            mtu: 1500,
        };
        maps.uplinks.set(&self.uplink, &uplink).unwrap();
        maps.settings
            .set(&0, &Settings { route_epoch: 1, trace: 0, ..Default::default() })
            .unwrap();
    }

    /// Runs `program` on a frame that came in on, or leaves by, `ifindex`.
    pub fn raw(&self, program: &str, ifindex: u32, frame: &[u8]) -> (u32, Vec<u8>) {
        self.ns.run(|| self.raw_inside(program, ifindex, frame))
    }

    /// So many ticks pass for every flow.
    pub fn let_pass(&self, ticks: u32) {
        let maps = self.objects.maps();
        for map in [&maps.flows, &maps.flows_new] {
            for (key, mut flow) in map.entries().unwrap() {
                flow.last_seen -= ticks;
                map.set(&key, &flow).unwrap();
            }
        }
    }

    /// As [`Self::raw`], of an skb whose device has summed up all behind the Ethernet header
    /// (`CHECKSUM_COMPLETE`). The kernel, from 6.11, refuses the run (`EBADMSG`) where that sum is wrong
    /// afterwards; one that is given up, as by trimming, counts as wrong too.
    #[track_caller]
    pub fn summed(&self, program: &str, ifindex: u32, frame: &[u8]) -> (u32, Vec<u8>) {
        let flags = libbpf_rs::libbpf_sys::BPF_F_TEST_SKB_CHECKSUM_COMPLETE;
        let run = || Self::run(&self.objects.program(program), ifindex, frame, flags, [0; 2]);
        self.ns.run(run).unwrap_or_else(|error| {
            panic!("{program} leaves a wrong skb->csum ({error}) of {frame:02x?}")
        })
    }

    /// As [`Self::raw`], on a thread that is in the node's namespace.
    pub fn raw_inside(&self, program: &str, ifindex: u32, frame: &[u8]) -> (u32, Vec<u8>) {
        Self::raw_of(&self.objects.program(program), ifindex, frame)
    }

    /// As [`Self::raw_inside`], of a program that may be loaded by other means.
    pub fn raw_of(program: &ProgramMut<'_>, ifindex: u32, frame: &[u8]) -> (u32, Vec<u8>) {
        Self::run(program, ifindex, frame, 0, [0; 2]).unwrap()
    }

    /// As [`Self::raw`], of an skb that GRO has put together from `segments` packets with up to
    /// `size` bytes of payload each. A test run does not say of which protocol they are.
    pub fn gathered(
        &self,
        program: &str,
        frame: &[u8],
        [segments, size]: [u32; 2],
    ) -> (u32, Vec<u8>) {
        let gso = [segments, size];
        let run = || Self::run(&self.objects.program(program), self.uplink, frame, 0, gso);
        self.ns.run(run).unwrap()
    }

    fn run(
        program: &ProgramMut<'_>,
        ifindex: u32,
        frame: &[u8],
        flags: u32,
        [segments, size]: [u32; 2],
    ) -> libbpf_rs::Result<(u32, Vec<u8>)> {
        // The words of `struct __sk_buff` that a test run may set.
        let mut context = [0_u32; 48];
        context[10] = ifindex;
        context[41] = segments;
        context[44] = size;
        let mut context: Vec<u8> = context.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut out = vec![0; 4096];
        let input = ProgramInput {
            context_in: Some(&mut context),
            data_in: Some(frame),
            data_out: Some(&mut out),
            flags,
            ..Default::default()
        };
        let output = program.test_run(input)?;
        Ok((output.return_value, output.data.unwrap().to_vec()))
    }

    /// Runs the driver hook on a frame that came in on `ifindex`, on a thread that is in the node's
    /// namespace.
    pub fn xdp_inside(&self, ifindex: u32, frame: &[u8]) -> (u32, Vec<u8>) {
        Self::xdp_of(&self.objects.program("xdp_entry"), ifindex, frame)
    }

    /// As [`Self::xdp_inside`], of a program that may be loaded by other means.
    pub fn xdp_of(program: &ProgramMut<'_>, ifindex: u32, frame: &[u8]) -> (u32, Vec<u8>) {
        // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress.
        let mut context = [0, frame.len() as u32, 0, ifindex, 0, 0];
        let mut context: Vec<u8> = context.iter_mut().flat_map(|word| word.to_ne_bytes()).collect();
        let mut out = vec![0; 4096];
        let input = ProgramInput {
            context_in: Some(&mut context),
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..Default::default()
        };
        let output = program.test_run(input).unwrap();
        (output.return_value, output.data.unwrap().to_vec())
    }

    pub fn wire(&self, packet: &Packet) -> (u32, Vec<u8>) {
        self.raw("from_netdev", self.uplink, &packet.bytes())
    }

    /// Must be sent on or delivered; returns it as it is then.
    #[track_caller]
    pub fn wire_ok(&self, packet: &Packet) -> Packet {
        let (action, frame) = self.wire(packet);
        assert_eq!(action, TC_REDIRECT, "{packet:?}: {:?}", self.outcomes());
        Packet::parse(&frame)
    }

    pub fn leave(&self, packet: &Packet) -> (u32, Vec<u8>) {
        self.raw("from_container", self.pod, &packet.bytes())
    }

    #[track_caller]
    pub fn leave_ok(&self, packet: &Packet) -> Packet {
        let (action, frame) = self.leave(packet);
        assert_eq!(action, TC_REDIRECT, "{packet:?}: {:?}", self.outcomes());
        Packet::parse(&frame)
    }

    /// What was counted so far, by name.
    pub fn outcomes(&self) -> Vec<(&'static str, &'static str, u64)> {
        let counters = self.objects.maps().counters().unwrap();
        counters
            .iter()
            .filter(|(.., counter)| counter.packets > 0)
            .map(|(outcome, hook, counter)| (hook.name(), outcome.name(), counter.packets))
            .collect()
    }

    pub fn counted(&self, outcome: Outcome) -> u64 {
        let name = outcome.name();
        self.outcomes().iter().filter(|(_, each, _)| *each == name).map(|(.., n)| n).sum()
    }
}

pub fn ip(address: &str) -> abi::Addr {
    address.parse::<IpAddr>().unwrap().into()
}
