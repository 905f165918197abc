// SPDX-License-Identifier: Apache-2.0
//! Pure: the kernel routes this node wants towards the other nodes' pods.
