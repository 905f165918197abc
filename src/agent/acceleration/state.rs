// SPDX-License-Identifier: Apache-2.0
//! How far a device is, and whether it may keep the program.

use std::time::Instant;

/// What the agent sees of a device at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Administratively up and with a carrier.
    pub up: bool,
    /// Packets so far.
    pub received: u64,
}

/// How far a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Its traffic is looked at, to know later whether it still receives.
    Sampled {
        until: Instant,
        before: Seen,
    },
    /// Attached. `busy`: packets were coming in before.
    Watched {
        until: Instant,
        before: Seen,
        busy: bool,
    },
    On,
    Off {
        reason: String,
    },
}

impl State {
    pub(super) const fn due(&self) -> Option<Instant> {
        match self {
            Self::Sampled { until, .. } | Self::Watched { until, .. } => Some(*until),
            Self::On | Self::Off { .. } => None,
        }
    }

    pub(super) const fn attached(&self) -> bool {
        matches!(self, Self::Watched { .. } | Self::On)
    }
}

/// Why a device that was watched must not keep the program; `None` when it may.
pub(super) fn judge(before: Seen, busy: bool, now: Seen) -> Option<&'static str> {
    if before.up && !now.up {
        return Some("rolled back: the carrier was lost and did not come back");
    }
    (busy && now.received == before.received)
        .then_some("rolled back: the device received nothing any more")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(up: bool, received: u64) -> Seen {
        Seen { up, received }
    }

    #[test]
    fn a_device_that_stops_receiving_is_rolled_back() {
        assert_eq!(judge(seen(true, 5), true, seen(true, 6)), None);
        assert_eq!(judge(seen(true, 5), false, seen(true, 5)), None, "it was idle before");
        assert_eq!(judge(seen(false, 5), false, seen(false, 5)), None, "it was down before");
        let silent = judge(seen(true, 5), true, seen(true, 5)).unwrap();
        assert!(silent.contains("received nothing"), "{silent}");
        let down = judge(seen(true, 5), true, seen(false, 9)).unwrap();
        assert!(down.contains("carrier"), "{down}");
    }
}
