// SPDX-License-Identifier: Apache-2.0
//! The words of CNI: environment, configuration and result, as the specification 1.1.0 and the
//! older versions that runtimes still ask for write them.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::api::{Attachment, Error, code};

/// Oldest first. 0.3.1 is the first with `interfaces`.
pub const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// What VERSION answers when it was not asked for one.
pub const NEWEST: &str = "1.1.0";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(usize);

impl Version {
    /// # Errors
    /// [`code::INCOMPATIBLE_VERSION`], naming the versions there are.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let known = VERSIONS.iter().position(|version| *version == text);
        known.map(Self).ok_or_else(|| {
            Error::new(code::INCOMPATIBLE_VERSION, format!("cannot speak CNI version `{text}`"))
                .because(format!("set `cniVersion` to one of {}", VERSIONS.join(", ")))
        })
    }

    pub const fn text(self) -> &'static str {
        VERSIONS[self.0]
    }

    /// Fails unless this version has the command that came with `since`.
    pub fn needs(self, since: &str, command: &str) -> Result<(), Error> {
        if self >= Self::parse(since)? {
            return Ok(());
        }
        Err(Error::new(
            code::INCOMPATIBLE_VERSION,
            format!("{command} needs `cniVersion` {since} or newer, not {}", self.text()),
        ))
    }
}

/// The plugin's entry in the network configuration, with what the runtime adds to it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetConf {
    pub cni_version: String,
    #[serde(default)]
    pub name: String,
    /// The agent's socket.
    #[serde(default = "default_socket")]
    pub socket: PathBuf,
    /// Where the agent keeps its state.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    #[serde(default)]
    pub prev_result: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments", default)]
    pub valid_attachments: Option<Vec<Attachment>>,
}

fn default_socket() -> PathBuf {
    "/run/culvert/culvert.sock".into()
}

fn default_state_dir() -> PathBuf {
    "/run/culvert".into()
}

impl NetConf {
    /// # Errors
    /// [`code::DECODE`] for what is no network configuration.
    pub fn parse(stdin: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(stdin).map_err(|cause| {
            Error::new(code::DECODE, "cannot read the network configuration on standard input")
                .because(cause)
        })
    }
}

/// What ADD returns and CHECK gets back, in the shape of the newest version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AddResult {
    pub interfaces: Vec<Interface>,
    pub ips: Vec<Ip>,
    pub routes: Vec<Route>,
    pub dns: Value,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    pub name: String,
    pub mac: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ip {
    pub address: IpNet,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Index into `interfaces`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub dst: IpNet,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
}

impl AddResult {
    /// # Errors
    /// [`code::DECODE`] for what is no result.
    pub fn parse(value: Value) -> Result<Self, Error> {
        serde_json::from_value(value)
            .map_err(|cause| Error::new(code::DECODE, "cannot read `prevResult`").because(cause))
    }

    /// This result behind that of the plugins before us.
    pub fn after(mut self, previous: Self) -> Self {
        let shift = previous.interfaces.len();
        for ip in &mut self.ips {
            ip.interface = ip.interface.map(|index| index + shift);
        }
        let mut whole = previous;
        whole.interfaces.append(&mut self.interfaces);
        whole.ips.append(&mut self.ips);
        whole.routes.append(&mut self.routes);
        whole
    }

    /// As `version` writes it: before 1.0.0 each address says its family, before 1.1.0 an
    /// interface has no MTU.
    pub fn to_json(&self, version: Version) -> Value {
        let mut interfaces = self.interfaces.clone();
        if version.text() != "1.1.0" {
            interfaces.iter_mut().for_each(|interface| interface.mtu = None);
        }
        let mut ips = json!(self.ips);
        if version.text().starts_with("0.") {
            for (json, ip) in ips.as_array_mut().into_iter().flatten().zip(&self.ips) {
                json["version"] = if ip.address.addr().is_ipv4() { "4" } else { "6" }.into();
            }
        }
        let dns = if self.dns.is_null() { json!({}) } else { self.dns.clone() };
        json!({
            "cniVersion": version.text(),
            "interfaces": interfaces,
            "ips": ips,
            "routes": self.routes,
            "dns": dns,
        })
    }
}

/// `{cniVersion, code, msg, details}`, which goes to standard output too.
pub fn error_json(error: &Error, version: &str) -> Value {
    let mut json = json!(error);
    json["cniVersion"] = version.into();
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result() -> AddResult {
        AddResult {
            interfaces: vec![Interface {
                name: "eth0".into(),
                mac: "02:00:00:00:00:01".into(),
                mtu: Some(1500),
                sandbox: "/run/netns/a".into(),
            }],
            ips: vec![Ip {
                address: "10.1.0.2/32".parse().unwrap(),
                gateway: Some("10.1.0.1".parse().unwrap()),
                interface: Some(0),
            }],
            ..Default::default()
        }
    }

    #[test]
    fn each_version_gets_the_shape_it_knows() {
        let old = result().to_json(Version::parse("0.3.1").unwrap());
        assert_eq!(old["ips"][0]["version"], "4");
        assert!(old["interfaces"][0].get("mtu").is_none());
        let new = result().to_json(Version::parse("1.1.0").unwrap());
        assert!(new["ips"][0].get("version").is_none());
        assert_eq!(new["interfaces"][0]["mtu"], 1500);
        assert_eq!(AddResult::parse(new).unwrap().ips, result().ips);
        assert_eq!(AddResult::parse(old).unwrap().ips, result().ips);
    }

    #[test]
    fn interface_indices_point_behind_the_previous_plugins_interfaces() {
        let whole = result().after(result());
        assert_eq!(whole.interfaces.len(), 2);
        assert_eq!([whole.ips[0].interface, whole.ips[1].interface], [Some(0), Some(1)]);
    }

    #[test]
    fn an_unknown_version_is_refused_with_those_that_are_known() {
        let error = Version::parse("0.2.0").unwrap_err();
        assert_eq!(error.code, code::INCOMPATIBLE_VERSION);
        assert!(error.details.contains("0.3.1, 0.4.0, 1.0.0, 1.1.0"), "{error}");
    }

    #[test]
    fn a_command_is_refused_before_the_version_that_brought_it() {
        let old = Version::parse("1.0.0").unwrap();
        assert!(old.needs("0.4.0", "CHECK").is_ok());
        assert_eq!(old.needs("1.1.0", "GC").unwrap_err().code, code::INCOMPATIBLE_VERSION);
    }
}
