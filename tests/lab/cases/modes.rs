// SPDX-License-Identifier: Apache-2.0
//! The ways in which NodePorts are served: tests that must hold in each go through this table.

use std::process::Stdio;

use culvert::abi::{Hook, Outcome};
use culvert::datapath::{Datapath, Maps, Options, XdpMode};
use nix::net::if_::if_nametoindex;

use super::stage::{Stage, eventually};
use crate::lab::place::Place;
use crate::support::pins::{PinRoot, all_programs_but};

#[derive(Debug)]
pub struct Mode {
    pub name: &'static str,
    /// Lines of every agent's `loadBalancer`.
    pub config: &'static str,
    /// As `status` says: mode, dispatch and the beginning of the algorithm.
    pub effective: [&'static str; 3],
    /// Who runs the driver hook, as `status` says.
    pub acceleration: &'static str,
    /// What this mode alone counts.
    pub counts: (Outcome, Hook),
}

const OPTION: &str = "IP Option/Extension";

pub const MODES: &[Mode] = &[
    Mode {
        name: "SNAT in tc",
        config: "  mode: snat\n",
        effective: ["SNAT", OPTION, "Random"],
        acceleration: "",
        counts: (Outcome::Forwarded, Hook::FromNetdev),
    },
    Mode {
        name: "SNAT in XDP",
        config: "  mode: snat\n  acceleration: native\n",
        effective: ["SNAT", OPTION, "Random"],
        acceleration: "native",
        counts: (Outcome::Forwarded, Hook::Xdp),
    },
    Mode {
        name: "DSR in tc",
        config: "  mode: dsr\n",
        effective: ["DSR", OPTION, "Random"],
        acceleration: "",
        counts: (Outcome::Forwarded, Hook::FromNetdev),
    },
    Mode {
        name: "DSR in XDP",
        config: "  mode: dsr\n  acceleration: native\n",
        effective: ["DSR", OPTION, "Random"],
        acceleration: "native",
        counts: (Outcome::Forwarded, Hook::Xdp),
    },
    Mode {
        name: "IPIP in tc",
        config: "  mode: dsr\n  dsrDispatch: ipip\n",
        effective: ["DSR", "IPIP", "Random"],
        acceleration: "",
        counts: (Outcome::Forwarded, Hook::FromNetdev),
    },
    Mode {
        name: "IPIP in XDP",
        config: "  mode: dsr\n  dsrDispatch: ipip\n  acceleration: native\n",
        effective: ["DSR", "IPIP", "Random"],
        acceleration: "native",
        counts: (Outcome::Forwarded, Hook::Xdp),
    },
    Mode {
        name: "hybrid and Maglev in tc",
        config: "  mode: hybrid\n  algorithm: maglev\n",
        effective: ["Hybrid", OPTION, "Maglev"],
        acceleration: "",
        counts: (Outcome::Forwarded, Hook::FromNetdev),
    },
    Mode {
        name: "hybrid and Maglev in XDP",
        config: "  mode: hybrid\n  algorithm: maglev\n  acceleration: native\n",
        effective: ["Hybrid", OPTION, "Maglev"],
        acceleration: "native",
        counts: (Outcome::Forwarded, Hook::Xdp),
    },
    Mode {
        name: "SNAT in generic XDP",
        config: "  mode: snat\n  acceleration: testing-only-generic\n",
        effective: ["SNAT", OPTION, "Random"],
        acceleration: "generic",
        counts: (Outcome::Forwarded, Hook::Xdp),
    },
];

/// By Geneve devices, which not every kernel has. Its backend's node counts: none of the others has a
/// device to bring it anything.
pub const GENEVE: Mode = Mode {
    name: "Geneve in tc",
    config: "  mode: dsr\n  dsrDispatch: geneve\n",
    effective: ["DSR", "Geneve", "Random"],
    acceleration: "",
    counts: (Outcome::Local, Hook::FromOverlay),
};

/// A stage of two nodes in one mode.
pub struct Scene {
    pub stage: Stage,
    mode: &'static Mode,
    // Keeps the programs at the other ends of the cables.
    fabric: Option<(Datapath, PinRoot)>,
}

impl Scene {
    /// `config` goes beside the mode's own.
    pub fn raise(mode: &'static Mode, config: &str) -> Self {
        let direct = mode.effective[0] != "SNAT";
        // Requests that go direct need a key that the nodes have in common.
        let key = if direct { super::dsr::keyed() } else { String::new() };
        let stage = Stage::raise(2, &format!("loadBalancer:\n{}{key}{config}", mode.config));
        let driver = !mode.acceleration.is_empty();
        let fabric = driver.then(|| wire_for_drivers(&stage));
        let scene = Self { stage, mode, fabric };
        for node in &scene.stage.lab.nodes {
            eventually("the mode is in force", || {
                let shown = &super::stage::status(node)["features"];
                let features = ["mode", "dsrDispatch", "backendSelection"];
                let effective = features.map(|f| shown[f]["effective"].as_str().unwrap());
                effective.iter().zip(mode.effective).all(|(word, wanted)| word.starts_with(wanted))
            });
        }
        if driver {
            for node in &scene.stage.lab.nodes {
                eventually("XDP is attached", || {
                    super::stage::status(node)["devices"][0]["acceleration"] == mode.acceleration
                });
            }
        }
        scene
    }

    /// A cable for a node that has lost its own, and whose name another device gets.
    pub fn plug(&self, node: usize) {
        let (lab, node) = (&self.stage.lab, self.stage.lab.node(node));
        lab.plug(&node.place, &node.name, node.index);
        if let Some((datapath, _)) = &self.fabric {
            without_checksum_offload(&node.place);
            lab.fabric.run(|| pass_all(datapath, &node.name));
        }
    }

    /// Packets that went the way of the mode, as any node counts them.
    pub fn served(&self) -> u64 {
        let nodes = 1..=self.stage.lab.nodes.len();
        let maps = nodes.map(|node| Maps::open_pinned(&self.stage.bpf_root(node)).unwrap());
        let counted = maps.flat_map(|maps| maps.counters().unwrap());
        let ours = counted.filter(|(outcome, hook, _)| (*outcome, *hook) == self.mode.counts);
        ours.map(|(.., counter)| counter.packets).sum()
    }
}

/// A veth hands what a driver hook sends only to a peer that has such a program too, and what
/// leaves a driver hook is no skb whose checksum a device would fill in.
fn wire_for_drivers(stage: &Stage) -> (Datapath, PinRoot) {
    let lab = &stage.lab;
    let places = lab.nodes.iter().map(|node| &node.place).chain([&lab.outside]);
    places.for_each(without_checksum_offload);
    let root = PinRoot::new();
    // Over empty maps it passes everything.
    let options =
        Options { programs_off: all_programs_but(&["xdp_entry"]).collect(), ..root.options() };
    let datapath = lab.fabric.run(|| {
        let datapath = Datapath::open(options).unwrap();
        for port in lab.nodes.iter().map(|node| node.name.as_str()).chain(["outside"]) {
            pass_all(&datapath, port);
        }
        datapath
    });
    (datapath, root)
}

fn pass_all(fabric: &Datapath, port: &str) {
    fabric.attach_xdp(if_nametoindex(port).unwrap(), port, XdpMode::Native).unwrap();
}

fn without_checksum_offload(place: &Place) {
    let mut ethtool = place.command("ethtool");
    ethtool.args(["-K", "eth0", "tx", "off"]).stdout(Stdio::null());
    assert!(place.output(&mut ethtool).unwrap().status.success());
}
