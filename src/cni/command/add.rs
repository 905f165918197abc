// SPDX-License-Identifier: Apache-2.0
//! ADD: addresses from the agent, a veth pair, and the agent's word that packets flow.

use std::io;
use std::path::Path;

use ipnet::IpNet;
use serde_json::Value;

use super::super::api::{Add, Allocation, Attachment, Call, Error, Reply, code};
use super::super::client::ask;
use super::super::link::{self, Pair, mac_text};
use super::super::netns;
use super::super::protocol::{AddResult, Interface, Ip, NetConf, Route, Version};
use super::Target;

pub(super) fn add(target: &Target, conf: NetConf, version: Version) -> Result<Value, Error> {
    let Target { attachment, netns: path, .. } = target;
    let netns = netns::open(path).map_err(|cause| {
        Error::new(code::IO, format!("cannot open CNI_NETNS `{}`", path.display())).because(cause)
    })?;
    if netns::is_own(&netns)
        .map_err(|cause| Error::new(code::IO, "cannot compare namespaces").because(cause))?
    {
        return Err(Error::new(
            code::INVALID_ENVIRONMENT,
            format!("CNI_NETNS `{}` is the host's own namespace", path.display()),
        ));
    }
    let previous = conf.prev_result.map(AddResult::parse).transpose()?.unwrap_or_default();
    refuse_second(&netns, attachment)?;

    let given = match ask(&conf.socket, &Call::Allocate(attachment.clone()))? {
        Reply::Allocation(given) => given,
        _ => return Err(Error::new(code::DECODE, "the agent gave no addresses")),
    };
    // From here on every failure takes everything back.
    let made = link::make(&netns, attachment, &given).map_err(|cause| match cause.kind() {
        io::ErrorKind::AlreadyExists => Error::new(
            code::INVALID_ENVIRONMENT,
            format!("`{}` exists in `{}`", attachment.ifname, path.display()),
        )
        .because(cause),
        _ => {
            Error::new(code::NETLINK, format!("cannot connect `{}`", path.display())).because(cause)
        }
    });
    let registered = made.and_then(|pair| {
        let call = Call::Add(Add {
            attachment: attachment.clone(),
            ifindex: pair.ifindex,
            mac: pair.pod_mac,
            host_mac: pair.host_mac,
            addresses: given.addresses.iter().map(|address| address.ip).collect(),
            netns: path.clone(),
            pod: target.pod.clone(),
        });
        ask(&conf.socket, &call).map(|_| pair)
    });
    match registered {
        Ok(pair) => Ok(result(attachment, &given, pair, path).after(previous).to_json(version)),
        Err(error) => {
            undo(attachment, &conf.socket);
            Err(error)
        }
    }
}

/// The device in the pod is ours to make; one that is there already is somebody's.
fn refuse_second(netns: &std::fs::File, attachment: &Attachment) -> Result<(), Error> {
    let ifname = attachment.ifname.clone();
    let exists =
        netns::inside(netns, move || Ok(nix::net::if_::if_nametoindex(ifname.as_str()).is_ok()))
            .map_err(|cause| Error::new(code::IO, "cannot enter CNI_NETNS").because(cause))?;
    if exists {
        let msg = format!("`{}` already exists in the container", attachment.ifname);
        return Err(Error::new(code::INVALID_ENVIRONMENT, msg));
    }
    Ok(())
}

/// The first failure is what the runtime wants to know; one more on the way back is only logged.
fn undo(attachment: &Attachment, socket: &Path) {
    if let Err(cause) = link::remove(&attachment.host_ifname()) {
        eprintln!("culvert-cni: {cause}");
    }
    if let Err(cause) = ask(socket, &Call::Del(attachment.clone())) {
        eprintln!("culvert-cni: {cause}");
    }
}

fn result(attachment: &Attachment, given: &Allocation, pair: Pair, netns: &Path) -> AddResult {
    let interface = |name: &str, mac, sandbox: &str| Interface {
        name: name.to_owned(),
        mac: mac_text(mac),
        mtu: Some(given.mtu),
        sandbox: sandbox.to_owned(),
    };
    let default = |v4: bool| if v4 { "0.0.0.0/0" } else { "::/0" };
    AddResult {
        interfaces: vec![
            interface(&attachment.host_ifname(), pair.host_mac, ""),
            interface(&attachment.ifname, pair.pod_mac, &netns.to_string_lossy()),
        ],
        ips: given
            .addresses
            .iter()
            .map(|address| Ip {
                address: IpNet::from(address.ip),
                gateway: Some(address.gateway),
                interface: Some(1),
            })
            .collect(),
        routes: given
            .addresses
            .iter()
            .filter_map(|address| {
                let dst = default(address.ip.is_ipv4()).parse().ok()?;
                Some(Route { dst, gw: Some(address.gateway) })
            })
            .collect(),
        dns: Value::Null,
    }
}
