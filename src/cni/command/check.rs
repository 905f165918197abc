// SPDX-License-Identifier: Apache-2.0
//! CHECK: is what ADD made still there, in the kernel and at the agent.

use std::io;
use std::net::IpAddr;

use nix::net::if_::if_nametoindex;

use super::super::api::{Attachment, Call, Check, Error, code};
use super::super::client::ask;
use super::super::protocol::{AddResult, NetConf};
use super::super::{link, netns};
use super::Target;

pub(super) fn check(target: &Target, conf: NetConf) -> Result<(), Error> {
    let attachment = &target.attachment;
    let previous = conf.prev_result.map(AddResult::parse).transpose()?.ok_or_else(|| {
        Error::new(code::INVALID_CONFIG, "CHECK needs `prevResult`, the result of ADD")
    })?;
    let promised = promised(&previous, target)?;
    if if_nametoindex(attachment.host_ifname().as_str()).is_err() {
        return Err(differs(format!("the device `{}` is gone", attachment.host_ifname())));
    }
    let netns = netns::open(&target.netns).map_err(|cause| {
        let msg = format!("cannot open CNI_NETNS `{}`", target.netns.display());
        Error::new(code::UNKNOWN_CONTAINER, msg).because(cause)
    })?;
    let found = netns::inside(&netns, || look(attachment)).map_err(|cause| {
        differs(format!("cannot look at `{}`", attachment.ifname)).because(cause)
    })?;
    for ip in &promised {
        if !found.addresses.contains(ip) {
            return Err(differs(format!("`{}` has lost its address `{ip}`", attachment.ifname)));
        }
        if !found.has_default_route(*ip) {
            let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
            return Err(differs(format!("the container has lost its {family} default route")));
        }
    }
    let call = Call::Check(Check { attachment: attachment.clone(), addresses: promised });
    ask(&conf.socket, &call).map(|_| ())
}

/// The addresses that ADD put on our interface. Later plugins may have added others.
fn promised(previous: &AddResult, target: &Target) -> Result<Vec<IpAddr>, Error> {
    let ours = previous.interfaces.iter().position(|interface| {
        interface.name == target.attachment.ifname && !interface.sandbox.is_empty()
    });
    let ours = ours.ok_or_else(|| {
        let msg = format!("`prevResult` has no interface `{}`", target.attachment.ifname);
        Error::new(code::INVALID_CONFIG, msg)
    })?;
    let of_ours = previous.ips.iter().filter(|ip| ip.interface == Some(ours));
    Ok(of_ours.map(|ip| ip.address.addr()).collect())
}

struct Found {
    addresses: Vec<IpAddr>,
    default_v4: bool,
    default_v6: bool,
}

impl Found {
    fn has_default_route(&self, ip: IpAddr) -> bool {
        if ip.is_ipv4() { self.default_v4 } else { self.default_v6 }
    }
}

fn look(attachment: &Attachment) -> io::Result<Found> {
    let ifindex = if_nametoindex(attachment.ifname.as_str())?;
    netns::with_netlink(async |netlink| {
        Ok(Found {
            addresses: link::addresses(&netlink, ifindex).await?,
            default_v4: link::has_default_route(&netlink, false, ifindex).await?,
            default_v6: link::has_default_route(&netlink, true, ifindex).await?,
        })
    })
}

fn differs(msg: String) -> Error {
    Error::new(code::CHECK_FAILED, msg)
}
