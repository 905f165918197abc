// SPDX-License-Identifier: Apache-2.0
//! What labels say.

/// What one pass of the control loop covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Everything, after the sources had listed.
    Full,
    /// What changed.
    Partial,
}

impl Stage {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Partial => "partial",
        }
    }
}

/// kube-proxy has one proxy a family, and a label for it since 1.33.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub(in crate::serve) const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub fn of(v6: bool) -> Self {
        if v6 { Self::V6 } else { Self::V4 }
    }

    /// As `v1.IPFamily`.
    pub(in crate::serve) const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}
