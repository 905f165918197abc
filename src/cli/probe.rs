// SPDX-License-Identifier: Apache-2.0
//! `culvert probe`: asks the kernel, needs no agent.

use std::process::ExitCode;

use anyhow::Result;

use super::output::Output;
use super::paths::Paths;
use super::table;
use crate::datapath::probe;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    paths: Paths,
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(args: Args) -> Result<ExitCode> {
    let probe = probe::run(&args.paths.resolve()?.bpf_root);
    eprintln!("kernel {}", probe.kernel);
    args.output.write(&probe, |probe| {
        let rows = probe.features.iter().map(|feature| {
            [
                feature.name.to_owned(),
                if feature.present { "yes" } else { "no" }.to_owned(),
                feature.needed_by.to_owned(),
                if feature.present { String::new() } else { feature.instead.to_owned() },
                if feature.present { String::new() } else { feature.detail.clone() },
            ]
        });
        table::draw(["FEATURE", "PRESENT", "NEEDED BY", "USED INSTEAD", "DETAIL"], rows)
    })
}
