// SPDX-License-Identifier: Apache-2.0
//! The server: one port, TCP, UDP and SCTP, both families. Answers HTTP too, for `curl`.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

pub(super) fn serve(name: &str, port: u16) -> io::Result<()> {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let (tcp, udp) = (TcpListener::bind(any)?, UdpSocket::bind(any)?);
    super::sctp::serve(name, port)?;
    println!("listening");
    let named = name.to_owned();
    thread::spawn(move || answer_datagrams(&named, &udp));
    for stream in tcp.incoming().flatten() {
        let named = name.to_owned();
        // A client that goes away is no failure of the server.
        thread::spawn(move || answer_stream(&named, &stream).ok());
    }
    Ok(())
}

fn answer_datagrams(name: &str, socket: &UdpSocket) {
    let mut buffer = [0; 2048];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut buffer) else { continue };
        let question = String::from_utf8_lossy(&buffer[..length]);
        let answer = format!("{name} {} {}", plain(peer), question.trim());
        let _ = socket.send_to(answer.as_bytes(), peer);
    }
}

fn answer_stream(name: &str, stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let peer = plain(stream.peer_addr()?);
    for line in BufReader::new(stream).lines() {
        let question = line?;
        if question.starts_with("GET ") {
            let body = format!("{name} sees {peer}\n");
            let length = body.len();
            let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n");
            return (&*stream).write_all(format!("{head}{body}").as_bytes());
        }
        (&*stream).write_all(format!("{name} {peer} {question}\n").as_bytes())?;
    }
    Ok(())
}

/// Without the IPv6 dress of an IPv4 address, and without a scope.
fn plain(peer: SocketAddr) -> SocketAddr {
    let ip: IpAddr = peer.ip().to_canonical();
    SocketAddr::new(ip, peer.port())
}
