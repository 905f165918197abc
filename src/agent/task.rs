// SPDX-License-Identifier: Apache-2.0
//! What the loop does besides services.

/// Work besides services that is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Task {
    Network,
    Acceleration,
    Dsr,
    Routes,
    DetachOthers,
    CniConfiguration,
}

impl Task {
    pub(super) fn subject(self) -> &'static str {
        match self {
            Self::Network => "network devices",
            Self::Acceleration => "XDP acceleration",
            Self::Dsr => "direct server return",
            Self::Routes => "routes to pods",
            Self::DetachOthers => "devices that are no longer ours",
            Self::CniConfiguration => "CNI configuration",
        }
    }
}
