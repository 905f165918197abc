// SPDX-License-Identifier: Apache-2.0
//! `culvert docs DIR`: the reference pages, written from the program itself.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Command, CommandFactory as _};

use super::Cli;
use crate::{config, serve};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Directory to write to
    #[arg(default_value = "docs/reference")]
    dir: PathBuf,
}

/// Every page by its file name.
pub fn pages() -> Result<Vec<(&'static str, String)>> {
    let metrics = serve::metrics::page().context("cannot list the metrics")?;
    Ok(vec![("config.md", config::docs::page()), ("cli.md", cli()), ("metrics.md", metrics)])
}

pub(super) fn run(args: Args) -> Result<ExitCode> {
    let io = || format!("cannot write to `{}`", args.dir.display());
    fs::create_dir_all(&args.dir).with_context(io)?;
    for (name, page) in pages()? {
        fs::write(args.dir.join(name), page).with_context(io)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn cli() -> String {
    let mut page = String::from(
        "# Command line\n\n\
         <!-- Written by `culvert docs`; change `src/cli` instead. -->\n\n\
         Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 failed or unhealthy,\n\
         2 wrong usage; `check` and `service explain` say what theirs mean. Lists take `-o table|json|yaml`;\n\
         JSON is an array of objects, `[]` when empty.\n",
    );
    let mut root = Cli::command().term_width(100).color(clap::ColorChoice::Never);
    root.build();
    describe(&mut page, &root, "culvert");
    page
}

/// A heading and the help of `command` and of all below it.
fn describe(page: &mut String, command: &Command, path: &str) {
    let mut command = command.clone();
    // The agent's flags are the keys of config.md; here they would be 60 lines of repetition.
    let help = if path == "culvert agent" {
        "Run this node's agent\n\nUsage: culvert agent [OPTIONS]\n\nOptions: `--config FILE`, and \
         a flag for every key of config.md\n"
            .to_owned()
    } else {
        command.render_help().to_string()
    };
    let lines: Vec<_> = help.lines().map(str::trim_end).collect();
    // Writing to a String cannot fail.
    let _ = write!(page, "\n## `{path}`\n\n```text\n{}\n```\n", lines.join("\n").trim_end());
    for each in command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        describe(page, each, &format!("{path} {}", each.get_name()));
    }
}
