//! Real Kubernetes clusters on this machine: an API server, and with it, when asked for, the controller manager and
//! kwok, so that Deployments become Ready pods without containers.

mod access;
mod controllers;
mod shared;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;

use self::access::Access;
pub use self::controllers::NODE;
pub use self::shared::Clusters;
use crate::etcd::Etcd;
use crate::folder::Folder;
use crate::guardian::{CommandLine, Guarded, Signal};
use crate::ports;
use crate::tools::{Tool, Tools};

/// From start to ready; on a busy machine, several at once.
const START_DEADLINE: Duration = Duration::from_mins(2);

/// From one try to the next.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is written to the audit log: every write, with the names, without bodies.
const AUDIT_POLICY: &str = r"apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  verbs: [get, list, watch]
- level: Metadata
";

/// What is written to the audit log where every question of ours counts: all that `ServiceAccount`s ask, and every write of
/// others.
const AUDIT_POLICY_OF_ALL: &str = r"apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  userGroups: ['system:serviceaccounts']
- level: None
  verbs: [get, list, watch]
- level: Metadata
";

/// What goes to [`Cluster::audit_log`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditLog {
    /// Nothing: there is none.
    None,
    /// Every write.
    Writes,
    /// Every write, and what `ServiceAccount`s read. A watch is there from its start.
    All,
}

/// How a cluster shall be.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Its name: prefix in etcd, issuer of its tokens, name of its log.
    pub name: String,
    /// Addresses of pods that kwok hands out.
    pub pod_cidr: String,
    /// Addresses of Services.
    pub service_cidr: String,
    /// With controller manager and kwok.
    pub controllers: bool,
    /// What goes to [`Cluster::audit_log`].
    pub audit: AuditLog,
    /// Where it stores; without, an etcd of its own.
    pub etcd: Option<Arc<Etcd>>,
    /// With real nodes, which the caller adds ([`crate::node`]): the API server listens on this address, which nodes and
    /// pods reach, and nobody plays nodes.
    pub nodes_reach: Option<IpAddr>,
    /// More flags of the API server.
    pub flags: Vec<String>,
}

impl ClusterOptions {
    /// An API server and nothing else.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            pod_cidr: "10.24.0.0/16".to_owned(),
            service_cidr: "10.90.0.0/16".to_owned(),
            controllers: false,
            audit: AuditLog::None,
            etcd: None,
            nodes_reach: None,
            flags: Vec::new(),
        }
    }

    /// Stores in this etcd.
    #[must_use]
    pub fn on(mut self, etcd: &Arc<Etcd>) -> Self {
        self.etcd = Some(Arc::clone(etcd));
        self
    }
}

/// A running cluster; it ends with the handle.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    address: SocketAddr,
    access: Access,
    line: CommandLine,
    api_server: Mutex<Option<Guarded>>,
    /// Dropped before the folder, as all processes are.
    controllers: Mutex<Vec<Guarded>>,
    etcd: Arc<Etcd>,
    folder: Arc<Folder>,
}

impl Cluster {
    /// Starts one on a free port and waits until it is ready.
    ///
    /// # Errors
    /// The tools cannot be built, or a process does not start: the text has the end of its log.
    pub async fn start(options: ClusterOptions) -> Result<Self> {
        let tools = Tools::ready().await?;
        let etcd = match &options.etcd {
            Some(etcd) => Arc::clone(etcd),
            None => Etcd::start().await?,
        };
        let folder = Folder::create(&options.name)?;
        let mut address = ports::free()?;
        let mut names = Vec::new();
        if let Some(reached) = options.nodes_reach {
            address.set_ip(reached);
            names = access::names(address, &options.service_cidr)?;
        }
        let access = Access::create(&options.name, address, names, Arc::clone(&folder)).await?;
        let line = api_server(&tools, &options, &etcd, address, &access)?;
        let cluster = Self {
            name: options.name.clone(),
            address,
            access,
            line,
            api_server: Mutex::new(None),
            controllers: Mutex::new(Vec::new()),
            etcd,
            folder,
        };
        cluster.restart().await?;
        if options.controllers {
            let started = controllers::start(&cluster, &tools, &options).await?;
            *cluster.controllers.lock() = started;
        }
        Ok(cluster)
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the API server listens, with TLS.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of the API server.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The CA of the API server's certificate, PEM.
    #[must_use]
    pub fn ca(&self) -> &str {
        self.access.ca()
    }

    /// A client of the administrator. A client works only on the runtime that it was made on.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn admin(&self) -> kube::Client {
        self.access.admin()
    }

    /// The administrator's kubeconfig, for a person or kubectl; never for hub or agents.
    #[must_use]
    pub fn admin_kubeconfig(&self) -> &Path {
        self.access.admin_kubeconfig()
    }

    /// A kubeconfig of a `ServiceAccount` that exists, with a token that the API server made for it. `server`: another
    /// way to the API server than the direct one, as through a proxy.
    ///
    /// # Errors
    /// There is no such account.
    pub async fn service_account_kubeconfig(
        &self,
        namespace: &str,
        account: &str,
        server: Option<SocketAddr>,
    ) -> Result<PathBuf> {
        self.access
            .service_account(&self.admin(), namespace, account, server)
            .await
    }

    /// Logs of the API server and the controllers.
    #[must_use]
    pub fn folder(&self) -> &Arc<Folder> {
        &self.folder
    }

    /// Where it stores.
    #[must_use]
    pub fn etcd(&self) -> &Arc<Etcd> {
        &self.etcd
    }

    /// The audit log, one JSON object a line, if it was asked for.
    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        self.folder.log("audit")
    }

    /// The process of the API server while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.api_server.lock().as_ref().map(Guarded::pid)
    }

    /// Stops the API server where it is, or lets it go on: connections stand, nobody answers.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let mut process = self.api_server.lock();
        let process = process
            .as_mut()
            .with_context(|| format!("API server {} does not run", self.name))?;
        process.signal(signal)
    }

    /// Kills the API server; what it stored stays.
    ///
    /// # Errors
    /// It does not go.
    pub async fn stop(&self) -> Result<()> {
        let process = self.api_server.lock().take();
        match process {
            Some(mut process) => process.kill().await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// Stops the API server if it runs, starts it again on the same port with the same data, and waits until it is ready.
    ///
    /// # Errors
    /// It does not start: the text has the end of its log.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        let process = self.line.start()?;
        *self.api_server.lock() = Some(process);
        match tokio::time::timeout(START_DEADLINE, self.answers()).await {
            Ok(ready) => ready,
            Err(_) => bail!(
                "API server {} is not ready after {START_DEADLINE:?}:\n{}",
                self.name,
                self.line.log_tail()
            ),
        }
    }

    /// Waits without a limit of its own.
    async fn answers(&self) -> Result<()> {
        let client = self.access.admin();
        loop {
            if let Some(code) = self.api_server.lock().as_ref().and_then(Guarded::exited) {
                bail!(
                    "API server {} ended with code {code}:\n{}",
                    self.name,
                    self.line.log_tail()
                );
            }
            let request = http::Request::get("/readyz").body(Vec::new()).context("a request")?;
            if client.request_text(request).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn api_server(
    tools: &Tools,
    options: &ClusterOptions,
    etcd: &Etcd,
    address: SocketAddr,
    access: &Access,
) -> Result<CommandLine> {
    let folder = access.folder();
    let log = folder.log("kube-apiserver");
    let mut line = CommandLine::new(
        format!("kube-apiserver of {}", options.name),
        tools.path(Tool::ApiServer),
        log,
    )
    .flag("etcd-servers", format!("http://{}", etcd.address()))
    .flag("etcd-prefix", format!("/{}", options.name))
    .flag("bind-address", address.ip().to_string())
    .flag("advertise-address", address.ip().to_string())
    .flag("secure-port", address.port().to_string())
    .flag("tls-cert-file", access.path("tls.crt"))
    .flag("tls-private-key-file", access.path("tls.key"))
    .flag("cert-dir", folder.data("certificates"))
    .flag("token-auth-file", access.path("tokens.csv"))
    .flag("authorization-mode", "RBAC")
    .flag("service-account-issuer", format!("https://{}.test", options.name))
    .flag("service-account-key-file", access.path("accounts.pub"))
    .flag("service-account-signing-key-file", access.path("accounts.key"))
    .flag("service-cluster-ip-range", &options.service_cidr)
    .flag("default-watch-cache-size", "50")
    .flag("profiling", "false")
    .flag("v", "1");
    if options.nodes_reach.is_some() {
        // The API server stands outside of the nodes: it reaches pods, but no address of a Service.
        line = line
            .flag("enable-aggregator-routing", "true")
            .flag("kubelet-preferred-address-types", "InternalIP");
    } else {
        line = line.flag("endpoint-reconciler-type", "none");
    }
    // Without controllers nobody makes the default ServiceAccounts that the one asks for; with them nobody takes away the
    // taint that the other puts on a new node, for the controller that would is left out.
    let unwanted = match (options.controllers, options.nodes_reach) {
        (false, _) => Some("ServiceAccount"),
        (true, None) => Some("TaintNodesByCondition"),
        (true, Some(_)) => None,
    };
    if let Some(unwanted) = unwanted {
        line = line.flag("disable-admission-plugins", unwanted);
    }
    let audited = match options.audit {
        AuditLog::None => None,
        AuditLog::Writes => Some(AUDIT_POLICY),
        AuditLog::All => Some(AUDIT_POLICY_OF_ALL),
    };
    if let Some(audited) = audited {
        let policy = access.path("audit-policy.yaml");
        std::fs::write(&policy, audited).context("writing the audit policy")?;
        line = line
            .flag("audit-policy-file", policy)
            .flag("audit-log-mode", "blocking")
            .flag("audit-log-path", folder.log("audit"));
    }
    Ok(options.flags.iter().fold(line, CommandLine::argument))
}
