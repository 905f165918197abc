// SPDX-License-Identifier: Apache-2.0
//! `bpf/lib/outcome.h`: what became of each packet.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::same_layout;
use crate::skel::bpf_maps::types;

/// Value of `counters`, one a CPU. Index: `outcome * 8 + hook`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Counter {
    pub packets: u64,
    pub bytes: u64,
}

same_layout!(Counter, types::counter, [packets, bytes]);

/// Seen from the node: a pod's own packets and what leaves a device go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// Defines an enum whose numbers are the C ones, with the names that metrics and events print.
macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($variant:ident = $number:ident => $name:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $type { $($variant,)+ }

        impl $type {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The number the datapath uses.
            pub const fn number(self) -> u32 {
                match self { $(Self::$variant => numbers::$number,)+ }
            }

            pub fn from_number(number: u32) -> Option<Self> {
                Self::ALL.iter().copied().find(|each| each.number() == number)
            }

            /// As metrics and `culvert monitor` print it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

/// The C constants, taken from the skeleton so that they cannot differ.
mod numbers {
    use super::types::{hook, outcome};

    macro_rules! take {
        ($($name:ident from $enum:ident),+ $(,)?) => {
            $(pub(super) const $name: u32 = $enum::$name.0;)+
        };
    }

    take!(
        HOOK_FROM_CONTAINER from hook,
        HOOK_TO_CONTAINER from hook,
        HOOK_FROM_NETDEV from hook,
        HOOK_TO_NETDEV from hook,
        HOOK_FROM_OVERLAY from hook,
        HOOK_TO_OVERLAY from hook,
        HOOK_XDP from hook,
        HOOK_SOCKET from hook,
        OUTCOME_STACK from outcome,
        OUTCOME_TRANSLATED from outcome,
        OUTCOME_LOCAL from outcome,
        OUTCOME_FORWARDED from outcome,
        OUTCOME_ANSWERED from outcome,
        OUTCOME_REJECTED from outcome,
        OUTCOME_HELD from outcome,
        OUTCOME_NO_ROOM from outcome,
        DROP_FIRST from outcome,
        DROP_MALFORMED from outcome,
        DROP_SPOOFED from outcome,
        DROP_NO_LOCAL from outcome,
        DROP_NO_BACKEND from outcome,
        DROP_SNAT_EXHAUSTED from outcome,
        DROP_SNAT_ADDRESS from outcome,
        DROP_FLOWS_FULL from outcome,
        DROP_NO_ROUTE from outcome,
        DROP_REWRITE from outcome,
        DROP_PROTOCOL from outcome,
        DROP_FRAGMENT from outcome,
        DROP_UNKNOWN_PORT from outcome,
        DROP_DENIED from outcome,
        DROP_CLUSTER_IP from outcome,
        DROP_TOO_BIG from outcome,
        DROP_TTL from outcome,
        DROP_DSR_TAG from outcome,
        DROP_DSR_MALFORMED from outcome,
        DROP_DSR_SERVICE from outcome,
        DROP_DSR_CONFLICT from outcome,
        DROP_HANDOVER from outcome,
    );
}

named! {
    /// The program that met the packet, `enum hook`.
    Hook {
        FromContainer = HOOK_FROM_CONTAINER => "from_container",
        ToContainer = HOOK_TO_CONTAINER => "to_container",
        FromNetdev = HOOK_FROM_NETDEV => "from_netdev",
        ToNetdev = HOOK_TO_NETDEV => "to_netdev",
        FromOverlay = HOOK_FROM_OVERLAY => "from_overlay",
        ToOverlay = HOOK_TO_OVERLAY => "to_overlay",
        Xdp = HOOK_XDP => "xdp_entry",
        Socket = HOOK_SOCKET => "socket",
    }
}

named! {
    /// What became of a packet, `enum outcome`.
    Outcome {
        Stack = OUTCOME_STACK => "stack",
        Translated = OUTCOME_TRANSLATED => "translated",
        Local = OUTCOME_LOCAL => "local",
        Forwarded = OUTCOME_FORWARDED => "forwarded",
        Answered = OUTCOME_ANSWERED => "answered",
        Rejected = OUTCOME_REJECTED => "rejected",
        Held = OUTCOME_HELD => "held",
        NoRoom = OUTCOME_NO_ROOM => "no_room_for_option",
        DropMalformed = DROP_MALFORMED => "malformed",
        DropSpoofed = DROP_SPOOFED => "spoofed_source",
        DropNoLocal = DROP_NO_LOCAL => "no_local_endpoint",
        DropNoBackend = DROP_NO_BACKEND => "no_backend",
        DropSnatExhausted = DROP_SNAT_EXHAUSTED => "snat_ports_exhausted",
        DropSnatAddress = DROP_SNAT_ADDRESS => "no_snat_address",
        DropFlowsFull = DROP_FLOWS_FULL => "flow_map_full",
        DropNoRoute = DROP_NO_ROUTE => "no_route",
        DropRewrite = DROP_REWRITE => "rewrite_failed",
        DropProtocol = DROP_PROTOCOL => "protocol_not_translatable",
        DropFragment = DROP_FRAGMENT => "fragment_without_first",
        DropUnknownPort = DROP_UNKNOWN_PORT => "unknown_service_port",
        DropDenied = DROP_DENIED => "source_range_denied",
        DropClusterIp = DROP_CLUSTER_IP => "cluster_ip_from_outside",
        DropTooBig = DROP_TOO_BIG => "too_big",
        DropTtl = DROP_TTL => "ttl_expired",
        DropDsrTag = DROP_DSR_TAG => "dsr_tag",
        DropDsrMalformed = DROP_DSR_MALFORMED => "dsr_malformed",
        DropDsrService = DROP_DSR_SERVICE => "dsr_no_service",
        DropDsrConflict = DROP_DSR_CONFLICT => "dsr_conflict",
        DropHandover = DROP_HANDOVER => "handover",
    }
}

impl Hook {
    pub const fn direction(self) -> Direction {
        match self {
            Self::FromContainer | Self::ToNetdev | Self::ToOverlay | Self::Socket => {
                Direction::Egress
            }
            Self::ToContainer | Self::FromNetdev | Self::FromOverlay | Self::Xdp => {
                Direction::Ingress
            }
        }
    }
}

impl Outcome {
    /// Whether the packet, or the call, ended there: refusals count.
    pub const fn is_drop(self) -> bool {
        self.number() >= numbers::DROP_FIRST || matches!(self, Self::Rejected)
    }

    /// Slot of `counters`.
    pub const fn counter_index(self, hook: Hook) -> u32 {
        self.number() * 8 + hook.number()
    }
}
