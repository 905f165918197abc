// SPDX-License-Identifier: Apache-2.0
//! How a failure is told: the error, its causes, and what to do about it.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// A context that also says what to do.
#[derive(Debug)]
pub(super) struct Hint {
    pub(super) message: String,
    pub(super) hint: String,
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Prints `error` to stderr. A reader that has gone away (`culvert … | head`) is no failure.
pub fn report(error: &anyhow::Error) -> ExitCode {
    let gone = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(gone) {
        return ExitCode::SUCCESS;
    }
    eprint!("{}", text(error));
    ExitCode::FAILURE
}

/// As [`report`], for commands whose failure is an answer: 2 says that there is none.
pub(super) fn unclear(error: &anyhow::Error) -> ExitCode {
    if report(error) == ExitCode::SUCCESS { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

fn text(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error}\n");
    for cause in error.chain().skip(1) {
        text.push_str(&format!("  caused by: {cause}\n"));
    }
    if let Some(hint) = error.downcast_ref::<Hint>() {
        text.push_str(&format!("\nhint: {}\n", hint.hint));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_and_the_hint_follow_the_error() {
        let cause = io::Error::new(io::ErrorKind::NotFound, "no such file");
        let hint = Hint { message: "cannot look".into(), hint: "run `culvert agent`".into() };
        let error = anyhow::Error::new(cause).context(hint);
        assert_eq!(
            text(&error),
            "error: cannot look\n  caused by: no such file\n\nhint: run `culvert agent`\n"
        );
    }
}
