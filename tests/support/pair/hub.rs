//! The hub as a process.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use anyhow::Result;

use super::daemon::{Daemon, program};
use super::operator::Operator;
use crate::ca::{Files, TRUST_DOMAIN};
use crate::cluster::Cluster;
use crate::folder::Folder;
use crate::guardian::CommandLine;
use crate::{deploy, ports};

/// Where a hub's certificate comes from.
#[derive(Debug, Clone)]
pub enum HubTrust {
    /// From files, as those of its agents: nobody joins.
    Files(Files),
    /// From a link CA that it makes.
    Made,
    /// From a link CA that somebody has put into its Secret.
    Brought,
}

impl From<Files> for HubTrust {
    fn from(files: Files) -> Self {
        Self::Files(files)
    }
}

/// How a hub shall run.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// Its namespace, that of the `RemoteIstio` resources.
    pub namespace: String,
    /// Namespaces whose services remotes may resolve; empty: its own.
    pub service_namespaces: Vec<String>,
    /// Where its certificate comes from.
    pub trust: HubTrust,
    /// How long the certificates it issues live, as its flag wants it; without, as long as is usual.
    pub certificate_lifetime: Option<String>,
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
    /// Signs for the mesh.
    pub signs_mesh: bool,
    /// More arguments.
    pub arguments: Vec<String>,
}

impl HubOptions {
    /// A hub in this namespace with this certificate.
    #[must_use]
    pub fn new(namespace: &str, trust: impl Into<HubTrust>, folder: &Arc<Folder>) -> Self {
        Self {
            namespace: namespace.to_owned(),
            service_namespaces: Vec::new(),
            trust: trust.into(),
            certificate_lifetime: None,
            folder: Arc::clone(folder),
            replica: "hub".to_owned(),
            trust_domain: TRUST_DOMAIN.to_owned(),
            server: None,
            log_level: "debug".to_owned(),
            signs_mesh: false,
            arguments: Vec::new(),
        }
    }
}

/// A hub; it ends with the handle.
#[derive(Debug)]
pub struct Hub {
    daemon: Daemon,
    sync_address: SocketAddr,
    enrolment_address: SocketAddr,
    operator: Operator,
}

impl Hub {
    /// Installs CRDs, namespace and roles on central, starts a hub under its token, and waits until it is ready.
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
        deploy::crds(&admin).await?;
        for namespace in std::iter::once(&options.namespace).chain(&options.service_namespaces) {
            deploy::namespace(&admin, namespace).await?;
        }
        deploy::roles(&admin, "hub", &options.namespace, &options.service_namespaces).await?;
        if options.signs_mesh {
            deploy::roles(&admin, "hub-mesh-ca", &options.namespace, &[]).await?;
        }
        let kubeconfig = central
            .service_account_kubeconfig(&options.namespace, "remote-istio-hub", options.server)
            .await?;
        let (sync_address, enrolment_address) = (ports::free()?, ports::free()?);
        let metrics_address = ports::free()?;
        let log = options.folder.log(&options.replica);
        let mut line = CommandLine::new(&options.replica, program("remote-istio-hub")?, log)
            .argument("run")
            .flag("namespace", &options.namespace)
            .flag("trust-domain", &options.trust_domain)
            .flag("sync-address", sync_address.to_string())
            .flag("metrics-address", metrics_address.to_string())
            .flag("replica", &options.replica)
            .flag("kubeconfig", kubeconfig)
            .flag("log-level", &options.log_level);
        line = trusting(line, &options, sync_address, enrolment_address);
        if !options.service_namespaces.is_empty() {
            line = line.flag("service-namespaces", options.service_namespaces.join(","));
        }
        if options.signs_mesh {
            line = line.argument("--sign-mesh-ca");
        }
        let line = options.arguments.iter().fold(line, CommandLine::argument);
        Ok(Self {
            daemon: Daemon::new(line, metrics_address),
            sync_address,
            enrolment_address,
            operator: Operator::new(&options.namespace, central.admin_kubeconfig())?,
        })
    }

    /// Where agents dial.
    #[must_use]
    pub fn sync_address(&self) -> SocketAddr {
        self.sync_address
    }

    /// Where remotes join, unless certificates come from files.
    #[must_use]
    pub fn enrolment_address(&self) -> SocketAddr {
        self.enrolment_address
    }

    /// Who runs the hub's commands as the administrator of central.
    #[must_use]
    pub fn operator(&self) -> &Operator {
        &self.operator
    }

    /// Sets what agents are told, and what its certificate is for.
    pub fn publish(&mut self, sync: &[SocketAddr], enrolment: &[SocketAddr]) {
        let texts = |addresses: &[SocketAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
        let line = self.daemon.command_mut();
        line.set_flag("public-sync", texts(sync));
        line.set_flag("public-enrolment", texts(enrolment));
    }
}

/// The flags of the link's trust.
fn trusting(line: CommandLine, options: &HubOptions, sync: SocketAddr, enrolment: SocketAddr) -> CommandLine {
    let joinable = |mode: &str| {
        let line = line
            .clone()
            .flag("link-ca", mode)
            .flag("enrolment-address", enrolment.to_string())
            .flag("public-sync", sync.to_string())
            .flag("public-enrolment", enrolment.to_string());
        match &options.certificate_lifetime {
            Some(lifetime) => line.flag("certificate-lifetime", lifetime),
            None => line,
        }
    };
    match &options.trust {
        HubTrust::Made => joinable("made"),
        HubTrust::Brought => joinable("secret"),
        HubTrust::Files(files) => line
            .flag("link-ca", "files")
            .flag("certificate", &files.certificate)
            .flag("key", &files.key)
            .flag("trust-bundle", &files.trust_bundle),
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
