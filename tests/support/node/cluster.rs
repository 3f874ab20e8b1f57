//! A cluster whose nodes are real.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::ListParams;

use super::ground::Ground;
use super::machine::{Machine, Plan};
use super::name_server;
use crate::cluster::{Cluster, ClusterOptions};
use crate::etcd::Etcd;
use crate::manifest::apply;
use crate::workload::is_ready;

/// From the start of the kubelets to ready nodes with a name server, on a busy machine.
const READY_DEADLINE: Duration = Duration::from_mins(3);

/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Nodes, API server and controllers; all ends with the handle, nodes first.
#[derive(Debug)]
pub struct RealCluster {
    /// Its nodes.
    pub machines: Vec<Machine>,
    /// Its API server, controller manager and scheduler, beside the nodes.
    pub cluster: Cluster,
    ground: Arc<Ground>,
}

impl RealCluster {
    /// Starts the cluster of this number with so many nodes, which know these images beside those of sandbox and name
    /// server, and waits until nodes and name server are ready.
    ///
    /// # Errors
    /// A part does not start: the text names it and shows the end of its log.
    pub async fn start(
        ground: &Arc<Ground>,
        etcd: &Arc<Etcd>,
        (number, name): (u8, &str),
        nodes: u8,
        images: &[PathBuf],
    ) -> Result<Self> {
        let options = ClusterOptions {
            pod_cidr: ground.pods(number),
            service_cidr: ground.services(number),
            controllers: true,
            nodes_reach: Some(ground.machine()),
            ..ClusterOptions::named(name).on(etcd)
        };
        let cluster = Cluster::start(options).await?;
        let machines = (0..nodes).map(|node| {
            let plan = Plan {
                name: format!("{name}-node-{}", node + 1),
                cluster: &cluster,
                pods: ground.pods(number),
                pods_of_node: (number, node),
                name_server: ground.name_server(number),
                images,
            };
            Machine::start(ground, plan)
        });
        let machines = try_join_all(machines).await;
        if machines.is_err() {
            cluster.folder().keep_logs();
        }
        let started = Self {
            machines: machines?,
            cluster,
            ground: Arc::clone(ground),
        };
        for object in name_server::objects(&ground.name_server(number)) {
            apply(&started.cluster.admin(), object).await?;
        }
        let ready = started.ready().await;
        if ready.is_err() {
            started.cluster.folder().keep_logs();
        }
        ready.map(|()| started)
    }

    /// Cuts this cluster off another: nothing passes between their nodes, and nobody is told.
    ///
    /// # Errors
    /// The router does not take it.
    pub async fn cut_from(&self, other: &Self) -> Result<()> {
        self.ground.cut(&self.links(), &other.links()).await
    }

    /// Undoes [`Self::cut_from`].
    ///
    /// # Errors
    /// The router does not take it.
    pub async fn mend_with(&self, other: &Self) -> Result<()> {
        self.ground.mend(&self.links(), &other.links()).await
    }

    fn links(&self) -> Vec<&str> {
        self.machines.iter().map(Machine::link).collect()
    }

    async fn ready(&self) -> Result<()> {
        let ready = async {
            loop {
                if self.is_ready().await.unwrap_or(false) {
                    return Ok(());
                }
                if let Some(ended) = self.machines.iter().find_map(Machine::ended) {
                    bail!(ended);
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if let Ok(ready) = tokio::time::timeout(READY_DEADLINE, ready).await {
            return ready;
        }
        let tails: Vec<String> = self.machines.iter().map(Machine::tails).collect();
        bail!(
            "{}: nodes and name server are not ready after {READY_DEADLINE:?}:\n{}",
            self.cluster.name(),
            tails.join("\n")
        )
    }

    async fn is_ready(&self) -> Result<bool> {
        let client = self.cluster.admin();
        let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
        let ready = nodes.items.iter().filter(|node| node_is_ready(node)).count();
        let selector = ListParams::default().labels(name_server::SELECTOR);
        let servers = Api::<Pod>::namespaced(client, "kube-system").list(&selector).await?;
        Ok(ready == self.machines.len() && servers.items.iter().any(is_ready))
    }
}

/// Ready, and free of the taint that a new node has.
fn node_is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let tainted = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    ready && tainted.is_none_or(Vec::is_empty)
}
