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

use crate::page::{self, At, Page};

/// The blog's names.
const CENTRAL: &str = "central-cluster";
const REMOTE: &str = "remote-cluster";
const NAME: &str = "remoteistio-sample";

/// From a change to what follows from it; on a busy machine.
const DEADLINE: Duration = Duration::from_mins(1);

/// Until the hub writes words into a status that says nothing else that is new: it does so once a minute.
const WORDS_DEADLINE: Duration = Duration::from_mins(2);

/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What stands before the session.
const INTRODUCTION: &str = "# The session of 2019, line by line

Written by `make walkthrough` from what it ran: a central cluster with the control plane of the 1.0 line as Deployments without
containers, a hub, and one remote cluster, all on one machine with real API servers, controller managers and schedulers. No image of
the 1.0 line can be run there: pods only say that they are ready. Commands and their order are the blog's, with `-n istio-system`
where it leaves that out. Where one of them has no counterpart, the one that stands in its place is shown. The run fails when
an output is not what the blog shows, and this page is then not written.";

/// Replays all of it.
pub(crate) async fn replay(page: &mut Page, playground: &mut Playground) -> Result<()> {
    page.say(INTRODUCTION);
    let cluster = playground.another_cluster().await?;
    let index = prepare(page, playground, cluster).await?;
    join(page, playground, index).await?;
    look(page, playground, index).await?;
    restart(page, playground, index).await?;
    labels(page, playground, index).await?;
    withheld(page, playground, index).await?;
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

async fn labels(page: &mut Page, playground: &Playground, index: usize) -> Result<()> {
    page.say("## Labels of namespaces that are injected into");
    let at = remote(playground, index);
    let labels = page.kubectl(at, "get namespaces/default --show-labels").await?;
    for label in ["istio-injection=enabled", "istio-operator-managed-injection=enabled"] {
        ensure!(labels.contains(label), "{labels}");
    }
    Ok(())
}

async fn join(page: &mut Page, playground: &mut Playground, index: usize) -> Result<()> {
    page.say("## Add the remote cluster to the mesh");
    let joined = playground.join(index, None).await?;
    let command = format!("remote-istio-hub token create {NAME}");
    page.shown(CENTRAL, &command, "(the token, and the command that starts the agent)");
    let command =
        format!("remote-istio-agent run --policy policy.yaml --token-file {NAME}.token --enrolment … --pin …");
    let agent = playground.remotes[index].agent.log();
    let lines = lines_with(&agent, &["joined the hub", "in force", "connected to hub"]);
    page.shown(REMOTE, &command, &lines);
    page.say(&format!(
        "The hub welcomed it {} ms after its first line.",
        joined.synced.as_millis()
    ));
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
        let components = status["components"].as_array().cloned().unwrap_or_default();
        let names: Vec<_> = components.iter().map(|component| &component["name"]).collect();
        ensure!(names == ["citadel", "sidecarInjector"], "{status}");
        ensure!(
            components.iter().all(|component| component["available"] == 1),
            "{status}"
        );
        Ok(())
    })
    .await?;
    page.say("What the operator's log was, the hub's is, and the agent's, which does the work:");
    let messages = [
        "remoteconfig status updated",
        "remote joined",
        "session opened",
        "of the mesh signed",
    ];
    let lines = lines_with(&playground.hub.log(), &messages);
    page.shown(CENTRAL, "kubectl logs -f deployment/remote-istio-hub", &lines);
    let messages = [
        "are there",
        "service written",
        "labels reconciled",
        "mesh CA of this remote",
        "the injector",
    ];
    let lines = lines_with(&playground.remotes[index].agent.log(), &messages);
    page.shown(REMOTE, "kubectl logs -f deployment/remote-istio-agent", &lines);
    page.kubectl(central(playground), "get remoteistios -n istio-system")
        .await?;
    Ok(())
}

/// Why the status is not `Available`, as it is in the blog.
async fn withheld(page: &mut Page, playground: &Playground, index: usize) -> Result<()> {
    page.say(
        "## The webhook\n\nBoth Deployments are available. The webhook is withheld, for nothing serves behind it here: these pods \
         only pretend, and a webhook without an injector would block every new pod. The status says so. Where the injector really \
         serves, its webhook is the last thing that is made, and the status becomes `Available`.",
    );
    let why = "Citadel has not made the Secret";
    within_time("the status says why", WORDS_DEADLINE, async || {
        let status = remote_istio(playground).await?;
        let message = status["ErrorMessage"].as_str().unwrap_or_default();
        ensure!(message.contains(why), "{status}");
        Ok(())
    })
    .await?;
    let command = "get remoteistio remoteistio-sample -n istio-system -o jsonpath-as-json={.status.components}";
    page.kubectl(central(playground), command).await?;
    let command = "get remoteistio remoteistio-sample -n istio-system -o \
                   jsonpath='{range .status.conditions[*]}{.type}={.status} {.reason}: {.message}{\"\\n\"}{end}'";
    let conditions = page.kubectl(central(playground), command).await?;
    for condition in [
        "Connected=True",
        "Allowed=True",
        "Accepted=True",
        "MeshTrust=True",
        "Ready=False",
        why,
    ] {
        ensure!(conditions.contains(condition), "{condition}: {conditions}");
    }
    let at = remote(playground, index);
    let webhooks = page.kubectl(at, "get mutatingwebhookconfigurations").await?;
    ensure!(!webhooks.contains("istio-sidecar-injector"), "{webhooks}");
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
    let endpoints = page.kubectl(at, "get endpoints -n istio-system").await?;
    page.say(
        "Ports are the real ones, where the blog has none and a placeholder (65000). The blog's selector of `istio-statsd` selects no \
         pod, there as here.",
    );
    for service in wanted.iter().filter(|service| **service != "istio-statsd") {
        let line = endpoints.lines().find(|line| line.split(' ').next() == Some(service));
        ensure!(
            line.is_some_and(|line| line.contains("10.")),
            "{service} has no address:\n{endpoints}"
        );
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
    let log = playground.hub.log();
    let since = log.get(from..).unwrap_or_default();
    let lines = lines_with(since, &["pod event detected", "updating endpoints"]);
    for line in [name.as_str(), "updating endpoints"] {
        ensure!(lines.contains(line), "{line} is not in the hub's log: {lines}");
    }
    page.shown(CENTRAL, "kubectl logs -f deployment/remote-istio-hub", &lines);
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
    page.say(
        "## Leave the mesh again\n\nThe blog ends before. The remote is given back as it was, and the agent waits there with its \
         identity until it is removed:",
    );
    page.kubectl(
        central(playground),
        "delete remoteistio remoteistio-sample -n istio-system",
    )
    .await?;
    let at = remote(playground, index);
    let kinds = "get deployments,services,endpoints,endpointslices,mutatingwebhookconfigurations -n istio-system";
    within("everything is gone", async || {
        let left = page::run(at, kinds).await?;
        ensure!(left.starts_with("No resources found"), "{left}");
        Ok(())
    })
    .await?;
    let left = page.kubectl(at, kinds).await?;
    ensure!(left.starts_with("No resources found"), "{left}");
    let left = page.kubectl(at, "get configmaps,secrets -n istio-system").await?;
    for name in ["/istio", "/cacerts"] {
        ensure!(!left.contains(name), "{left}");
    }
    let labels = page.kubectl(at, "get namespaces/default --show-labels").await?;
    ensure!(!labels.contains("istio"), "{labels}");
    Ok(())
}

/// Lines with one of these messages.
fn lines_with(log: &str, messages: &[&str]) -> String {
    let shown = |line: &&str| messages.iter().any(|message| line.contains(message));
    log.lines().filter(shown).collect::<Vec<_>>().join("\n")
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
    within_time(what, DEADLINE, look).await
}

async fn within_time<T>(what: &str, deadline: Duration, look: impl AsyncFn() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(error) if started.elapsed() > deadline => bail!("{what}: not within {deadline:?}: {error:#}"),
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}
