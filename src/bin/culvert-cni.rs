// SPDX-License-Identifier: Apache-2.0
//! The CNI plugin. A container runtime starts it; see `culvert::cni`.

use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use culvert::cni::command;

fn main() -> ExitCode {
    let env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("CNI_"))
        .collect();
    let mut stdin = Vec::new();
    if let Err(cause) = std::io::stdin().read_to_end(&mut stdin) {
        eprintln!("culvert-cni: cannot read standard input: {cause}");
        return ExitCode::FAILURE;
    }
    let output = command::run(&env, &stdin);
    if let Some(json) = output.json
        && let Err(cause) = writeln!(std::io::stdout(), "{json}")
    {
        eprintln!("culvert-cni: cannot write the result: {cause}");
        return ExitCode::FAILURE;
    }
    if output.success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
