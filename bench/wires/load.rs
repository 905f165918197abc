// SPDX-License-Identifier: Apache-2.0
//! The server that echoes bytes, and a client that counts.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

const TRIPS: usize = 5000;
const CONNECTING: Duration = Duration::from_millis(700);

/// Echoes bytes at port 8080 of every address here, for as long as the process lives. To be called
/// on a thread that is in the server's namespace.
pub fn serve() {
    let listener = TcpListener::bind("0.0.0.0:8080").unwrap();
    // One connection is open while others come and go; a thread for each would be what is timed.
    for _ in 0..2 {
        let listener = listener.try_clone().unwrap();
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                echo(stream);
            }
        });
    }
}

fn echo(mut stream: TcpStream) {
    let mut byte = [0];
    stream.set_nodelay(true).unwrap();
    while let Ok(1) = stream.read(&mut byte) {
        if stream.write_all(&byte).is_err() {
            return;
        }
    }
}

/// Median round trip in nanoseconds, and connections a second, each with one round trip.
pub fn measure(address: SocketAddr) -> (f64, f64) {
    let mut stream = open(address);
    let trips = (0..TRIPS).map(|_| trip(&mut stream)).collect();

    let start = Instant::now();
    let mut connections = 0;
    while start.elapsed() < CONNECTING {
        trip(&mut open(address));
        connections += 1;
    }
    (median(trips), f64::from(connections) / start.elapsed().as_secs_f64())
}

/// Closing resets: no connection lingers, and ports do not run out.
fn open(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
    stream.set_nodelay(true).unwrap();
    let reset = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&stream, sockopt::Linger, &reset).unwrap();
    stream
}

fn trip(stream: &mut TcpStream) -> f64 {
    let start = Instant::now();
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    start.elapsed().as_nanos() as f64
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
