// SPDX-License-Identifier: Apache-2.0
//! Pure: services and endpoint slices in, map tables and the writes that reach them out.
//!
//! [`Balancer`] knows what the cluster wants and what it has had written. It yields one [`Plan`] a
//! changed service, in phases that let no packet meet a half-written list:
//!
//! 1. `prepare`: target states and the slots of a new generation, which nothing points to yet;
//! 2. `remove`, `flip`: frontends that are gone, then those that now point to the new generation;
//! 3. `gone`: the targets that left, so that flows and sockets notice;
//! 4. `later`: the old generation's slots, at least [`GRACE`] after the flip.
//!
//! Work grows with the change, not with the cluster.

mod adopt;
mod balancer;
mod claims;
mod endpoints;
mod frontends;
mod list;
mod objects;
mod plan;
mod record;
mod targets;

pub use balancer::{Balancer, Context, ListView};
pub use frontends::Serve;
pub use plan::{Actual, GRACE, Gone, Plan, Totals, Write};
pub use targets::{Target, TargetsFull};

#[cfg(test)]
mod tests;
