// SPDX-License-Identifier: Apache-2.0
//! The one control loop: source, model, plan, apply, retry, status.

pub mod endpoints;
