// SPDX-License-Identifier: Apache-2.0
//! Direct server return between real sockets.

use std::net::{TcpListener, TcpStream, UdpSocket};

use culvert::abi::DsrDispatch;

use super::dsr_wires::Wires;
use super::wire::{WAIT, at, echo};
use crate::support::interrupt::uninterrupted;
use crate::support::node::{FAMILIES, Family};
use crate::support::objects::{TCP, UDP};

impl Wires {
    fn tcp(&self, family: Family) {
        const LENGTH: usize = 1 << 20;
        let _service = self.serve(family, TCP);
        let listener = self.pod.run(|| TcpListener::bind(at(family, family.pod, 8080)).unwrap());
        let front = at(family, family.vip, 80);
        let mut stream =
            self.client.run(|| TcpStream::connect_timeout(&front, WAIT.unwrap()).unwrap());
        let (mut server, seen) = listener.accept().unwrap();
        self.assert_seen(family, seen, stream.local_addr().unwrap());
        for stream in [&stream, &server] {
            stream.set_read_timeout(WAIT).unwrap();
            stream.set_write_timeout(WAIT).unwrap();
        }
        for round in 0..2 {
            echo(&mut stream, &mut server, LENGTH);
            if round == 0 && self.direct {
                self.forget();
            }
        }
    }

    fn udp(&self, family: Family) {
        let _service = self.serve(family, UDP);
        let server = self.pod.run(|| UdpSocket::bind(at(family, family.pod, 8080)).unwrap());
        let client = self.client.run(|| UdpSocket::bind(at(family, family.client, 0)).unwrap());
        // Connected: only what comes from the service address is received.
        client.connect(at(family, family.vip, 80)).unwrap();
        for socket in [&server, &client] {
            socket.set_read_timeout(WAIT).unwrap();
        }
        for round in 0_u64..50 {
            let mut buffer = [0; 64];
            client.send(&round.to_ne_bytes()).unwrap();
            let (length, from) =
                uninterrupted(|| server.recv_from(&mut buffer)).expect("the request was lost");
            self.assert_seen(family, from, client.local_addr().unwrap());
            server.send_to(&buffer[..length], from).unwrap();
            let length = uninterrupted(|| client.recv(&mut buffer)).expect("the answer was lost");
            assert_eq!(buffer[..length], round.to_ne_bytes());
            if round == 25 && self.direct {
                self.forget();
            }
        }
    }
}

#[test]
fn backends_answer_by_themselves_and_the_lb_node_may_forget() {
    for dispatch in [DsrDispatch::Option, DsrDispatch::Ipip] {
        let wires = Wires::new(dispatch, false);
        for family in FAMILIES {
            wires.tcp(family);
            wires.udp(family);
        }
    }
}

/// A kernel without Geneve has SNAT in its place.
#[test]
fn geneve_carries_requests_where_the_kernel_has_it() {
    let wires = Wires::new(DsrDispatch::Geneve, false);
    for family in FAMILIES {
        wires.tcp(family);
        wires.udp(family);
        assert_eq!(wires.end_took() > 100, wires.direct, "{family:?}");
    }
}

#[test]
fn the_driver_dispatches_as_well() {
    for dispatch in [DsrDispatch::Option, DsrDispatch::Ipip] {
        let wires = Wires::new(dispatch, true);
        for family in FAMILIES {
            let before = wires.driver_finished();
            wires.tcp(family);
            wires.udp(family);
            // Of 2 MiB in segments of less than 1500 bytes, most.
            let finished = wires.driver_finished() - before;
            assert!(finished > 700, "{finished} frames: {dispatch:?} {family:?}");
        }
    }
}
