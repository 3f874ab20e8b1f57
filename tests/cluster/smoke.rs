//! The real clusters themselves: they start, Deployments become Ready pods, and nothing is left running.

use std::path::Path;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use support::deploy;
use support::etcd::Etcd;
use support::eventually::eventually;
use support::workload::{self, is_ready};
use support::{Cluster, ClusterOptions, apply_yaml};

const DEPLOYMENT: &str = r"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      nodeName: kwok-0
      containers: [{name: web, image: web}]
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clusters_start_a_deployment_becomes_ready_and_nothing_is_left() -> Result<()> {
    let etcd = Etcd::start().await?;
    let with_controllers = ClusterOptions {
        controllers: true,
        ..ClusterOptions::named("busy").on(&etcd)
    };
    let (busy, quiet) = tokio::try_join!(
        Cluster::start(with_controllers),
        Cluster::start(ClusterOptions::named("quiet").on(&etcd))
    )?;
    deploy::crds(&quiet.admin()).await?;
    apply_yaml(&busy.admin(), DEPLOYMENT).await?;
    eventually("two ready pods with addresses", async || {
        let pods = workload::pods(&busy.admin(), "default", "app=web").await?;
        let ready = pods.iter().filter(|pod| is_ready(pod)).count();
        anyhow::ensure!(ready == 2, "{ready} pods are ready");
        Ok(())
    })
    .await;
    let before = Api::<Namespace>::all(quiet.admin()).get("default").await?;
    quiet.restart().await?;
    let after = Api::<Namespace>::all(quiet.admin()).get("default").await?;
    assert_eq!(
        before.metadata.uid, after.metadata.uid,
        "a restart keeps what was stored"
    );

    let pids = [busy.pid().context("runs")?, quiet.pid().context("runs")?, etcd.pid()];
    let folders = [
        busy.folder().path().to_owned(),
        quiet.folder().path().to_owned(),
        etcd.folder().path().to_owned(),
    ];
    drop((busy, quiet, etcd));
    assert_eq!(pids.map(|pid| Path::new(&format!("/proc/{pid}")).exists()), [false; 3]);
    assert_eq!(folders.map(|folder| folder.exists()), [false; 3]);
    Ok(())
}
