//! The controller manager, the scheduler, kwok and the one node it plays: Deployments become Ready pods.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::Api;
use kube::api::PostParams;

use super::{Cluster, ClusterOptions, LOOK_EVERY};
use crate::guardian::{CommandLine, Guarded};
use crate::tools::{Tool, Tools};

/// The node that kwok plays.
pub const NODE: &str = "kwok-0";

/// From start to a ready node and the first default `ServiceAccount`.
const START_DEADLINE: Duration = Duration::from_secs(90);

pub(super) async fn start(cluster: &Cluster, tools: &Tools, options: &ClusterOptions) -> Result<Vec<Guarded>> {
    let (folder, kubeconfig) = (cluster.folder(), cluster.admin_kubeconfig());
    let real = options.nodes_reach.is_some();
    let manager = CommandLine::new(
        format!("kube-controller-manager of {}", options.name),
        tools.path(Tool::ControllerManager),
        folder.log("kube-controller-manager"),
    )
    .flag("kubeconfig", kubeconfig)
    .flag("service-account-private-key-file", folder.access("accounts.key"))
    .flag("root-ca-file", folder.access("ca.crt"))
    .flag("controllers", if real { "*" } else { "*,-node-lifecycle-controller" })
    .flag("leader-elect", "false")
    .flag("secure-port", "0")
    .flag("kube-api-qps", "200")
    .flag("kube-api-burst", "400")
    .flag("v", "1");
    let scheduler = CommandLine::new(
        format!("kube-scheduler of {}", options.name),
        tools.path(Tool::Scheduler),
        folder.log("kube-scheduler"),
    )
    .flag("kubeconfig", kubeconfig)
    .flag("authentication-kubeconfig", kubeconfig)
    .flag("authorization-kubeconfig", kubeconfig)
    .flag("leader-elect", "false")
    .flag("secure-port", "0")
    .flag("v", "1");
    let mut lines = vec![manager, scheduler];
    if !real {
        lines.push(kwok(cluster, tools, options)?);
    }
    let processes = lines.iter().map(CommandLine::start).collect::<Result<Vec<_>>>()?;
    if !real {
        create_node(cluster).await?;
    }
    let tails = || {
        lines
            .iter()
            .map(|line| format!("{}:\n{}", line.name, line.log_tail()))
            .collect::<Vec<_>>()
    };
    let ready = async {
        while !is_ready(cluster, real).await {
            for (process, line) in processes.iter().zip(&lines) {
                if let Some(code) = process.exited() {
                    bail!("{} ended with code {code}:\n{}", line.name, line.log_tail());
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    };
    match tokio::time::timeout(START_DEADLINE, ready).await {
        Ok(ready) => ready?,
        Err(_) => bail!(
            "no default account or no ready node after {START_DEADLINE:?}:\n{}",
            tails().join("\n")
        ),
    }
    Ok(processes)
}

fn kwok(cluster: &Cluster, tools: &Tools, options: &ClusterOptions) -> Result<CommandLine> {
    let folder = cluster.folder();
    // An empty file in place of the user's own configuration.
    let configuration = folder.access("kwok.yaml");
    std::fs::write(&configuration, "").context("writing kwok's configuration")?;
    let line = CommandLine::new(
        format!("kwok of {}", options.name),
        tools.path(Tool::Kwok),
        folder.log("kwok"),
    );
    Ok(line
        .flag("kubeconfig", cluster.admin_kubeconfig())
        .flag("config", configuration)
        .flag("manage-all-nodes", "true")
        .flag("cidr", &options.pod_cidr)
        .flag("server-address", crate::ports::free()?.to_string()))
}

async fn create_node(cluster: &Cluster) -> Result<()> {
    let node: Node = serde_json::from_value(serde_json::json!({
        "metadata": {
            "name": NODE,
            "annotations": {"kwok.x-k8s.io/node": "fake", "node.alpha.kubernetes.io/ttl": "0"},
            "labels": {"kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux", "type": "kwok"},
        },
        "status": {"allocatable": {"cpu": "32", "memory": "256Gi", "pods": "1000"}},
    }))
    .context("a node")?;
    let nodes: Api<Node> = Api::all(cluster.admin());
    nodes
        .create(&PostParams::default(), &node)
        .await
        .context("creating kwok's node")?;
    Ok(())
}

/// Real nodes come later, from the caller.
async fn is_ready(cluster: &Cluster, real: bool) -> bool {
    let client = cluster.admin();
    let account = Api::<ServiceAccount>::namespaced(client.clone(), "default")
        .get("default")
        .await;
    if real {
        return account.is_ok();
    }
    let node = Api::<Node>::all(client).get(NODE).await.ok();
    let conditions = node
        .and_then(|node| node.status)
        .and_then(|status| status.conditions)
        .unwrap_or_default();
    account.is_ok()
        && conditions
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
