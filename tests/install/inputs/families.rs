//! Clusters of IPv6 alone and of both families.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use support::deploy::NAMESPACE;
use support::release::{Chart, Release};
use support::tools::Tool;
use support::{Cluster, ClusterOptions};

use crate::life::stage::{hub_values, object, run, with};

async fn cluster(name: &str, ranges: &str) -> Result<Cluster> {
    let mut options = ClusterOptions {
        service_cidr: ranges.to_owned(),
        ..ClusterOptions::named(name)
    };
    if ranges.starts_with("fd") {
        // It must say an address of its Services' family; nobody dials that one.
        options.flags.push("--advertise-address=fd00::1".to_owned());
    }
    Box::pin(Cluster::start(options))
        .await
        .with_context(|| format!("starting {name}"))
}

fn agent_values() -> Value {
    json!({"hub": {"enrolment": ["[fd00:20::1]:8443"], "pins": [format!("sha256:{}", "0".repeat(64))]},
        "networkPolicy": {"enabled": true}})
}

async fn services_of(cluster: &Cluster, families: &Value) -> Result<()> {
    let values = with(
        &hub_values()?,
        json!({"exposure": {"type": "LoadBalancer", "hosts": ["fd00:20::1"]}, "networkPolicy": {"enabled": true}}),
    );
    let _hub = Release::install(cluster, Chart::Hub, NAMESPACE, &values, Tool::Helm).await?;
    let _agent = Release::install(cluster, Chart::Agent, NAMESPACE, &agent_values(), Tool::Helm4).await?;
    for name in [Chart::Hub.name(), Chart::Agent.name()] {
        let service = object(&cluster.admin(), "v1", "Service", name).await?.context(name)?;
        assert_eq!(service["spec"]["ipFamilies"], *families, "{service}");
    }
    Ok(())
}

#[test]
fn services_of_both_charts_take_the_families_that_the_cluster_has() -> Result<()> {
    run(async {
        let single = cluster("ipv6-alone", "fd00:90::/108").await?;
        services_of(&single, &json!(["IPv6"])).await?;
        drop(single);
        let both = cluster("both-families", "10.90.0.0/16,fd00:90::/108").await?;
        services_of(&both, &json!(["IPv4", "IPv6"])).await?;
        Ok(())
    })
}

/// Addresses of IPv6 stand in brackets wherever a port follows them, from the values to the printed command.
#[test]
fn hosts_of_ipv6_are_printed_in_brackets_and_taken_by_the_agents_chart() -> Result<()> {
    run(async {
        let stage = crate::life::stage::Stage::start().await?;
        let values = hub_values()?;
        let (sync, enrolment) = (&values["exposure"]["syncPort"], &values["exposure"]["enrolmentPort"]);
        let values = with(&values, json!({"exposure": {"hosts": ["::1", "127.0.0.1"]}}));
        let hub = crate::life::stage::installed_hub(&stage, &values, Tool::Helm).await?;
        let invitation = crate::life::stage::invite(hub.pod()?, &[]).await?;
        assert_eq!(
            invitation["enrolments"],
            json!([format!("[::1]:{enrolment}"), format!("127.0.0.1:{enrolment}")])
        );
        let line = hub.pod()?.command();
        let environment = format!("{:?} {:?}", line.environment, line.arguments);
        assert!(environment.contains(&format!("[::1]:{sync}")), "{environment}");
        let mut agent = Release::of(&stage.remote, Chart::Agent, NAMESPACE, Tool::Helm).await?;
        crate::life::stage::join(&invitation, &agent).await?;
        agent.launch().await.with_context(|| stage.log_tails())?;
        Ok(())
    })
}
