// SPDX-License-Identifier: Apache-2.0
//! Where the API server is and how to prove who we are.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ::kube::Config;
use ::kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use ::kube::runtime::watcher;
use http::Uri;
use thiserror::Error;

use super::observer::Observer;

/// Why there is no client.
#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot use kubeconfig `{}`", path.display())]
    Kubeconfig { path: PathBuf, source: KubeconfigError },

    #[error(
        "`{address}` is no address of an API server; set `k8sServiceHost` and `k8sServicePort`, or \
         `k8s.apiServerURLs`"
    )]
    Address { address: String, source: http::uri::InvalidUri },

    #[error(
        "no API server is named; set `k8sServiceHost`, `k8s.apiServerURLs`, `kubeconfig` or \
         `manifests`"
    )]
    NoServer,

    #[error("cannot read `{}`; is a service account mounted?", path.display())]
    ServiceAccount { path: PathBuf, source: std::io::Error },

    #[error("cannot make a client for `{server}`")]
    Client { server: String, source: Box<kube::Error> },
}

/// One way to one cluster.
#[derive(Debug)]
pub(super) struct Connection {
    pub config: Config,
    /// At least one, the preferred one first.
    pub servers: Vec<Uri>,
    /// Holds the bearer token, where it is not `config` that says who we are.
    pub token: Option<PathBuf>,
}

/// How to reach the API server, and what to ask it for.
#[derive(Clone, Debug)]
pub struct Options {
    /// `k8sServiceHost` (or what the environment gives for it): an address, a name, or a whole
    /// URL. An `http://` URL is taken as it is, without credentials.
    pub host: Option<String>,
    /// `k8sServicePort`. 443 if absent.
    pub port: Option<u16>,
    /// `k8s.apiServerURLs`: servers of one cluster, tried in the order of their health. Used
    /// instead of `host`.
    pub servers: Vec<String>,
    /// Used instead of `host`, `servers` and the service account.
    pub kubeconfig: Option<PathBuf>,
    /// Holds `token` and `ca.crt`; both are read again as they change.
    pub service_account: PathBuf,
    /// Pods are asked for on this node only.
    pub node_name: String,
    /// `k8s.serviceProxyName`, see [`crate::k8s::decode::Decoder::new`].
    pub proxy_name: Option<String>,
    /// A server that has not begun to answer by then counts as away. Default: 30 s.
    pub answer_timeout: Duration,
    /// Objects in one page of a list. Default: 500.
    pub page_size: u32,
    /// Ask for the first list as a stream (Kubernetes 1.32 and later), falling back to pages.
    pub streamed_lists: bool,
    /// How long the server may keep a watch open, in seconds. Default: 290.
    pub watch_timeout: u32,
    /// A server that says nothing for this long, though watches are open, is asked whether it is
    /// there, and has as long to answer. Default: 10 s.
    pub silence: Duration,
    /// Is told of every request. Default: nobody is.
    pub observer: Observer,
}

impl Options {
    pub fn new(node_name: impl Into<String>) -> Self {
        Self {
            host: None,
            port: None,
            servers: Vec::new(),
            kubeconfig: None,
            service_account: "/var/run/secrets/kubernetes.io/serviceaccount".into(),
            node_name: node_name.into(),
            proxy_name: None,
            answer_timeout: Duration::from_secs(30),
            page_size: 500,
            streamed_lists: true,
            watch_timeout: 290,
            silence: Duration::from_secs(10),
            observer: Observer::default(),
        }
    }

    pub(super) async fn connection(&self) -> Result<Connection, Error> {
        if let Some(path) = &self.kubeconfig {
            let wrap = |source| Error::Kubeconfig { path: path.clone(), source };
            let kubeconfig = Kubeconfig::read_from(path).map_err(wrap)?;
            let options = KubeConfigOptions::default();
            let config =
                Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(wrap)?;
            let servers = vec![config.cluster_url.clone()];
            return Ok(Connection { config, servers, token: None });
        }
        let urls = match (self.servers.as_slice(), &self.host) {
            ([], Some(host)) => vec![url(host, self.port)],
            ([], None) => return Err(Error::NoServer),
            (urls, _) => urls.iter().map(|each| url(each, None)).collect(),
        };
        let parse = |address: String| match address.parse::<Uri>() {
            Ok(uri) => Ok(uri),
            Err(source) => Err(Error::Address { address, source }),
        };
        self.with_account(urls.into_iter().map(parse).collect::<Result<_, _>>()?)
    }

    fn with_account(&self, servers: Vec<Uri>) -> Result<Connection, Error> {
        let mut config = Config::new(servers[0].clone());
        if servers.iter().all(|server| server.scheme_str() == Some("http")) {
            // A token must not cross a wire in the clear, unless it is handed over for that.
            let token = self.service_account.join("token");
            let token = token.exists().then_some(token);
            return Ok(Connection { config, servers, token });
        }
        let readable = |name: &str| {
            let path = self.service_account.join(name);
            match fs::read(&path) {
                Ok(_) => Ok(path),
                Err(source) => Err(Error::ServiceAccount { path, source }),
            }
        };
        config.root_cert_file = Some(readable("ca.crt")?);
        Ok(Connection { config, servers, token: Some(readable("token")?) })
    }

    pub(super) fn watch_config(&self) -> watcher::Config {
        let config =
            watcher::Config::default().page_size(self.page_size).timeout(self.watch_timeout);
        if self.streamed_lists { config.streaming_lists() } else { config }
    }
}

fn url(host: &str, port: Option<u16>) -> String {
    if host.contains("://") {
        return host.to_owned();
    }
    let port = port.unwrap_or(443);
    match host.parse() {
        Ok(IpAddr::V6(ip)) => format!("https://[{ip}]:{port}"),
        _ => format!("https://{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_may_be_named_in_every_usual_way() {
        let table = [
            ("10.0.0.1", Some(6443), "https://10.0.0.1:6443"),
            ("fd00::1", None, "https://[fd00::1]:443"),
            ("api.example", Some(443), "https://api.example:443"),
            ("http://127.0.0.1:8080", Some(6443), "http://127.0.0.1:8080"),
        ];
        for (host, port, expected) in table {
            assert_eq!(url(host, port), expected);
        }
    }

    #[tokio::test]
    async fn several_servers_are_kept_in_their_order() {
        let servers = ["http://10.0.0.1:8080", "http://10.0.0.2:8080"].map(str::to_owned);
        let options = Options { servers: servers.into(), ..Options::new("n1") };
        let hosts: Vec<_> = options.connection().await.unwrap().servers;
        let hosts: Vec<_> = hosts.iter().map(|uri| uri.host().unwrap()).collect();
        assert_eq!(hosts, ["10.0.0.1", "10.0.0.2"]);
    }

    #[tokio::test]
    async fn what_is_missing_is_named() {
        let mut options = Options::new("n1");
        let error = options.connection().await.unwrap_err();
        assert!(error.to_string().contains("`k8sServiceHost`"), "{error}");

        options.host = Some("10.0.0.1".into());
        options.service_account = "/nonexistent".into();
        let error = options.connection().await.unwrap_err();
        assert!(error.to_string().contains("`/nonexistent/ca.crt`"), "{error}");

        options.kubeconfig = Some("/nonexistent/config".into());
        let error = options.connection().await.unwrap_err();
        assert!(error.to_string().contains("`/nonexistent/config`"), "{error}");
    }
}
