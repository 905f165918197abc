// SPDX-License-Identifier: Apache-2.0
//! What the agent serves: health and metrics over HTTP, the local API socket.
