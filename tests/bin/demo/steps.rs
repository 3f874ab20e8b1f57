//! The walk, step by step; each one says what it found or ends the demo.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use kube::Client;
use support::deploy::NAMESPACE;
use support::playground::Playground;
use support::seed::{self, PARTS, Part};
use support::workload::{self, is_ready};

use crate::recorder::Recorder;
use crate::remote;
use crate::stage::{Prompt, Stage};

/// From a change to what follows from it; on a busy machine.
const DEADLINE: Duration = Duration::from_secs(45);

/// Nothing was written for so long: nothing is to follow.
const QUIET: Duration = Duration::from_secs(3);

/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The service whose pod the blog deletes.
const TELEMETRY: &str = "istio-telemetry";

/// The whole walk.
pub(crate) async fn all(stage: &Stage, playground: &mut Playground) -> Result<()> {
    join(stage, playground).await?;
    look(stage, playground).await?;
    restart_a_pod(stage, playground).await?;
    heal_without_hub(stage, playground).await?;
    return_of_the_hub(stage, playground).await
}

async fn join(stage: &Stage, playground: &mut Playground) -> Result<()> {
    stage.step("Add both remotes to the mesh: the blog's RemoteIstio, a token, and an agent that joins by it");
    for remote in &playground.remotes {
        let path = playground.folder.data(&format!("{}.yaml", remote.name));
        std::fs::write(&path, seed::remote_istio(&remote.name)).context("writing a RemoteIstio")?;
        stage
            .kubectl(central(playground), &format!("apply -f {}", path.display()))
            .await?;
    }
    let mut took = Vec::new();
    for index in 0..playground.remotes.len() {
        let name = playground.remotes[index].name.clone();
        stage.command("central", &format!("remote-istio-hub token create {name}"));
        stage.command(
            &name,
            &format!("remote-istio-agent run --token-file {name}.token --pin … --enrolment …"),
        );
        let joined = playground.join(index, Some(PARTS[0].service)).await?;
        stage.holds(&format!(
            "{name}: token create {} ms; from the agent's first line to its first addresses {} ms",
            joined.created.as_millis(),
            joined.synced.as_millis()
        ));
        took.push(joined.whole());
    }
    took.sort();
    let middle = [took[(took.len() - 1) / 2], took[took.len() / 2]];
    let median = (middle[0] + middle[1]) / 2;
    for condition in [
        "condition=Accepted",
        "jsonpath={.status.components[0].available}=1",
        "jsonpath={.status.components[1].available}=1",
    ] {
        let wait = format!("wait remoteistios --all --for={condition} --timeout=45s");
        if let Err(error) = stage.kubectl(central(playground), &wait).await {
            stage.kubectl(central(playground), "get remoteistios -o yaml").await?;
            return Err(error);
        }
    }
    stage.kubectl(central(playground), "get remoteistios").await?;
    stage.kubectl(central(playground), "get remoteidentities").await?;
    log_lines(stage, playground, 0, &["remoteconfig status updated"]);
    stage.holds("every remote is connected, has accepted everything, and its Citadel and injector are available");
    stage.line("      the webhook is withheld while nothing serves behind it: pods without containers do not, and the status says so");
    let milliseconds = median.as_millis();
    stage.line(&format!(
        "      from `token create` to the first sync {milliseconds} ms at the median, apart from the start of the agent"
    ));
    Ok(())
}

async fn look(stage: &Stage, playground: &Playground) -> Result<()> {
    stage.step("On the remotes: services without selector, endpoints with central's pod addresses, injection labels");
    let first = remote_prompt(playground, 0);
    stage.kubectl(first, "get deployments,pods").await?;
    stage.kubectl(first, "get services").await?;
    stage.kubectl(first, "get endpoints").await?;
    stage.kubectl(first, "get endpointslices").await?;
    stage.kubectl(first, "get namespaces default --show-labels").await?;
    let central = playground.central.admin();
    for remote in &playground.remotes {
        let client = remote.cluster.admin();
        for part in PARTS {
            let wanted = ready_pods(&central, &part).await?;
            check_service(&client, &remote.name, part.service, &wanted).await?;
        }
        check_service(&client, &remote.name, "istio-statsd", &BTreeSet::new()).await?;
        for label in ["istio-injection", "istio-operator-managed-injection"] {
            let value = remote::namespace_label(&client, "default", label).await?;
            ensure!(
                value.as_deref() == Some("enabled"),
                "{}: {label} of default is {value:?}",
                remote.name
            );
        }
        stage.holds(&format!(
            "{}: five services, the addresses of central's pods, namespace default labelled",
            remote.name
        ));
    }
    Ok(())
}

async fn restart_a_pod(stage: &Stage, playground: &Playground) -> Result<()> {
    stage.step("Delete the telemetry pod: its replacement's address in both remotes");
    let part = telemetry()?;
    let client = playground.central.admin();
    let before = ready_pods(&client, &part).await?;
    let logged = playground.hub.log().len();
    let pods = Recorder::pods(&client, &part.label_selector()).await?;
    let mut recorders = Vec::new();
    for remote in &playground.remotes {
        recorders.push(Recorder::slices(&remote.cluster.admin(), part.service).await?);
    }
    let delete = format!("delete pods -l {}", part.label_selector());
    stage.kubectl(central(playground), &delete).await?;
    let replaced = |addresses: &BTreeSet<String>| !addresses.is_empty() && addresses.is_disjoint(&before);
    let (ready_at, after) = pods.first(replaced).await.context("the replacement on central")?;
    stage.line(&format!(
        "      central: {} -> {}, ready",
        joined(&before),
        joined(&after)
    ));
    for (remote, recorder) in playground.remotes.iter().zip(&recorders) {
        let (seen_at, _) = recorder
            .first(|addresses| *addresses == after)
            .await
            .with_context(|| remote.name.clone())?;
        // Two watches of two API servers: the remote's may be told first.
        let milliseconds = seen_at.saturating_duration_since(ready_at).as_secs_f64() * 1000.0;
        stage.holds(&format!(
            "{}: {} after {milliseconds:.0} ms",
            remote.name,
            joined(&after)
        ));
        let client = remote.cluster.admin();
        within("the Endpoints object follows", async || {
            endpoints_are(&client, part.service, &after).await
        })
        .await?;
    }
    log_lines(stage, playground, logged, &["pod event detected", "updating endpoints"]);
    stage
        .kubectl(remote_prompt(playground, 0), "get endpoints/istio-telemetry")
        .await?;
    Ok(())
}

/// The hub's log from `from` on, as far as it has one of these messages.
fn log_lines(stage: &Stage, playground: &Playground, from: usize, messages: &[&str]) {
    let log = playground.hub.log();
    let lines = log.get(from..).unwrap_or_default().lines();
    for line in lines.filter(|line| messages.iter().any(|message| line.contains(message))) {
        stage.line(&format!("[hub's log] {line}"));
    }
}

async fn heal_without_hub(stage: &Stage, playground: &mut Playground) -> Result<()> {
    stage.step("Kill the hub, delete an Endpoints object on a remote by hand: the agent heals it alone");
    playground.hub.kill().await?;
    stage.line("      hub killed (SIGKILL)");
    let remote = playground.remotes.first().context("a remote")?;
    let client = remote.cluster.admin();
    let wanted = ready_pods(&playground.central.admin(), &telemetry()?).await?;
    let (_, uid) = remote::endpoints(&client, TELEMETRY)
        .await?
        .context("Endpoints before the deletion")?;
    let started = Instant::now();
    stage
        .kubectl(remote_prompt(playground, 0), "delete endpoints/istio-telemetry")
        .await?;
    let healed = within("the Endpoints object is restored", async || {
        let (addresses, now) = remote::endpoints(&client, TELEMETRY).await?.context("it is gone")?;
        ensure!(now != uid, "it is not deleted yet");
        ensure!(addresses == wanted, "it has {}", joined(&addresses));
        Ok(Instant::now())
    })
    .await?;
    stage
        .kubectl(remote_prompt(playground, 0), "get endpoints/istio-telemetry")
        .await?;
    let milliseconds = healed.duration_since(started).as_millis();
    stage.holds(&format!(
        "{}: restored {milliseconds} ms after kubectl was started, without a hub",
        remote.name
    ));
    Ok(())
}

async fn return_of_the_hub(stage: &Stage, playground: &mut Playground) -> Result<()> {
    stage.step("Start the hub again: both agents come back, and nothing is rewritten");
    let before = quiet(playground).await?;
    playground.hub.start()?;
    playground.hub.ready().await?;
    let remotes = playground.remotes.len();
    let hub = &playground.hub;
    within("every agent has a session again", async || {
        let sessions = hub.metrics().await?.sum("remote_istio_hub_sessions", &[]);
        ensure!(format!("{sessions:.0}") == remotes.to_string(), "{sessions} sessions");
        Ok(())
    })
    .await?;
    stage.holds(&format!("{remotes} sessions"));
    // A change that must pass: when it has arrived, so would have anything that was sent before it.
    let part = PARTS.iter().find(|part| part.service == "zipkin").context("zipkin")?;
    let client = playground.central.admin();
    let old = ready_pods(&client, part).await?;
    stage
        .kubectl(
            central(playground),
            &format!("delete pods -l {}", part.label_selector()),
        )
        .await?;
    let new = within("a replacement is ready on central", async || {
        let now = ready_pods(&client, part).await?;
        ensure!(!now.is_empty() && now.is_disjoint(&old), "ready: {}", joined(&now));
        Ok(now)
    })
    .await?;
    for (remote, before) in playground.remotes.iter().zip(before) {
        let client = remote.cluster.admin();
        within("the change arrives", async || {
            endpoints_are(&client, part.service, &new).await
        })
        .await?;
        let after = remote::versions(&client).await?;
        let touched: Vec<&String> = before
            .iter()
            .filter(|(object, version)| after.get(*object) != Some(version))
            .map(|(object, _)| object)
            .collect();
        let others: Vec<&&String> = touched.iter().filter(|object| !object.contains("zipkin")).collect();
        ensure!(others.is_empty(), "{}: rewritten: {others:?}", remote.name);
        stage.holds(&format!(
            "{}: of {} objects only those of zipkin were written: {}",
            remote.name,
            before.len(),
            listed(&touched)
        ));
    }
    Ok(())
}

/// The versions of everything on the remotes, once the agents have written nothing for a while: their records follow
/// the objects two seconds later.
async fn quiet(playground: &Playground) -> Result<Vec<BTreeMap<String, String>>> {
    let started = Instant::now();
    let mut last = Vec::new();
    loop {
        let mut now = Vec::new();
        for remote in &playground.remotes {
            now.push(remote::versions(&remote.cluster.admin()).await?);
        }
        if now == last {
            return Ok(now);
        }
        ensure!(
            started.elapsed() < DEADLINE,
            "the agents still write after {DEADLINE:?}"
        );
        last = now;
        tokio::time::sleep(QUIET).await;
    }
}

async fn check_service(client: &Client, remote: &str, service: &str, wanted: &BTreeSet<String>) -> Result<()> {
    ensure!(
        remote::is_headless(client, service).await?,
        "{remote}: no headless Service {service}"
    );
    let addresses = remote::addresses(client, service).await?;
    ensure!(
        addresses == *wanted,
        "{remote}: {service} resolves to {}, not {}",
        joined(&addresses),
        joined(wanted)
    );
    endpoints_are(client, service, wanted)
        .await
        .with_context(|| remote.to_owned())
}

/// No object is as good as one without addresses.
async fn endpoints_are(client: &Client, service: &str, wanted: &BTreeSet<String>) -> Result<()> {
    let found = remote::endpoints(client, service)
        .await?
        .map(|(addresses, _)| addresses)
        .unwrap_or_default();
    ensure!(
        found == *wanted,
        "Endpoints {service}: {}, not {}",
        joined(&found),
        joined(wanted)
    );
    Ok(())
}

/// Addresses of central's ready pods of one Deployment.
async fn ready_pods(client: &Client, part: &Part) -> Result<BTreeSet<String>> {
    let pods = workload::pods(client, NAMESPACE, &part.label_selector()).await?;
    Ok(pods
        .iter()
        .filter(|pod| is_ready(pod))
        .filter_map(workload::address)
        .collect())
}

/// Looks until it holds; says what was seen last if it never does.
async fn within<T>(what: &str, look: impl AsyncFn() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(error) if started.elapsed() > DEADLINE => bail!("{what}: not within {DEADLINE:?}: {error:#}"),
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

fn telemetry() -> Result<Part> {
    PARTS
        .into_iter()
        .find(|part| part.service == TELEMETRY)
        .context("telemetry is a part of the control plane")
}

fn central(playground: &Playground) -> Prompt<'_> {
    Prompt {
        cluster: playground.central.name(),
        kubectl: playground.kubectl(),
        kubeconfig: playground.central.admin_kubeconfig(),
    }
}

fn remote_prompt(playground: &Playground, index: usize) -> Prompt<'_> {
    let remote = &playground.remotes[index];
    Prompt {
        cluster: &remote.name,
        kubectl: playground.kubectl(),
        kubeconfig: remote.cluster.admin_kubeconfig(),
    }
}

fn joined(addresses: &BTreeSet<String>) -> String {
    if addresses.is_empty() {
        return "no address".to_owned();
    }
    addresses.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn listed<T: Display>(things: &[T]) -> String {
    things.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
