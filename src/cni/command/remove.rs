// SPDX-License-Identifier: Apache-2.0
//! DEL and GC. The device goes first: an address is free only when nothing answers on it.

use std::collections::BTreeSet;

use super::super::api::{Attachment, Call, Error, Reply, code};
use super::super::client::ask;
use super::super::protocol::NetConf;
use super::super::{deletion, link};

pub(super) fn del(attachment: &Attachment, conf: &NetConf) -> Result<(), Error> {
    let name = attachment.host_ifname();
    link::remove(&name).map_err(|cause| {
        Error::new(code::NETLINK, format!("cannot disconnect `{}`", attachment.container_id))
            .because(cause)
    })?;
    let call = Call::Del(attachment.clone());
    if ask(&conf.socket, &call).is_ok() {
        return Ok(());
    }
    deletion::record(&conf.state_dir, attachment).map_err(|cause| {
        let msg = format!("cannot note the deletion under `{}`", conf.state_dir.display());
        Error::new(code::IO, msg).because(cause)
    })?;
    // The agent may have come back and read the records between the two lines above.
    if ask(&conf.socket, &call).is_ok() {
        // A record too many is harmless: the agent takes an unknown attachment for done.
        let _ = deletion::forget(&conf.state_dir, attachment);
    }
    Ok(())
}

pub(super) fn gc(conf: &NetConf) -> Result<(), Error> {
    let valid = conf
        .valid_attachments
        .clone()
        .ok_or_else(|| Error::new(code::INVALID_CONFIG, "GC needs `cni.dev/valid-attachments`"))?;
    let valid: Vec<Attachment> = valid.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    let reply = ask(&conf.socket, &Call::Gc(super::super::api::Gc { valid }))?;
    let Reply::Stale(found) = reply else {
        return Err(Error::new(code::DECODE, "the agent did not say which attachments are stale"));
    };
    // One that cannot be removed must not keep the others.
    let failures: Vec<String> = found
        .stale
        .iter()
        .filter_map(|attachment| del(attachment, conf).err())
        .map(|error| error.to_string())
        .collect();
    if failures.is_empty() {
        return Ok(());
    }
    Err(Error::new(code::NETLINK, "cannot remove every stale attachment")
        .because(failures.join("; ")))
}
