// SPDX-License-Identifier: Apache-2.0
//! The programs that packets are run through.

use super::world::Dispatch;

/// Where a packet meets the datapath.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    Driver,
    FromNetdev,
    FromContainer,
    ToNetdev,
    ToContainer,
    FromOverlay,
}

impl Entry {
    /// The last one is there where the node has a tunnel device.
    const ALL: [Self; 6] = [
        Self::Driver,
        Self::FromNetdev,
        Self::FromContainer,
        Self::ToNetdev,
        Self::ToContainer,
        Self::FromOverlay,
    ];

    /// Those of a node with `dispatch`.
    pub fn of(dispatch: Dispatch) -> &'static [Self] {
        if dispatch == Dispatch::Geneve { &Self::ALL } else { &Self::ALL[..5] }
    }

    pub fn program(self) -> &'static str {
        match self {
            Self::Driver => "xdp_entry",
            Self::FromNetdev => "from_netdev",
            Self::FromContainer => "from_container",
            Self::ToNetdev => "to_netdev",
            Self::ToContainer => "to_container",
            Self::FromOverlay => "from_overlay",
        }
    }
}
