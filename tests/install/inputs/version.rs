//! An API server below the oldest supported version.

use anyhow::Result;
use serde_json::json;
use support::Cluster;
use support::deploy::NAMESPACE;
use support::release::{Chart, Release};
use support::tools::Tool;

use super::old_server::OldServer;
use crate::life::stage::{Pair, Stage, hub_values, lone, run};

#[test]
fn charts_are_refused_by_helm_below_kubernetes_1_33() -> Result<()> {
    run(async {
        let cluster = lone("old").await?;
        let old = OldServer::start(&cluster, 32).await?;
        let kubeconfig = old.kubeconfig(cluster.admin_kubeconfig(), &cluster)?;
        let agent = json!({"hub": {"enrolment": ["hub.test:8443"], "pins": [format!("sha256:{}", "0".repeat(64))]}});
        for helm in [Tool::Helm, Tool::Helm4] {
            for (chart, values) in [(Chart::Hub, hub_values()?), (Chart::Agent, agent.clone())] {
                let release = Release::of(&cluster, chart, NAMESPACE, helm)
                    .await?
                    .as_user(&kubeconfig);
                let said = release.try_install(&values).await?;
                assert_ne!(said.code, 0, "{}", said.text());
                assert!(said.err.contains("1.33") && said.err.contains("1.32"), "{}", said.err);
            }
        }
        // Through the same proxy with a version that is supported, it is installed.
        let new = OldServer::start(&cluster, 33).await?;
        let kubeconfig = new.kubeconfig(cluster.admin_kubeconfig(), &cluster)?;
        let release = Release::of(&cluster, Chart::Hub, NAMESPACE, Tool::Helm)
            .await?
            .as_user(&kubeconfig);
        release.try_install(&hub_values()?).await?.success("helm install")?;
        Ok(())
    })
}

/// What the process says and how it ends when its API server is of this minor version.
async fn ends_below(cluster: &Cluster, release: &mut Release<'_>) -> Result<()> {
    let old = OldServer::start(cluster, 32).await?;
    let pod = release.pod_mut()?;
    pod.terminate().await?;
    let line = pod.command_mut();
    let direct = line
        .environment
        .iter()
        .find(|(name, _)| name == "REMOTE_ISTIO_KUBECONFIG");
    let direct = direct.map(|(_, path)| path.clone()).unwrap_or_default();
    let kubeconfig = old.kubeconfig(direct.as_ref(), cluster)?;
    line.set_variable("REMOTE_ISTIO_KUBECONFIG", kubeconfig.to_string_lossy());
    let before = pod.log().len();
    pod.start()?;
    let code = pod.wait().await?;
    let log = pod.log()[before..].to_owned();
    assert_ne!(code, 0, "{log}");
    assert!(
        log.contains("1.32") && log.contains("1.33"),
        "it says what it found and what it needs: {log}"
    );
    // And comes back as soon as the API server is new enough.
    pod.command_mut().set_variable("REMOTE_ISTIO_KUBECONFIG", direct);
    pod.start()?;
    pod.ready().await
}

#[test]
fn hub_and_agent_end_below_kubernetes_1_33_and_touch_nothing() -> Result<()> {
    run(async {
        let stage = Stage::start().await?;
        let mut pair = Pair::joined(&stage, Tool::Helm, json!({}), json!({})).await?;
        let before = crate::life::record::owned(&stage.remote.admin()).await?;
        ends_below(&stage.remote, &mut pair.agent).await?;
        ends_below(&stage.central, &mut pair.hub).await?;
        stage.until_ready("True").await;
        let after = crate::life::record::owned(&stage.remote.admin()).await?;
        let uids = |owned: std::collections::BTreeMap<String, (String, String)>| -> Vec<(String, String)> {
            owned.into_iter().map(|(name, (uid, _))| (name, uid)).collect()
        };
        assert_eq!(uids(after), uids(before));
        Ok(())
    })
}
