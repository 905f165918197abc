// SPDX-License-Identifier: Apache-2.0
//! A node to measure on: its own network namespace, two pods, a neighbour node, three services, and
//! the real programs loaded over real maps. Removed when dropped.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context as _, Result};
use culvert::abi;
use culvert::datapath::{Datapath, Maps, Options};

use super::net::{Pod, ifindex, pod};
use super::pins::{self, PinRoot};

const TCP: u8 = 6;
const NODE_PORT: u16 = 30080;
/// The NodePort of a service with so many backends that a flood of new flows finds SNAT ports.
const WIDE_NODE_PORT: u16 = 30081;
const WIDE_BACKENDS: u16 = 512;

/// The addresses of one family.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub client: IpAddr,
    pub node: IpAddr,
    pub pods: [IpAddr; 2],
    pub remote: IpAddr,
    pub to_remote: IpAddr,
    pub to_local: IpAddr,
    /// Of packets that others are in.
    pub dsr_source: IpAddr,
}

impl Plan {
    pub fn new(v6: bool) -> Result<Self> {
        let [client, node, first, second, remote, to_remote, to_local, dsr_source] = if v6 {
            [
                "fd00:c::10",
                "fd00:50::1",
                "fd00:1::10",
                "fd00:1::11",
                "fd00:2::10",
                "fd00:96::10",
                "fd00:96::11",
                "fd00::1",
            ]
        } else {
            [
                "10.200.0.10",
                "192.168.50.1",
                "10.0.1.10",
                "10.0.1.11",
                "10.0.2.10",
                "10.96.0.10",
                "10.96.0.11",
                "10.0.0.1",
            ]
        };
        Ok(Self {
            client: client.parse()?,
            node: node.parse()?,
            pods: [first.parse()?, second.parse()?],
            remote: remote.parse()?,
            to_remote: to_remote.parse()?,
            to_local: to_local.parse()?,
            dsr_source: dsr_source.parse()?,
        })
    }

    pub fn node_port(&self) -> SocketAddr {
        (self.node, NODE_PORT).into()
    }

    pub fn wide_node_port(&self) -> SocketAddr {
        (self.node, WIDE_NODE_PORT).into()
    }
}

/// One load of all programs, with the maps filled.
#[derive(Debug)]
pub struct World {
    from_netdev: OwnedFd,
    xdp_entry: OwnedFd,
    from_container: OwnedFd,
    datapath: Datapath,
    pub uplink: u32,
    pub pods: [Pod; 2],
    _root: PinRoot,
}

impl World {
    /// Loads everything anew. The caller's thread is in the bench's namespace already, see
    /// [`enter_namespace`].
    pub fn load(dispatch: abi::DsrDispatch) -> Result<Self> {
        let root = PinRoot::new();
        let uplink = ifindex("up0")?;
        let pods = [pod("lxc0", 0)?, pod("lxc1", 1)?];
        let datapath = Datapath::open(Options {
            config: config(dispatch),
            map_sizes: Default::default(),
            // Those that no path meets: the verifier takes its time for each.
            programs_off: pins::all_programs_but(&["from_netdev", "from_container", "xdp_entry"])
                .collect(),
            ..root.options()
        })?;
        let program = |name: &str| -> Result<OwnedFd> {
            let program = datapath.program(name).with_context(|| format!("no program `{name}`"))?;
            Ok(program.as_fd().try_clone_to_owned()?)
        };
        let world = Self {
            from_netdev: program("from_netdev")?,
            xdp_entry: program("xdp_entry")?,
            from_container: program("from_container")?,
            datapath,
            uplink,
            pods,
            _root: root,
        };
        for v6 in [false, true] {
            world.fill(&Plan::new(v6)?)?;
        }
        if dispatch != abi::DsrDispatch::Off {
            let maps = world.datapath.maps();
            maps.set_dsr_keys([*b"a key for a test", [0; 16]])?;
            let own = [Plan::new(false)?.dsr_source, Plan::new(true)?.dsr_source];
            maps.set_dsr_sources(own.map(abi::Addr::from))?;
            let services = &maps.services;
            for (key, mut service) in services.entries()? {
                service.flags |= abi::SERVICE_DSR;
                services.set(&key, &service)?;
            }
        }
        Ok(world)
    }

    /// What packets meet that arrive on the uplink.
    pub fn wire_program(&self) -> BorrowedFd<'_> {
        self.from_netdev.as_fd()
    }

    /// What frames meet in the uplink's driver.
    pub fn driver_program(&self) -> BorrowedFd<'_> {
        self.xdp_entry.as_fd()
    }

    /// What packets meet that leave a pod.
    pub fn pod_program(&self) -> BorrowedFd<'_> {
        self.from_container.as_fd()
    }

    /// Lets the next packet of each flow carry the DSR option.
    pub fn mark_flows(&self) -> Result<()> {
        let flows = &self.datapath.maps().flows;
        for (key, mut flow) in flows.entries()? {
            flow.flags |= abi::flow_flag::OPTION;
            flows.set(&key, &flow)?;
        }
        Ok(())
    }

    /// Makes this the backend's node of what it has dispatched as the LB node: the remote backend is its
    /// first pod from now on, and it knows nothing of what was open.
    pub fn become_backend(&self, plan: &Plan) -> Result<()> {
        let maps = self.datapath.maps();
        for flows in [&maps.flows, &maps.flows_new] {
            for (key, _) in flows.entries()? {
                flows.remove(&key)?;
            }
        }
        let pod = maps.endpoints.get(&plan.pods[0].into())?.context("the first pod")?;
        maps.endpoints.set(&plan.remote.into(), &pod)?;
        let addr = abi::Addr::from(plan.dsr_source);
        let key = abi::NodeKey::new(plan.dsr_source.into());
        maps.nodes.set(&key, &abi::NodeAddress { addr, flags: abi::NODE_ADDRESS, pad: 0 })?;
        Ok(())
    }

    fn fill(&self, plan: &Plan) -> Result<()> {
        let maps = self.datapath.maps();
        let v6 = plan.node.is_ipv6();
        for (pod, ip) in self.pods.iter().zip(plan.pods) {
            let endpoint = abi::Endpoint {
                ifindex: pod.ifindex,
                mac: pod.mac,
                host_mac: pod.host_mac,
                netns_cookie: 0,
                netns_number: 0,
                pad: 0,
            };
            maps.endpoints.set(&ip.into(), &endpoint)?;
        }
        maps.owned.set(
            &plan.node.into(),
            &abi::Owned { ifindex: self.uplink, flags: abi::OWNED_NODEPORT },
        )?;

        let wildcard = if v6 { abi::Addr::V6_WILDCARD } else { abi::Addr::V4_WILDCARD };
        let base = if v6 { 5 } else { 1 };
        let node_port = (wildcard, NODE_PORT, abi::ServiceKind::NodePort, plan.remote);
        let to_remote = (plan.to_remote.into(), 80, abi::ServiceKind::ClusterIp, plan.remote);
        let to_local = (plan.to_local.into(), 80, abi::ServiceKind::ClusterIp, plan.pods[1]);
        for (id, service) in (base..).zip([node_port, to_remote, to_local]) {
            add_service(maps, id, service, 1)?;
        }
        let wide = (wildcard, WIDE_NODE_PORT, abi::ServiceKind::NodePort, plan.remote);
        add_service(maps, base + 3, wide, WIDE_BACKENDS)?;
        self.set_uplink(plan)
    }

    /// Each family's half of the uplink's entry; the other half stays.
    fn set_uplink(&self, plan: &Plan) -> Result<()> {
        const SNAT_TARGET: u32 = 100;
        let maps = self.datapath.maps();
        let mut uplink = maps.uplinks.get(&self.uplink)?.unwrap_or(abi::Uplink {
            snat_v4: abi::Addr::ZERO,
            snat_v6: abi::Addr::ZERO,
            snat_v4_target: SNAT_TARGET,
            snat_v6_target: SNAT_TARGET,
            snat_v4_epoch: 1,
            snat_v6_epoch: 1,
            mtu: 1500,
        });
        match plan.node {
            IpAddr::V4(_) => uplink.snat_v4 = plan.node.into(),
            IpAddr::V6(_) => uplink.snat_v6 = plan.node.into(),
        }
        maps.uplinks.set(&self.uplink, &uplink)?;
        set_active(maps, SNAT_TARGET)
    }
}

/// Service and target share their number. The backends are one address, on ports from 8080 on.
fn add_service(
    maps: &Maps,
    id: u32,
    (vip, port, kind, backend): (abi::Addr, u16, abi::ServiceKind, IpAddr),
    count: u16,
) -> Result<()> {
    let all = abi::SlotRange { first: 0, count };
    set_active(maps, id)?;
    for slot in 0..count {
        let value = abi::Backend {
            addr: backend.into(),
            port: (8080 + slot).into(),
            flags: 0,
            target: id,
            target_epoch: 1,
            weight: 1,
            pad: 0,
        };
        let key = abi::BackendKey { service: id, generation: 1, slot: slot.into() };
        maps.backends.set(&key, &value)?;
    }
    let service = abi::Service {
        id,
        generation: 1,
        outside: all,
        inside: all,
        flags: abi::SERVICE_HAS_ENDPOINTS,
        kind: kind as u8,
        algorithm: 0,
        affinity_timeout: 0,
        maglev_offset: 0,
        maglev_size: 0,
    };
    if kind == abi::ServiceKind::ClusterIp {
        maps.vips.set(&vip, &abi::Vip { flags: abi::VIP_CLUSTER_IP, pad: 0 })?;
    }
    maps.services.set(&abi::ServiceKey::new(vip, port, TCP), &service)?;
    Ok(())
}

fn set_active(maps: &Maps, target: u32) -> Result<()> {
    let status = abi::TargetStatus::Active as u8;
    maps.target_state.set(&target, &abi::TargetState { epoch: 1, status, ..Default::default() })?;
    Ok(())
}

/// The default configuration, but no flow ends while it is measured, and SNAT has all ports.
fn config(dispatch: abi::DsrDispatch) -> abi::Config {
    let long = abi::ticks(Duration::from_secs(600));
    abi::Config {
        dsr_dispatch: dispatch as u8,
        snat_port_max: u16::MAX,
        tcp_syn_timeout: long,
        tcp_closing_timeout: long,
        udp_unreplied_timeout: long,
        udp_stream_timeout: long,
        ..pins::config()
    }
}
