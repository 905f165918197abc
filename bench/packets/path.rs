// SPDX-License-Identifier: Apache-2.0
//! The paths a packet can take, each with the handshakes that make its flows established.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use anyhow::{Context as _, Result, ensure};
use culvert::abi::DsrDispatch;

use super::backend;
use super::frame::{self, ACK, SYN, Tuple};
use super::net::{PEER_MAC, Pod, UPLINK_MAC};
use super::prepared::Prepared;
use super::raw::{self, Hook, Vary, Wrapper};
use super::world::{Plan, World};

/// Client ports start here; the low bits vary.
pub const FIRST_PORT: u16 = 0x8000;

/// What is measured: one packet, entering at one program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    SnatRequest,
    SnatReply,
    PodToPod,
    PodToServiceRemote,
    PodToServiceLocal,
    SnatNew,
    PodToServiceNew,
    XdpRequest,
    XdpReply,
    XdpNew,
    DsrRequest,
    /// A SYN that comes again, with the option.
    DsrSyn,
    XdpDsrRequest,
    /// A packet with the option. The driver hook leaves a SYN of a flow that is open to tc, so it is
    /// none.
    XdpDsrMarked,
    XdpDsrNew,
    XdpIpipRequest,
    DsrBackendRequest,
    DsrBackendIpip,
    DsrBackendAnswer,
}

impl Path {
    pub const ALL: [Self; 19] = [
        Self::SnatRequest,
        Self::SnatReply,
        Self::PodToPod,
        Self::PodToServiceRemote,
        Self::PodToServiceLocal,
        Self::SnatNew,
        Self::PodToServiceNew,
        Self::XdpRequest,
        Self::XdpReply,
        Self::XdpNew,
        Self::DsrRequest,
        Self::DsrSyn,
        Self::XdpDsrRequest,
        Self::XdpDsrMarked,
        Self::XdpDsrNew,
        Self::XdpIpipRequest,
        Self::DsrBackendRequest,
        Self::DsrBackendIpip,
        Self::DsrBackendAnswer,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::SnatRequest => "tc_snat_request_ns",
            Self::SnatReply => "tc_snat_reply_ns",
            Self::PodToPod => "pod_to_pod_ns",
            Self::PodToServiceRemote => "pod_to_service_remote_ns",
            Self::PodToServiceLocal => "pod_to_service_local_ns",
            Self::SnatNew => "tc_snat_new_ns",
            Self::PodToServiceNew => "pod_to_service_new_ns",
            Self::XdpRequest => "xdp_snat_request_ns",
            Self::XdpReply => "xdp_snat_reply_ns",
            Self::XdpNew => "xdp_snat_new_ns",
            Self::DsrRequest => "tc_dsr_request_ns",
            Self::DsrSyn => "tc_dsr_syn_ns",
            Self::XdpDsrRequest => "xdp_dsr_request_ns",
            Self::XdpDsrMarked => "xdp_dsr_syn_ns",
            Self::XdpDsrNew => "xdp_dsr_new_ns",
            Self::XdpIpipRequest => "xdp_ipip_request_ns",
            Self::DsrBackendRequest => "dsr_backend_request_ns",
            Self::DsrBackendIpip => "dsr_backend_ipip_ns",
            Self::DsrBackendAnswer => "dsr_backend_answer_ns",
        }
    }

    /// A new flow has no established packets to vary.
    pub const fn opens(self) -> bool {
        matches!(self, Self::SnatNew | Self::PodToServiceNew | Self::XdpNew | Self::XdpDsrNew)
    }

    pub const fn hook(self) -> Hook {
        match self {
            Self::XdpRequest
            | Self::XdpReply
            | Self::XdpNew
            | Self::XdpDsrRequest
            | Self::XdpDsrMarked
            | Self::XdpDsrNew
            | Self::XdpIpipRequest => Hook::Driver,
            _ => Hook::Tc,
        }
    }

    /// How the LB node dispatches, where the backend answers by itself.
    pub const fn dispatch(self) -> DsrDispatch {
        match self {
            Self::DsrRequest
            | Self::DsrSyn
            | Self::XdpDsrRequest
            | Self::XdpDsrMarked
            | Self::XdpDsrNew
            | Self::DsrBackendRequest
            | Self::DsrBackendAnswer => DsrDispatch::Option,
            Self::XdpIpipRequest | Self::DsrBackendIpip => DsrDispatch::Ipip,
            _ => DsrDispatch::Off,
        }
    }

    /// Measures the server's answers.
    const fn answers(self) -> bool {
        matches!(self, Self::SnatReply | Self::XdpReply)
    }
}

/// One side of a connection: which program its packets meet, and on which device.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    Wire,
    Pod(usize),
}

/// Opens `1 << bits` flows and returns the packet that belongs to them.
pub fn prepare<'w>(world: &'w World, path: Path, v6: bool, bits: u32) -> Result<Prepared<'w>> {
    let plan = Plan::new(v6)?;
    let (client, client_side, server, server_side) = match path {
        Path::SnatRequest
        | Path::SnatReply
        | Path::XdpRequest
        | Path::XdpReply
        | Path::DsrRequest
        | Path::DsrSyn
        | Path::XdpDsrRequest
        | Path::XdpDsrMarked
        | Path::XdpIpipRequest => (plan.client, Side::Wire, plan.node_port(), Side::Wire),
        Path::SnatNew | Path::XdpNew | Path::XdpDsrNew => {
            (plan.client, Side::Wire, plan.wide_node_port(), Side::Wire)
        }
        Path::PodToPod => {
            (plan.pods[0], Side::Pod(0), SocketAddr::from((plan.pods[1], 8080)), Side::Pod(1))
        }
        Path::PodToServiceRemote | Path::PodToServiceNew => {
            (plan.pods[0], Side::Pod(0), SocketAddr::from((plan.to_remote, 80)), Side::Wire)
        }
        Path::PodToServiceLocal => {
            (plan.pods[0], Side::Pod(0), SocketAddr::from((plan.to_local, 80)), Side::Pod(1))
        }
        Path::DsrBackendRequest | Path::DsrBackendIpip | Path::DsrBackendAnswer => {
            return backend::prepare(world, path, &plan, bits);
        }
    };
    let tuple = |port: u16| Tuple { from: (client, port).into(), to: server };
    if path.opens() {
        return new_flows(world, path.hook(), client_side, tuple(FIRST_PORT));
    }

    let mut answer = None;
    for low in 0..1_u16 << bits {
        let port = FIRST_PORT | low;
        if path.dispatch() != DsrDispatch::Off {
            // No answer passes here; the first ACK leaves the flow confirmed.
            for flags in [SYN, ACK] {
                let (program, ifindex, packet) = arriving(world, client_side, tuple(port), flags)?;
                raw::run(Hook::Tc, program, &packet, ifindex, 1)?;
            }
            continue;
        }
        let got = connect(world, client_side, server_side, tuple(port))
            .with_context(|| format!("no connection from port {port} on path {path:?}"))?;
        ensure!(
            !path.answers() || got.to.port() == port,
            "SNAT did not keep client port {port}, so answers cannot be varied"
        );
        answer.get_or_insert(got);
    }
    let (side, tuple) = if path.answers() {
        (server_side, answer.context("at least one flow")?)
    } else {
        (client_side, tuple(FIRST_PORT))
    };
    let hook = path.hook();
    let flags = if path == Path::DsrSyn { SYN } else { ACK };
    let (keeper, ifindex, packet) = arriving(world, side, tuple, flags)?;
    let port = frame::source_port_offset(&packet) + if path.answers() { 2 } else { 0 };
    let vary: Vec<Vary> = (bits > 0).then_some(Vary { offset: port, bits }).into_iter().collect();
    check(Hook::Tc, keeper, &packet, ifindex)?;
    let (program, keeper) = match hook {
        Hook::Tc => (keeper, None),
        Hook::Driver => {
            let keeper = Wrapper::new(Hook::Tc, Some(keeper), &packet, &vary)?;
            (world.driver_program(), Some(keeper))
        }
    };
    let marks = (path == Path::XdpDsrMarked).then_some(world);
    Ok(Prepared { hook, program, packet, ifindex, vary, keeper, bits, opens: false, marks })
}

/// A SYN whose source port and source address differ each time. A pod's address is its own: only
/// its ports vary.
fn new_flows<'w>(world: &'w World, hook: Hook, side: Side, tuple: Tuple) -> Result<Prepared<'w>> {
    let (tc, ifindex, packet) = arriving(world, side, tuple, SYN)?;
    let program = if hook == Hook::Tc { tc } else { world.driver_program() };
    check(hook, program, &packet, ifindex)?;
    let mut vary = vec![Vary { offset: frame::source_port_offset(&packet), bits: 15 }];
    if matches!(side, Side::Wire) {
        vary.push(Vary { offset: frame::source_low_offset(&packet), bits: 16 });
    }
    Ok(Prepared { hook, ifindex, opens: true, ..Prepared::alone(program, &packet, &vary) })
}

/// SYN, SYN-ACK, ACK through the programs. Returns the tuple that the server's packets arrive with.
fn connect(world: &World, client: Side, server: Side, tuple: Tuple) -> Result<Tuple> {
    let seen_by_server = pass(world, client, tuple, SYN)?;
    let answer = seen_by_server.turned();
    let seen_by_client = pass(world, server, answer, SYN | ACK)?;
    ensure!(
        seen_by_client == tuple.turned(),
        "the answer reaches the client as {seen_by_client:?}, it asked {tuple:?}"
    );
    ensure!(pass(world, client, tuple, ACK)? == seen_by_server, "the ACK went elsewhere");
    Ok(answer)
}

/// Sends one packet through the program on `side`; returns the tuple it leaves with.
fn pass(world: &World, side: Side, tuple: Tuple, flags: u8) -> Result<Tuple> {
    let (program, ifindex, packet) = arriving(world, side, tuple, flags)?;
    check(Hook::Tc, program, &packet, ifindex)
}

pub fn check(hook: Hook, program: BorrowedFd, packet: &[u8], ifindex: u32) -> Result<Tuple> {
    let (outcome, _) = raw::run(hook, program, packet, ifindex, 1)?;
    ensure!(
        outcome.verdict == hook.sent(),
        "the packet {:?} was not sent on: verdict {}",
        frame::tuple(packet),
        outcome.verdict
    );
    Ok(frame::tuple(&outcome.packet))
}

/// The program and device that a packet of `side` meets, and the packet as it is there.
pub fn arriving(
    world: &World,
    side: Side,
    tuple: Tuple,
    flags: u8,
) -> Result<(BorrowedFd<'_>, u32, Vec<u8>)> {
    let (program, ifindex, to, from) = match side {
        Side::Wire => (world.wire_program(), world.uplink, UPLINK_MAC, PEER_MAC),
        Side::Pod(index) => {
            let Pod { ifindex, mac, host_mac } = world.pods[index];
            (world.pod_program(), ifindex, host_mac, mac)
        }
    };
    Ok((program, ifindex, frame::tcp(tuple, flags, to, from)))
}
