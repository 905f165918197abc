// SPDX-License-Identifier: Apache-2.0
//! One pod: a namespace that the plugin connected, and maybe a server in it.

use std::io::{BufRead as _, BufReader};
use std::net::IpAddr;
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use serde_json::{Value, json};

use super::node::{Node, fresh};
use super::place::Place;

/// Where every server of the lab listens.
pub const PORT: u16 = 8080;

#[derive(Debug)]
pub struct Pod {
    pub name: String,
    pub node: String,
    pub place: Place,
    pub container_id: String,
    /// IPv4 first.
    pub ips: Vec<IpAddr>,
    /// What ADD answered.
    pub result: Value,
    servers: Vec<Child>,
}

impl Pod {
    pub(super) fn add(node: &Node, name: &str, place: Place) -> Result<Self> {
        let mut pod = Self {
            name: name.to_owned(),
            node: node.name.clone(),
            place,
            container_id: format!("{name}-{}", fresh()),
            ips: Vec::new(),
            result: Value::Null,
            servers: Vec::new(),
        };
        pod.result = pod.cni(node, "ADD", None)?;
        for ip in pod.result["ips"].as_array().into_iter().flatten() {
            let address = ip["address"].as_str().context("an address is text")?;
            pod.ips.push(address.parse::<IpNet>()?.addr());
        }
        Ok(pod)
    }

    /// One command of the plugin about this pod.
    pub fn cni(&self, node: &Node, command: &str, more: Option<Value>) -> Result<Value> {
        let netns = self.place.netns.path().display().to_string();
        let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=lab;K8S_POD_NAME={}", self.name);
        let env = [
            ("CNI_CONTAINERID", self.container_id.as_str()),
            ("CNI_NETNS", &netns),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", "/opt/cni/bin"),
            ("CNI_ARGS", &args),
        ];
        node.cni(command, &env, more)
    }

    /// Ends the servers and disconnects the pod, as kubelet does.
    pub fn delete(mut self, node: &Node) -> Result<()> {
        for mut server in self.servers.drain(..) {
            server.kill()?;
            server.wait()?;
        }
        self.cni(node, "DEL", Some(json!({ "prevResult": self.result }))).map(drop)
    }

    /// Name of the host's side of the pod's device.
    pub fn host_device(&self) -> &str {
        self.result["interfaces"][0]["name"].as_str().unwrap_or_default()
    }

    /// Starts a server on [`PORT`], TCP and UDP, that answers with the pod's name. It listens when
    /// this returns.
    pub fn serve(&mut self, node: &Node) -> Result<()> {
        let name = self.name.clone();
        self.serve_as(node, &name, PORT)
    }

    /// The same on another port, where the server calls itself `name`.
    pub fn serve_as(&mut self, node: &Node, name: &str, port: u16) -> Result<()> {
        let mut command = self.place.command(&node.programs.culvert_lab);
        command.args(["serve", name, &port.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut server = self.place.spawn(&mut command)?;
        let stdout = server.stdout.take().context("a pipe")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        anyhow::ensure!(line == "listening\n", "the server of `{}` said `{line}`", self.name);
        self.servers.push(server);
        Ok(())
    }

    pub fn ip(&self, v6: bool) -> Option<IpAddr> {
        self.ips.iter().copied().find(|ip| ip.is_ipv6() == v6)
    }
}
