// SPDX-License-Identifier: Apache-2.0
//! Direct server return: whether it is possible here, and the key that the nodes have in common.
//!
//! A key file has one or two keys, one a line. The first signs, each is good: a new key is added as
//! the second on every node, then made the first, then the old one is taken away. Without a file
//! the UID of `default/kubernetes` is the key: random, the same on every node, and known to nobody
//! who cannot read the cluster's API.

mod kernel;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::status::{Device, Feature};
use crate::config::{Config, DsrDispatch, LbMode};
use crate::datapath::netlink::GENEVE_DEVICE;
use crate::datapath::probe::Probe;
use crate::lb::{Forwarding, Mode};
use crate::model::{Change, Object, Problem};

pub use kernel::InKernel;

/// A key of SipHash, as programs read it.
pub type Key = [u8; 16];

/// What [`Dsr::keys`] has where there is none.
const NONE: Key = [0; 16];

#[derive(Debug)]
pub struct Dsr {
    mode: Mode,
    dispatch: DsrDispatch,
    plain: bool,
    file: Option<PathBuf>,
    keys: [Key; 2],
    /// The kernel can dispatch.
    able: bool,
    /// What is wrong with the key file; the former keys are in force.
    fault: Option<String>,
}

impl Dsr {
    /// `pinned`: the keys of an earlier agent, which hold until others are known.
    ///
    /// # Errors
    /// There is a key file, and it holds no key.
    pub fn new(config: &Config, probe: &Probe, pinned: [Key; 2]) -> Result<Self> {
        let wanted = &config.load_balancer;
        let keys = match &wanted.dsr_key_file {
            Some(file) => read(file)?,
            None => pinned,
        };
        Ok(Self {
            mode: mode(wanted.mode),
            dispatch: wanted.dsr_dispatch,
            plain: wanted.dsr_plain,
            file: wanted.dsr_key_file.clone(),
            keys,
            able: wanted.dsr_dispatch != DsrDispatch::Geneve || probe.has("geneve"),
            fault: None,
        })
    }

    /// For `settings`; zero where there is none.
    pub const fn keys(&self) -> [Key; 2] {
        self.keys
    }

    /// Looks for the cluster's identity in a change. Returns whether the keys are others now.
    pub fn learn(&mut self, change: &Change) -> bool {
        if self.file.is_some() {
            return false;
        }
        let objects = match change {
            Change::Set(object) => std::slice::from_ref(object),
            Change::Listed(_, objects) => objects,
            Change::Removed(_) => return false,
        };
        let uid = objects.iter().find_map(|object| match object {
            Object::Service(service) => service.cluster.as_deref(),
            _ => None,
        });
        match uid.map(parse) {
            Some(Ok(key)) => self.replace([key, NONE]),
            Some(Err(_)) | None => false,
        }
    }

    /// Reads the key file again. Returns whether the keys are others now.
    pub fn reread(&mut self) -> bool {
        let Some(file) = &self.file else { return false };
        match read(file) {
            Ok(keys) => {
                self.fault = None;
                self.replace(keys)
            }
            Err(error) => {
                self.fault = Some(format!("{error:#}; the former key stays in force"));
                false
            }
        }
    }

    fn replace(&mut self, keys: [Key; 2]) -> bool {
        let changed = self.keys != keys;
        self.keys = keys;
        changed
    }

    /// What the balancer is to do.
    pub fn forwarding(&self) -> Forwarding {
        Forwarding { mode: self.mode, obstacle: self.obstacle() }
    }

    fn obstacle(&self) -> Option<String> {
        if !self.able {
            return Some("the kernel has no Geneve devices".to_owned());
        }
        // Who encapsulates shows who it is by its address.
        let keyed = self.keys[0] != NONE || self.plain || self.dispatch == DsrDispatch::Ipip;
        (!keyed).then(|| {
            "Service `default/kubernetes`, whose UID is the key, is not known; wait or set \
             `loadBalancer.dsrKeyFile`"
                .to_owned()
        })
    }

    /// `Mode` and `DSR Dispatch Mode` of the status. `served`: frontends with direct server return.
    pub fn features(&self, served: u32) -> (Feature, Feature) {
        let word = match self.mode {
            Mode::Snat => "SNAT",
            Mode::Dsr => "DSR",
            Mode::Hybrid => "Hybrid",
        };
        let mode = match self.obstacle() {
            Some(why) if self.mode != Mode::Snat => Feature::instead(word, "SNAT", why),
            _ if self.mode == Mode::Snat && served > 0 => {
                let s = if served == 1 { "" } else { "s" };
                let why = format!("{served} frontend{s} by DSR, as annotations ask");
                Feature::instead(word, word, why)
            }
            _ => Feature::as_requested(word),
        };
        let form = match self.dispatch {
            DsrDispatch::Opt => "IP Option/Extension",
            DsrDispatch::Ipip => "IPIP",
            DsrDispatch::Geneve => "Geneve",
        };
        let reason = if self.plain { "plain: requests carry no proof" } else { "" };
        (mode, Feature::instead(form, form, reason))
    }

    pub fn problems(&self) -> impl Iterator<Item = Problem> {
        let subject = "loadBalancer.dsrKeyFile".to_owned();
        self.fault
            .iter()
            .map(move |message| Problem { subject: subject.clone(), message: message.clone() })
    }

    /// Bytes that a request grows by on its way to the backend's node, by family.
    pub const fn overhead(&self, v6: bool) -> u32 {
        match (self.dispatch, self.plain, v6) {
            (DsrDispatch::Opt, false, false) => 16,
            (DsrDispatch::Opt, false, true) => 32,
            (DsrDispatch::Opt, true, false) => 8,
            (DsrDispatch::Opt, true, true) => 24,
            (DsrDispatch::Ipip, _, false) => 20,
            (DsrDispatch::Ipip, _, true) => 40,
            // Ethernet, UDP, Geneve and its option besides the outer header, whose family is the
            // node's: the larger one counts.
            (DsrDispatch::Geneve, false, v6) => 70 + 4 + if v6 { 28 } else { 16 },
            (DsrDispatch::Geneve, true, v6) => 70 + 4 + if v6 { 20 } else { 8 },
        }
    }

    /// The device that requests go through.
    pub fn device(&self) -> Option<String> {
        let wanted = self.dispatch == DsrDispatch::Geneve && self.able;
        wanted.then(|| GENEVE_DEVICE.to_owned())
    }

    /// The largest request, IPv4 first, that fits through a device with `mtu`; None where none goes
    /// out by direct server return.
    pub fn request_mtu(&self, mtu: u32, served: u32) -> Option<[u32; 2]> {
        let fits = |v6| mtu.saturating_sub(self.overhead(v6));
        self.is_on(served).then(|| [fits(false), fits(true)])
    }

    /// Requests go out by direct server return: the mode has it, or `served` frontends do, which an
    /// annotation may ask for under any mode.
    pub fn is_on(&self, served: u32) -> bool {
        served > 0 || (self.mode != Mode::Snat && self.obstacle().is_none())
    }

    /// What the driver hook leaves to tc. None: it sends requests as tc does.
    pub fn left_to_tc(&self, served: u32) -> Option<&'static str> {
        (self.dispatch == DsrDispatch::Geneve && self.is_on(served))
            .then_some("requests by direct server return with Geneve are sent by tc")
    }

    /// Adds to a device what `served` frontends mean for it.
    pub fn describe(&self, device: &mut Device, served: u32) {
        device.dsr_mtu = self.request_mtu(device.mtu, served);
        if device.acceleration.is_empty() {
            return;
        }
        if let Some(left) = self.left_to_tc(served) {
            let why = &mut device.acceleration_problem;
            *why = if why.is_empty() { left.to_owned() } else { format!("{why}; {left}") };
        }
    }
}

/// `loadBalancer.mode` in the balancer's words.
pub const fn mode(mode: LbMode) -> Mode {
    match mode {
        LbMode::Snat => Mode::Snat,
        LbMode::Dsr => Mode::Dsr,
        LbMode::Hybrid => Mode::Hybrid,
    }
}

fn read(file: &Path) -> Result<[Key; 2]> {
    let name = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("cannot read `{name}`"))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let keys: Vec<Key> = lines
        .map(parse)
        .collect::<Result<_>>()
        .with_context(|| format!("`{name}` holds no key; make one with `openssl rand -hex 16`"))?;
    match keys[..] {
        [first] => Ok([first, NONE]),
        [first, second] => Ok([first, second]),
        _ => bail!("`{name}` holds {} keys, and one or two can be in use", keys.len()),
    }
}

/// 32 hexadecimal digits; dashes, which UIDs have, do not count.
fn parse(text: &str) -> Result<Key> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let number =
        u128::from_str_radix(&digits, 16).ok().filter(|number| digits.len() == 32 && *number != 0);
    // What was written is not repeated: it is a secret, almost.
    number.map(u128::to_be_bytes).context("a key is 32 hexadecimal digits, not all zero")
}

#[cfg(test)]
mod tests;
