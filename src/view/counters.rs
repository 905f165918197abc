// SPDX-License-Identifier: Apache-2.0
//! `culvert bpf metrics list`.

use serde::{Deserialize, Serialize};

use crate::abi::{Counter, Hook, Outcome};

/// What one program did with packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CounterRow {
    /// `forwarded`, or the reason of a drop.
    pub reason: String,
    pub dropped: bool,
    /// `ingress` or `egress`, seen from the node.
    pub direction: String,
    pub hook: String,
    pub packets: u64,
    pub bytes: u64,
}

/// In the order of the datapath's numbers.
pub fn counter_rows(counters: &[(Outcome, Hook, Counter)]) -> Vec<CounterRow> {
    let row = |(outcome, hook, counter): &(Outcome, Hook, Counter)| CounterRow {
        reason: outcome.name().to_owned(),
        dropped: outcome.is_drop(),
        direction: hook.direction().name().to_owned(),
        hook: hook.name().to_owned(),
        packets: counter.packets,
        bytes: counter.bytes,
    };
    counters.iter().map(row).collect()
}
