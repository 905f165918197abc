// SPDX-License-Identifier: Apache-2.0
//! Compiles every `bpf/*.bpf.c` and generates its skeleton into `OUT_DIR`.

#[cfg(feature = "agent")]
mod objects {
    use std::env;
    use std::path::{Path, PathBuf};

    use anyhow::{Context as _, Result};
    use libbpf_cargo::SkeletonBuilder;

    const OBJECTS: &[&str] =
        &["bpf_maps", "bpf_lxc", "bpf_host", "bpf_overlay", "bpf_xdp", "bpf_sock", "bpf_iter"];

    pub(super) fn build() -> Result<()> {
        let out_dir = PathBuf::from(env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?);
        let clang = env::var_os("CLANG").unwrap_or_else(|| "clang-19".into());
        let vmlinux = match env::var("CARGO_CFG_TARGET_ARCH").as_deref() {
            Ok("x86_64") => "vmlinux/x86",
            Ok("aarch64") => "vmlinux/arm64",
            other => anyhow::bail!("there is no vmlinux.h for architecture {other:?}"),
        };

        for name in OBJECTS {
            let source = Path::new("bpf").join(format!("{name}.bpf.c"));
            SkeletonBuilder::new()
                .source(&source)
                .obj(out_dir.join(format!("{name}.o")))
                .clang(&clang)
                .clang_args(["-Wall", "-Werror", "-mcpu=v3", "-Ibpf", "-I", vmlinux])
                .reference_obj(true)
                .build_and_generate(out_dir.join(format!("{name}.skel.rs")))
                .with_context(|| format!("cannot build {}", source.display()))?;
        }

        for input in ["bpf", "vmlinux"] {
            println!("cargo::rerun-if-changed={input}");
        }
        println!("cargo::rerun-if-env-changed=CLANG");
        Ok(())
    }
}

fn main() -> anyhow::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "agent")]
    objects::build()?;
    Ok(())
}
