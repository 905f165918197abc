// SPDX-License-Identifier: Apache-2.0
//! The CNI plugin: the 1.1.0 protocol and the calls to the agent.
