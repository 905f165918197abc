// SPDX-License-Identifier: Apache-2.0
//! Where the API server is and how to prove who we are.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::kube::client::ClientBuilder;
use ::kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig, KubeconfigError};
use ::kube::runtime::watcher;
use ::kube::{Client, Config};
use thiserror::Error;

use super::link::LinkLayer;

/// Why there is no client.
#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot use kubeconfig `{}`", path.display())]
    Kubeconfig { path: PathBuf, source: KubeconfigError },

    #[error(
        "`{address}` is no address of an API server; set `k8sServiceHost` and `k8sServicePort`"
    )]
    Address { address: String, source: http::uri::InvalidUri },

    #[error("no API server is named; set `k8sServiceHost`, `kubeconfig` or `manifests`")]
    NoServer,

    #[error("cannot read `{}`; is a service account mounted?", path.display())]
    ServiceAccount { path: PathBuf, source: std::io::Error },

    #[error("cannot make a client for `{server}`")]
    Client { server: String, source: Box<kube::Error> },
}

/// How to reach the API server, and what to ask it for.
#[derive(Clone, Debug)]
pub struct Options {
    /// `k8sServiceHost` (or what the environment gives for it): an address, a name, or a whole
    /// URL. An `http://` URL is taken as it is, without credentials.
    pub host: Option<String>,
    /// `k8sServicePort`. 443 if absent.
    pub port: Option<u16>,
    /// Used instead of `host` and the service account.
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
    /// How long the server may keep a watch open, in seconds. Default: 290. A connection that
    /// went dead without a word is noticed 5 s later at the latest.
    pub watch_timeout: u32,
}

impl Options {
    pub fn new(node_name: impl Into<String>) -> Self {
        Self {
            host: None,
            port: None,
            kubeconfig: None,
            service_account: "/var/run/secrets/kubernetes.io/serviceaccount".into(),
            node_name: node_name.into(),
            proxy_name: None,
            answer_timeout: Duration::from_secs(30),
            page_size: 500,
            streamed_lists: true,
            watch_timeout: 290,
        }
    }

    pub(super) async fn config(&self) -> Result<Config, Error> {
        match (&self.kubeconfig, &self.host) {
            (Some(path), _) => {
                let wrap = |source| Error::Kubeconfig { path: path.clone(), source };
                let kubeconfig = Kubeconfig::read_from(path).map_err(wrap)?;
                let options = KubeConfigOptions::default();
                Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(wrap)
            }
            (None, Some(host)) => self.service_account_config(host),
            (None, None) => Err(Error::NoServer),
        }
    }

    fn service_account_config(&self, host: &str) -> Result<Config, Error> {
        let address = url(host, self.port);
        let uri = address.parse().map_err(|source| Error::Address { address, source })?;
        let mut config = Config::new(uri);
        if config.cluster_url.scheme_str() == Some("http") {
            // A token must not cross a wire in the clear, unless it is handed over for that.
            let token = self.service_account.join("token");
            config.auth_info.token_file = token.exists().then(|| text(&token));
            return Ok(config);
        }
        let readable = |name: &str| {
            let path = self.service_account.join(name);
            match fs::read(&path) {
                Ok(_) => Ok(path),
                Err(source) => Err(Error::ServiceAccount { path, source }),
            }
        };
        config.root_cert_file = Some(readable("ca.crt")?);
        config.auth_info =
            AuthInfo { token_file: Some(text(&readable("token")?)), ..AuthInfo::default() };
        Ok(config)
    }

    pub(super) fn watch_config(&self) -> watcher::Config {
        let config =
            watcher::Config::default().page_size(self.page_size).timeout(self.watch_timeout);
        if self.streamed_lists { config.streaming_lists() } else { config }
    }
}

/// A client that calls `answered` whenever the server answers as it should.
pub(super) fn build(
    config: &Config,
    options: &Options,
    answered: impl Fn() + Send + Sync + 'static,
) -> Result<Client, Error> {
    let mut config = config.clone();
    // The watcher waits before it tries again, and says that it does.
    config.default_retry = false;
    config.connect_timeout = Some(options.answer_timeout);
    let server = config.cluster_url.to_string();
    let builder = ClientBuilder::try_from(config)
        .map_err(|source| Error::Client { server, source: Box::new(source) })?;
    Ok(builder.with_layer(&LinkLayer::new(options.answer_timeout, answered)).build())
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

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
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
    async fn what_is_missing_is_named() {
        let mut options = Options::new("n1");
        let error = options.config().await.unwrap_err();
        assert!(error.to_string().contains("`k8sServiceHost`"), "{error}");

        options.host = Some("10.0.0.1".into());
        options.service_account = "/nonexistent".into();
        let error = options.config().await.unwrap_err();
        assert!(error.to_string().contains("`/nonexistent/ca.crt`"), "{error}");

        options.kubeconfig = Some("/nonexistent/config".into());
        let error = options.config().await.unwrap_err();
        assert!(error.to_string().contains("`/nonexistent/config`"), "{error}");
    }
}
