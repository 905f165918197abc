// SPDX-License-Identifier: Apache-2.0
//! `bpf/lib/flow_state.h` and `flow_table.h` once more: when a flow has expired, and which key its
//! other direction has. Both sides must judge alike.

use crate::abi::{self, Flow, FlowKey, flow_flag, flow_tcp};

const TCP: u8 = 6;

/// Lifetimes in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub tcp_syn: u32,
    pub tcp_established: u32,
    pub tcp_closing: u32,
    pub udp_unreplied: u32,
    pub udp_stream: u32,
}

impl From<&abi::Config> for Timeouts {
    fn from(config: &abi::Config) -> Self {
        Self {
            tcp_syn: config.tcp_syn_timeout,
            tcp_established: config.tcp_established_timeout,
            tcp_closing: config.tcp_closing_timeout,
            udp_unreplied: config.udp_unreplied_timeout,
            udp_stream: config.udp_stream_timeout,
        }
    }
}

/// Whether the flow, last visited at its `last_seen`, is dead at `now` (both in ticks).
pub fn expired(flow: &Flow, proto: u8, now: u32, timeouts: &Timeouts) -> bool {
    let idle = now.wrapping_sub(flow.last_seen);
    // A CPU may have stamped it a tick ahead of our reading of the clock.
    idle.cast_signed() > 0 && idle > timeout(flow, proto, timeouts)
}

fn timeout(flow: &Flow, proto: u8, timeouts: &Timeouts) -> u32 {
    if proto != TCP {
        return if flow.replied != 0 { timeouts.udp_stream } else { timeouts.udp_unreplied };
    }
    let reset = (flow.tcp_own | flow.tcp_peer) & flow_tcp::RST != 0;
    let both = flow.tcp_own & flow.tcp_peer & flow_tcp::FIN != 0;
    // Of direct server return the LB node hears one side only.
    let one = (flow.tcp_own | flow.tcp_peer) & flow_tcp::FIN != 0;
    let finished = both || (one && flow.flags & flow_flag::DSR != 0);
    if reset || finished {
        timeouts.tcp_closing
    } else if flow.flags & (flow_flag::NEW | flow_flag::UNPROVEN) != 0 {
        timeouts.tcp_syn
    } else {
        timeouts.tcp_established
    }
}

/// The key of the other direction: this one's rewrite, turned round; where the request came
/// translated from another node, its own tuple turned round.
pub fn partner_key(key: &FlowKey, flow: &Flow) -> FlowKey {
    if flow.flags & flow_flag::DSR_END != 0 {
        return FlowKey {
            saddr: key.daddr,
            daddr: key.saddr,
            sport: key.dport,
            dport: key.sport,
            zone: flow.partner_zone,
            ..*key
        };
    }
    FlowKey {
        saddr: flow.daddr,
        daddr: flow.saddr,
        sport: flow.dport,
        dport: flow.sport,
        proto: key.proto,
        zone: flow.partner_zone,
        pad: 0,
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros as _;

    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        tcp_syn: 60,
        tcp_established: 20000,
        tcp_closing: 10,
        udp_unreplied: 30,
        udp_stream: 120,
    };
    const UDP: u8 = 17;

    fn lifetime(proto: u8, change: impl FnOnce(&mut Flow)) -> u32 {
        let mut flow = Flow::new_zeroed();
        flow.last_seen = 1000;
        change(&mut flow);
        (1000..).find(|&now| expired(&flow, proto, now, &TIMEOUTS)).unwrap() - 1001
    }

    #[test]
    fn each_state_has_its_lifetime() {
        assert_eq!(lifetime(UDP, |_| {}), TIMEOUTS.udp_unreplied);
        assert_eq!(lifetime(UDP, |flow| flow.replied = 1), TIMEOUTS.udp_stream);
        assert_eq!(lifetime(TCP, |_| {}), TIMEOUTS.tcp_established);
        assert_eq!(lifetime(TCP, |flow| flow.flags = flow_flag::NEW), TIMEOUTS.tcp_syn);
        assert_eq!(lifetime(TCP, |flow| flow.flags = flow_flag::UNPROVEN), TIMEOUTS.tcp_syn);
        let one_fin = |flow: &mut Flow| flow.tcp_own = flow_tcp::FIN;
        assert_eq!(lifetime(TCP, one_fin), TIMEOUTS.tcp_established);
        let one_sided = |flow: &mut Flow| {
            (flow.tcp_own, flow.flags) = (flow_tcp::FIN, flow_flag::DSR);
        };
        assert_eq!(lifetime(TCP, one_sided), TIMEOUTS.tcp_closing);
        let both_fins =
            |flow: &mut Flow| (flow.tcp_own, flow.tcp_peer) = (flow_tcp::FIN, flow_tcp::FIN);
        assert_eq!(lifetime(TCP, both_fins), TIMEOUTS.tcp_closing);
        assert_eq!(lifetime(TCP, |flow| flow.tcp_peer = flow_tcp::RST), TIMEOUTS.tcp_closing);
    }

    #[test]
    fn directions_that_go_by_one_tuple_find_each_other() {
        let addr = |last| abi::Addr::from_v4([192, 0, 2, last].into());
        let mut reply = Flow::new_zeroed();
        reply.flags = flow_flag::DSR_END | flow_flag::REPLY;
        reply.saddr = addr(80);
        reply.partner_zone = 2;
        let key = FlowKey {
            saddr: addr(1),
            daddr: addr(2),
            sport: 8080.into(),
            dport: 40001.into(),
            proto: 6,
            zone: 1,
            pad: 0,
        };
        let partner = partner_key(&key, &reply);
        assert_eq!((partner.saddr, partner.daddr, partner.zone), (addr(2), addr(1), 2));
        assert_eq!((partner.sport.get(), partner.dport.get()), (40001, 8080));
    }

    #[test]
    fn the_clock_may_wrap_and_may_run_a_tick_ahead() {
        let mut flow = Flow::new_zeroed();
        flow.last_seen = u32::MAX - 5;
        assert!(!expired(&flow, UDP, 20, &TIMEOUTS));
        assert!(expired(&flow, UDP, 30, &TIMEOUTS));
        flow.last_seen = 101;
        assert!(!expired(&flow, UDP, 100, &TIMEOUTS));
    }
}
