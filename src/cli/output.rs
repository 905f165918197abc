// SPDX-License-Identifier: Apache-2.0
//! Writing to stdout: text, or the same rows as JSON or YAML.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde::Serialize;

/// How a list is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    #[default]
    Table,
    Json,
    Yaml,
}

/// `-o`, the same everywhere.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Output {
    /// How to write the result
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) output: Format,
}

impl Output {
    /// Writes `data`, as `table` draws it or as it is.
    pub(super) fn write<T: Serialize + ?Sized>(
        self,
        data: &T,
        table: impl FnOnce(&T) -> String,
    ) -> Result<ExitCode> {
        text(&self.render(data, table)?)
    }

    fn render<T: Serialize + ?Sized>(
        self,
        data: &T,
        table: impl FnOnce(&T) -> String,
    ) -> Result<String> {
        Ok(match self.output {
            Format::Table => table(data),
            Format::Json => format!("{}\n", serde_json::to_string_pretty(data)?),
            Format::Yaml => {
                let yaml = serde_saphyr::to_string(&data).context("cannot write YAML")?;
                if yaml.ends_with('\n') { yaml } else { format!("{yaml}\n") }
            }
        })
    }
}

/// Writes to stdout; an error of the reader comes back as an error, never as a panic.
pub(super) fn text(text: &str) -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write to stdout")?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_is_an_empty_list_in_every_format() {
        let empty: &[u32] = &[];
        let render = |output| Output { output }.render(empty, |_| "TITLE\n".to_owned()).unwrap();
        assert_eq!(render(Format::Table), "TITLE\n");
        assert_eq!(render(Format::Json), "[]\n");
        assert_eq!(render(Format::Yaml), "[]\n");
    }
}
