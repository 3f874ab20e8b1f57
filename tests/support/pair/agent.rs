//! An agent as a process.

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

/// How an agent shall run.
#[derive(Debug, Clone)]
pub struct AgentOptions {
    /// Its namespace.
    pub namespace: String,
    /// Namespaces that it may write services into; empty: its own.
    pub service_namespaces: Vec<String>,
    /// Where it dials.
    pub hubs: Vec<SocketAddr>,
    /// Its certificate.
    pub files: Files,
    /// Where its log goes.
    pub folder: Arc<Folder>,
    /// The name of its log.
    pub name: String,
    /// The trust domain.
    pub trust_domain: String,
    /// Another way to the API server than the direct one.
    pub server: Option<SocketAddr>,
    /// The level of its log.
    pub log_level: String,
    /// More arguments.
    pub arguments: Vec<String>,
}

impl AgentOptions {
    /// An agent in this namespace that dials this hub with this certificate.
    #[must_use]
    pub fn new(name: &str, namespace: &str, hub: SocketAddr, files: Files, folder: &Arc<Folder>) -> Self {
        Self {
            namespace: namespace.to_owned(),
            service_namespaces: Vec::new(),
            hubs: vec![hub],
            files,
            folder: Arc::clone(folder),
            name: name.to_owned(),
            trust_domain: TRUST_DOMAIN.to_owned(),
            server: None,
            log_level: "debug".to_owned(),
            arguments: Vec::new(),
        }
    }
}

/// An agent; it ends with the handle.
#[derive(Debug)]
pub struct Agent {
    daemon: Daemon,
}

impl Agent {
    /// Installs namespace and roles on the remote, starts an agent under its token, and waits until it is ready.
    ///
    /// # Errors
    /// Something is not installed, or the agent does not become ready.
    pub async fn start(remote: &Cluster, options: AgentOptions) -> Result<Self> {
        let mut agent = Self::prepare(remote, options).await?;
        agent.daemon.start()?;
        agent.daemon.ready().await?;
        Ok(agent)
    }

    /// All of [`Self::start`] but the start.
    ///
    /// # Errors
    /// Something is not installed.
    pub async fn prepare(remote: &Cluster, options: AgentOptions) -> Result<Self> {
        let admin = remote.admin();
        for namespace in std::iter::once(&options.namespace).chain(&options.service_namespaces) {
            deploy::namespace(&admin, namespace).await?;
        }
        deploy::roles(&admin, "agent", &options.namespace, &options.service_namespaces).await?;
        let kubeconfig = remote
            .service_account_kubeconfig(&options.namespace, "remote-istio-agent", options.server)
            .await?;
        let metrics_address = ports::free()?;
        let log = options.folder.log(&options.name);
        let mut line = CommandLine::new(&options.name, program("remote-istio-agent")?, log).argument("run");
        for hub in &options.hubs {
            line = line.flag("hub", hub.to_string());
        }
        line = line
            .flag("trust-domain", &options.trust_domain)
            .flag("certificate", &options.files.certificate)
            .flag("key", &options.files.key)
            .flag("trust-bundle", &options.files.trust_bundle)
            .flag("namespace", &options.namespace)
            .flag("metrics-address", metrics_address.to_string())
            .flag("kubeconfig", kubeconfig)
            .flag("log-level", &options.log_level);
        if !options.service_namespaces.is_empty() {
            line = line.flag("service-namespaces", options.service_namespaces.join(","));
        }
        let line = options.arguments.iter().fold(line, CommandLine::argument);
        Ok(Self {
            daemon: Daemon::new(line, metrics_address),
        })
    }
}

impl Deref for Agent {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

impl DerefMut for Agent {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}
