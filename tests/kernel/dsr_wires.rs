// SPDX-License-Identifier: Apache-2.0
//! Wires for direct server return: a client, its router, an LB node, and the backend's node with its
//! pod.

use std::net::SocketAddr;

use culvert::abi::{
    DsrDispatch, Endpoint, Hook, NODE_ADDRESS, NodeAddress, NodeKey, Outcome, SERVICE_DSR,
    ServiceKind, Settings, Uplink, XdpDevice,
};
use culvert::datapath::XdpMode;
use culvert::datapath::netlink::peer_netns_number;
use ipnet::IpNet;
use nix::net::if_::if_nametoindex;

use super::wire::mac;
use super::xdp_wire::{finished, pass_all, without_checksum_offload};
use crate::support::dsr::KEY;
use crate::support::netns::NetNs;
use crate::support::node::{FAMILIES, Family, V4, V6, endpoint, ip};
use crate::support::objects::{Frontend, Objects, Served};

/// The backend's node; the other one has the address of [`Family::node`].
const fn second(family: Family) -> [&'static str; 2] {
    if family.v6 { ["fd0a::1", "fd0a::fe"] } else { ["10.10.0.1", "10.10.0.254"] }
}

/// Programs that have no part here; the verifier takes its time for each.
const SOCKETS: [&str; 11] = [
    "connect4",
    "connect6",
    "getpeername4",
    "getpeername6",
    "post_bind4",
    "post_bind6",
    "recvmsg4",
    "recvmsg6",
    "sendmsg4",
    "sendmsg6",
    "sock_release",
];

pub(super) struct Wires {
    pub(super) client: NetNs,
    router: NetNs,
    pub(super) pod: NetNs,
    lb: NetNs,
    end: NetNs,
    lb_objects: Objects,
    end_objects: Objects,
    _peer: Option<Objects>,
    /// Requests do go out by direct server return: for Geneve, the kernel must have it.
    pub(super) direct: bool,
}

impl Wires {
    pub(super) fn new(dispatch: DsrDispatch, driver: bool) -> Self {
        let [client, router, lb, end, pod] = [(); 5].map(|()| NetNs::new());
        client.veth("eth0", "", &router, "client0", "");
        lb.veth("eth0", "", &router, "lb0", "");
        end.veth("eth0", "", &router, "end0", "");
        end.veth("lxc1", "", &pod, "eth0", "");
        router.run(|| {
            for key in ["all", "default", "client0", "lb0", "end0"] {
                std::fs::write(format!("/proc/sys/net/ipv4/conf/{key}/rp_filter"), "0").unwrap();
            }
            culvert::datapath::sysctl::enable_forwarding().unwrap();
        });
        for family in FAMILIES {
            let (one, net, flag, v, gateway) = if family.v6 {
                (128, 64, " nodad", "-6", "fd09::fe")
            } else {
                (32, 24, "", "-4", "10.9.0.254")
            };
            let [address, router_address] = second(family);
            client.ip(&format!("addr add {}/{one} dev eth0{flag}", family.client));
            let hop = if family.v6 { "fd0b::fe" } else { "10.11.0.254" };
            router.ip(&format!("addr add {hop}/{net} dev client0{flag}"));
            client.ip(&format!("{v} route add {hop}/{one} dev eth0"));
            client.ip(&format!("{v} route add default via {hop}"));
            for (device, link) in [("lb0", gateway), ("end0", router_address)] {
                router.ip(&format!("addr add {link}/{net} dev {device}{flag}"));
            }
            router.ip(&format!("{v} route add {}/{one} dev client0", family.client));
            lb.ip(&format!("addr add {}/{net} dev eth0{flag}", family.node));
            lb.ip(&format!("{v} route add default via {gateway}"));
            end.ip(&format!("addr add {address}/{net} dev eth0{flag}"));
            end.ip(&format!("{v} route add default via {router_address}"));
            end.ip(&format!("{v} route add {}/{one} dev lxc1", family.pod));
            router.ip(&format!("{v} route add {}/{one} via {}", family.vip, family.node));
            router.ip(&format!("{v} route add {}/{one} via {address}", family.pod));
            pod.ip(&format!("addr add {}/{one} dev eth0{flag}", family.pod));
            pod.ip(&format!("{v} route add default dev eth0"));
        }
        let load = |ns: &NetNs| {
            ns.run(|| {
                culvert::datapath::sysctl::enable_forwarding().unwrap();
                Objects::load_without(&SOCKETS, |config| config.dsr_dispatch = dispatch as u8)
            })
        };
        let (lb_objects, end_objects) = (load(&lb), load(&end));
        let direct = true;
        let mut wires =
            Self { client, router, pod, lb, end, lb_objects, end_objects, _peer: None, direct };
        wires.fill();
        if dispatch == DsrDispatch::Geneve {
            wires.direct = wires.tunnel();
        }
        if driver {
            without_checksum_offload(&wires.router, "lb0");
            wires._peer = Some(pass_all(&wires.router, "lb0"));
            wires.lb.run(|| {
                let ifindex = if_nametoindex("eth0").unwrap();
                let value = XdpDevice { mac: mac(&wires.lb, "eth0"), pad: 0 };
                wires.lb_objects.maps().xdp_devices.set(&ifindex, &value).unwrap();
                let datapath = wires.lb_objects.datapath();
                datapath.attach_xdp(ifindex, "eth0", XdpMode::Native).unwrap();
            });
        }
        wires
    }

    fn fill(&self) {
        let nodes = [
            (&self.lb, &self.lb_objects, [V4.node, V6.node]),
            (&self.end, &self.end_objects, [second(V4)[0], second(V6)[0]]),
        ];
        for (ns, objects, own) in nodes {
            let maps = objects.maps();
            maps.settings.set(&0, &Settings { route_epoch: 1, ..Default::default() }).unwrap();
            maps.set_dsr_keys([KEY, [0; 16]]).unwrap();
            maps.set_dsr_sources(own.map(ip)).unwrap();
            for address in [V4.node, V6.node, second(V4)[0], second(V6)[0]] {
                let key = NodeKey::new(IpNet::from(address.parse::<std::net::IpAddr>().unwrap()));
                let value = NodeAddress { addr: ip(address), flags: NODE_ADDRESS, pad: 0 };
                maps.nodes.set(&key, &value).unwrap();
            }
            own.iter().for_each(|address| objects.own(address, 0));
            ns.run(|| {
                let uplink = if_nametoindex("eth0").unwrap();
                let value = Uplink {
                    snat_v4: ip(own[0]),
                    snat_v6: ip(own[1]),
                    snat_v4_target: 0,
                    snat_v6_target: 0,
                    snat_v4_epoch: 0,
                    snat_v6_epoch: 0,
                    mtu: 1500,
                };
                maps.uplinks.set(&uplink, &value).unwrap();
                objects.datapath().attach_uplink(uplink, "eth0").unwrap();
            });
        }
        let ifindex = self.end.run(|| if_nametoindex("lxc1").unwrap());
        let endpoint = Endpoint {
            mac: mac(&self.pod, "eth0"),
            host_mac: mac(&self.end, "lxc1"),
            netns_number: self.end.run(|| peer_netns_number(ifindex).unwrap()),
            ..endpoint(ifindex)
        };
        for family in FAMILIES {
            self.end_objects.maps().endpoints.set(&ip(family.pod), &endpoint).unwrap();
        }
        self.end.run(|| self.end_objects.datapath().attach_pod(ifindex, "lxc1").unwrap());
    }

    /// Gives both nodes a Geneve device, as their agents would. Returns whether the kernel has it.
    fn tunnel(&self) -> bool {
        for (ns, objects) in [(&self.lb, &self.lb_objects), (&self.end, &self.end_objects)] {
            let maps = objects.maps();
            for family in FAMILIES {
                let pod = IpNet::from(family.pod.parse::<std::net::IpAddr>().unwrap());
                let value = NodeAddress { addr: ip(second(family)[0]), flags: 0, pad: 0 };
                maps.nodes.set(&NodeKey::new(pod), &value).unwrap();
            }
            let made = ns.run(|| {
                let args = ["link", "add", "tunnel0", "type", "geneve", "external"];
                let mut command = std::process::Command::new("ip");
                command.args(args).args(["dstport", "6081"]).output().unwrap().status.success()
            });
            if !made {
                return false;
            }
            ns.ip("link set tunnel0 up");
            ns.run(|| {
                let ifindex = if_nametoindex("tunnel0").unwrap();
                objects.datapath().attach_overlay(ifindex, "tunnel0").unwrap();
                maps.set_geneve(ifindex).unwrap();
            });
        }
        true
    }

    /// Who asks, as the backend sees it: where nothing goes directly, a port of the LB node's.
    pub(super) fn assert_seen(&self, family: Family, seen: SocketAddr, client: SocketAddr) {
        if self.direct {
            assert_eq!(seen, client, "the backend sees the client");
        } else {
            assert_eq!(seen.ip(), family.node.parse::<std::net::IpAddr>().unwrap());
        }
    }

    /// The service on both nodes, as their agents would write it.
    pub(super) fn serve(&self, family: Family, proto: u8) -> [Served<'_>; 2] {
        self.serve_at(family, proto, 80)
    }

    pub(super) fn serve_at(&self, family: Family, proto: u8, port: u16) -> [Served<'_>; 2] {
        [&self.lb_objects, &self.end_objects].map(|objects| {
            let frontend = Frontend::cluster_ip(&family.at(family.vip, port), proto);
            let frontend = frontend.kind(ServiceKind::LoadBalancer);
            let served = objects.serve(frontend, &[&family.at(family.pod, 8080)]);
            served.change(|service| service.flags |= SERVICE_DSR);
            served
        })
    }

    /// The LB node knows nothing of what is open, as after a re-hash to another one.
    pub(super) fn forget(&self) {
        self.lb_objects.forget_flows();
    }

    pub(super) fn driver_finished(&self) -> u64 {
        finished(&self.lb_objects)
    }

    /// Packets that came to the pod through the Geneve device.
    pub(super) fn end_took(&self) -> u64 {
        self.end_objects.counted(Outcome::Local, Hook::FromOverlay).packets
    }
}
