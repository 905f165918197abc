// SPDX-License-Identifier: Apache-2.0
//! The impure edge: probing, loading, attaching, pinning, map access, netlink.
//!
//! All unsafe code of Culvert is below this module.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use libbpf_rs::{MapType, ProgramMut};

use crate::abi;

pub mod aging;
pub mod attach;
pub mod events;
pub mod host;
pub mod map;
pub mod maps;
pub mod netlink;
pub mod probe;
pub mod sockets;
pub mod sysctl;

mod handover;
mod load;
mod log;
mod pins;
mod sys;
mod verified;

pub use attach::{Mechanism, XdpMode, cleanup};
pub use load::Error as LoadError;
pub use map::{Map, PerCpu};
pub use maps::Maps;

/// How the objects are loaded and where they are pinned.
#[derive(Clone, Debug)]
pub struct Options {
    /// A directory of a bpffs, made if it is not there. Maps are pinned in `maps` below it and
    /// links in `links`.
    pub root: PathBuf,
    /// Goes into the `.rodata` of every object.
    pub config: abi::Config,
    /// Entries (bytes for the ring `events`) of the maps that do not have the compiled-in size.
    pub map_sizes: BTreeMap<String, u32>,
    /// Of the maps that are not of the compiled-in kind: `flows_new` as a plain hash evicts nothing,
    /// which is how tests make it refuse.
    pub map_kinds: BTreeMap<String, MapType>,
    /// Programs that this kernel cannot load and that Culvert does without.
    pub programs_off: BTreeSet<String>,
    /// Attach to devices with clsact filters even where the kernel has TCX.
    pub force_clsact: bool,
}

/// Every program loaded, every map open. Dropping it leaves what is pinned at work.
#[derive(Debug)]
pub struct Datapath {
    options: Options,
    maps: Arc<Maps>,
    objects: Vec<load::Loaded>,
    retired: Vec<pins::Retired>,
    tcx: bool,
}

impl Datapath {
    /// Adopts the pinned maps (creating those that are missing) and loads the programs over them.
    /// Nothing is attached yet: programs of a former agent go on until they are replaced.
    pub fn open(options: Options) -> Result<Self, LoadError> {
        log::route();
        let (fds, retired) = pins::open_maps(&options)?;
        let objects = load::programs(&fds, &options)?;
        let maps = Arc::new(Maps::from_fds(fds)?);
        let tcx = !options.force_clsact && probe::has_tcx();
        Ok(Self { options, maps, objects, retired, tcx })
    }

    /// Before the first program is attached. Where maps were replaced, brings them up to what happened
    /// while the kernel verified the new programs, which takes a second or so, and swaps every device's
    /// programs at once: a connection must not meet the old maps in one direction and the new ones in
    /// the other. What opens meanwhile waits until it has been carried over.
    pub fn catch_up(&self) -> Result<(), LoadError> {
        if !self.retired.is_empty() {
            self.maps.begin_handover()?;
            self.retired.iter().try_for_each(pins::Retired::catch_up)?;
            self.swap_attached()?;
            self.carry_over()?;
        }
        Ok(self.maps.end_handover()?)
    }

    pub fn maps(&self) -> &Arc<Maps> {
        &self.maps
    }

    /// The loaded program of this name, for test runs and for iterators.
    pub fn program(&self, name: &str) -> Option<ProgramMut<'_>> {
        self.programs().find(|each| each.name() == name)
    }

    /// Every loaded program.
    pub fn programs(&self) -> impl Iterator<Item = ProgramMut<'_>> {
        self.objects.iter().flat_map(load::Loaded::programs)
    }

    /// Carries over what the old programs have added meanwhile to maps that were replaced by ones of
    /// another size or layout. Call it next to each swap: a connection that opened before one is known
    /// after it.
    pub fn carry_over(&self) -> Result<(), LoadError> {
        // Those of new connections first, which are fewer.
        self.retired.iter().rev().try_for_each(pins::Retired::carry_over)
    }

    /// After all programs were swapped: carries over the last and lets the old maps go.
    pub fn settle(&mut self) -> Result<(), LoadError> {
        self.carry_over()?;
        self.retired.clear();
        Ok(())
    }
}
