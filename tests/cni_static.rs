// SPDX-License-Identifier: Apache-2.0
//! The CNI plugin runs on hosts whose libc nobody chose, so it must not ask for one.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Program header type of the path to a dynamic loader.
const PT_INTERP: u32 = 3;

#[test]
fn the_cni_plugin_needs_no_dynamic_loader() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let make = Command::new("make").args(["-s", "cni"]).current_dir(root).output().unwrap();
    assert!(make.status.success(), "make cni: {}", String::from_utf8_lossy(&make.stderr));

    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or("target".into());
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let plugin = root.join(target).join(triple).join("debug/culvert-cni");
    let elf = fs::read(&plugin).unwrap_or_else(|err| panic!("{}: {err}", plugin.display()));
    assert!(!program_headers(&elf).contains(&PT_INTERP), "{} is dynamic", plugin.display());
}

/// The types of a 64-bit little-endian ELF file's program headers.
fn program_headers(elf: &[u8]) -> Vec<u32> {
    assert_eq!(&elf[..6], b"\x7fELF\x02\x01", "a 64-bit little-endian ELF file");
    let number = |at: usize, size: usize| {
        elf[at..at + size].iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte))
    };
    let (offset, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    assert!(count > 0, "an executable has program headers");
    (0..count).map(|index| number(offset + index * size, 4) as u32).collect()
}
