// SPDX-License-Identifier: Apache-2.0
//! Pure: services and endpoint slices in, map tables and the writes that reach them out.
//!
//! [`Balancer`] knows what the cluster wants and what it has had written. It yields one [`Plan`] a
//! changed service, in phases that let no packet meet a half-written list:
//!
//! 1. `tables`, which Maglev chooses by; `prepare`: new targets and the slots of a new generation, which nothing points to yet, and
//!    the addresses and source ranges of new frontends;
//! 2. `remove`: frontends that are gone;
//! 3. `renumber`: the new slots of targets that stay, then at once
//! 4. `flip`: frontends that now point to the new generation;
//! 5. `gone`: the targets that left, so that flows and sockets notice, and addresses and source
//!    ranges that no frontend uses;
//! 6. `later`: the old generation's slots, at least [`GRACE`] after the flip. `released` tables
//!    are then handed back with [`Balancer::release_tables`].
//!
//! Work grows with the change, not with the cluster.

mod adopt;
mod annotations;
mod audit;
mod balancer;
mod claims;
mod endpoints;
mod explain;
mod forwarding;
mod frontends;
mod health;
mod host_ports;
mod list;
pub mod maglev;
mod objects;
mod owner;
mod plan;
mod pods;
mod rare;
mod record;
mod selector;
mod space;
mod tables;
mod targets;
mod topology;
mod value;
mod vips;

pub use annotations::{Algorithm, obeyed as obeyed_annotations};
pub use balancer::{Balancer, Context};
pub use explain::{
    Answer, EndpointView, Explanation, Facts, Fate, FrontendView, PortView, Question, Rule, Side,
    Sockets, Unserved, Verdict,
};
pub use forwarding::{Forwarding, Mode};
pub use frontends::Serve;
pub use health::HealthCheck;
pub use owner::Owner;
pub use plan::{Actual, GRACE, Gone, Plan, Totals, Trigger, Write};
pub use tables::{Selection, TableWrite, pointed_to as tables_of};
pub use targets::{Target, TargetsFull};

#[cfg(test)]
mod tests;
