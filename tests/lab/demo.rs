// SPDX-License-Identifier: Apache-2.0
//! What a newcomer sees first: a cluster, its services, and real answers through each of them.

use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::lab::cluster::{Lab, Options, node_ip};
use crate::lab::manifest::{SERVICE_PORT, Service, to_yaml};
use crate::lab::node::Node;
use crate::lab::place::Place;
use crate::lab::pod::Pod;

/// For what the agents do with what is published. Only a failing demo waits this long.
const PATIENCE: Duration = Duration::from_secs(10);

/// The services of the demo: one of each type, all of them in front of the same two pods.
pub fn services() -> [Service; 3] {
    let ip = |text: &str| -> IpAddr { text.parse().expect("an address") };
    [
        Service { name: "web", kind: "ClusterIP", number: 10, ..Service::default() },
        Service {
            name: "web-np",
            kind: "NodePort",
            number: 11,
            node_port: Some(30080),
            external_ips: vec![ip("198.51.100.10"), ip("2001:db8:51::10")],
            ..Service::default()
        },
        Service {
            name: "web-lb",
            kind: "LoadBalancer",
            number: 12,
            ingress: vec![ip("192.0.2.10"), ip("2001:db8:c0::10")],
            ..Service::default()
        },
    ]
}

/// Two servers on different nodes, a client pod on the first, and the services published.
pub struct Scene {
    pub lab: Lab,
    pub pods: Vec<Pod>,
}

impl Scene {
    pub fn set(options: Options) -> Result<Self> {
        let lab = Lab::raise(options)?;
        let mut pods = vec![
            lab.node(1).add_pod("web-1")?,
            lab.node(2).add_pod("web-2")?,
            lab.node(1).add_pod("client")?,
        ];
        pods[0].serve(lab.node(1))?;
        pods[1].serve(lab.node(2))?;
        for service in services() {
            lab.publish(service.name, &service.objects(&[&pods[0], &pods[1]]))?;
        }
        Ok(Self { lab, pods })
    }
}

pub fn demo(options: Options) -> Result<()> {
    println!("==> Raising two nodes, each a network namespace with its own `culvert agent`");
    let Scene { lab, pods } = Scene::set(options)?;
    for pod in &pods {
        println!(
            "    pod {:<8} on {}  {:?} behind {}",
            pod.name,
            pod.node,
            pod.ips,
            pod.host_device()
        );
    }
    println!("\n==> Published to the agents, in `{}`:\n", lab.manifests().display());
    println!("{}", to_yaml(&services()[1].objects(&[&pods[0], &pods[1]])[..1])?.trim_end());

    let client = &pods[2].place;
    let host = &lab.node(2).place;
    let mut failed = 0;
    let vip = |text: &str| -> IpAddr { text.parse().expect("an address") };
    let np = |ip: IpAddr| SocketAddr::new(ip, 30080);
    let port = |ip: IpAddr| SocketAddr::new(ip, SERVICE_PORT);
    lab.nodes.iter().try_for_each(|node| wait_written(node, services().len()))?;
    println!("\n==> Clients");
    let visits: [(&str, &Place, [SocketAddr; 2]); 6] = [
        (
            "ClusterIP from a pod",
            client,
            [false, true].map(|v6| port(services()[0].cluster_ip(v6))),
        ),
        (
            "ClusterIP from node n2",
            host,
            [false, true].map(|v6| port(services()[0].cluster_ip(v6))),
        ),
        ("NodePort of n1 from outside", &lab.outside, [false, true].map(|v6| np(node_ip(1, v6)))),
        ("NodePort of n2 from outside", &lab.outside, [false, true].map(|v6| np(node_ip(2, v6)))),
        (
            "LoadBalancer IP from outside",
            &lab.outside,
            ["192.0.2.10", "2001:db8:c0::10"].map(|ip| port(vip(ip))),
        ),
        (
            "externalIP from outside",
            &lab.outside,
            ["198.51.100.10", "2001:db8:51::10"].map(|ip| port(vip(ip))),
        ),
    ];
    for (what, place, addresses) in visits {
        println!("  {what}");
        for address in addresses {
            failed += u32::from(!curl(place, address)?);
            failed += u32::from(!datagram(&lab, place, address)?);
        }
    }

    println!("\n==> n1$ culvert status\n\n{}", lab.node(1).culvert(&["status"])?);
    println!("==> n1$ culvert service list     # of IPv4 and TCP; IPv6 and UDP look the same\n");
    let list = lab.node(1).culvert(&["service", "list"])?;
    println!("{}", excerpt(&list));
    for pod in pods {
        let node = lab.nodes.iter().find(|node| node.name == pod.node);
        pod.delete(node.context("a pod is on a node")?)?;
    }
    ensure!(failed == 0, "{failed} requests got no answer");
    println!("==> Every request was answered. Taking the cluster down");
    Ok(())
}

/// Waits until the agent has written all services: what it tells of itself is then the whole.
fn wait_written(node: &Node, services: usize) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = node.culvert(&["status", "-o", "json"])?;
        let sync = &serde_json::from_str::<serde_json::Value>(&text)?["sync"];
        if sync["services"] == services && sync["pending"] == 0 {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "`{}` does not write its services: {sync}", node.name);
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn curl(place: &Place, address: SocketAddr) -> Result<bool> {
    let url = format!("http://{address}/");
    let mut curl = place.command("curl");
    curl.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "3", &url]);
    let output = place.output(curl.stdin(Stdio::null()))?;
    let good = output.status.success();
    let said = if good { output.stdout } else { output.stderr };
    println!("    curl {url:<32} {}", String::from_utf8_lossy(&said).trim_end());
    Ok(good)
}

fn datagram(lab: &Lab, place: &Place, address: SocketAddr) -> Result<bool> {
    let mut ask = place.command(&lab.options.programs.culvert_lab);
    let output = place.output(ask.args(["ask", "udp", &address.to_string(), "0"]))?;
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let (name, peer) = (answer["name"].as_str(), answer["peer"].as_str());
    let said = match name.zip(peer) {
        Some((name, peer)) => format!("{name} sees {peer}"),
        None => answer.to_string(),
    };
    println!("    udp  {:<32} {said}", address.to_string());
    Ok(name.is_some())
}

/// The header and the rows of IPv4 and TCP, with the lines that belong to them.
fn excerpt(list: &str) -> String {
    let mut wanted = true;
    let mut lines = Vec::new();
    for line in list.lines() {
        if let Some(frontend) = line.split_whitespace().nth(1).filter(|_| !line.starts_with(' ')) {
            wanted = !frontend.starts_with('[') && !frontend.ends_with("/UDP");
        }
        if wanted {
            lines.push(format!("{line}\n"));
        }
    }
    lines.concat()
}
