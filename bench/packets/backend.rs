// SPDX-License-Identifier: Apache-2.0
//! The backend's node of direct server return. What it gets is what the LB node's program has made of
//! the same connections before, in the same maps.

use anyhow::{Result, ensure};

use super::frame::{self, ACK, SYN, Tuple};
use super::net::UPLINK_MAC;
use super::path::{FIRST_PORT, Path, Side, arriving, check};
use super::prepared::Prepared;
use super::raw::{self, Hook, Vary};
use super::world::{Plan, World};

/// As [`super::path::prepare`].
pub fn prepare<'w>(world: &'w World, path: Path, plan: &Plan, bits: u32) -> Result<Prepared<'w>> {
    let asked =
        |low: u16| Tuple { from: (plan.client, FIRST_PORT | low).into(), to: plan.node_port() };
    let served = |low: u16| Tuple { to: (plan.remote, 8080).into(), ..asked(low) };
    let mut requests = Vec::new();
    for low in 0..1_u16 << bits {
        let mut dispatched = Vec::new();
        for flags in [SYN, ACK] {
            let (program, ifindex, packet) = arriving(world, Side::Wire, asked(low), flags)?;
            let (mut sent, _) = raw::run(Hook::Tc, program, &packet, ifindex, 1)?;
            ensure!(sent.verdict == Hook::Tc.sent(), "the LB node does not dispatch");
            // The next hop is the backend's node.
            sent.packet[..6].copy_from_slice(&UPLINK_MAC);
            dispatched.push(sent.packet);
        }
        requests.push(dispatched);
    }

    world.become_backend(plan)?;
    let (wire, uplink) = (world.wire_program(), world.uplink);
    let request = |frame: &[u8], low: u16| -> Result<()> {
        let seen = check(Hook::Tc, wire, frame, uplink)?;
        ensure!(seen == served(low), "the pod sees {seen:?}");
        Ok(())
    };
    for (low, dispatched) in (0..).zip(&requests) {
        request(&dispatched[0], low)?;
        let (pod, ifindex, packet) =
            arriving(world, Side::Pod(0), served(low).turned(), SYN | ACK)?;
        let answer = check(Hook::Tc, pod, &packet, ifindex)?;
        ensure!(answer == asked(low).turned(), "the client gets {answer:?}");
        request(&dispatched[1], low)?;
    }

    let ((program, ifindex, packet), varied) = match path {
        Path::DsrBackendAnswer => (arriving(world, Side::Pod(0), served(0).turned(), ACK)?, 2),
        Path::DsrBackendIpip => {
            let header = if plan.node.is_ipv6() { 40 } else { 20 };
            ((wire, uplink, requests[0][1].clone()), header)
        }
        // Most packets of a connection carry no option.
        _ => (arriving(world, Side::Wire, served(0), ACK)?, 0),
    };
    let offset = frame::source_port_offset(&packet) + varied;
    let vary = (bits > 0).then_some(Vary { offset, bits });
    let alone = Prepared::alone(program, &packet, vary.as_slice());
    Ok(Prepared { hook: Hook::Tc, ifindex, ..alone })
}
