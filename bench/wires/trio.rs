// SPDX-License-Identifier: Apache-2.0
//! Client, node and backend on wires, and a pod of the node.

use culvert::abi::{Endpoint, OWNED_NODEPORT, ServiceKind, Settings, Uplink};
use culvert::datapath::netlink::peer_netns_number;
use culvert::datapath::sysctl;
use nix::net::if_::if_nametoindex;

use super::load::serve;
use super::support::netns::NetNs;
use super::support::objects::{Frontend, Objects, TCP};
use super::{BACKENDS, Service};

#[derive(Debug)]
pub struct Trio {
    pub client: NetNs,
    pub node: NetNs,
    pub pod: NetNs,
    _backend: NetNs,
    _objects: Option<Objects>,
}

const POD: &str = "10.70.0.5";
const POD_MAC: [u8; 6] = [2, 0, 0, 0, 7, 5];
const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 7, 1];

impl Trio {
    /// The wires, a node that routes, and servers behind it.
    pub fn new() -> Self {
        let [client, node, pod, backend] = [(); 4].map(|()| NetNs::new());
        node.veth("eth0", "10.50.0.1/24", &client, "eth0", "10.50.0.2/24");
        node.veth("eth1", "10.60.0.1/24", &backend, "eth0", "10.60.0.2/24");
        node.veth("lxc1", "10.70.0.1/24", &pod, "eth0", "10.70.0.5/24");
        for slot in 0..BACKENDS {
            backend.ip(&format!("addr add 10.60.0.{}/24 dev eth0", 10 + slot));
        }
        node.ip("link set lxc1 address 02:00:00:00:07:01");
        pod.ip("link set eth0 address 02:00:00:00:07:05");
        for (ns, gateway) in [(&client, "10.50.0.1"), (&backend, "10.60.0.1"), (&pod, "10.70.0.1")]
        {
            ns.ip(&format!("route add default via {gateway}"));
        }
        node.run(|| sysctl::enable_forwarding().unwrap());
        backend.run(serve);
        Self { client, node, pod, _backend: backend, _objects: None }
    }

    /// The same with Culvert on the node's devices. The pod's packets are served one by one: its
    /// sockets are not, which is the dearer of the two ways.
    pub fn culvert(services: &[Service]) -> Self {
        let trio = Self::new();
        let objects = trio.node.run(|| {
            Objects::open(|options| {
                // As large as an agent makes them.
                options.map_sizes.clear();
                options.config.socket_lb = 0;
            })
        });
        let index = |name: &str| trio.node.run(|| if_nametoindex(name).unwrap());
        let maps = objects.maps();
        for service in services {
            let backends: Vec<String> = service.backends.iter().map(ToString::to_string).collect();
            let backends: Vec<&str> = backends.iter().map(String::as_str).collect();
            let vip = service.cluster_ip.to_string();
            let frontend = Frontend::cluster_ip(&vip, TCP).kind(ServiceKind::ClusterIp);
            objects.serve(frontend, &backends);
            objects.serve(Frontend::node_port_v4(service.node_port, TCP), &backends);
        }
        objects.own("10.50.0.1", OWNED_NODEPORT);
        let pod = index("lxc1");
        let endpoint = Endpoint {
            ifindex: pod,
            mac: POD_MAC,
            host_mac: HOST_MAC,
            netns_cookie: 0,
            netns_number: trio.node.run(|| peer_netns_number(pod).unwrap()),
            pad: 0,
        };
        maps.endpoints.set(&address(POD), &endpoint).unwrap();
        for (device, own) in [("eth0", "10.50.0.1"), ("eth1", "10.60.0.1")] {
            let uplink = Uplink {
                snat_v4: address(own),
                snat_v6: culvert::abi::Addr::ZERO,
                snat_v4_target: 0,
                snat_v6_target: 0,
                snat_v4_epoch: 0,
                snat_v6_epoch: 0,
                mtu: 1500,
            };
            maps.uplinks.set(&index(device), &uplink).unwrap();
        }
        maps.settings.set(&0, &Settings { route_epoch: 1, ..Default::default() }).unwrap();
        trio.node.run(|| {
            for device in ["eth0", "eth1"] {
                objects.datapath().attach_uplink(index(device), device).unwrap();
            }
            objects.datapath().attach_pod(index("lxc1"), "lxc1").unwrap();
        });
        Self { _objects: Some(objects), ..trio }
    }
}

fn address(text: &str) -> culvert::abi::Addr {
    text.parse::<std::net::IpAddr>().unwrap().into()
}
