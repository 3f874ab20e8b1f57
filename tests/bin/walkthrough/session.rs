//! The session itself, command by command in the blog's order; each output is held to what the blog shows.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use support::Cluster;
use support::deploy::NAMESPACE;
use support::playground::Playground;
use support::workload::{self, is_ready};

use crate::page::{At, Page};

/// The blog's names.
const CENTRAL: &str = "central-cluster";
const REMOTE: &str = "remote-cluster";
const NAME: &str = "remoteistio-sample";

/// From a change to what follows from it; on a busy machine.
const DEADLINE: Duration = Duration::from_mins(1);

/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What stands before the session.
const INTRODUCTION: &str = "# The session of 2019, line by line

Written by `make walkthrough` from what it ran: a central cluster with the control plane of the 1.0 line as Deployments without
containers, a hub, and one remote cluster, all on one machine with real API servers, controller managers and schedulers. No image of
the 1.0 line can be run there: pods only say that they are ready. Commands and their order are the blog's. Where one of them has no
counterpart, the one that stands in its place follows it.";

/// Replays all of it.
pub(crate) async fn replay(page: &mut Page, playground: &mut Playground) -> Result<()> {
    page.say(INTRODUCTION);
    let cluster = playground.another_cluster().await?;
    let index = prepare(page, playground, cluster).await?;
    join(page, playground, index).await?;
    look(page, playground, index).await?;
    restart(page, playground, index).await?;
    leave(page, playground, index).await
}

fn central(playground: &Playground) -> At<'_> {
    At {
        context: CENTRAL,
        kubectl: playground.kubectl(),
        kubeconfig: playground.central.admin_kubeconfig(),
    }
}

fn remote(playground: &Playground, index: usize) -> At<'_> {
    At {
        context: REMOTE,
        kubectl: playground.kubectl(),
        kubeconfig: playground.remotes[index].cluster.admin_kubeconfig(),
    }
}

/// A file under `deploy/roles`.
fn role(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/roles").join(name);
    path.display().to_string()
}

async fn prepare(page: &mut Page, playground: &mut Playground, cluster: Cluster) -> Result<usize> {
    page.say("## Remote cluster prerequisites");
    let at = At {
        context: REMOTE,
        kubectl: playground.kubectl(),
        kubeconfig: cluster.admin_kubeconfig(),
    };
    let created = page.kubectl(at, "create namespace istio-system").await?;
    ensure!(created.trim() == "namespace/istio-system created", "{created}");
    page.say(
        "The blog creates one account that may do everything in the remote. Here: the account of an agent that may do what it \
         needs, and the accounts and roles of the components, which never come over the wire.",
    );
    let (agent, components) = (role("agent.yaml"), role("components.yaml"));
    let created = page
        .kubectl_shown_as(
            at,
            &format!("create -f {agent} -f {components}"),
            "kubectl create -f deploy/roles/agent.yaml -f deploy/roles/components.yaml",
        )
        .await?;
    for account in ["remote-istio-agent", "istio-citadel-service-account"] {
        ensure!(
            created.contains(&format!("serviceaccount/{account} created")),
            "{created}"
        );
    }
    page.say(
        "`generate-kubeconfig.sh` and the Secret with a kubeconfig on central have no counterpart: nothing at the centre can log in \
         to a remote. A token that is good once, for an hour, takes their place; the agent dials out with it. Its operator has \
         allowed both components in the agent's policy file.",
    );
    playground.add(cluster, NAME).await
}

async fn join(page: &mut Page, playground: &mut Playground, index: usize) -> Result<()> {
    page.say("## Add the remote cluster to the mesh");
    let joined = playground.join(index, None).await?;
    let command = format!("remote-istio-hub token create {NAME}");
    page.shown(CENTRAL, &command, "(the token, and the command that starts the agent)");
    let command =
        format!("remote-istio-agent run --policy policy.yaml --token-file {NAME}.token --enrolment … --pin …");
    let output = format!("(welcomed {} ms after its first line)", joined.synced.as_millis());
    page.shown(REMOTE, &command, &output);
    let seed = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/seed.yaml");
    let text = std::fs::read_to_string(&seed).context("reading the blog's resource")?;
    page.say(&format!(
        "The blog's resource, to the letter:\n\n```yaml\n{}\n```",
        text.trim()
    ));
    let applied = page
        .kubectl_shown_as(
            central(playground),
            &format!("apply -n istio-system -f {}", seed.display()),
            "cat <<EOF | kubectl apply -n istio-system -f -",
        )
        .await?;
    ensure!(applied.contains(&format!("{NAME} created")), "{applied}");
    for deployment in ["istio-citadel", "istio-sidecar-injector"] {
        within(&format!("Deployment {deployment} is available"), async || {
            available(&playground.remotes[index].cluster, deployment).await
        })
        .await?;
    }
    within("central has heard of it", async || {
        let status = remote_istio(playground).await?;
        let components = status["components"].as_array().map_or(0, Vec::len);
        let available = status["components"].as_array().into_iter().flatten();
        let count = available.filter(|component| component["available"] == 1).count();
        ensure!(components == 2 && count == 2, "{status}");
        Ok(())
    })
    .await?;
    page.say("What the operator's log was, the hub's is:");
    let command = "kubectl logs -f deployment/remote-istio-hub";
    page.shown(
        CENTRAL,
        command,
        &log_since(playground, 0, &["remoteconfig status updated", "remote istio"]),
    );
    page.kubectl(central(playground), "get remoteistios -n istio-system")
        .await?;
    page.say(
        "Both Deployments are available. The webhook is withheld, for nothing serves behind it here, and the status says so: where the \
         injector really serves, it is the last thing that is made, and the status becomes `Available`.",
    );
    let message = "get remoteistio remoteistio-sample -n istio-system -o jsonpath={.status.ErrorMessage}";
    page.kubectl(central(playground), message).await?;
    Ok(())
}

async fn look(page: &mut Page, playground: &Playground, index: usize) -> Result<()> {
    page.say("## On the remote");
    let at = remote(playground, index);
    let pods = page.kubectl(at, "get pods -n istio-system").await?;
    for pod in ["istio-citadel-", "istio-sidecar-injector-"] {
        let running = pods
            .lines()
            .any(|line| line.starts_with(pod) && line.contains("1/1") && line.contains("Running"));
        ensure!(running, "{pod} does not run:\n{pods}");
    }
    let services = page.kubectl(at, "get svc -n istio-system").await?;
    let names: BTreeSet<&str> = services
        .lines()
        .skip(1)
        .filter_map(|line| line.split(' ').next())
        .collect();
    let wanted = BTreeSet::from([
        "istio-citadel",
        "istio-pilot",
        "istio-policy",
        "istio-sidecar-injector",
        "istio-statsd",
        "istio-telemetry",
        "zipkin",
    ]);
    ensure!(names == wanted, "{services}");
    page.say("Ports are the real ones, where the blog has none and a placeholder (65000).");
    let endpoints = page.kubectl(at, "get endpoints -n istio-system").await?;
    for service in wanted.iter().filter(|service| **service != "istio-statsd") {
        let line = endpoints.lines().find(|line| line.split(' ').next() == Some(service));
        ensure!(
            line.is_some_and(|line| line.contains("10.")),
            "{service} has no address:\n{endpoints}"
        );
    }
    let labels = page.kubectl(at, "get namespaces/default --show-labels").await?;
    for label in ["istio-injection=enabled", "istio-operator-managed-injection=enabled"] {
        ensure!(labels.contains(label), "{labels}");
    }
    Ok(())
}

async fn restart(page: &mut Page, playground: &Playground, index: usize) -> Result<()> {
    page.say("## A pod of the control plane is removed");
    let selector = "istio-mixer-type=telemetry";
    let client = playground.central.admin();
    let pods = workload::pods(&client, NAMESPACE, selector).await?;
    let old = pods.into_iter().find(is_ready).context("a telemetry pod")?;
    let (name, address) = (
        kube::ResourceExt::name_any(&old),
        workload::address(&old).context("an address")?,
    );
    let from = playground.hub.log().len();
    page.kubectl(central(playground), &format!("delete pods/{name} -n istio-system"))
        .await?;
    let at = remote(playground, index);
    let cluster = &playground.remotes[index].cluster;
    let now = within("the replacement's address is in the remote", async || {
        let ready = workload::pods(&client, NAMESPACE, selector)
            .await?
            .into_iter()
            .find(is_ready);
        let now = ready
            .as_ref()
            .and_then(workload::address)
            .context("no replacement is ready")?;
        let held = endpoints(cluster, "istio-telemetry").await?;
        ensure!(held == BTreeSet::from([now.clone()]), "the remote has {held:?}");
        Ok(now)
    })
    .await?;
    ensure!(now != address, "the replacement has another address");
    let command = "kubectl logs -f deployment/remote-istio-hub";
    let lines = log_since(playground, from, &["pod event detected", "updating endpoints"]);
    page.shown(CENTRAL, command, &lines);
    let shown = page
        .kubectl(at, "get endpoints/istio-telemetry -n istio-system")
        .await?;
    ensure!(
        shown.contains(&now) && !shown.contains(&format!("{address}:")),
        "{shown}"
    );
    page.say(&format!(
        "In the blog the address of the pod that was just deleted stays. Here it was {address}, and is {now}."
    ));
    Ok(())
}

async fn leave(page: &mut Page, playground: &Playground, index: usize) -> Result<()> {
    page.say("## Leave the mesh again\n\nThe blog ends before. The remote is given back as it was:");
    page.kubectl(
        central(playground),
        "delete remoteistio remoteistio-sample -n istio-system",
    )
    .await?;
    let at = remote(playground, index);
    let cluster = &playground.remotes[index].cluster;
    within("both Deployments are gone", async || {
        ensure!(
            available(cluster, "istio-citadel").await.is_err(),
            "Citadel is still there"
        );
        Ok(())
    })
    .await?;
    let kinds = "get deployments,services,endpoints,endpointslices,mutatingwebhookconfigurations -n istio-system";
    let left = page.kubectl(at, kinds).await?;
    ensure!(!left.contains("istio-"), "{left}");
    let labels = page.kubectl(at, "get namespaces/default --show-labels").await?;
    ensure!(!labels.contains("istio"), "{labels}");
    Ok(())
}

/// Lines of the hub's log with one of these messages.
fn log_since(playground: &Playground, from: usize, messages: &[&str]) -> String {
    let log = playground.hub.log();
    let lines = log.get(from..).unwrap_or_default().lines();
    let shown: Vec<&str> = lines
        .filter(|line| messages.iter().any(|message| line.contains(message)))
        .collect();
    shown.join("\n")
}

async fn available(cluster: &Cluster, deployment: &str) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(cluster.admin(), NAMESPACE);
    let status = deployments.get(deployment).await?.status.unwrap_or_default();
    ensure!(status.available_replicas == Some(1), "{status:?}");
    Ok(())
}

async fn endpoints(cluster: &Cluster, service: &str) -> Result<BTreeSet<String>> {
    let endpoints: Api<k8s_openapi::api::core::v1::Endpoints> = Api::namespaced(cluster.admin(), NAMESPACE);
    let subsets = endpoints.get(service).await?.subsets.unwrap_or_default();
    let addresses = subsets
        .into_iter()
        .flat_map(|subset| subset.addresses.unwrap_or_default());
    Ok(addresses.map(|address| address.ip).collect())
}

/// The status of the blog's resource.
async fn remote_istio(playground: &Playground) -> Result<serde_json::Value> {
    let kind = kube::core::GroupVersionKind::gvk("istio.banzaicloud.io", "v1beta1", "RemoteIstio");
    let resource = kube::api::ApiResource::from_gvk_with_plural(&kind, "remoteistios");
    let all: Api<kube::api::DynamicObject> = Api::namespaced_with(playground.central.admin(), NAMESPACE, &resource);
    Ok(all.get(NAME).await?.data["status"].clone())
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
