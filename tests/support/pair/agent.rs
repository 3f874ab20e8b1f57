//! An agent as a process.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;

use super::daemon::{Daemon, program};
use super::operator::Invitation;
use crate::ca::{Files, TRUST_DOMAIN};
use crate::cluster::Cluster;
use crate::folder::Folder;
use crate::guardian::CommandLine;
use crate::{deploy, ports};

/// Where an agent's certificate comes from.
#[derive(Debug, Clone)]
pub enum AgentIdentity {
    /// From files, for these hubs.
    Files {
        /// Where it dials.
        hubs: Vec<SocketAddr>,
        /// Its certificate.
        files: Files,
    },
    /// It joins by a token.
    Token {
        /// Where the token lies, or will lie.
        file: PathBuf,
        /// Pins of the CA.
        pins: Vec<String>,
        /// Where it joins, HOST:PORT.
        enrolments: Vec<String>,
    },
}

impl AgentIdentity {
    /// By an invitation whose token is in `file`, or will be.
    #[must_use]
    pub fn invited(invitation: &Invitation, file: PathBuf) -> Self {
        Self::Token {
            file,
            pins: invitation.pins.clone(),
            enrolments: invitation.enrolments.clone(),
        }
    }
}

/// How an agent shall run.
#[derive(Debug, Clone)]
pub struct AgentOptions {
    /// Its namespace.
    pub namespace: String,
    /// Namespaces that it may write services into; empty: its own.
    pub service_namespaces: Vec<String>,
    /// Where its certificate comes from.
    pub identity: AgentIdentity,
    /// Where its log goes.
    pub folder: Arc<Folder>,
    /// The name of its log.
    pub name: String,
    /// Another way to the API server than the direct one.
    pub server: Option<SocketAddr>,
    /// The level of its log.
    pub log_level: String,
    /// With the roles that components take.
    pub components: bool,
    /// More arguments.
    pub arguments: Vec<String>,
}

impl AgentOptions {
    /// An agent in this namespace that dials this hub with this certificate.
    #[must_use]
    pub fn new(name: &str, namespace: &str, hub: SocketAddr, files: Files, folder: &Arc<Folder>) -> Self {
        let hubs = vec![hub];
        Self::with(name, namespace, AgentIdentity::Files { hubs, files }, folder)
    }

    /// An agent in this namespace that comes by its certificate so.
    #[must_use]
    pub fn with(name: &str, namespace: &str, identity: AgentIdentity, folder: &Arc<Folder>) -> Self {
        Self {
            namespace: namespace.to_owned(),
            service_namespaces: Vec::new(),
            identity,
            folder: Arc::clone(folder),
            name: name.to_owned(),
            server: None,
            log_level: "debug".to_owned(),
            components: false,
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
        if options.components {
            deploy::roles(&admin, "components", &options.namespace, &[]).await?;
        }
        let kubeconfig = remote
            .service_account_kubeconfig(&options.namespace, "remote-istio-agent", options.server)
            .await?;
        let metrics_address = ports::free()?;
        let log = options.folder.log(&options.name);
        let line = CommandLine::new(&options.name, program("remote-istio-agent")?, log).argument("run");
        let mut line = options
            .identity
            .flags(line)
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

impl AgentIdentity {
    fn flags(&self, line: CommandLine) -> CommandLine {
        let several = |line: CommandLine, name: &str, values: &[String]| {
            values.iter().fold(line, |line, value| line.flag(name, value))
        };
        match self {
            Self::Files { hubs, files } => {
                let hubs: Vec<String> = hubs.iter().map(ToString::to_string).collect();
                several(line, "hub", &hubs)
                    .flag("trust-domain", TRUST_DOMAIN)
                    .flag("certificate", &files.certificate)
                    .flag("key", &files.key)
                    .flag("trust-bundle", &files.trust_bundle)
            }
            Self::Token { file, pins, enrolments } => {
                let line = several(line, "enrolment", enrolments);
                several(line, "pin", pins).flag("token-file", file)
            }
        }
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
