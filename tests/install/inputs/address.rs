//! A hub that nobody can reach yet.

use anyhow::Result;
use serde_json::json;
use support::deploy::NAMESPACE;
use support::eventually::{eventually, seen};
use support::release::{Chart, Release};
use support::tools::Tool;

use crate::life::stage::{REMOTE, Stage, hub_values, invite, join, run, with};

/// The defaults: a `LoadBalancer` whose address comes when it comes, or never.
#[test]
fn hub_without_an_address_runs_and_says_what_is_missing_until_there_is_one() -> Result<()> {
    run(async {
        let stage = Stage::start().await?;
        let central = stage.central.admin();
        let values = with(
            &hub_values()?,
            json!({"exposure": {"type": "LoadBalancer", "hosts": []}}),
        );
        let hub = Release::of(&stage.central, Chart::Hub, NAMESPACE, Tool::Helm).await?;
        let said = hub.try_install(&values).await?;
        said.success("helm install")?;
        assert!(
            said.out.contains("remote-istio-hub") && said.out.contains("get service"),
            "{}",
            said.out
        );
        let mut hub = hub;
        hub.launch().await?;

        let said = hub.pod()?.exec(&["token", "create", REMOTE]).await?;
        assert_ne!(said.code, 0, "{}", said.out);
        for words in ["no public address", "service remote-istio-hub", "load balancer"] {
            assert!(said.err.contains(words), "it says {words}: {}", said.err);
        }
        let (said, runs) = hub.test().await?;
        assert_ne!(said.code, 0, "helm test fails too: {}", said.text());
        assert!(runs.iter().any(|run| run.printed.contains("address")), "{runs:?}");

        // The address comes, and all of it works without a restart.
        let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}}});
        let services = crate::life::stage::api(&central, "v1", "Service").await?;
        services
            .patch_status(
                "remote-istio-hub",
                &kube::api::PatchParams::default(),
                &kube::api::Patch::Merge(status),
            )
            .await?;
        let invitation = eventually("tokens are made", || async {
            invite(hub.pod().expect("it runs"), &[])
                .await
                .map_err(|error| format!("{error:#}"))
        })
        .await;
        stage.pod("pilot-a", "10.24.0.1").await?;
        stage.apply_remote_istio(json!({})).await?;
        let mut agent = Release::of(&stage.remote, Chart::Agent, NAMESPACE, Tool::Helm).await?;
        join(&invitation, &agent).await?;
        agent.launch().await?;
        stage.until_addresses(&["10.24.0.1"]).await;
        let (said, runs) = hub.test().await?;
        assert_eq!(said.code, 0, "{}{runs:?}", said.text());
        Ok(())
    })
}

/// `NodePort` and `Gateway` have no address that anybody could follow.
#[test]
fn exposure_without_hosts_where_they_are_needed_is_refused_by_name() -> Result<()> {
    run(async {
        let central = crate::life::stage::lone("central").await?;
        for kind in ["NodePort", "Gateway"] {
            for helm in [Tool::Helm, Tool::Helm4] {
                let hub = Release::of(&central, Chart::Hub, NAMESPACE, helm).await?;
                let said = hub.try_install(&json!({"exposure": {"type": kind}})).await?;
                assert_ne!(said.code, 0, "{}", said.text());
                assert!(said.err.contains("hosts"), "{}", said.err);
            }
        }
        Ok(())
    })
}

/// An address that leads nowhere is found by `helm test`, and agents that have it say so.
#[test]
fn wrong_address_is_found_by_helm_test_and_said_by_the_agent() -> Result<()> {
    run(async {
        let stage = Stage::start().await?;
        let values = with(&hub_values()?, json!({"exposure": {"hosts": ["hub.invalid"]}}));
        let mut hub = crate::life::stage::installed_hub(&stage, &values, Tool::Helm).await?;
        let (said, runs) = hub.test().await?;
        assert_ne!(said.code, 0, "{}", said.text());
        assert!(runs.iter().any(|run| run.printed.contains("hub.invalid")), "{runs:?}");
        let invitation = invite(hub.pod()?, &[]).await?;
        let mut agent = Release::of(&stage.remote, Chart::Agent, NAMESPACE, Tool::Helm).await?;
        join(&invitation, &agent).await?;
        agent.start().await?;
        let address = agent.pod()?.metrics_address();
        eventually("the agent says which address it cannot reach", || async {
            let answer = support::http::get(address, "/readyz").await;
            let text = answer.map_or_else(|error| format!("{error:#}"), |(_, body)| body);
            seen(text.contains("hub.invalid"), text)
        })
        .await;
        Ok(())
    })
}
