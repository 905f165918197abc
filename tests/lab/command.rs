// SPDX-License-Identifier: Apache-2.0
//! `culvert-lab`: the lab as a command. Not shipped.
//!
//! `demo` raises a cluster, reaches its services and takes it down; `up` leaves it until it is
//! interrupted; `shell` enters a node or pod of the one that is up; `down` ends it.

#[path = "lib.rs"]
#[expect(dead_code, reason = "shared with the lab tests, of which this needs a part")]
mod lab;

#[path = "../support/interrupt.rs"]
mod interrupt;

mod demo;
mod helper;
mod session;

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use lab::cluster::{Options, Programs};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            eprintln!("Error: {cause:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if helper::run(&args)? {
        return Ok(());
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["demo"] => demo::demo(options()?),
        ["up"] => session::up(options()?),
        ["shell", place] => session::shell(place),
        ["down"] => session::down(),
        _ => anyhow::bail!("usage: culvert-lab demo | up | shell NODE|POD | down"),
    }
}

/// The programs are built into one directory.
fn options() -> Result<Options> {
    let culvert_lab = std::env::current_exe()?;
    let beside = culvert_lab.parent().context("a program is in a directory")?;
    let programs = Programs {
        culvert: beside.join("culvert"),
        culvert_cni: beside.join("culvert-cni"),
        culvert_lab: culvert_lab.clone(),
    };
    Ok(Options { programs, nodes: 2, config: String::new() })
}
