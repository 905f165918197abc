// SPDX-License-Identifier: Apache-2.0
//! Rust views of the structs that `bpf/lib` puts in maps, in `.rodata` and on the ring.
//!
//! The C headers own the layout. The types here add what C cannot say, namely byte order, and
//! `same_layout!` stops the build when the two drift apart.

mod addr;
mod affinity;
mod config;
mod endpoint;
mod event;
mod flow;
mod node;
mod outcome;
mod service;
mod sock_nat;

pub use addr::Addr;
pub use affinity::{Affinity, AffinityKey, Client, SourceRange, SourceRangeKey};
pub use config::{Config, DsrDispatch, Settings, TICK_NANOS, ticks};
pub use endpoint::{
    Endpoint, OWNED_LOOPBACK, OWNED_NODEPORT, Owned, Uplink, VIP_CLUSTER_IP, VIP_EXTERNAL,
    VIP_FOREIGN, Vip, XdpDevice, XdpVlanKey,
};
pub use event::{EVENT_DROP, EVENT_TRACE, Event};
pub use flow::{Flow, FlowKey, FlowKind, Zone, flow_flag, flow_tcp};
pub use node::{NODE_ADDRESS, NodeAddress, NodeKey};
pub use outcome::{Counter, Direction, Hook, Outcome};
pub use service::{
    BACKEND_LOCAL, BACKEND_NOT_READY, BACKEND_TERMINATING, Backend, BackendKey, MaglevSlots,
    SERVICE_AFFINITY, SERVICE_DELEGATE, SERVICE_DSR, SERVICE_HAS_ENDPOINTS, SERVICE_MAGLEV,
    SERVICE_RANDOM, SERVICE_SOURCE_RANGES, SERVICE_SOURCE_RANGES_DENY, Service, ServiceKey,
    ServiceKind, SlotRange, TargetState, TargetStatus,
};
pub use sock_nat::{GoneTarget, SOCK_NAT_SHOWN, SOCK_NAT_USED, SockNat, SockNatEntry, StaleSock};

/// Fails to compile unless `$rust` and `$c` agree on size and field offsets.
macro_rules! same_layout {
    ($rust:ty, $c:ty, [$($field:ident),+ $(,)?]) => {
        const _: () = {
            assert!(size_of::<$rust>() == size_of::<$c>());
            $(assert!(
                std::mem::offset_of!($rust, $field) == std::mem::offset_of!($c, $field)
            );)+
        };
    };
}
use same_layout;
