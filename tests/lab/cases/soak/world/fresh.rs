// SPDX-License-Identifier: Apache-2.0
//! What the maps say, beside those of an agent that starts from nothing.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use nix::sys::signal::Signal;

use super::World;
use super::scenery::{MARKS, mark_ips, restart};
use crate::cases::soak::cluster::is_frontend_of;
use crate::cases::soak::tables::{self, Meaning};
use crate::cases::stage::{eventually, until};

impl World {
    /// The failures, behind what the nodes should know of these services and what their maps say.
    pub fn said(&self) -> String {
        let mut text = String::new();
        let concerned: BTreeSet<usize> = self.failures.iter().map(|f| f.service).collect();
        for (node, services) in (1..).zip(&self.known) {
            let (meaning, _) = tables::read(&self.stage.bpf_root(node));
            for number in &concerned {
                writeln!(text, "n{node} s{number}: {:?}", services[*number]).unwrap();
                for line in meaning.iter().filter(|line| is_frontend_of(*number, line)) {
                    writeln!(text, "n{node}: {line}").unwrap();
                }
            }
        }
        for failure in &self.failures {
            writeln!(text, "{}", failure.what).unwrap();
        }
        text
    }

    /// What an agent with nothing to start from writes otherwise.
    pub fn differences_from_fresh(&mut self) -> String {
        let mut text = String::new();
        for node in [0, 1] {
            self.until_nothing_waits(node);
            let before = self.meaning(node);
            restart(&mut self.stage.lab.nodes[node], Signal::SIGTERM, |node| {
                node.culvert(&["cleanup"]).unwrap();
            });
            self.stage.lab.nodes[node].wait_ready().unwrap();
            self.publish(&[node]);
            self.settle(&[node]);
            self.until_nothing_waits(node);
            // The node's network is looked at again when its Node is known, ready or not.
            let agrees = || self.meaning(node) == before;
            if until(agrees) {
                continue;
            }
            let after = self.meaning(node);
            for line in before.difference(&after) {
                writeln!(text, "n{}: only before: {line}", node + 1).unwrap();
            }
            for line in after.difference(&before) {
                writeln!(text, "n{}: only fresh: {line}", node + 1).unwrap();
            }
        }
        text
    }

    /// What the maps say, but for the marks, which are others by then.
    fn meaning(&self, node: usize) -> Meaning {
        let marks: Vec<String> = (0..MARKS).flat_map(mark_ips).collect();
        let is_mark = |line: &String| marks.iter().any(|ip| line.contains(ip));
        let (meaning, _) = tables::read(&self.stage.bpf_root(node + 1));
        meaning.into_iter().filter(|line| !is_mark(line)).collect()
    }

    fn until_nothing_waits(&self, node: usize) {
        let root = self.stage.bpf_root(node + 1);
        eventually("nothing is left over in the maps", || {
            let (_, left_over) = tables::read(&root);
            if !left_over.is_empty() {
                println!("left over on n{}: {}", node + 1, left_over.join(", "));
            }
            left_over.is_empty()
        });
    }
}
