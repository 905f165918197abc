// SPDX-License-Identifier: Apache-2.0
//! Puts flags, environment, file and defaults together and checks the result.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value as Json;
use thiserror::Error;

use super::keys::{self, KEYS, Key};
use super::later::{self, Meaning};
use super::{Algorithm, Config, KubeProxyReplacement, LogLevel, PortRange, rules, stray};

/// Why there is no configuration.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Error {
    #[error("`{file}` is not YAML: {reason}")]
    NotYaml { file: String, reason: String },

    #[error("`{file}` holds no mapping of keys")]
    NotMapping { file: String },

    #[error("unknown key `{key}` in `{file}`{}", hint.as_ref().map(|h| format!("; {h}")).unwrap_or_default())]
    UnknownKey { file: String, key: String, hint: Option<String> },

    #[error("environment `{name}` is no key's; did you mean `{meant}`?")]
    UnknownVariable { name: String, meant: String },

    #[error("`{key}: {value}` is not supported by this version")]
    NotSupported { key: String, value: String },

    #[error("{origin}: {reason}")]
    Value { origin: String, reason: String },

    #[error(
        "nothing says where services come from; set `k8sServiceHost`, `k8s.apiServerURLs` or \
         `kubeconfig` for an API server, or `manifests` for a directory"
    )]
    NoSource,

    #[error("`{first}` and `{second}` cannot be combined: {why}")]
    Combination { first: String, second: String, why: &'static str },
}

/// Everything a configuration is made from, read beforehand.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// By key name.
    pub flags: Vec<(&'static str, String)>,
    pub env: BTreeMap<String, String>,
    /// Name and text.
    pub file: Option<(PathBuf, String)>,
    pub host: HostFacts,
}

/// What defaults depend on.
#[derive(Clone, Debug, Default)]
pub struct HostFacts {
    pub hostname: String,
    /// Where cgroup2 is mounted, `/run/culvert/cgroupv2` first when it is among them.
    pub cgroup2: Option<PathBuf>,
}

/// The values that somebody gave, by key name, with how they were given.
#[derive(Debug, Default)]
pub(super) struct Given(BTreeMap<&'static str, (String, String)>);

impl Given {
    /// Whether the key was given by somebody, or is at its default.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn put(&mut self, key: &'static Key, value: String, origin: String) {
        self.0.insert(key.name, (value, origin));
    }
}

impl Inputs {
    /// The validated configuration.
    pub fn resolve(&self) -> Result<Config, Error> {
        let mut config = Config::default();
        let mut given = Given::default();

        self.take_file(&mut given, &mut config.warnings)?;
        let meant = self.take_env(&mut given);
        config.warnings.extend(stray::check(&self.env)?);
        for (name, value) in &self.flags {
            if let Some(key) = keys::find(name) {
                given.put(key, value.clone(), format!("`--{}`", key.flag));
            }
        }

        for key in KEYS {
            let Some((value, origin)) = given.0.get(key.name) else { continue };
            (key.set)(&mut config, value).map_err(|reason| {
                let reason = match value.trim() {
                    "" => format!("it is empty; write {}, or leave it out", (key.kind)()),
                    _ => reason,
                };
                Error::Value { origin: origin.clone(), reason }
            })?;
            if let Some(new) = later::deprecated_value(key.name, value) {
                config.warnings.push(format!(
                    "{origin}: `{value}` is deprecated; write `{}: \"{new}\"`",
                    key.name
                ));
            }
        }
        // The environment of every pod names the API server; that alone is nobody's wish.
        for name in meant {
            given.0.remove(name);
        }

        self.fill(&mut config, &given);
        rules::check(&config, &given)?;
        Ok(config)
    }

    fn take_file(&self, given: &mut Given, warnings: &mut Vec<String>) -> Result<(), Error> {
        let Some((path, text)) = &self.file else { return Ok(()) };
        let file = path.display().to_string();
        if text.trim().is_empty() {
            return Ok(());
        }
        let tree: Json = serde_saphyr::from_str(text)
            .map_err(|e| Error::NotYaml { file: file.clone(), reason: e.to_string() })?;

        let mut leaves = Vec::new();
        match &tree {
            Json::Object(_) => flatten("", &tree, &mut leaves),
            Json::Null => {}
            _ => return Err(Error::NotMapping { file }),
        }
        for (name, value) in leaves {
            let origin = format!("`{name}` in `{file}`");
            if let Some(key) = keys::find(&name) {
                given.put(key, value, origin);
                continue;
            }
            match later::meaning(&name, &value) {
                Meaning::Nothing => {}
                Meaning::NotSupported => return Err(Error::NotSupported { key: name, value }),
                Meaning::Unknown => {
                    let hint = later::suggestion(&name);
                    return Err(Error::UnknownKey { file, key: name, hint });
                }
                Meaning::Old { key, value: new } => {
                    warnings.push(format!("{origin} is deprecated; write `{key}: {new}` instead"));
                    if let Some(key) = keys::find(key).filter(|key| !given.has(key.name)) {
                        given.put(key, new.to_owned(), origin);
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns the keys that only a name which every pod has (`KUBERNETES_SERVICE_HOST`) gave.
    fn take_env(&self, given: &mut Given) -> Vec<&'static str> {
        let mut ambient = Vec::new();
        for key in KEYS {
            let own = key.env();
            if let Some(value) = self.env.get(&own) {
                given.put(key, value.clone(), format!("environment `{own}`"));
                continue;
            }
            // Ours first, then ones that others set: those are weaker than the file, which
            // somebody wrote for us.
            if given.has(key.name) {
                continue;
            }
            let alias = key.aliases.iter().find_map(|alias| Some((alias, self.env.get(*alias)?)));
            if let Some((alias, value)) = alias {
                given.put(key, value.clone(), format!("environment `{alias}`"));
                ambient.push(key.name);
            }
        }
        ambient
    }

    /// Fills in what depends on the host or on other keys.
    fn fill(&self, config: &mut Config, given: &Given) {
        if config.node_name.is_empty() {
            config.node_name = self.host.hostname.to_lowercase();
        }
        if !given.has("socket") {
            config.socket = config.state_dir.join("culvert.sock");
        }
        if !given.has("cgroupRoot") {
            let mounted = self.host.cgroup2.clone();
            config.cgroup_root = mounted.unwrap_or_else(|| "/run/culvert/cgroupv2".into());
        }
        if !given.has("bpf.snatPortRange") {
            config.bpf.snat_port_range = larger_side(config.node_port.range);
        }
        if !given.has("bpf.maglevMax") {
            let all = config.load_balancer.algorithm == Algorithm::Maglev;
            config.bpf.maglev_max = if all { 7_900_000 } else { 131_072 };
        }
        if config.debug && !given.has("logLevel") {
            config.log_level = LogLevel("debug".to_owned());
        }
        if config.kube_proxy_replacement == KubeProxyReplacement::False {
            for (name, field) in [
                ("nodePort.enabled", &mut config.node_port.enabled),
                ("externalIPs.enabled", &mut config.external_ips),
                ("hostPort.enabled", &mut config.host_port),
                ("socketLB.enabled", &mut config.socket_lb.enabled),
            ] {
                *field = *field && given.has(name);
            }
        }
        if !config.node_port.enabled && !given.has("nodePort.bindProtection") {
            config.node_port.bind_protection = false;
        }
    }
}

/// The unprivileged ports below `range` or those above it, whichever are more.
fn larger_side(range: PortRange) -> PortRange {
    let below = PortRange { min: 1024, max: range.min.saturating_sub(1) };
    let above = PortRange { min: range.max.saturating_add(1), max: u16::MAX };
    let size = |side: PortRange| u32::from(side.max) + 1 - u32::from(side.min.min(side.max));
    let below_fits = below.min <= below.max;
    if range.max == u16::MAX || (below_fits && size(below) > size(above)) { below } else { above }
}

/// `{a: {b: 1}}` becomes `("a.b", "1")`. A null is a key that nobody set.
fn flatten(prefix: &str, value: &Json, leaves: &mut Vec<(String, String)>) {
    match value {
        Json::Object(map) => {
            for (name, value) in map {
                let name =
                    if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                flatten(&name, value, leaves);
            }
        }
        Json::Null => {}
        Json::String(text) => leaves.push((prefix.to_owned(), text.clone())),
        Json::Array(items) => {
            let items = items.iter().map(|item| match item {
                Json::String(text) => text.clone(),
                other => other.to_string(),
            });
            leaves.push((prefix.to_owned(), items.collect::<Vec<_>>().join(",")));
        }
        scalar => leaves.push((prefix.to_owned(), scalar.to_string())),
    }
}

#[cfg(test)]
mod tests;
