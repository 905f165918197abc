// SPDX-License-Identifier: Apache-2.0
//! Loads the five program objects over the shared maps, with one configuration in all.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use libbpf_rs::btf::types::{DataSec, Var};
use libbpf_rs::btf::{Btf, BtfType};
use libbpf_rs::libbpf_sys as raw;
use libbpf_rs::{AsRawLibbpf as _, Object, ObjectBuilder, OpenObject, ProgramMut, ProgramType};
use thiserror::Error;
use zerocopy::IntoBytes as _;

use super::{Options, log, map, pins, sys};
use crate::abi;
use crate::skel;

/// Why the datapath could not be loaded.
#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot make `{}`; is a bpffs mounted there?", path.display())]
    Directory { path: PathBuf, source: io::Error },

    #[error("cannot open object `{object}`")]
    Open { object: &'static str, source: libbpf_rs::Error },

    /// The kernel refused a map or the verifier a program; `log` has its last words.
    #[error("the kernel refused object `{object}`:\n{log}")]
    Load { object: &'static str, log: String, source: libbpf_rs::Error },

    #[error("object `{object}` was built without the configuration this version has; rebuild it")]
    Config { object: &'static str },

    #[error(
        "pinned map `{map}` is {pinned}, and this version of Culvert needs {wanted}; \
         run `culvert cleanup` or remove `{}`", path.display()
    )]
    Layout { map: String, path: PathBuf, pinned: String, wanted: String },

    #[error("cannot use the pin of `{name}`")]
    Pin { name: String, source: io::Error },

    #[error("cannot move the entries of map `{map}` into its successor")]
    Migrate { map: String, source: io::Error },

    #[error(
        "map `{map}` cannot shrink from {old} to {new} entries: {lost} of those in use do not \
         fit; raise its size in the configuration"
    )]
    Shrunk { map: String, lost: u64, old: u32, new: u32 },

    #[error(transparent)]
    Map(#[from] map::Error),

    #[error(transparent)]
    Attach(#[from] super::attach::Error),
}

impl Error {
    pub(super) fn load(object: &'static str, source: libbpf_rs::Error, said: &str) -> Self {
        Self::Load { object, log: log::tail(said, 40), source }
    }
}

/// One object in the kernel.
#[derive(Debug)]
pub(super) struct Loaded {
    object: Object,
}

impl Loaded {
    pub(super) fn programs(&self) -> impl Iterator<Item = ProgramMut<'_>> {
        // Programs that were not loaded have no descriptor to do anything with.
        self.object.progs_mut().filter(|program| program.autoload())
    }
}

pub(super) const OBJECTS: [(&str, &[u8]); 5] = [
    ("bpf_lxc", skel::bpf_lxc::OBJECT),
    ("bpf_host", skel::bpf_host::OBJECT),
    ("bpf_overlay", skel::bpf_overlay::OBJECT),
    ("bpf_xdp", skel::bpf_xdp::OBJECT),
    ("bpf_sock", skel::bpf_sock::OBJECT),
];

/// Loads every object over `maps`.
pub(super) fn programs(
    maps: &BTreeMap<String, OwnedFd>,
    options: &Options,
) -> Result<Vec<Loaded>, Error> {
    OBJECTS.iter().map(|(name, elf)| load(name, elf, maps, options)).collect()
}

fn load(
    name: &'static str,
    elf: &[u8],
    maps: &BTreeMap<String, OwnedFd>,
    options: &Options,
) -> Result<Loaded, Error> {
    let open = |source| Error::Open { object: name, source };
    let mut object = ObjectBuilder::default().open_memory(elf).map_err(open)?;

    configure(name, &mut object, &options.config)?;
    for mut map in object.maps_mut() {
        let map_name = map.name().to_string_lossy().into_owned();
        if pins::is_internal(&map_name) {
            continue;
        }
        // What bpf_maps does not have is an object's own scratch space.
        let Some(fd) = maps.get(&map_name) else { continue };
        map.reuse_fd(fd.as_fd()).map_err(open)?;
    }
    for mut program in object.progs_mut() {
        let off = program.name().to_str().is_some_and(|name| options.programs_off.contains(name));
        if off {
            program.set_autoload(false);
        } else if program.prog_type() == ProgramType::Xdp && has_frags() {
            // It reads headers only, so that it does not mind where the rest of a frame lies.
            program.set_flags(raw::BPF_F_XDP_HAS_FRAGS);
        }
    }

    let (loaded, said) = log::capture(|| object.load());
    let object = loaded.map_err(|source| Error::load(name, source, &said))?;
    Ok(Loaded { object })
}

/// Whether the kernel runs XDP programs on frames of several buffers (5.18); without, drivers
/// refuse a program at a large MTU.
fn has_frags() -> bool {
    sys::has_helper(raw::BPF_PROG_TYPE_XDP, raw::BPF_FUNC_xdp_get_buff_len)
}

/// Writes `CONFIG` into the object's `.rodata`. An object that reads no configuration has none.
fn configure(
    name: &'static str,
    object: &mut OpenObject,
    config: &abi::Config,
) -> Result<(), Error> {
    let Some(offset) = config_offset(name, object)? else { return Ok(()) };
    let config = config.as_bytes();
    let mut rodata = object
        .maps_mut()
        .find(|map| map.name().to_string_lossy().ends_with(".rodata"))
        .ok_or(Error::Config { object: name })?;
    rodata
        .initial_value_mut()
        .and_then(|value| value.get_mut(offset..offset + config.len()))
        .ok_or(Error::Config { object: name })?
        .copy_from_slice(config);
    Ok(())
}

/// Where in `.rodata` the object has `CONFIG`.
fn config_offset(name: &'static str, object: &OpenObject) -> Result<Option<usize>, Error> {
    let open = |source| Error::Open { object: name, source };
    // SAFETY: the pointer is that of a live object, which the borrow keeps so.
    let raw = unsafe { object.as_libbpf_object().as_ref() };
    let Some(btf) = Btf::from_bpf_object(raw).map_err(open)? else {
        return Err(Error::Config { object: name });
    };
    let Some(section) = btf.type_by_name::<DataSec<'_>>(".rodata") else { return Ok(None) };
    for variable in section.iter() {
        let found = btf
            .type_by_id::<BtfType<'_>>(variable.ty)
            .and_then(|each| Var::try_from(each).ok())
            .is_some_and(|each| each.name().is_some_and(|name| name == "CONFIG"));
        if found {
            if variable.size != size_of::<abi::Config>() {
                return Err(Error::Config { object: name });
            }
            return Ok(Some(variable.offset as usize));
        }
    }
    Ok(None)
}
