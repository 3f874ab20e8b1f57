//! Charts where there is one already.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use support::deploy::NAMESPACE;
use support::release::{Chart, Release};
use support::tools::Tool;

use crate::life::record::owned;
use crate::life::stage::{Pair, Stage, hub_values, installed_hub, invite, join, object, run};

#[test]
fn second_agent_in_the_same_namespace_is_refused_and_the_first_goes_on() -> Result<()> {
    run(async {
        let stage = Stage::start().await?;
        let pair = Pair::joined(&stage, Tool::Helm, json!({}), json!({})).await?;
        for helm in [Tool::Helm, Tool::Helm4] {
            let same = Release::of(&stage.remote, Chart::Agent, NAMESPACE, helm).await?;
            let said = same.try_install(&pair.agent_values).await?;
            assert_ne!(said.code, 0, "{}", said.text());
            assert!(said.err.contains("in use"), "{}", said.err);
            let another = same.named("second-agent");
            let said = another.try_install(&pair.agent_values).await?;
            assert_ne!(said.code, 0, "{}", said.text());
            assert!(
                said.err.contains(NAMESPACE) && said.err.contains("remote-istio-agent"),
                "{}",
                said.err
            );
        }
        pair.follows(&stage, "pilot-a", "pilot-b", "10.24.0.2").await?;
        let deployment = object(&stage.remote.admin(), "apps/v1", "Deployment", "remote-istio-agent").await?;
        let owner = &deployment.context("it is there")?["metadata"]["annotations"]["meta.helm.sh/release-name"];
        assert_eq!(owner, "remote-istio-agent");
        Ok(())
    })
}

#[test]
fn agents_in_two_namespaces_of_one_cluster_do_not_touch_each_other() -> Result<()> {
    run(async {
        let stage = Stage::start().await?;
        let mut pair = Pair::joined(&stage, Tool::Helm, json!({}), json!({})).await?;
        let before = owned(&stage.remote.admin()).await?;
        let said = pair
            .hub
            .pod()?
            .exec(&["token", "create", "remote-2", "--output", "json"])
            .await?;
        said.success("token create")?;
        let invitation: Value = serde_json::from_str(&said.out)?;
        // As a person changes the printed commands for another namespace.
        let text = invitation["commands"].to_string().replace(NAMESPACE, "mesh-2");
        let moved = json!({"commands": serde_json::from_str::<Value>(&text)?});
        support::deploy::namespace(&stage.remote.admin(), "mesh-2").await?;
        let mut second = Release::of(&stage.remote, Chart::Agent, "mesh-2", Tool::Helm).await?;
        join(&moved, &second).await?;
        second.launch().await.with_context(|| stage.log_tails())?;
        pair.follows(&stage, "pilot-a", "pilot-b", "10.24.0.2").await?;
        second.uninstall().await?;
        pair.follows(&stage, "pilot-b", "pilot-c", "10.24.0.3").await?;
        let after = owned(&stage.remote.admin()).await?;
        for (name, (uid, _)) in before {
            assert_eq!(after.get(&name).map(|found| &found.0), Some(&uid), "{name}");
        }
        // The first one still has all it may do.
        pair.agent.pod_mut()?.restart().await?;
        stage.until_ready("True").await;
        Ok(())
    })
}

#[test]
fn hub_and_agent_in_one_namespace_of_one_cluster_work_and_leave_one_by_one() -> Result<()> {
    run(async {
        let stage = Stage::start().await?;
        let mut hub = installed_hub(&stage, &hub_values()?, Tool::Helm).await?;
        stage.pod("pilot-a", "10.24.0.1").await?;
        stage.apply_remote_istio(json!({})).await?;
        let mut agent = Release::of(&stage.central, Chart::Agent, NAMESPACE, Tool::Helm).await?;
        join(&invite(hub.pod()?, &[]).await?, &agent).await?;
        agent.launch().await.with_context(|| stage.log_tails())?;
        stage.until_ready("True").await;
        let (said, runs) = hub.test().await?;
        assert_eq!(said.code, 0, "{}{runs:?}", said.text());
        let (said, runs) = agent.test().await?;
        assert_eq!(said.code, 0, "{}{runs:?}", said.text());
        agent.uninstall().await?;
        stage.status().await?;
        hub.pod_mut()?.restart().await?;
        hub.uninstall().await?;
        Ok(())
    })
}

#[test]
fn second_hub_in_another_namespace_is_told_whose_the_crds_are() -> Result<()> {
    run(async {
        let stage = Stage::start().await?;
        let _hub = installed_hub(&stage, &hub_values()?, Tool::Helm).await?;
        let values = hub_values()?;
        let second = Release::of(&stage.central, Chart::Hub, "mesh-2", Tool::Helm).await?;
        let said = second.try_install(&values).await?;
        assert_ne!(said.code, 0, "{}", said.text());
        assert!(
            said.err.contains("istio.banzaicloud.io") && said.err.contains(NAMESPACE),
            "{}",
            said.err
        );
        let without = crate::life::stage::with(&values, json!({"crds": {"install": false}}));
        let mut second = Release::of(&stage.central, Chart::Hub, "mesh-2", Tool::Helm).await?;
        second
            .try_install(&without)
            .await?
            .success("helm install without CRDs")?;
        second.launch().await?;
        Ok(())
    })
}
