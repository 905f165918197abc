// SPDX-License-Identifier: Apache-2.0
//! One invocation of the plugin: which command, with what, and what goes to standard output.

mod add;
mod check;
mod remove;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::api::{Attachment, Call, Error, code};
use super::client::ask;
use super::protocol::{NEWEST, NetConf, VERSIONS, Version, error_json};

/// The runtime's `CNI_*` variables.
pub type Environment = BTreeMap<String, String>;

/// What to print and whether it is a success. Empty output prints nothing.
#[derive(Debug)]
pub struct Output {
    pub json: Option<Value>,
    pub success: bool,
}

/// Runs the command that `env` names with the configuration `stdin`.
pub fn run(env: &Environment, stdin: &[u8]) -> Output {
    let version = serde_json::from_slice::<Value>(stdin)
        .ok()
        .and_then(|conf| conf.get("cniVersion")?.as_str().map(str::to_owned))
        .unwrap_or_else(|| NEWEST.to_owned());
    match dispatch(env, stdin) {
        Ok(json) => Output { json, success: true },
        Err(error) => Output { json: Some(error_json(&error, &version)), success: false },
    }
}

fn dispatch(env: &Environment, stdin: &[u8]) -> Result<Option<Value>, Error> {
    let command = required(env, "CNI_COMMAND")?;
    if command == "VERSION" {
        return version(stdin).map(Some);
    }
    let conf = NetConf::parse(stdin)?;
    let version = Version::parse(&conf.cni_version)?;
    match command {
        "ADD" => add::add(&Target::of(env)?, conf, version).map(Some),
        "DEL" => remove::del(&attachment(env)?, &conf).map(|()| None),
        "CHECK" => {
            version.needs("0.4.0", command)?;
            check::check(&Target::of(env)?, conf).map(|()| None)
        }
        "GC" => {
            version.needs("1.1.0", command)?;
            remove::gc(&conf).map(|()| None)
        }
        "STATUS" => {
            version.needs("1.1.0", command)?;
            status(&conf).map(|()| None)
        }
        _ => Err(Error::new(
            code::INVALID_ENVIRONMENT,
            format!("CNI_COMMAND `{command}` is none of ADD, DEL, CHECK, GC, STATUS, VERSION"),
        )),
    }
}

fn version(stdin: &[u8]) -> Result<Value, Error> {
    let asked: Value = if stdin.iter().all(u8::is_ascii_whitespace) {
        json!({})
    } else {
        serde_json::from_slice(stdin).map_err(|cause| {
            Error::new(code::DECODE, "cannot read standard input").because(cause)
        })?
    };
    let version = asked.get("cniVersion").and_then(Value::as_str).unwrap_or(NEWEST);
    Ok(json!({ "cniVersion": version, "supportedVersions": VERSIONS }))
}

/// STATUS has one code for every reason why an ADD would fail now.
fn status(conf: &NetConf) -> Result<(), Error> {
    let not_available = |error: Error| Error { code: code::NOT_AVAILABLE, ..error };
    ask(&conf.socket, &Call::Status).map(|_| ()).map_err(not_available)
}

/// What ADD and CHECK are about.
#[derive(Debug)]
struct Target {
    attachment: Attachment,
    netns: PathBuf,
    /// `namespace/name`.
    pod: Option<String>,
}

impl Target {
    fn of(env: &Environment) -> Result<Self, Error> {
        let netns = required(env, "CNI_NETNS")?.into();
        Ok(Self { attachment: attachment(env)?, netns, pod: pod(env) })
    }
}

fn attachment(env: &Environment) -> Result<Attachment, Error> {
    let container_id = required(env, "CNI_CONTAINERID")?;
    let legal = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if !container_id.starts_with(|c: char| c.is_ascii_alphanumeric())
        || !container_id.chars().all(legal)
    {
        let msg =
            format!("CNI_CONTAINERID `{container_id}` is not alphanumeric with `_`, `.`, `-`");
        return Err(Error::new(code::INVALID_ENVIRONMENT, msg));
    }
    let ifname = required(env, "CNI_IFNAME")?;
    let bad = |c: char| c == '/' || c == ':' || c.is_ascii_whitespace();
    if ifname.len() > 15 || matches!(ifname, "." | "..") || ifname.contains(bad) {
        let msg = format!("CNI_IFNAME `{ifname}` is no name for a device");
        return Err(Error::new(code::INVALID_ENVIRONMENT, msg));
    }
    Ok(Attachment { container_id: container_id.to_owned(), ifname: ifname.to_owned() })
}

/// From `CNI_ARGS`, `K8S_POD_NAMESPACE=…;K8S_POD_NAME=…`, as every Kubernetes runtime sets it.
fn pod(env: &Environment) -> Option<String> {
    let args: BTreeMap<&str, &str> =
        env.get("CNI_ARGS")?.split(';').filter_map(|pair| pair.split_once('=')).collect();
    Some(format!("{}/{}", args.get("K8S_POD_NAMESPACE")?, args.get("K8S_POD_NAME")?))
}

fn required<'a>(env: &'a Environment, name: &str) -> Result<&'a str, Error> {
    env.get(name).map(String::as_str).filter(|value| !value.is_empty()).ok_or_else(|| {
        Error::new(code::INVALID_ENVIRONMENT, format!("{name} is not set"))
            .because("CNI plugins are started by a container runtime")
    })
}

#[cfg(test)]
mod tests;
