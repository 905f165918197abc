// SPDX-License-Identifier: Apache-2.0
//! `culvert service list`: what the datapath serves, read from its maps.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use super::explain;
use super::output::Output;
use super::paths::Paths;
use super::table;
use crate::serve::api::read_services;
use crate::view::ServiceRow;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Every frontend with its backends; needs no agent
    ///
    /// The id is that of the backend list, which all frontends of one service port and family
    /// share; flows and events name it too. It stays the same when the agent restarts.
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        paths: Paths,
        #[command(flatten)]
        output: Output,
    },
    Explain(explain::Args),
}

pub(super) fn run(command: Command) -> Result<ExitCode> {
    let (paths, output) = match command {
        Command::List { paths, output } => (paths, output),
        Command::Explain(args) => return explain::run(args),
    };
    let rows = read_services(&paths.maps()?).context("cannot read the service table")?;
    output.write(rows.as_slice(), draw)
}

/// A service without backends keeps its line; further backends get lines of their own.
fn draw(rows: &[ServiceRow]) -> String {
    let lines = rows.iter().flat_map(|row| {
        let backends = row.backends.iter().enumerate();
        let mut cells: Vec<String> = backends
            .map(|(n, backend)| format!("{} => {} ({})", n + 1, backend.address, backend.state))
            .collect();
        if cells.is_empty() {
            cells.push(String::new());
        }
        cells.into_iter().enumerate().map(|(n, backend)| match n {
            0 => [row.id.to_string(), row.frontend.clone(), row.service_type.clone(), backend],
            _ => [String::new(), String::new(), String::new(), backend],
        })
    });
    table::draw(["ID", "Frontend", "Service Type", "Backend"], lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::example_services;

    #[test]
    fn the_list_is_the_table_of_the_notes() {
        assert_eq!(
            draw(&example_services()),
            "\
ID   Frontend                Service Type   Backend
1    10.96.0.1:443/TCP       ClusterIP      1 => 10.16.29.16:6443/TCP (active)
2    10.96.0.10:53/TCP       ClusterIP      1 => 10.217.0.171:53/TCP (active)
                                            2 => 10.217.0.57:53/TCP (active)
                                            3 => 10.217.0.58:53/TCP (terminating)
3    10.107.137.30:80/TCP    ClusterIP      1 => 10.217.0.203:80/TCP (active)
4    0.0.0.0:30202/TCP       NodePort       1 => 10.217.0.203:80/TCP (active)
5    10.16.29.16:30202/TCP   NodePort       1 => 10.217.0.203:80/TCP (active)
6    10.217.0.99:30202/TCP   NodePort       1 => 10.217.0.203:80/TCP (active)
7    [fd00:96::10]:53/TCP    ClusterIP
8    203.0.113.5:80/TCP      LoadBalancer   1 => 10.217.0.1:80/TCP (active)
9    203.0.113.5:80/TCP/i    LoadBalancer   1 => 10.217.1.1:80/TCP (active)
                                            2 => 10.217.0.1:80/TCP (active)
                                            3 => 10.217.1.2:80/TCP (active)
"
        );
    }
}
