//! The two ways to the API server: one for watches, which may be silent, one for calls, which may not.

use std::path::Path;
use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use kube::config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use crate::observe::WATCH_READ_TIMEOUT;

/// Reaching the API server's port.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Silence that ends a call, and a request that cannot be handed over.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The clients, and where they lead.
#[derive(Clone)]
pub(super) struct Clients {
    pub(super) watches: Client,
    pub(super) calls: Client,
    pub(super) url: String,
}

/// There is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The file cannot be used.
    #[error("--kubeconfig {path}: cannot be used: {source}")]
    Kubeconfig {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: Box<KubeconfigError>,
    },
    /// Neither a pod's files nor a kubeconfig.
    #[error("no way to the API server: {0}; run this as a pod with a service account, or give --kubeconfig FILE")]
    Infer(Box<InferConfigError>),
    /// What was configured makes no client.
    #[error("no client for the API server can be made: {0}")]
    Client(Box<kube::Error>),
}

impl Clients {
    /// From a file, else as a pod does, else as kubectl would.
    pub(super) async fn load(kubeconfig: Option<&Path>) -> Result<Self, ClientError> {
        let mut config = match kubeconfig {
            Some(path) => read(path).await?,
            None => Config::infer()
                .await
                .map_err(|error| ClientError::Infer(Box::new(error)))?,
        };
        if !is_proxied_by_file(kubeconfig) {
            // kube takes HTTPS_PROXY from the environment, which is for the way to the hub.
            config.proxy_url = None;
        }
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.write_timeout = Some(CALL_TIMEOUT);
        config.reset_reader_on_write = true;
        // The engine and the watches decide themselves when to try again.
        config.default_retry = false;
        let name = concat!("remote-istio-agent/", env!("CARGO_PKG_VERSION"));
        config.headers.push((USER_AGENT, HeaderValue::from_static(name)));
        let with = |timeout: Duration| {
            let mut config = config.clone();
            config.read_timeout = Some(timeout);
            Client::try_from(config).map_err(|error| ClientError::Client(Box::new(error)))
        };
        Ok(Self {
            watches: with(WATCH_READ_TIMEOUT)?,
            calls: with(CALL_TIMEOUT)?,
            url: config.cluster_url.to_string(),
        })
    }
}

/// Whether the kubeconfig that was read asks for a proxy itself.
fn is_proxied_by_file(path: Option<&Path>) -> bool {
    let file = match path {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let Ok(file) = file else { return false };
    let context = file
        .contexts
        .iter()
        .find(|context| Some(&context.name) == file.current_context.as_ref())
        .and_then(|context| context.context.as_ref());
    let Some(context) = context else { return false };
    let cluster = file.clusters.iter().find(|cluster| cluster.name == context.cluster);
    let cluster = cluster.and_then(|cluster| cluster.cluster.as_ref());
    let proxy = cluster.and_then(|cluster| cluster.proxy_url.as_ref());
    proxy.is_some_and(|proxy| !proxy.is_empty())
}

async fn read(path: &Path) -> Result<Config, ClientError> {
    let wrong = |source| ClientError::Kubeconfig {
        path: path.display().to_string(),
        source: Box::new(source),
    };
    let file = Kubeconfig::read_from(path).map_err(wrong)?;
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .map_err(wrong)
}
