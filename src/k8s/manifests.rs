// SPDX-License-Identifier: Apache-2.0
//! A directory of Kubernetes YAML as a source.

mod document;
mod header;
mod parse;
mod yaml;

pub use parse::parse;
