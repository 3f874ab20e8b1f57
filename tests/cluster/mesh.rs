//! One hub and its agents as real processes, in namespaces of their own, with a proxy on every way between them.

mod central;
mod clusters;
mod components;
mod etcd;
mod injector;
mod joining;
mod objects;
mod permissions;
mod processes;
mod remote;
mod whole;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::Result;
use kube::Client;
use remote_istio::tls::CertificateFiles;
use remote_istio::wire::v1;
use serde_json::{Value, json};
use support::Cluster;
use support::ca::{Authority, Files, Leaf, TRUST_DOMAIN};
use support::eventually::{eventually, seen};
use support::pair::{Agent, AgentIdentity, AgentOptions, Hub, HubOptions, HubTrust, Link};
use support::peer::ScriptedAgent;
use support::proxy::Proxy;
use tokio::runtime::Runtime;

use super::audit::Audit;
pub use clusters::Clusters;
pub use components::{CITADEL, INJECTOR, condition, seed_spec};
pub use etcd::Etcd;
pub use injector::Serving;
pub use joining::{CA_SECRET, IDENTITY_SECRET, Ways, write_token};
pub use processes::{run_agent, run_hub};
pub use remote::Remote;
pub use whole::{changes, whole};

/// Our own decisions, without every frame of the libraries below.
const LOG_LEVEL: &str = "info,remote_istio=debug";

/// Runs a test on the one runtime of this process: clusters and clients are shared, and a client dies with its runtime.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().build().expect("a runtime")
    });
    RUNTIME.block_on(test)
}

/// A hub, its agents, and everything between them.
pub struct Mesh<'clusters> {
    /// The hub's way to central's API server.
    pub central_api: Proxy,
    namespace: String,
    central: &'clusters Cluster,
    central_client: Client,
    link: Link,
    hub_files: Files,
    hub: Hub,
    replicas: Vec<Hub>,
    ways: Option<Ways>,
    policy: Option<Value>,
    components: bool,
    remotes: Vec<Remote>,
}

/// Where certificates come from, and what is granted.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Remotes join by tokens, and the CA is the hub's own or a brought one; without, everybody has files.
    pub joinable: Option<HubTrust>,
    /// How long the hub's certificates live; without, as long as is usual.
    pub lifetime: Option<String>,
    /// The policy that remotes have in a file; without, they have none.
    pub policy: Option<Value>,
    /// The remotes' operators have set up the roles of components.
    pub components: bool,
    /// Central's operator lets the hub sign for the mesh.
    pub signs_mesh: bool,
}

impl Setup {
    /// The hub makes its CA.
    pub fn made() -> Self {
        Self {
            joinable: Some(HubTrust::Made),
            ..Self::default()
        }
    }

    /// Remotes whose operators allow both components and have set up their roles, and a hub that signs for the mesh.
    pub fn components() -> Self {
        Self {
            policy: Some(json!({"components": ["citadel", "sidecarInjector"]})),
            components: true,
            signs_mesh: true,
            ..Self::default()
        }
    }

    /// With this policy in a file of the remotes.
    pub fn with_policy(self, policy: Value) -> Self {
        Self {
            policy: Some(policy),
            ..self
        }
    }

    /// The CA of [`Mesh::authority`] is brought.
    pub fn brought() -> Self {
        Self {
            joinable: Some(HubTrust::Brought),
            ..Self::default()
        }
    }

    /// With certificates that live so long.
    pub fn living(mut self, lifetime: &str) -> Self {
        self.lifetime = Some(lifetime.to_owned());
        self
    }
}

impl Mesh<'static> {
    /// A hub and the agent of one remote, running, in namespaces called `name`. No `RemoteIstio` yet.
    pub async fn start(name: &str) -> Self {
        let mut mesh = Self::without_agents(name).await;
        mesh.launch_agent(0).await;
        mesh
    }

    /// As [`Mesh::start`] with an agent that does not run yet.
    pub async fn without_agents(name: &str) -> Self {
        let mut mesh = Self::without_hub(name).await;
        mesh.start_hub().await;
        mesh
    }

    /// As [`Mesh::start`] with nothing running yet.
    pub async fn without_hub(name: &str) -> Self {
        let clusters = Self::clusters().await;
        Box::pin(Mesh::prepare(clusters, name, 1, Setup::default())).await
    }

    /// A hub that runs and the agents of so many remotes (at most two) that do not, and that still have to join.
    pub async fn joinable(name: &str, remotes: usize, setup: Setup) -> Self {
        let mut mesh = Self::joinable_without_hub(name, remotes, setup).await;
        mesh.start_hub().await;
        mesh
    }

    /// As [`Mesh::joinable`] with a hub that does not run yet.
    pub async fn joinable_without_hub(name: &str, remotes: usize, setup: Setup) -> Self {
        let clusters = Self::clusters().await;
        Box::pin(Mesh::prepare(clusters, name, remotes, setup)).await
    }

    /// A hub and the agent of one remote where Deployments become pods, both running.
    pub async fn with_pods(name: &str, setup: Setup) -> Self {
        let mut mesh = Self::with_pods_without_hub(name, setup).await;
        mesh.start_hub().await;
        mesh.launch_agent(0).await;
        mesh
    }

    /// As [`Mesh::with_pods`] with nothing running yet.
    pub async fn with_pods_without_hub(name: &str, setup: Setup) -> Self {
        let clusters = Box::pin(Clusters::with_pods()).await;
        Box::pin(Mesh::prepare(clusters, name, 1, setup)).await
    }

    /// A hub and the agent of one remote, both running, of the clusters that all tests share.
    pub async fn started(name: &str, setup: Setup) -> Self {
        let clusters = Self::clusters().await;
        let mut mesh = Box::pin(Mesh::prepare(clusters, name, 1, setup)).await;
        mesh.start_hub().await;
        mesh.launch_agent(0).await;
        mesh
    }

    /// The clusters that all tests share.
    pub async fn shared_clusters() -> &'static Clusters {
        Self::clusters().await
    }

    async fn clusters() -> &'static Clusters {
        static SHARED: tokio::sync::OnceCell<Clusters> = tokio::sync::OnceCell::const_new();
        SHARED.get_or_init(|| Box::pin(Clusters::shared())).await
    }
}

impl<'clusters> Mesh<'clusters> {
    /// A hub and an agent for every remote of these clusters, running.
    pub async fn on(clusters: &'clusters Clusters, name: &str) -> Self {
        let mut mesh = Box::pin(Self::prepare(clusters, name, clusters.remotes(), Setup::default())).await;
        mesh.start_hub().await;
        for index in 0..clusters.remotes() {
            mesh.launch_agent(index).await;
        }
        mesh
    }

    /// A hub and an agent for each remote of these clusters, nothing running.
    pub async fn prepare(clusters: &'clusters Clusters, name: &str, remotes: usize, setup: Setup) -> Self {
        let link = Link::create(name).expect("a link CA");
        let central = clusters.central();
        let central_api = Proxy::start(central.address()).await.expect("a proxy");
        let hub_files = link.hub().expect("a certificate");
        let options = HubOptions {
            server: Some(central_api.address()),
            log_level: LOG_LEVEL.to_owned(),
            certificate_lifetime: setup.lifetime,
            trust: setup.joinable.clone().unwrap_or(HubTrust::Files(hub_files.clone())),
            signs_mesh: setup.signs_mesh,
            ..HubOptions::new(name, hub_files.clone(), link.folder())
        };
        let hub = Hub::prepare(central, options).await.expect("a hub");
        let mut mesh = Self {
            central_api,
            namespace: name.to_owned(),
            central_client: central.admin(),
            central,
            link,
            hub_files,
            hub,
            replicas: Vec::new(),
            ways: None,
            policy: setup.policy,
            components: setup.components,
            remotes: Vec::new(),
        };
        match setup.joinable {
            None => {}
            Some(trust) => mesh.prepare_joining(&trust).await,
        }
        for index in 0..remotes {
            let remote = mesh
                .prepare_remote(clusters.remote(index), &mesh.remote_name(index), name)
                .await;
            mesh.remotes.push(remote);
        }
        mesh
    }

    async fn prepare_remote(&self, cluster: &Cluster, name: &str, namespace: &str) -> Remote {
        let api = Proxy::start(cluster.address()).await.expect("a proxy");
        let link = Proxy::start(self.hub.sync_address()).await.expect("a proxy");
        let files = self.link.remote(name).expect("a certificate");
        let identity = match &self.ways {
            None => AgentIdentity::Files {
                hubs: vec![link.address()],
                files: files.clone(),
            },
            Some(_) => AgentIdentity::Token {
                file: self.link.folder().access(&format!("{name}.token")),
                pins: Vec::new(),
                enrolments: Vec::new(),
            },
        };
        let policy_file = self.link.folder().access(&format!("{name}.policy.yaml"));
        let mut arguments = Vec::new();
        if let Some(policy) = &self.policy {
            replace_file(&policy_file, &policy.to_string());
            arguments.push(format!("--policy={}", policy_file.display()));
        }
        let options = AgentOptions {
            server: Some(api.address()),
            log_level: LOG_LEVEL.to_owned(),
            components: self.components,
            arguments,
            ..AgentOptions::with(name, namespace, identity, self.link.folder())
        };
        let agent = Agent::prepare(cluster, options).await.expect("an agent");
        Remote {
            name: name.to_owned(),
            api,
            link,
            namespace: namespace.to_owned(),
            client: cluster.admin(),
            audit_log: cluster.audit_log(),
            policy_file,
            files,
            agent,
        }
    }

    /// The namespace of everything, on central and on remotes.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The central cluster.
    pub fn central(&self) -> &Cluster {
        self.central
    }

    /// One remote.
    pub fn remote(&self, index: usize) -> &Remote {
        &self.remotes[index]
    }

    /// One remote, to end its agent.
    pub fn remote_mut(&mut self, index: usize) -> &mut Remote {
        &mut self.remotes[index]
    }

    /// The name of a remote and of its `RemoteIstio`.
    pub fn remote_name(&self, index: usize) -> String {
        format!("{}-{index}", self.namespace)
    }

    /// `kill -9`.
    pub async fn kill_hub(&mut self) {
        self.hub.kill().await.expect("killed");
    }

    /// SIGTERM, and the exit code.
    pub async fn terminate_hub(&mut self) -> i32 {
        self.hub.terminate().await.expect("ended")
    }

    /// Starts the hub without waiting for anything.
    pub fn launch_hub(&mut self) {
        self.hub.start().expect("started");
    }

    /// Starts the hub and waits until it is ready.
    pub async fn start_hub(&mut self) {
        self.launch_hub();
        self.hub.ready().await.expect("ready");
    }

    /// Starts an agent without waiting for the hub.
    #[expect(clippy::unused_async, reason = "stands beside others that wait")]
    pub async fn launch_agent(&mut self, index: usize) {
        self.remotes[index].agent.start().expect("started");
    }

    /// Starts an agent and waits until it is ready, which includes the hub's welcome.
    pub async fn start_agent(&mut self, index: usize) {
        self.launch_agent(index).await;
        self.remotes[index].agent.ready().await.expect("ready");
    }

    /// Starts an agent that dials another hub.
    pub async fn launch_agent_to(&mut self, index: usize, hub: SocketAddr) {
        self.launch_agent_saying(index, &format!("--hub={hub}")).await;
    }

    /// Starts an agent with one flag `--NAME=VALUE` set so.
    pub async fn launch_agent_saying(&mut self, index: usize, flag: &str) {
        let name = flag.split_inclusive('=').next().expect("--NAME=VALUE").to_owned();
        let arguments = &mut self.remotes[index].agent.command_mut().arguments;
        arguments.retain(|argument| !argument.to_string_lossy().starts_with(&name));
        arguments.push(flag.into());
        self.launch_agent(index).await;
    }

    /// Starts an agent with another certificate.
    pub async fn launch_agent_with(&mut self, index: usize, authority: &Authority, leaf: &Leaf) {
        let name = self.remote_name(index);
        self.link.issue_by(authority, &name, leaf).expect("a certificate");
        self.launch_agent(index).await;
    }

    /// A scripted agent that is let in as the remote `name`.
    pub async fn scripted_agent(&self, name: &str, hello: v1::Hello) -> Result<ScriptedAgent> {
        let files = self.link.remote(name)?;
        ScriptedAgent::open(self.hub.sync_address(), for_tls(&files), TRUST_DOMAIN, hello).await
    }

    /// A scripted agent that begins with any bytes.
    pub async fn scripted_agent_raw(&self, name: &str, first: Vec<u8>) -> Result<ScriptedAgent> {
        let files = self.link.remote(name)?;
        ScriptedAgent::open_raw(self.hub.sync_address(), for_tls(&files), TRUST_DOMAIN, first).await
    }

    /// Where agents dial, without a proxy.
    pub fn hub_address(&self) -> SocketAddr {
        self.hub.sync_address()
    }

    /// The link CA.
    pub fn authority(&self) -> &Authority {
        self.link.authority()
    }

    /// The hub's certificate.
    pub fn hub_files(&self) -> &Files {
        &self.hub_files
    }

    /// The hub's certificate, for a scripted hub in its place.
    pub fn hub_certificate(&self) -> CertificateFiles {
        for_tls(&self.hub_files)
    }

    /// A remote's certificate.
    pub fn remote_files(&self, index: usize) -> &Files {
        &self.remotes[index].files
    }

    /// One metric of the hub, summed over all series that have every one of `labels`.
    pub async fn hub_metric(&self, name: &str, labels: &[&str]) -> f64 {
        let metrics = self.hub.metrics().await.expect("metrics");
        metrics.sum(&format!("remote_istio_hub_{name}"), labels)
    }

    /// How many lists of each kind the hub has finished.
    pub async fn hub_lists(&self) -> Result<BTreeMap<&'static str, f64>> {
        let metrics = self.hub.metrics().await?;
        let name = "remote_istio_hub_watch_lists_total";
        let count = |kind| (kind, metrics.sum(name, &[&format!("kind=\"{kind}\"")]));
        Ok(["pods", "services", "remoteistios"].into_iter().map(count).collect())
    }

    /// Whether the hub says that it is ready.
    pub async fn hub_is_ready(&self) -> bool {
        let answer = support::http::get(self.hub.metrics_address(), "/readyz").await;
        matches!(answer, Ok((200, _)))
    }

    /// Waits until the hub has so many sessions.
    pub async fn until_sessions(&self, count: u32) {
        eventually(&format!("the hub has {count} sessions"), || async {
            let now = self.hub_metric("sessions", &[]).await;
            seen((now - f64::from(count)).abs() < 0.5, now)
        })
        .await;
    }

    /// What the hub has logged last.
    pub fn hub_log(&self) -> String {
        self.hub.command().log_tail()
    }

    /// What an agent has logged last.
    pub fn agent_log(&self, index: usize) -> String {
        self.remotes[index].agent.command().log_tail()
    }

    /// Waits until the hub's log has these words.
    pub async fn until_hub_logs(&self, words: &str) {
        processes::until_log_has(&self.hub, words).await;
    }

    /// Waits until an agent's log has these words.
    pub async fn until_agent_logs(&self, index: usize, words: &str) {
        processes::until_log_has(&self.remotes[index].agent, words).await;
    }

    /// Writes on central from now on.
    pub async fn central_audit(&self) -> Audit {
        Audit::from_now(self.central.audit_log(), &self.namespace).await
    }
}

/// As the kubelet changes a mounted file: whoever reads it finds the old one or the new one whole.
fn replace_file(path: &Path, text: &str) {
    let unfinished = path.with_extension("unfinished");
    std::fs::write(&unfinished, text).expect("written");
    std::fs::rename(&unfinished, path).expect("moved into place");
}

fn for_tls(files: &Files) -> CertificateFiles {
    let path = PathBuf::clone;
    CertificateFiles {
        certificate: path(&files.certificate),
        key: path(&files.key),
        trust_bundle: path(&files.trust_bundle),
    }
}
