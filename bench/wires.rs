// SPDX-License-Identifier: Apache-2.0
//! What clients see: round trips and new connections a second through a NodePort with a remote
//! backend and through a ClusterIP, against nftables rules of kube-proxy's shape, in one run.
//!
//! Prints `name<TAB>value<TAB>unit` lines. Needs root. Both sides have 1,000 services; the one that is
//! asked comes last. The two are measured in turns: what else the machine does meets both.

#![allow(clippy::unwrap_used)] // Where a call fails there is nothing to measure.

#[path = "wires/load.rs"]
mod load;
#[path = "wires/nft.rs"]
mod nft;
#[path = "../tests/support"]
#[expect(dead_code, reason = "shared with the kernel tests, of which this needs a part")]
mod support {
    pub mod netns;
    pub mod objects;
    pub mod pins;
}
#[path = "wires/trio.rs"]
mod trio;

use std::net::SocketAddr;

use trio::Trio;

const SERVICES: u16 = 1000;
const BACKENDS: usize = 5;
const ROUNDS: usize = 5;

/// One service, on both sides. All backends are addresses of one machine.
#[derive(Clone, Debug)]
pub struct Service {
    pub cluster_ip: SocketAddr,
    pub node_port: u16,
    pub backends: Vec<SocketAddr>,
}

fn services() -> Vec<Service> {
    (0..SERVICES)
        .map(|number| Service {
            cluster_ip: SocketAddr::new([10, 96, (number >> 8) as u8, number as u8].into(), 80),
            node_port: 30000 + number,
            backends: (0..BACKENDS as u8)
                .map(|slot| SocketAddr::new([10, 60, 0, 10 + slot].into(), 8080))
                .collect(),
        })
        .collect()
}

fn main() {
    let services = services();
    let asked = services.last().unwrap();
    let culvert = Trio::culvert(&services);
    let nft = Trio::new();
    nft.node.run(|| nft::load(&services));

    let node_port = SocketAddr::new([10, 50, 0, 1].into(), asked.node_port);
    let paths = [("nodeport", node_port, false), ("clusterip", asked.cluster_ip, true)];
    for (name, address, from_pod) in paths {
        let mut trips: [Vec<f64>; 2] = Default::default();
        let mut opened: [Vec<f64>; 2] = Default::default();
        for _ in 0..ROUNDS {
            for (side, trio) in [&culvert, &nft].into_iter().enumerate() {
                let client = if from_pod { &trio.pod } else { &trio.client };
                let (trip, connections) = client.run(|| load::measure(address));
                trips[side].push(trip);
                opened[side].push(connections);
            }
        }
        for (side, values) in ["", "_nft"].into_iter().zip(trips) {
            println!("wires_{name}_trip{side}_ns\t{:.0}\tns", load::median(values));
        }
        for (side, values) in ["", "_nft"].into_iter().zip(opened) {
            println!("wires_{name}_connects{side}\t{:.0}\t/s", load::median(values));
        }
    }
}
