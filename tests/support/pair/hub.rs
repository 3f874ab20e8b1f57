//! The hub as a process.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use anyhow::Result;

use super::daemon::{Daemon, program};
use crate::ca::{Files, TRUST_DOMAIN};
use crate::cluster::Cluster;
use crate::folder::Folder;
use crate::guardian::CommandLine;
use crate::{deploy, ports};

/// How a hub shall run.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// Its namespace, that of the `RemoteIstio` resources.
    pub namespace: String,
    /// Namespaces whose services remotes may resolve; empty: its own.
    pub service_namespaces: Vec<String>,
    /// Its certificate.
    pub files: Files,
    /// Where its log goes.
    pub folder: Arc<Folder>,
    /// Its name among replicas, and of its log.
    pub replica: String,
    /// The trust domain.
    pub trust_domain: String,
    /// Another way to the API server than the direct one.
    pub server: Option<SocketAddr>,
    /// The level of its log.
    pub log_level: String,
    /// More arguments.
    pub arguments: Vec<String>,
}

impl HubOptions {
    /// A hub in this namespace with this certificate.
    #[must_use]
    pub fn new(namespace: &str, files: Files, folder: &Arc<Folder>) -> Self {
        Self {
            namespace: namespace.to_owned(),
            service_namespaces: Vec::new(),
            files,
            folder: Arc::clone(folder),
            replica: "hub".to_owned(),
            trust_domain: TRUST_DOMAIN.to_owned(),
            server: None,
            log_level: "debug".to_owned(),
            arguments: Vec::new(),
        }
    }
}

/// A hub; it ends with the handle.
#[derive(Debug)]
pub struct Hub {
    daemon: Daemon,
    sync_address: SocketAddr,
}

impl Hub {
    /// Installs CRD, namespace and roles on central, starts a hub under its token, and waits until it is ready.
    ///
    /// # Errors
    /// Something is not installed, or the hub does not become ready.
    pub async fn start(central: &Cluster, options: HubOptions) -> Result<Self> {
        let mut hub = Self::prepare(central, options).await?;
        hub.daemon.start()?;
        hub.daemon.ready().await?;
        Ok(hub)
    }

    /// All of [`Self::start`] but the start.
    ///
    /// # Errors
    /// Something is not installed.
    pub async fn prepare(central: &Cluster, options: HubOptions) -> Result<Self> {
        let admin = central.admin();
        deploy::crd(&admin).await?;
        for namespace in std::iter::once(&options.namespace).chain(&options.service_namespaces) {
            deploy::namespace(&admin, namespace).await?;
        }
        deploy::roles(&admin, "hub", &options.namespace, &options.service_namespaces).await?;
        let kubeconfig = central
            .service_account_kubeconfig(&options.namespace, "remote-istio-hub", options.server)
            .await?;
        let (sync_address, metrics_address) = (ports::free()?, ports::free()?);
        let log = options.folder.log(&options.replica);
        let mut line = CommandLine::new(&options.replica, program("remote-istio-hub")?, log)
            .argument("run")
            .flag("namespace", &options.namespace)
            .flag("trust-domain", &options.trust_domain)
            .flag("certificate", &options.files.certificate)
            .flag("key", &options.files.key)
            .flag("trust-bundle", &options.files.trust_bundle)
            .flag("sync-address", sync_address.to_string())
            .flag("metrics-address", metrics_address.to_string())
            .flag("replica", &options.replica)
            .flag("kubeconfig", kubeconfig)
            .flag("log-level", &options.log_level);
        if !options.service_namespaces.is_empty() {
            line = line.flag("service-namespaces", options.service_namespaces.join(","));
        }
        let line = options.arguments.iter().fold(line, CommandLine::argument);
        Ok(Self {
            daemon: Daemon::new(line, metrics_address),
            sync_address,
        })
    }

    /// Where agents dial.
    #[must_use]
    pub fn sync_address(&self) -> SocketAddr {
        self.sync_address
    }
}

impl Deref for Hub {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

impl DerefMut for Hub {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}
