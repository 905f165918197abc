// SPDX-License-Identifier: Apache-2.0
//! A real program, compiled once more around what a test wants to meddle with or to see.

use std::path::Path;

use culvert::abi::{self, DsrDispatch};
use libbpf_cargo::SkeletonBuilder;
use libbpf_rs::btf::types::{DataSec, Var};
use libbpf_rs::btf::{Btf, BtfType};
use libbpf_rs::{MapCore as _, MapFlags, Object, ObjectBuilder};
use tempfile::NamedTempFile;
use zerocopy::IntoBytes as _;

use super::node::Node;
use super::pins::config;

/// `program` of `source`, compiled with `defines`, over the maps of `node`, whose configuration
/// differs by its `dispatch` alone.
pub fn load(
    node: &Node,
    source: &str,
    defines: &[&str],
    program: &str,
    dispatch: DsrDispatch,
) -> Object {
    let elf = compile(source, defines);
    let mut object = ObjectBuilder::default().open_file(elf.path()).unwrap();
    let config = abi::Config { dsr_dispatch: dispatch as u8, ..config() };
    let at = config_offset(elf.path());
    for mut map in object.maps_mut() {
        let pin = node.objects.pin(&map.name().to_string_lossy());
        if map.name().to_string_lossy().ends_with(".rodata") {
            let value = map.initial_value_mut().unwrap();
            value[at..][..size_of_val(&config)].copy_from_slice(config.as_bytes());
        } else if pin.exists() {
            map.reuse_pinned_map(&pin).unwrap();
        }
    }
    for mut each in object.progs_mut() {
        let wanted = each.name() == program;
        each.set_autoload(wanted);
    }
    object.load().unwrap()
}

/// `source`, compiled as the datapath is.
pub fn compile(source: &str, defines: &[&str]) -> NamedTempFile {
    let elf = NamedTempFile::new().unwrap();
    let arch = if cfg!(target_arch = "aarch64") { "vmlinux/arm64" } else { "vmlinux/x86" };
    let mut arguments = vec!["-Wall", "-Werror", "-mcpu=v3", "-Ibpf", "-I", arch];
    arguments.extend(defines);
    SkeletonBuilder::new()
        .source(source)
        .obj(elf.path())
        .clang(std::env::var_os("CLANG").unwrap_or_else(|| "clang-19".into()))
        .clang_args(arguments)
        .build()
        .unwrap();
    elf
}

fn config_offset(elf: &Path) -> usize {
    let btf = Btf::from_path(elf).unwrap();
    let section = btf.type_by_name::<DataSec<'_>>(".rodata").unwrap();
    let named = |ty| Var::try_from(btf.type_by_id::<BtfType<'_>>(ty).unwrap()).unwrap();
    let config = section.iter().find(|each| named(each.ty).name().unwrap() == "CONFIG").unwrap();
    config.offset as usize
}

/// The one number in the map `name`, which becomes `next`.
pub fn exchange(object: &Object, name: &str, next: u32) -> u32 {
    let map = object.maps().find(|map| map.name() == name).unwrap();
    let value = map.lookup(&[0; 4], MapFlags::ANY).unwrap().unwrap();
    map.update(&[0; 4], &next.to_ne_bytes(), MapFlags::ANY).unwrap();
    u32::from_ne_bytes(value.try_into().unwrap())
}
