// SPDX-License-Identifier: Apache-2.0
//! The client: one question, or questions for as long as standard input is open.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage};
use serde_json::json;

use super::{Answer, word};
use crate::interrupt::uninterrupted;

/// Long enough for a retransmitted SYN on a busy machine.
pub(super) const TIMEOUT: Duration = Duration::from_secs(3);
/// For a stream of a talk: several retransmissions. A lost connection stays lost.
const STREAM: Duration = Duration::from_secs(15);
/// Between two questions of a talk, unless `TALK_PACE` says how many milliseconds.
const PACE: Duration = Duration::from_millis(20);
/// For an answer to a datagram of one.
const PATIENCE: Duration = Duration::from_millis(200);

/// `protocol` is `tcp`, `udp` (connected), `udp-unconnected` or `sctp`. Port 0 lets the kernel choose.
pub(super) fn once(
    protocol: &str,
    to: SocketAddr,
    from_port: u16,
    timeout: Duration,
) -> io::Result<Answer> {
    match protocol {
        "tcp" => {
            let mut stream = connect(to, from_port, timeout)?;
            stream.set_read_timeout(Some(timeout))?;
            let text = ask_stream(&mut stream, "once")?;
            Ok(Answer { text, seen: stream.peer_addr()? })
        }
        "sctp" => super::sctp::ask(to, from_port, timeout),
        _ => {
            let socket = datagram(protocol, to, from_port)?;
            socket.set_read_timeout(Some(timeout))?;
            ask_datagram(&socket, protocol, to, "once", &mut 0)
        }
    }
}

/// Asks until standard input ends, then prints what happened as one line of JSON: how many
/// questions were `sent`, `answered` and `broken` (a connection ended), the longest time without
/// an answer in milliseconds, and who answered last.
///
/// `tcp` keeps one connection; `tcp-new` makes one for each question; `tcp-quiet` says nothing between
/// its first question and its last, when standard input has ended.
pub(super) fn talk(protocol: &str, to: SocketAddr) -> io::Result<()> {
    let quiet = protocol == "tcp-quiet";
    let protocol = if quiet { "tcp" } else { protocol };
    let ended = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&ended);
    thread::spawn(move || {
        let mut rest = Vec::new();
        let _ = io::stdin().read_to_end(&mut rest);
        flag.store(true, Ordering::Relaxed);
    });

    let (mut sent, mut answered, mut broken) = (0_u64, 0_u64, 0_u64);
    let mut longest = Duration::ZERO;
    let started = Instant::now();
    let mut last_answer = started;
    let mut last_name = String::new();
    let mut errors: Vec<String> = Vec::new();
    let mut line: Option<Line> = None;
    let (mut announced, mut last) = (false, false);
    let has_ended = || ended.load(Ordering::Relaxed);
    let told = std::env::var("TALK_PACE").ok().and_then(|text| text.parse().ok());
    let pace = told.map_or(PACE, Duration::from_millis);
    while !has_ended() || quiet && !last {
        last = has_ended();
        sent += 1;
        let outcome = match line.take().map_or_else(|| Line::open(protocol, to), Ok) {
            Ok(mut open) => {
                let outcome = open.ask(&sent.to_string(), &mut answered);
                let kept = protocol != "tcp-new";
                match &outcome {
                    Ok(_) if kept => line = Some(open),
                    // A lost datagram is no reason for another socket; an error is.
                    Err(cause) if is_timeout(cause) && protocol != "tcp" && kept => {
                        line = Some(open);
                    }
                    _ => {}
                }
                outcome
            }
            Err(cause) => Err(cause),
        };
        match outcome {
            Ok(text) => {
                answered += 1;
                longest = longest.max(last_answer.elapsed());
                last_answer = Instant::now();
                last_name = text.split(' ').next().unwrap_or_default().to_owned();
                if !announced {
                    println!("talking {last_name}");
                    announced = true;
                }
            }
            Err(cause) => {
                broken += u64::from(!is_timeout(&cause));
                if errors.len() < 5 {
                    let second = started.elapsed().as_secs_f32();
                    errors.push(format!("question {sent} at {second:.1} s: {}", word(&cause)));
                }
            }
        }
        thread::sleep(pace);
        while quiet && announced && !has_ended() {
            thread::sleep(pace);
        }
    }
    longest = longest.max(last_answer.elapsed());
    // The answers that are only late are in the socket by now.
    if answered < sent
        && protocol.starts_with("udp")
        && let Some(mut line) = line
    {
        sent += 1;
        let last = line.ask(&sent.to_string(), &mut answered);
        answered += u64::from(last.is_ok());
    }
    let report = json!({
        "sent": sent,
        "answered": answered,
        "broken": broken,
        "longest_ms": longest.as_millis() as u64,
        "last": last_name,
        "errors": errors,
    });
    println!("{report}");
    Ok(())
}

/// What a talk goes over.
enum Line {
    Stream(TcpStream),
    Datagram { socket: UdpSocket, protocol: String, to: SocketAddr },
}

impl Line {
    fn open(protocol: &str, to: SocketAddr) -> io::Result<Self> {
        if protocol.starts_with("tcp") {
            let stream = connect(to, 0, STREAM)?;
            // A restart must not lose a connection; it may cost it a retransmission.
            stream.set_read_timeout(Some(STREAM))?;
            return Ok(Self::Stream(stream));
        }
        let socket = datagram(protocol, to, 0)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self::Datagram { socket, protocol: protocol.to_owned(), to })
    }

    fn ask(&mut self, question: &str, late: &mut u64) -> io::Result<String> {
        match self {
            Self::Stream(stream) => ask_stream(stream, question),
            Self::Datagram { socket, protocol, to } => {
                ask_datagram(socket, protocol, *to, question, late).map(|answer| answer.text)
            }
        }
    }
}

fn is_timeout(cause: &io::Error) -> bool {
    matches!(cause.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn ask_stream(stream: &mut TcpStream, question: &str) -> io::Result<String> {
    stream.write_all(format!("{question}\n").as_bytes())?;
    let mut text = String::new();
    BufReader::new(stream).read_line(&mut text)?;
    if !text.ends_with('\n') {
        return Err(io::Error::other("the server hung up"));
    }
    Ok(text.trim_end().to_owned())
}

fn ask_datagram(
    socket: &UdpSocket,
    protocol: &str,
    to: SocketAddr,
    question: &str,
    late: &mut u64,
) -> io::Result<Answer> {
    if protocol == "udp" {
        socket.send(question.as_bytes())?;
    } else {
        socket.send_to(question.as_bytes(), to)?;
    }
    let mut buffer = [0; 2048];
    loop {
        let (length, from) = uninterrupted(|| socket.recv_from(&mut buffer))?;
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        // A late answer to a former question is no answer to this one, but that one was not lost.
        if text.split(' ').next_back() == Some(question) {
            let seen = if protocol == "udp" { socket.peer_addr()? } else { from };
            return Ok(Answer { text, seen });
        }
        *late += 1;
    }
}

fn datagram(protocol: &str, to: SocketAddr, from_port: u16) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(any(to, from_port))?;
    if protocol == "udp" {
        socket.connect(to)?;
    }
    Ok(socket)
}

fn any(to: SocketAddr, port: u16) -> SocketAddr {
    let ip: IpAddr =
        if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(ip, port)
}

fn connect(to: SocketAddr, from_port: u16, timeout: Duration) -> io::Result<TcpStream> {
    if from_port == 0 {
        return TcpStream::connect_timeout(&to, timeout);
    }
    // The standard library has no bind() before connect().
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    socket::setsockopt(&fd, socket::sockopt::ReuseAddr, &true)?;
    use std::os::fd::AsRawFd as _;
    socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(any(to, from_port)))?;
    socket::connect(fd.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(TcpStream::from(fd))
}
