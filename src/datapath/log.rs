// SPDX-License-Identifier: Apache-2.0
//! libbpf's messages: into the log, and into the error of the load that caused them.

use std::cell::RefCell;
use std::sync::Once;

use libbpf_rs::{PrintLevel, set_print};

thread_local! {
    static CAPTURED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Sends libbpf's messages to `tracing` instead of stderr.
pub(super) fn route() {
    static ROUTED: Once = Once::new();
    ROUTED.call_once(|| {
        set_print(Some((PrintLevel::Debug, print)));
    });
}

/// Runs `f` and returns what libbpf warned of meanwhile on this thread.
pub(super) fn capture<T>(f: impl FnOnce() -> T) -> (T, String) {
    CAPTURED.set(Some(String::new()));
    let result = f();
    (result, CAPTURED.take().unwrap_or_default())
}

fn print(level: PrintLevel, message: String) {
    let line = message.trim_end();
    match level {
        PrintLevel::Debug => tracing::trace!(target: "libbpf", "{line}"),
        PrintLevel::Info => tracing::debug!(target: "libbpf", "{line}"),
        PrintLevel::Warn => {
            let captured = CAPTURED.with_borrow_mut(|captured| match captured {
                Some(text) => {
                    text.push_str(&message);
                    true
                }
                None => false,
            });
            // What is captured ends up in an error or was expected.
            if captured {
                tracing::debug!(target: "libbpf", "{line}");
            } else {
                tracing::warn!(target: "libbpf", "{line}");
            }
        }
    }
}

/// The end of a message, which is where the verifier says what it objects to.
pub(super) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 2), "a");
    }

    #[test]
    fn only_what_was_said_meanwhile_is_captured() {
        print(PrintLevel::Warn, "before\n".to_owned());
        let ((), said) = capture(|| print(PrintLevel::Warn, "during\n".to_owned()));
        print(PrintLevel::Warn, "after\n".to_owned());
        assert_eq!(said, "during\n");
    }
}
