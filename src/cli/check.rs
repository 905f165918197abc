// SPDX-License-Identifier: Apache-2.0
//! `culvert check`: are the maps as the agent wants them, and does the agent want what the source says?

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use super::client::{Client, block_on};
use super::error;
use super::output::Output;
use super::paths::Paths;
use super::table;
use crate::view::DifferenceRow;

/// The source may be slow, and is asked twice where there are differences.
const TIMEOUT: Duration = Duration::from_secs(90);

/// Compare the maps with what the agent wants, and that with the source
///
/// Reads every map of services, the node's addresses and its pods, and lists the source anew. An
/// object that changes meanwhile is not judged. Exits with 0 when all agree, with 1 when
/// differences are named, with 2 when there is no telling.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    paths: Paths,
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(args: Args) -> Result<ExitCode> {
    let found = ask(&args).and_then(|rows| {
        args.output.write(rows.as_slice(), draw)?;
        Ok(rows.is_empty())
    });
    Ok(match found {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => error::unclear(&error),
    })
}

fn ask(args: &Args) -> Result<Vec<DifferenceRow>> {
    block_on(async {
        let client = Client::connect(&args.paths.resolve()?.socket).await?;
        client.patient(TIMEOUT).get("/v1/check").await
    })
}

fn draw(rows: &[DifferenceRow]) -> String {
    if rows.is_empty() {
        return "No differences: source, agent and maps agree\n".to_owned();
    }
    let lines = rows.iter().map(|row| [row.subject.clone(), row.difference.clone()]);
    table::draw(["Subject", "Difference"], lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_has_a_line() {
        let row = DifferenceRow {
            subject: "`services` 10.96.0.1:80/TCP".to_owned(),
            difference: "the map lacks it".to_owned(),
        };
        let lines = "\
Subject                       Difference
`services` 10.96.0.1:80/TCP   the map lacks it
";
        assert_eq!(draw(&[row]), lines);
        assert!(draw(&[]).starts_with("No differences"));
    }
}
