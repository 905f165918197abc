// SPDX-License-Identifier: Apache-2.0
//! The agent's one validated configuration: flags, environment and file.
