//! Central and any number of remotes with a hub and agents that join it, to look around in and to walk through.

mod by_hand;
mod environment;
mod join;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::future::try_join_all;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::cluster::{Cluster, ClusterOptions, NODE};
use crate::deploy::{self, NAMESPACE};
use crate::etcd::Etcd;
use crate::folder::Folder;
use crate::manifest::apply;
use crate::mesh_ca::MeshCa;
use crate::pair::{Agent, AgentIdentity, AgentOptions, Hub, HubOptions, HubTrust};
use crate::seed;
use crate::tools::{Tool, Tools};
use crate::workload::{self, is_ready};
pub use join::Joined;

/// From the Deployments to their Ready pods.
const PODS_DEADLINE: Duration = Duration::from_mins(1);

/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What the operators of the playground's remotes allow.
const POLICY: &str = "components: [citadel, sidecarInjector]\n";

/// Where Citadel keeps its own CA.
const MESH_CA_SECRET: &str = "istio-ca-secret";

/// Clusters that start at the same time; more only make each other wait.
const STARTED_AT_ONCE: usize = 4;

/// Remotes that one machine may be asked for; each is an API server of about 300 MB.
pub const REMOTES_MAX: usize = 50;

/// A remote with its agent.
#[derive(Debug)]
pub struct Remote {
    /// `remote-N`, also the name of its `RemoteIstio`.
    pub name: String,
    /// UID of its namespace kube-system, by which a hub knows the cluster.
    pub cluster_uid: String,
    /// The agent, which does not run before it joins; it ends before its cluster.
    pub agent: Agent,
    /// The cluster.
    pub cluster: Cluster,
}

/// All of it; it ends with the handle.
#[derive(Debug)]
pub struct Playground {
    /// The hub on central.
    pub hub: Hub,
    /// The remotes, in order.
    pub remotes: Vec<Remote>,
    /// Central, with the control plane's Deployments.
    pub central: Cluster,
    /// Tokens, exported certificates and logs.
    pub folder: Arc<Folder>,
    tools: Tools,
}

impl Playground {
    /// Starts everything but the agents, which still have to join; `say` is told what happens next.
    ///
    /// # Errors
    /// A part does not start: the text names it and shows the end of its log.
    pub async fn start(remotes: usize, say: impl Fn(&str)) -> Result<Self> {
        if remotes > REMOTES_MAX {
            bail!("{remotes} remotes: ask for {REMOTES_MAX} at most");
        }
        let tools = Tools::ready().await?;
        say(&format!(
            "starting etcd and {} API servers with controllers",
            remotes + 1
        ));
        let etcd = Etcd::start().await?;
        let clusters = (0..=remotes).map(|number| Cluster::start(options(number, &etcd)));
        let started: Vec<Cluster> = stream::iter(clusters).buffered(STARTED_AT_ONCE).try_collect().await?;
        let mut clusters = started.into_iter();
        let central = clusters.next().context("central is the first")?;
        let remote_clusters: Vec<Cluster> = clusters.collect();
        say("starting the control plane's Deployments on central");
        control_plane(&central).await?;
        say("starting the hub under its ServiceAccount");
        let folder = Folder::create("playground")?;
        let mut options = HubOptions::new(NAMESPACE, HubTrust::Made, &folder);
        "info".clone_into(&mut options.log_level);
        options.signs_mesh = true;
        let hub = Hub::start(&central, options).await?;
        let prepared = remote_clusters
            .into_iter()
            .enumerate()
            .map(|(index, cluster)| prepare(cluster, format!("remote-{}", index + 1), &folder));
        let remotes = try_join_all(prepared).await?;
        Ok(Self {
            hub,
            remotes,
            central,
            folder,
            tools,
        })
    }

    /// A cluster beside the others, with nothing of ours in it.
    ///
    /// # Errors
    /// It does not start.
    pub async fn another_cluster(&self) -> Result<Cluster> {
        Cluster::start(options(self.remotes.len() + 1, self.central.etcd())).await
    }

    /// Makes a remote of a cluster, with an agent that does not run yet; gives its place among the remotes.
    ///
    /// # Errors
    /// Something is not installed.
    pub async fn add(&mut self, cluster: Cluster, name: &str) -> Result<usize> {
        self.remotes
            .push(prepare(cluster, name.to_owned(), &self.folder).await?);
        Ok(self.remotes.len() - 1)
    }

    /// The tools, for a person or a demo.
    #[must_use]
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// kubectl, built from its module.
    #[must_use]
    pub fn kubectl(&self) -> &std::path::Path {
        self.tools.path(Tool::Kubectl)
    }

    /// Ends agents and hub in order; the rest goes with the handle.
    ///
    /// # Errors
    /// One of them does not end.
    pub async fn stop(mut self) -> Result<()> {
        for remote in &mut self.remotes {
            if remote.agent.pid().is_some() {
                remote.agent.terminate().await?;
            }
        }
        if self.hub.pid().is_some() {
            self.hub.terminate().await?;
        }
        let clusters = self.remotes.iter().map(|remote| &remote.cluster);
        for cluster in clusters.chain([&self.central]) {
            by_hand::end(cluster.folder().path());
        }
        Ok(())
    }
}

/// Namespace, roles, policy and agent of a remote.
async fn prepare(cluster: Cluster, name: String, folder: &Arc<Folder>) -> Result<Remote> {
    let identity = AgentIdentity::Token {
        file: folder.access(&format!("{name}.token")),
        pins: Vec::new(),
        enrolments: Vec::new(),
    };
    let mut options = AgentOptions::with(&name, NAMESPACE, identity, folder);
    "info".clone_into(&mut options.log_level);
    options.components = true;
    let policy = folder.access(&format!("{name}.policy.yaml"));
    std::fs::write(&policy, POLICY).context("writing a policy")?;
    options.arguments.push(format!("--policy={}", policy.display()));
    let agent = Agent::prepare(&cluster, options).await?;
    let namespaces: Api<Namespace> = Api::all(cluster.admin());
    let system = namespaces.get("kube-system").await.context("reading kube-system")?;
    Ok(Remote {
        cluster_uid: system.uid().unwrap_or_default(),
        name,
        agent,
        cluster,
    })
}

/// Address ranges as in the blog: no two clusters share one.
fn options(number: usize, etcd: &Arc<Etcd>) -> ClusterOptions {
    let name = match number {
        0 => "central".to_owned(),
        _ => format!("remote-{number}"),
    };
    ClusterOptions {
        pod_cidr: format!("10.{}.0.0/16", 24 + 4 * number),
        service_cidr: format!("172.{}.0.0/16", 20 + number),
        controllers: true,
        ..ClusterOptions::named(&name).on(etcd)
    }
}

/// Makes the mesh CA that Citadel would make, and the Deployments, and waits for a Ready pod of each.
async fn control_plane(central: &Cluster) -> Result<()> {
    let client = central.admin();
    deploy::namespace(&client, NAMESPACE).await?;
    let ca = tokio::task::spawn_blocking(|| MeshCa::self_signed("cluster.local")).await;
    let ca = ca.context("making a mesh CA")??;
    let data: serde_json::Map<String, Value> = ca
        .data()
        .into_iter()
        .map(|(key, text)| (key.to_owned(), Value::String(text)))
        .collect();
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": MESH_CA_SECRET, "namespace": NAMESPACE},
        "type": "istio.io/ca-root",
        "stringData": data,
    });
    apply(&client, secret).await?;
    for document in seed::control_plane(NODE) {
        apply(&client, document).await?;
    }
    for part in seed::PARTS {
        let selector = part.label_selector();
        let ready = async {
            loop {
                let pods = workload::pods(&client, NAMESPACE, &selector).await?;
                if pods.iter().any(is_ready) {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(PODS_DEADLINE, ready)
            .await
            .with_context(|| format!("no ready pod of {} after {PODS_DEADLINE:?}", part.deployment))??;
    }
    Ok(())
}
