// SPDX-License-Identifier: Apache-2.0
//! The kernel settings that forwarding needs, in the calling thread's network namespace.
//!
//! Every function tells what it changed and from what, so that `status` can show it and somebody
//! can put it back.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A setting that was another before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// As `sysctl` writes it, with the dots of device names as they are.
    pub key: String,
    pub old: String,
    pub new: String,
}

#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot read `{key}`")]
    Read { key: String, source: io::Error },

    #[error("cannot set `{key}` to `{value}`; make /proc/sys writable or set it yourself")]
    Write { key: String, value: String, source: io::Error },

    #[error("cannot understand `{value}`, the value of `{key}`")]
    Parse { key: String, value: String },
}

const ROOT: &str = "/proc/sys";

/// Makes the node a router. IPv6 is left alone where the kernel has none.
pub fn enable_forwarding() -> Result<Vec<Changed>, Error> {
    let mut changed = Vec::new();
    changed.extend(set(&["net", "ipv4", "ip_forward"], "1")?);
    if !Path::new("/proc/sys/net/ipv6").exists() {
        return Ok(changed);
    }
    // A router stops listening to router advertisements, unless told 2: a node that has its
    // default route from one would lose it.
    for device in children(&["net", "ipv6", "conf"])? {
        let key = ["net", "ipv6", "conf", &device, "accept_ra"];
        if get(&key)?.as_deref() == Some("1") {
            changed.extend(set(&key, "2")?);
        }
    }
    changed.extend(set(&["net", "ipv6", "conf", "all", "forwarding"], "1")?);
    Ok(changed)
}

/// Lets the host side of a pod's veth pair take packets whose way back is another device.
pub fn relax_rp_filter(device: &str) -> Result<Option<Changed>, Error> {
    // The stricter one of the device's and `all` is in force, but 2 (loose) counts as the greater.
    let all = get(&["net", "ipv4", "conf", "all", "rp_filter"])?;
    let value = if all.as_deref() == Some("0") { "0" } else { "2" };
    set(&["net", "ipv4", "conf", device, "rp_filter"], value)
}

/// Keeps the kernel from giving NodePorts to sockets as ephemeral ports. What was reserved stays.
pub fn reserve_ports(ports: RangeInclusive<u16>) -> Result<Option<Changed>, Error> {
    let key = ["net", "ipv4", "ip_local_reserved_ports"];
    let old = get(&key)?.unwrap_or_default();
    let Some(mut reserved) = parse_ports(&old) else {
        return Err(Error::Parse { key: key.join("."), value: old });
    };
    if ports.clone().all(|port| reserved.contains(&port)) {
        return Ok(None);
    }
    reserved.extend(ports);
    set(&key, &format_ports(&reserved))
}

/// `1,5-8` as the kernel writes it; an empty text is none.
fn parse_ports(text: &str) -> Option<BTreeSet<u16>> {
    let mut ports = BTreeSet::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        ports.extend(first.parse::<u16>().ok()?..=last.parse().ok()?);
    }
    Some(ports)
}

fn format_ports(ports: &BTreeSet<u16>) -> String {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for &port in ports {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == port => *last = port,
            _ => ranges.push((port, port)),
        }
    }
    let text =
        |(first, last)| if first == last { format!("{first}") } else { format!("{first}-{last}") };
    ranges.into_iter().map(text).collect::<Vec<_>>().join(",")
}

fn path(key: &[&str]) -> PathBuf {
    key.iter().fold(PathBuf::from(ROOT), |path, part| path.join(part))
}

fn children(key: &[&str]) -> Result<Vec<String>, Error> {
    let failed = |source| Error::Read { key: key.join("."), source };
    fs::read_dir(path(key))
        .map_err(failed)?
        .map(|each| Ok(each.map_err(failed)?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// `None` where there is no such setting.
fn get(key: &[&str]) -> Result<Option<String>, Error> {
    match fs::read_to_string(path(key)) {
        Ok(value) => Ok(Some(value.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { key: key.join("."), source }),
    }
}

/// Writes only what differs: a read-only /proc/sys is fine as long as nothing is to be changed.
fn set(key: &[&str], value: &str) -> Result<Option<Changed>, Error> {
    let old = get(key)?.unwrap_or_default();
    if old == value {
        return Ok(None);
    }
    let key_text = key.join(".");
    fs::write(path(key), value).map_err(|source| Error::Write {
        key: key_text.clone(),
        value: value.to_owned(),
        source,
    })?;
    Ok(Some(Changed { key: key_text, old, new: value.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_and_written_as_the_kernel_does() {
        for text in ["", "8080", "1,5-8,60000-65535"] {
            assert_eq!(format_ports(&parse_ports(text).unwrap()), text);
        }
        assert_eq!(format_ports(&parse_ports("5-6,7,8-9").unwrap()), "5-9");
        assert!(parse_ports("many").is_none());
    }
}
