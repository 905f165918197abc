// SPDX-License-Identifier: Apache-2.0
//! The whole lab: fabric, nodes, an outside client, and what is published to the agents.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::janitor::Janitor;
use super::manifest;
use super::netns::NetNs;
use super::node::Node;
use super::place::Place;

/// Routed to the first node: external IPs and LoadBalancer addresses.
pub const VIPS: [&str; 4] =
    ["198.51.100.0/24", "192.0.2.0/24", "2001:db8:51::/64", "2001:db8:c0::/64"];

/// The programs that the lab runs.
#[derive(Clone, Debug)]
pub struct Programs {
    pub culvert: PathBuf,
    pub culvert_cni: PathBuf,
    /// This lab as a program: its servers and clients are processes of it.
    pub culvert_lab: PathBuf,
}

/// What a lab consists of.
#[derive(Clone, Debug)]
pub struct Options {
    pub programs: Programs,
    pub nodes: u8,
    /// Added to every agent's configuration file, as `key: value` lines.
    pub config: String,
}

#[derive(Debug)]
pub struct Lab {
    pub options: Options,
    /// The only directory of the lab outside cgroupfs and bpffs.
    pub dir: PathBuf,
    pub nodes: Vec<Node>,
    pub outside: Place,
    /// Its bridge has a port `n1`, `n2`, … for each node, and `outside`.
    pub fabric: NetNs,
    // Last: what it removes is used above.
    _janitor: Janitor,
}

impl Lab {
    /// Raises the nodes and waits until every agent is ready.
    pub fn raise(options: Options) -> Result<Self> {
        static LABS: AtomicU32 = AtomicU32::new(0);
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let name = format!("culvert-lab-{}-{number}", std::process::id());
        let dir = Path::new("/run").join(&name);
        let cgroup = cgroup2()?.join(&name);
        let bpf = bpffs()?.join(&name);
        for dir in [&dir, &cgroup, &bpf, &dir.join("manifests")] {
            std::fs::create_dir_all(dir)
                .with_context(|| format!("cannot make `{}`", dir.display()))?;
        }
        let janitor = Janitor::hire(&cgroup, &[&bpf, &dir])?;

        let fabric = NetNs::new();
        fabric.ip("link add br0 type bridge mcast_snooping 0");
        fabric.ip("addr add 192.168.50.254/24 dev br0");
        fabric.ip("addr add fd50::fe/64 dev br0 nodad");
        fabric.ip("link set br0 up");
        let outside = Place::new(cgroup.join("outside"))?;
        let mut lab = Self { options, dir, nodes: Vec::new(), outside, fabric, _janitor: janitor };
        lab.plug(&lab.outside, "outside", 100);
        ignore_redirects(&lab.outside)?;
        for vip in VIPS {
            let via = if vip.contains(':') { "fd50::1" } else { "192.168.50.1" };
            lab.outside.netns.ip(&format!("route add {vip} via {via}"));
        }
        for index in 1..=lab.options.nodes {
            let place = Place::new(cgroup.join(format!("n{index}")).join("host"))?;
            lab.plug(&place, &format!("n{index}"), index);
            let root = bpf.join(format!("n{index}"));
            lab.nodes.push(Node::new(&lab.options, &lab.dir, root, place, index)?);
        }
        let nodes: Vec<Value> = lab.nodes.iter().map(Node::manifest).collect();
        lab.publish("nodes", &nodes)?;
        for node in &mut lab.nodes {
            node.start_agent()?;
        }
        for node in &mut lab.nodes {
            node.wait_ready()?;
        }
        Ok(lab)
    }

    pub fn node(&self, index: usize) -> &Node {
        &self.nodes[index - 1]
    }

    pub fn manifests(&self) -> PathBuf {
        self.dir.join("manifests")
    }

    /// Writes one file of the directory that agents watch, whole.
    pub fn publish(&self, name: &str, objects: &[Value]) -> Result<()> {
        self.publish_text(name, &manifest::to_yaml(objects)?)
    }

    pub fn publish_text(&self, name: &str, text: &str) -> Result<()> {
        let path = self.manifests().join(format!("{name}.yaml"));
        let temporary = self.dir.join(format!("{name}.tmp"));
        std::fs::write(&temporary, text)?;
        std::fs::rename(&temporary, &path)
            .with_context(|| format!("cannot publish `{}`", path.display()))
    }

    /// Connects a namespace to the bridge as `192.168.50.HOST` and `fd50::HOST`.
    pub fn plug(&self, place: &Place, name: &str, host: u8) {
        let (v4, v6) = (node_ip(host, false), node_ip(host, true));
        place.netns.veth("eth0", &format!("{v4}/24"), &self.fabric, name, "");
        self.fabric.ip(&format!("link set {name} master br0"));
        place.netns.ip(&format!("addr add {v6}/64 dev eth0 nodad"));
        place.netns.ip("route add default via 192.168.50.254");
        place.netns.ip("-6 route add default via fd50::fe");
    }
}

/// A node that is asked for an address which is no service's at that moment sends its packet back into
/// the fabric, and tells the client to go there from now on: the client would, for five minutes.
fn ignore_redirects(place: &Place) -> Result<()> {
    place.netns.run(|| {
        for conf in ["ipv4/conf/all", "ipv4/conf/eth0", "ipv6/conf/eth0"] {
            let path = format!("/proc/sys/net/{conf}/accept_redirects");
            std::fs::write(&path, "0").with_context(|| format!("cannot write `{path}`"))?;
        }
        Ok(())
    })
}

/// Address on the fabric. Written in hexadecimal for IPv6, so that both read the same up to 99.
pub fn node_ip(host: u8, v6: bool) -> IpAddr {
    let text = if v6 { format!("fd50::{host}") } else { format!("192.168.50.{host}") };
    text.parse().expect("an address")
}

fn cgroup2() -> Result<PathBuf> {
    mounted("cgroup2")?.context("no cgroup2 is mounted; mount one on `/sys/fs/cgroup`")
}

/// The machine's bpffs. Mounting it is all that the lab ever does to the machine.
fn bpffs() -> Result<PathBuf> {
    if let Some(path) = mounted("bpf")? {
        return Ok(path);
    }
    let path = PathBuf::from("/sys/fs/bpf");
    let flags = nix::mount::MsFlags::empty();
    match nix::mount::mount(Some("bpffs"), &path, Some("bpf"), flags, None::<&str>) {
        Ok(()) => Ok(path),
        Err(cause) => bail!("cannot mount a bpffs at `{}`: {cause}; are you root?", path.display()),
    }
}

fn mounted(kind: &str) -> Result<Option<PathBuf>> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    Ok(mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let path = fields.next()?;
        (fields.next()? == kind).then(|| path.into())
    }))
}
