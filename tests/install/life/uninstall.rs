//! `helm uninstall` of either end first, with what the remote holds kept or removed, and installation again.

use anyhow::{Context as _, Result};
use serde_json::json;
use support::deploy::NAMESPACE;
use support::eventually::{eventually, seen};
use support::release::{Chart, Release};
use support::tools::Tool;

use super::record::{Record, owned};
use super::stage::{CA_SECRET, IDENTITY_SECRET, Pair, REMOTE, Stage, object, run, secret};

const CRD: (&str, &str) = ("apiextensions.k8s.io/v1", "CustomResourceDefinition");

/// With Citadel and a CA for it, so that there is more than services to keep.
async fn joined_with_citadel<'a>(stage: &'a Stage, helm: Tool, on_uninstall: &str) -> Result<Pair<'a>> {
    stage.put_mesh_ca().await?;
    let hub = json!({"meshCA": {"sign": true}});
    let agent = json!({"components": {"citadel": {"enabled": true}}, "onUninstall": on_uninstall});
    let pair = Pair::joined(stage, helm, hub, agent).await?;
    stage
        .apply_remote_istio(json!({"citadel": {"replicaCount": 1}}))
        .await?;
    let remote = stage.remote.admin();
    eventually("Citadel is deployed", || async {
        let owned = owned(&remote).await.map_err(|error| format!("{error:#}"))?;
        seen(
            owned.contains_key("Deployment istio-citadel"),
            owned.into_keys().collect::<Vec<_>>(),
        )
        .map_err(|seen| format!("{seen}\n{}", stage.log_tails()))
    })
    .await;
    Ok(pair)
}

async fn hub_leaves_and_comes_back(helm: Tool) -> Result<()> {
    let stage = Stage::start().await?;
    let mut pair = Pair::joined(&stage, helm, json!({}), json!({})).await?;
    let (central, remote) = (stage.central.admin(), stage.remote.admin());
    let authority = secret(&central, CA_SECRET).await?;
    let identity = secret(&remote, IDENTITY_SECRET).await?;
    let before = owned(&remote).await?;
    assert!(before.len() > 2, "{before:?}");
    let record = Record::start(&remote).await?;

    pair.hub.uninstall().await?;
    for name in ["remoteistios", "remoteidentities", "jointokens"] {
        let name = format!("{name}.istio.banzaicloud.io");
        let found = object(&central, CRD.0, CRD.1, &name).await?.context("the CRD stays")?;
        assert!(found["metadata"]["deletionTimestamp"].is_null(), "{found}");
    }
    stage.status().await.context("the RemoteIstio stays")?;
    assert_eq!(secret(&central, CA_SECRET).await?, authority);
    assert!(
        object(&central, "apps/v1", "Deployment", Chart::Hub.name())
            .await?
            .is_none()
    );
    // What central does meanwhile is there at once when the hub is back.
    stage.pod("pilot-b", "10.24.0.2").await?;
    stage.delete_pod("pilot-a").await?;
    assert_eq!(stage.addresses().await?, ["10.24.0.1"], "stale beats empty");

    pair.hub = Release::install(&stage.central, Chart::Hub, NAMESPACE, &pair.hub_values, helm).await?;
    pair.hub.launch().await?;
    stage.until_addresses(&["10.24.0.2"]).await;
    stage.until_ready("True").await;
    assert_eq!(secret(&central, CA_SECRET).await?, authority, "the same CA");
    assert_eq!(secret(&remote, IDENTITY_SECRET).await?, identity, "no new join");
    assert_eq!(record.losses(), Vec::<String>::new());
    Ok(())
}

#[test]
fn hub_uninstalled_first_leaves_everything_and_comes_back_with_helm_3() -> Result<()> {
    run(hub_leaves_and_comes_back(Tool::Helm))
}

#[test]
fn hub_uninstalled_first_leaves_everything_and_comes_back_with_helm_4() -> Result<()> {
    run(hub_leaves_and_comes_back(Tool::Helm4))
}

async fn agent_leaves_and_comes_back(helm: Tool) -> Result<()> {
    let stage = Stage::start().await?;
    let mut pair = joined_with_citadel(&stage, helm, "Keep").await?;
    let remote = stage.remote.admin();
    let identity = secret(&remote, IDENTITY_SECRET).await?;
    let intermediate = secret(&remote, "cacerts").await?;
    let record = Record::start(&remote).await?;

    let hooks = pair.agent.uninstall().await?;
    assert!(hooks.is_empty(), "nothing is run where all is kept: {hooks:?}");
    let kept = owned(&remote).await?;
    assert!(kept.contains_key("Deployment istio-citadel"), "{kept:?}");
    assert_eq!(stage.addresses().await?, ["10.24.0.1"]);
    assert_eq!(secret(&remote, IDENTITY_SECRET).await?, identity);
    assert_eq!(secret(&remote, "cacerts").await?, intermediate);
    // Citadel runs on, so it needs what it runs under.
    for (version, kind, name) in [
        ("v1", "ServiceAccount", "istio-citadel-service-account"),
        (
            "rbac.authorization.k8s.io/v1",
            "ClusterRole",
            "istio-citadel-cluster-role",
        ),
        (
            "rbac.authorization.k8s.io/v1",
            "ClusterRoleBinding",
            "istio-citadel-cluster-role-binding",
        ),
    ] {
        assert!(
            object(&remote, version, kind, name).await?.is_some(),
            "{kind} {name} stays"
        );
    }

    pair.agent = Release::install(&stage.remote, Chart::Agent, NAMESPACE, &pair.agent_values, helm).await?;
    pair.agent.launch().await?;
    pair.follows(&stage, "pilot-a", "pilot-b", "10.24.0.2").await?;
    let after = owned(&remote).await?;
    for (name, (uid, version)) in kept {
        let found = after.get(&name).with_context(|| format!("{name} is gone"))?;
        assert_eq!(found.0, uid, "{name} is the same object");
        if !name.starts_with("Endpoint") {
            assert_eq!(found.1, version, "{name} was not rewritten");
        }
    }
    assert_eq!(record.losses(), Vec::<String>::new());
    assert_eq!(secret(&remote, IDENTITY_SECRET).await?, identity, "no new join");
    Ok(())
}

#[test]
fn agent_uninstalled_first_leaves_everything_and_goes_on_with_helm_3() -> Result<()> {
    run(agent_leaves_and_comes_back(Tool::Helm))
}

#[test]
fn agent_uninstalled_first_leaves_everything_and_goes_on_with_helm_4() -> Result<()> {
    run(agent_leaves_and_comes_back(Tool::Helm4))
}

async fn agent_takes_everything_with_it(helm: Tool) -> Result<()> {
    let stage = Stage::start().await?;
    let mut pair = joined_with_citadel(&stage, helm, "Remove").await?;
    let remote = stage.remote.admin();
    let foreign = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "of-a-user", "namespace": NAMESPACE},
        "spec": {"ports": [{"port": 80}]},
    });
    super::stage::create(&remote, foreign).await?;

    let hooks = pair.agent.uninstall().await?;
    assert!(
        !hooks.is_empty() && hooks.iter().all(|hook| hook.code == 0),
        "{hooks:?}"
    );
    assert_eq!(
        owned(&remote).await?.into_keys().collect::<Vec<_>>(),
        Vec::<String>::new()
    );
    assert!(
        object(&remote, "v1", "Service", "of-a-user").await?.is_some(),
        "a user's Service stays"
    );
    let identity = object(&remote, "v1", "Secret", IDENTITY_SECRET)
        .await?
        .unwrap_or_default();
    assert!(
        identity["data"].as_object().is_none_or(serde_json::Map::is_empty),
        "no key is left"
    );
    for (version, kind, name) in [
        ("v1", "ServiceAccount", "istio-citadel-service-account"),
        (
            "rbac.authorization.k8s.io/v1",
            "ClusterRole",
            "istio-citadel-cluster-role",
        ),
        ("rbac.authorization.k8s.io/v1", "ClusterRole", "remote-istio-agent"),
        ("rbac.authorization.k8s.io/v1", "Role", "remote-istio-agent"),
        ("v1", "Secret", "cacerts"),
        ("batch/v1", "Job", "remote-istio-agent-leave"),
    ] {
        assert!(
            object(&remote, version, kind, name).await?.is_none(),
            "{kind} {name} goes"
        );
    }
    // Central still wants the remote: it joins anew, by a new token, and gets everything again.
    let invitation = super::stage::invite(pair.hub.pod()?, &[]).await?;
    super::stage::join(&invitation, &pair.agent).await?;
    pair.agent.launch().await.context(stage.log_tails())?;
    stage.until_addresses(&["10.24.0.1"]).await;
    let bound = object(
        &stage.central.admin(),
        "istio.banzaicloud.io/v1beta1",
        "RemoteIdentity",
        REMOTE,
    )
    .await?;
    assert!(bound.is_some());
    Ok(())
}

#[test]
fn agent_uninstalled_with_remove_leaves_nothing_of_its_own_with_helm_3() -> Result<()> {
    run(agent_takes_everything_with_it(Tool::Helm))
}

#[test]
fn agent_uninstalled_with_remove_leaves_nothing_of_its_own_with_helm_4() -> Result<()> {
    run(agent_takes_everything_with_it(Tool::Helm4))
}
