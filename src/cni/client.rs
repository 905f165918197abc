// SPDX-License-Identifier: Apache-2.0
//! One HTTP/1.1 exchange with the agent over its unix socket.
//!
//! The plugin asks one thing and ends, so a connection is never kept and the answer ends with it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::api::{Call, Error, Reply, code};

/// Longer than the agent ever takes, shorter than a runtime waits.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Asks the agent at `socket`.
///
/// # Errors
/// [`code::TRY_AGAIN`] when nobody listens there, [`code::IO`] when the exchange broke off, or
/// what the agent answered.
pub fn ask(socket: &Path, call: &Call) -> Result<Reply, Error> {
    let stream = UnixStream::connect(socket).map_err(|cause| {
        Error::new(code::TRY_AGAIN, format!("no agent answers at `{}`", socket.display()))
            .because(cause)
    })?;
    let answer = exchange(stream, call).map_err(|cause| {
        Error::new(code::IO, format!("cannot ask the agent at `{}`", socket.display()))
            .because(cause)
    })?;
    let (status, body) = parse(&answer).ok_or_else(|| {
        Error::new(code::DECODE, format!("`{}` does not speak HTTP", socket.display()))
    })?;
    let not_json = |cause: serde_json::Error| {
        Error::new(code::DECODE, format!("cannot read the agent's answer to `{}`", call.name()))
            .because(cause)
    };
    if status == 200 {
        return serde_json::from_slice(body).map_err(not_json);
    }
    Err(serde_json::from_slice(body).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(body);
        Error::new(code::AGENT, format!("the agent answered {status} to `{}`", call.name()))
            .because(text.trim())
    }))
}

fn exchange(mut stream: UnixStream, call: &Call) -> std::io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let body = call.body()?;
    let head = format!(
        "POST /v1/cni/{} HTTP/1.1\r\nHost: culvert\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        call.name(),
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// Status and body. The agent sends its answers whole, with a length.
fn parse(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let body = &answer[end + 4..];
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok())?;
    Some((status, body.get(..length)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_was_cut_short_is_not_taken_for_whole() {
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(parse(whole), Some((200, &b"{}"[..])));
        assert_eq!(parse(&whole[..whole.len() - 1]), None);
    }

    #[test]
    fn a_missing_agent_is_worth_another_try() {
        let error = ask(Path::new("/nonexistent/culvert.sock"), &Call::Status).unwrap_err();
        assert_eq!(error.code, code::TRY_AGAIN);
        assert!(error.msg.contains("/nonexistent/culvert.sock"), "{error}");
    }
}
