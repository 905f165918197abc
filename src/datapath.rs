// SPDX-License-Identifier: Apache-2.0
//! The impure edge: probing, loading, attaching, pinning, map access, netlink.

pub mod sockets;
