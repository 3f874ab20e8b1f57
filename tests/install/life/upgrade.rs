//! `helm upgrade` and `helm rollback` of hub and agent in either order and with values changed: the remote loses nothing.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};
use support::tools::Tool;

use super::record::Record;
use super::stage::{CA_SECRET, IDENTITY_SECRET, Pair, Stage, run, secret, with};

/// What no upgrade may touch.
async fn keys(stage: &Stage) -> Result<[BTreeMap<String, Vec<u8>>; 2]> {
    Ok([
        secret(&stage.central.admin(), CA_SECRET).await?,
        secret(&stage.remote.admin(), IDENTITY_SECRET).await?,
    ])
}

fn changed_hub(values: &Value) -> Value {
    with(
        values,
        json!({
            "logLevel": "debug",
            "resources": {"requests": {"cpu": "77m"}},
            "certificateLifetime": "12h",
            "serviceNamespaces": ["istio-system", "mesh-2"],
            "podLabels": {"changed": "yes"},
        }),
    )
}

fn changed_agent(values: &Value) -> Value {
    with(
        values,
        json!({
            "logLevel": "debug",
            "resources": {"requests": {"cpu": "77m"}},
            "serviceNamespaces": ["istio-system", "mesh-2"],
            "podLabels": {"changed": "yes"},
        }),
    )
}

/// Steps in this order, and after each the remote still follows.
async fn upgraded_and_rolled_back(helm: Tool, hub_first: bool) -> Result<()> {
    let stage = Stage::start().await?;
    let mut pair = Pair::joined(&stage, helm, json!({}), json!({})).await?;
    for cluster in [&stage.central, &stage.remote] {
        support::deploy::namespace(&cluster.admin(), "mesh-2").await?;
    }
    let before = keys(&stage).await?;
    assert!(before.iter().all(|data| data.contains_key("tls.key")), "keys are there");
    let record = Record::start(&stage.remote.admin()).await?;
    let revision = |release: &Value| u32::try_from(release["version"].as_u64().unwrap_or(1)).unwrap_or(1);
    let (hub_at, agent_at) = (
        revision(&pair.hub.status().await?),
        revision(&pair.agent.status().await?),
    );
    let mut old = "pilot-a".to_owned();
    for (step, upgrade) in [(0, true), (1, true), (2, false), (3, false)] {
        let of_hub = hub_first == (step % 2 == 0);
        let (release, values, at) = if of_hub {
            (&mut pair.hub, changed_hub(&pair.hub_values), hub_at)
        } else {
            (&mut pair.agent, changed_agent(&pair.agent_values), agent_at)
        };
        let pid = release.pod()?.pid();
        if upgrade {
            release.upgrade(&values).await?;
        } else {
            release.rollback(at).await?;
        }
        assert_ne!(release.pod()?.pid(), pid, "a changed template is another pod");
        let (new, address) = (format!("pilot-{step}"), format!("10.24.1.{step}"));
        pair.follows(&stage, &old, &new, &address).await?;
        old = new;
    }
    stage.until_ready("True").await;
    assert_eq!(record.losses(), Vec::<String>::new());
    let after = keys(&stage).await?;
    assert!(after == before, "keys of CA and identity are those from before");
    Ok(())
}

#[test]
fn hub_first_with_helm_3() -> Result<()> {
    run(upgraded_and_rolled_back(Tool::Helm, true))
}

#[test]
fn agent_first_with_helm_4() -> Result<()> {
    run(upgraded_and_rolled_back(Tool::Helm4, false))
}

/// What was installed by Helm 3 is upgraded by Helm 4 and rolled back by it.
#[test]
fn release_of_helm_3_goes_on_with_helm_4() -> Result<()> {
    run(async {
        let stage = Stage::start().await?;
        let mut pair = Pair::joined(&stage, Tool::Helm, json!({}), json!({})).await?;
        let before = keys(&stage).await?;
        let record = Record::start(&stage.remote.admin()).await?;
        for release in [&mut pair.hub, &mut pair.agent] {
            release.by(Tool::Helm4).await?;
        }
        let values = changed_hub(&pair.hub_values);
        let values = with(&values, json!({"serviceNamespaces": []}));
        pair.hub.upgrade(&values).await?;
        let values = with(&changed_agent(&pair.agent_values), json!({"serviceNamespaces": []}));
        pair.agent.upgrade(&values).await?;
        pair.follows(&stage, "pilot-a", "pilot-b", "10.24.0.2").await?;
        pair.hub.rollback(1).await?;
        pair.agent.rollback(1).await?;
        pair.follows(&stage, "pilot-b", "pilot-c", "10.24.0.3").await?;
        assert_eq!(record.losses(), Vec::<String>::new());
        let after = keys(&stage).await?;
        assert!(after == before, "keys of CA and identity are those from before");
        Ok(())
    })
}

/// A policy is followed by the agent that runs: no new pod.
#[test]
fn policy_of_new_values_is_followed_without_a_new_pod() -> Result<()> {
    run(async {
        let stage = Stage::start().await?;
        let mut pair = Pair::joined(&stage, Tool::Helm, json!({}), json!({})).await?;
        let pid = pair.agent.pod()?.pid();
        let values = with(
            &pair.agent_values,
            json!({"policy": {"endpointRanges": ["10.99.0.0/16"]}}),
        );
        pair.agent.upgrade(&values).await?;
        let status = stage.until_ready("False").await;
        assert!(status.to_string().contains("policy"), "{status}");
        assert_eq!(pair.agent.pod()?.pid(), pid);
        pair.agent.upgrade(&pair.agent_values).await?;
        stage.until_ready("True").await;
        assert_eq!(pair.agent.pod()?.pid(), pid);
        Ok(())
    })
}
