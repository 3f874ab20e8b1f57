//! Tokens that do not fit: expired, of another remote, bound to another cluster, pasted with what does not belong to them.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use support::Cluster;
use support::deploy::NAMESPACE;
use support::eventually::{eventually, eventually_within, seen};
use support::release::{Chart, Pod, Release};
use support::tools::Tool;

use crate::life::stage::{Pair, REMOTE, Stage, hub_values, installed_hub, invite, join, lone, run};

/// An agent of this remote that was installed by these commands, and started.
async fn started<'a>(remote: &'a Cluster, invitation: &Value) -> Result<Release<'a>> {
    let mut agent = Release::of(remote, Chart::Agent, NAMESPACE, Tool::Helm).await?;
    join(invitation, &agent).await?;
    agent.start().await?;
    Ok(agent)
}

/// A hub that runs, an agent that is installed by the commands it printed and does not run yet, and the token.
async fn invited(stage: &Stage) -> Result<(Release<'_>, Release<'_>, String)> {
    let hub = installed_hub(stage, &hub_values()?, Tool::Helm).await?;
    let invitation = invite(hub.pod()?, &[]).await?;
    let token = invitation["token"].as_str().context("a token")?.to_owned();
    let agent = Release::of(&stage.remote, Chart::Agent, NAMESPACE, Tool::Helm).await?;
    join(&invitation, &agent).await?;
    Ok((hub, agent, token))
}

/// Waits until the agent says all of these words where people look: `/readyz`, or its log.
async fn says(pod: &Pod, words: &[&str]) {
    eventually(&format!("the agent says {words:?}"), || async {
        let answer = support::http::get(pod.metrics_address(), "/readyz").await;
        let ready = answer.map_or_else(|error| format!("{error:#}"), |(code, body)| format!("{code} {body}"));
        // The log is made by the shell that starts the process: it may not be there yet.
        let log = std::fs::read_to_string(pod.log_path()).unwrap_or_default();
        let text = format!("{ready}\n{log}");
        let holds = words.iter().all(|word| text.contains(word));
        seen(holds, ()).map_err(|_| format!("{ready}\n{}", pod.command().log_tail()))
    })
    .await;
}

/// The token of an invitation made anew as somebody pastes it.
async fn paste(agent: &Release<'_>, pasted: &str) -> Result<()> {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "remote-istio-agent-token", "namespace": NAMESPACE},
        "stringData": {"token": pasted},
    });
    support::manifest::apply(&agent.client(), secret).await?;
    Ok(())
}

#[test]
fn expired_token_is_said_to_be_one_and_a_fresh_one_is_taken_without_a_restart() -> Result<()> {
    run(async {
        let stage = Stage::start().await?;
        let hub = installed_hub(&stage, &hub_values()?, Tool::Helm).await?;
        let invitation = invite(hub.pod()?, &["--ttl", "1s"]).await?;
        let listed = || async {
            let said = hub.pod().expect("runs").exec(&["token", "list"]).await;
            let text = said.map_or_else(|error| format!("{error:#}"), |said| said.out);
            seen(text.contains("Expired"), text)
        };
        eventually("the token has expired", listed).await;
        let mut agent = started(&stage.remote, &invitation).await?;
        says(agent.pod()?, &["expired", "token create"]).await;

        let fresh = invite(hub.pod()?, &[]).await?;
        paste(&agent, fresh["token"].as_str().context("a token")?).await?;
        agent.roll().await?;
        agent.pod()?.ready().await?;
        Ok(())
    })
}

#[test]
fn token_pasted_with_a_space_inside_is_refused_with_that_reason() -> Result<()> {
    run(async {
        let stage = Stage::start().await?;
        let (_hub, mut agent, token) = invited(&stage).await?;
        let (left, right) = token.split_at(token.len() / 2);
        paste(&agent, &format!("{left} {right}")).await?;
        agent.start().await?;
        says(agent.pod()?, &["blanks or line breaks inside"]).await;
        Ok(())
    })
}

#[test]
fn token_pasted_with_line_ends_around_it_joins() -> Result<()> {
    run(async {
        let stage = Stage::start().await?;
        let (_hub, mut agent, token) = invited(&stage).await?;
        paste(&agent, &format!("  {token} \r\n\n")).await?;
        agent.launch().await.with_context(|| stage.log_tails())?;
        Ok(())
    })
}

/// The token says which remote joins: with that of another one the remote is that one, and everybody says so.
#[test]
fn token_of_another_remote_joins_as_that_one_and_is_seen_to() -> Result<()> {
    run(async {
        let stage = Stage::start().await?;
        let hub = installed_hub(&stage, &hub_values()?, Tool::Helm).await?;
        stage.apply_remote_istio(json!({})).await?;
        let said = hub
            .pod()?
            .exec(&["token", "create", "remote-7", "--output", "json"])
            .await?;
        said.success("token create")?;
        let invitation: Value = serde_json::from_str(&said.out)?;
        let mut agent = started(&stage.remote, &invitation).await?;
        says(agent.pod()?, &["remote-7", "RemoteIstio"]).await;
        let (_, runs) = agent.test().await?;
        assert!(runs.iter().any(|run| run.printed.contains("remote-7")), "{runs:?}");
        let status = stage.status().await?;
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let is_ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
        assert!(!conditions.iter().any(is_ready), "{status}");
        Ok(())
    })
}

#[test]
fn token_of_a_name_that_belongs_to_another_cluster_is_refused_with_the_way_out() -> Result<()> {
    run(async {
        let stage = Stage::start().await?;
        let pair = Pair::joined(&stage, Tool::Helm, json!({}), json!({})).await?;
        let other = lone("other-cluster").await?;
        let invitation = invite(pair.hub.pod()?, &[]).await?;
        let agent = started(&other, &invitation).await?;
        says(agent.pod()?, &["release", REMOTE]).await;
        // The one that has the name goes on.
        stage.pod("pilot-b", "10.24.0.2").await?;
        stage.delete_pod("pilot-a").await?;
        stage.until_addresses(&["10.24.0.2"]).await;
        Ok(())
    })
}

/// A pin of another CA: the agent gives its token to nobody.
#[test]
fn pin_of_another_hub_is_refused_before_the_token_is_shown() -> Result<()> {
    run(async {
        let stage = Stage::start().await?;
        let hub = installed_hub(&stage, &hub_values()?, Tool::Helm).await?;
        let mut invitation = invite(hub.pod()?, &[]).await?;
        let pin = invitation["pins"][0].as_str().context("a pin")?.to_owned();
        let wrong = format!("sha256:{}", "0".repeat(64));
        let text = invitation["commands"].to_string().replace(&pin, &wrong);
        invitation["commands"] = serde_json::from_str(&text)?;
        let agent = started(&stage.remote, &invitation).await?;
        says(agent.pod()?, &["pin"]).await;
        let patience = std::time::Duration::from_secs(20);
        eventually_within(patience, "the token is still good", || async {
            let said = hub
                .pod()
                .expect("runs")
                .exec(&["token", "list", "--output", "json"])
                .await;
            let text = said.map_or_else(|error| format!("{error:#}"), |said| said.out);
            seen(text.contains(REMOTE) && !text.to_lowercase().contains("\"used\""), text)
        })
        .await;
        Ok(())
    })
}
