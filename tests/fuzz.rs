// SPDX-License-Identifier: Apache-2.0
//! Random packets through every entry program, and an independent model of what may come out.
//!
//! A frame that comes out is the input untouched, the input on its way to the next hop, a translation
//! that the services allow or that undoes an earlier one, or an answer to its sender; with direct
//! server return also one with the option or the outer header that its backend's node needs, or one
//! that such a thing was taken out of. Anything else fails with the seed that makes it again.
//! `FUZZ_PACKETS` says how many packets a program gets, spread over the nodes with and without direct
//! server return; `FUZZ_SEED` where the random numbers start (`random`: elsewhere each time). Needs
//! root.

#![allow(clippy::unwrap_used)] // A test says so when it cannot go on.

#[expect(dead_code, reason = "shared with the kernel tests, of which this needs a part")]
#[path = "support"]
mod support {
    pub mod dsr;
    pub mod netns;
    pub mod node;
    pub mod objects;
    pub mod packet;
    pub mod pins;
    pub mod tunnelled;
    pub mod variant;
}

#[path = "fuzz"]
mod fuzz {
    mod answer;
    mod arrival;
    mod build;
    mod check;
    mod dispatch;
    mod driver;
    mod dsr;
    mod dsr_build;
    mod entry;
    mod judge;
    mod mss;
    mod packet;
    mod quote;
    mod random;
    mod run;
    mod shape;
    mod tunnel;
    mod view;
    mod world;
}
