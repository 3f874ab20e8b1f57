//! The steps, each with what it checks.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde_json::Value;
use support::deploy::NAMESPACE;
use support::node::Machine;
use support::pair::Metrics;
use support::seed;
use support::workload::{self, is_ready};

use crate::figures::Figures;
use crate::terminal::{Shell, Terminal};
use crate::world::{Places, TELEMETRY, World, within};

/// The pods of the hub.
const HUB_SELECTOR: &str = "app.kubernetes.io/name=remote-istio-hub,app.kubernetes.io/component=hub";

/// The pods of an agent.
const AGENT_SELECTOR: &str = "app.kubernetes.io/name=remote-istio-agent,app.kubernetes.io/component=agent";

/// Health and metrics of both programs.
pub(crate) const HEALTH_PORT: u16 = 8080;

/// One run.
pub(crate) struct Walk<'a> {
    pub(crate) world: &'a World,
    pub(crate) terminal: &'a Terminal,
    pub(crate) places: &'a Places,
    pub(crate) figures: &'a Figures,
}

impl Walk<'_> {
    pub(crate) async fn all(&self) -> Result<()> {
        self.install_hub().await?;
        let mut installed = Vec::new();
        for index in 0..self.world.remotes.len() {
            installed.push(self.join(index).await?);
        }
        self.replace_pod().await?;
        self.cut().await?;
        self.drain().await?;
        self.check().await?;
        self.image_that_is_nowhere().await?;
        self.measure().await?;
        self.uninstall(&installed).await
    }

    pub(crate) fn central(&self) -> Shell<'_> {
        self.world.on_central(self.terminal, self.places)
    }

    pub(crate) fn remote(&self, index: usize) -> Shell<'_> {
        self.world.on_remote(index, self.terminal, self.places)
    }

    async fn install_hub(&self) -> Result<()> {
        self.terminal
            .step("Install the hub on central; remotes reach it by the addresses of central's nodes");
        let central = self.central();
        central.run(&format!("kubectl create namespace {NAMESPACE}")).await?;
        central
            .run(&format!(
                "kubectl label namespace {NAMESPACE} pod-security.kubernetes.io/enforce=restricted"
            ))
            .await?;
        self.world.control_plane().await?;
        self.terminal
            .holds("pilot, policy, telemetry and jaeger are ready pods");
        let started = Instant::now();
        central.run(&self.hub_command()).await?;
        self.figures.note("hub install until ready, seconds", seconds(started));
        central
            .run(&format!("kubectl --namespace {NAMESPACE} get pods --output wide"))
            .await
            .map(|_| ())
    }

    fn hub_command(&self) -> String {
        let machines = &self.world.central.machines;
        let hosts: Vec<String> = machines.iter().map(Machine::address).collect();
        format!(
            "helm install remote-istio-hub deploy/charts/remote-istio-hub --namespace {NAMESPACE} \
             --set exposure.type=NodePort --set 'exposure.hosts={{{}}}' --wait",
            hosts.join(",")
        )
    }

    /// Gives the command that installed the agent.
    async fn join(&self, index: usize) -> Result<String> {
        let (central, remote) = (self.central(), self.remote(index));
        let name = remote.cluster;
        self.terminal.step(&format!(
            "{name}: a RemoteIstio, a token, and the commands that come with it"
        ));
        let file = self.world.folder.data(&format!("{name}.yaml"));
        std::fs::write(&file, seed::remote_istio(name)).context("writing a RemoteIstio")?;
        central
            .run(&format!("kubectl apply --filename {}", file.display()))
            .await?;
        self.world.start_client(index).await?;
        let order = format!(
            "kubectl --namespace {NAMESPACE} exec deploy/remote-istio-hub -- /remote-istio-hub token create {name}"
        );
        central.announce(&order);
        let said = central.quietly(&format!("{order} --output json")).await?;
        let said: Value = serde_json::from_str(&said).with_context(|| format!("token create said {said}"))?;
        let token = said["token"].as_str().context("no token")?;
        let commands = said["commands"].as_array().context("no commands")?;
        let commands: Vec<&str> = commands.iter().filter_map(Value::as_str).collect();
        let (install, before) = commands.split_last().context("no commands")?;
        for command in before {
            remote.run_hiding(command, token).await?;
        }
        let telemetry = self.world.telemetry_pod().await?;
        let (started, moment) = (Instant::now(), now());
        let install = format!("{install} --wait");
        remote.run(&install).await?;
        let installed = seconds(started);
        let seen = self.world.leads_to(index, &telemetry).await?;
        let joined = seen.at.saturating_sub(moment);
        self.terminal.holds(&format!(
            "{name}: {TELEMETRY}.{NAMESPACE}.svc leads to central's pod {joined} ms after helm was started: {}",
            seen.what
        ));
        self.figures
            .note(&format!("{name}: agent install until ready, seconds"), installed);
        self.figures.note(
            &format!("{name}: from helm install to the name answered, milliseconds"),
            joined,
        );
        central.run("kubectl get remoteistios --all-namespaces").await?;
        let message = "jsonpath={.status.conditions[?(@.type==\"Ready\")].message}";
        let resource = format!("remoteistio/{name}");
        self.terminal.line(
            "the walk's resource asks for Citadel and the injector too, which this run does not allow; it says so:",
        );
        central
            .run(&format!(
                "kubectl --namespace {NAMESPACE} get {resource} --output '{message}'"
            ))
            .await?;
        Ok(install)
    }

    async fn replace_pod(&self) -> Result<()> {
        self.terminal
            .step("Delete central's telemetry pod: the name leads to the new one");
        let (asked, ready, pod) = self.replaced().await?;
        for (index, remote) in self.world.remotes.iter().enumerate() {
            let seen = self.world.leads_to(index, &pod).await?;
            let name = remote.cluster.name();
            let (whole, after) = (seen.at.saturating_sub(asked), seen.at.saturating_sub(ready));
            self.terminal.holds(&format!(
                "{name}: {}: {after} ms after the new pod was seen ready on central, {whole} ms after the deletion",
                seen.what
            ));
            self.figures.note(
                &format!("{name}: from a new pod's readiness to the name answered, milliseconds"),
                after,
            );
        }
        Ok(())
    }

    /// Deletes telemetry's pod: when that was asked for, when the new one was seen ready, and that one.
    async fn replaced(&self) -> Result<(u64, u64, Pod)> {
        let old = self.world.telemetry_pod().await?.name_any();
        let asked = now();
        self.central()
            .run(&format!(
                "kubectl --namespace {NAMESPACE} delete pod {old} --wait=false"
            ))
            .await?;
        let new = within("a new pod is ready", async || {
            let pod = self.world.telemetry_pod().await?;
            ensure!(pod.name_any() != old, "{old} is still there");
            Ok(pod)
        });
        let new = new.await?;
        Ok((asked, now(), new))
    }

    async fn cut(&self) -> Result<()> {
        let (cut_off, other) = (&self.world.remotes[0], 1);
        let name = cut_off.cluster.name();
        self.terminal.step(&format!(
            "Cut the network between central and {name}, and join it again"
        ));
        let before = self.world.telemetry_pod().await?;
        let old = workload::address(&before).context("a pod without an address")?;
        cut_off.cut_from(&self.world.central).await?;
        self.terminal.line("cut: nothing passes, and nobody is told");
        let (_, _, pod) = self.replaced().await?;
        let seen = self.world.leads_to(other, &pod).await?;
        self.terminal
            .holds(&format!("{}: {}", self.remote(other).cluster, seen.what));
        let central = self.central();
        let (started, resource) = (Instant::now(), format!("remoteistio/{name}"));
        central
            .run(&format!(
                "kubectl --namespace {NAMESPACE} wait {resource} --for=condition=Connected=False --timeout=150s"
            ))
            .await?;
        self.figures
            .note("cut noticed by the hub after seconds", seconds(started));
        let last = self.world.seen(0).await?.pop().context("the client has seen nothing")?;
        ensure!(
            last.what.split(' ').next() == Some(old.as_str()),
            "{name} is cut off and sees {}, not the last that it was told, {old}",
            last.what
        );
        self.terminal
            .holds(&format!("{name} keeps what it was told last: {}", last.what));
        cut_off.mend_with(&self.world.central).await?;
        let mended = now();
        self.terminal.line("joined again");
        let seen = self.world.leads_to(0, &pod).await?;
        let after = seen.at.saturating_sub(mended);
        self.terminal.holds(&format!(
            "{name}: {}, {after} ms after the network was there again",
            seen.what
        ));
        self.figures
            .note("from the network's return to the name answered, milliseconds", after);
        Ok(())
    }

    async fn drain(&self) -> Result<()> {
        self.terminal
            .step("Drain the node of the hub: it starts on the other, and the agents come back");
        let central = self.central();
        let hub = self.hub_pod().await?;
        let node = hub
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.clone())
            .context("a pod without a node")?;
        let started = Instant::now();
        central
            .run(&format!(
                "kubectl drain {node} --ignore-daemonsets --delete-emptydir-data --force --timeout=120s"
            ))
            .await?;
        let moved = within("a hub is ready on the other node", async || {
            let pod = self.hub_pod().await?;
            ensure!(pod.name_any() != hub.name_any(), "it is the old one");
            Ok(pod)
        })
        .await?;
        self.sessions(&moved, self.world.remotes.len()).await?;
        self.figures
            .note("from kubectl drain to all agents back, seconds", seconds(started));
        self.terminal.holds(&format!(
            "{} sessions on {}, {:.1} s after kubectl drain was started",
            self.world.remotes.len(),
            moved.name_any(),
            seconds(started)
        ));
        central.run(&format!("kubectl uncordon {node}")).await?;
        let telemetry = self.world.telemetry_pod().await?;
        for index in 0..self.world.remotes.len() {
            let seen = self.world.leads_to(index, &telemetry).await?;
            self.terminal
                .holds(&format!("{}: {}", self.remote(index).cluster, seen.what));
        }
        Ok(())
    }

    async fn check(&self) -> Result<()> {
        self.terminal.step("helm test on both sides");
        self.central()
            .run(&format!("helm test remote-istio-hub --namespace {NAMESPACE} --logs"))
            .await?;
        for index in 0..self.world.remotes.len() {
            self.remote(index)
                .run(&format!("helm test remote-istio-agent --namespace {NAMESPACE} --logs"))
                .await?;
        }
        Ok(())
    }

    async fn image_that_is_nowhere(&self) -> Result<()> {
        self.terminal
            .step("Upgrade an agent to an image that is nowhere: the pod says so, the name still answers, a rollback mends it");
        let remote = self.remote(0);
        remote
            .run(&format!(
                "helm upgrade remote-istio-agent deploy/charts/remote-istio-agent --namespace {NAMESPACE} \
                 --reset-then-reuse-values --set image.tag=none --set image.pullPolicy=Never"
            ))
            .await?;
        let client = self.world.remotes[0].cluster.admin();
        let said = within("the new pod says that its image is missing", async || {
            let pods = workload::pods(&client, NAMESPACE, AGENT_SELECTOR).await?;
            let waiting = pods.iter().find_map(waiting_reason);
            ensure!(waiting.as_deref() == Some("ErrImageNeverPull"), "it says {waiting:?}");
            Ok(waiting.unwrap_or_default())
        })
        .await?;
        self.terminal.holds(&format!("the pod waits: {said}"));
        let telemetry = self.world.telemetry_pod().await?;
        let seen = self.world.leads_to(0, &telemetry).await?;
        self.terminal
            .holds(&format!("{}, without an agent: {}", remote.cluster, seen.what));
        remote
            .run(&format!(
                "helm rollback remote-istio-agent --namespace {NAMESPACE} --wait"
            ))
            .await?;
        let hub = self.hub_pod().await?;
        self.sessions(&hub, self.world.remotes.len()).await
    }

    async fn uninstall(&self, installed: &[String]) -> Result<()> {
        self.terminal
            .step("Uninstall both, install them again: nothing is lost, and nobody needs a new token");
        let (central, remote) = (self.central(), self.remote(0));
        let telemetry = self.world.telemetry_pod().await?;
        remote
            .run(&format!(
                "helm uninstall remote-istio-agent --namespace {NAMESPACE} --wait"
            ))
            .await?;
        central
            .run(&format!(
                "helm uninstall remote-istio-hub --namespace {NAMESPACE} --wait"
            ))
            .await?;
        central.run("kubectl get remoteistios --all-namespaces").await?;
        remote
            .run(&format!("kubectl --namespace {NAMESPACE} get services,endpointslices"))
            .await?;
        for index in 0..self.world.remotes.len() {
            let seen = self.world.leads_to(index, &telemetry).await?;
            self.terminal
                .holds(&format!("{}, without a hub: {}", self.remote(index).cluster, seen.what));
        }
        central.run(&self.hub_command()).await?;
        remote.run(installed.first().context("an install command")?).await?;
        let hub = self.hub_pod().await?;
        self.sessions(&hub, self.world.remotes.len()).await?;
        self.terminal.holds("both agents are back");
        let (_, _, pod) = self.replaced().await?;
        for index in 0..self.world.remotes.len() {
            let seen = self.world.leads_to(index, &pod).await?;
            self.terminal
                .holds(&format!("{}: {}", self.remote(index).cluster, seen.what));
        }
        Ok(())
    }

    /// The one ready pod of the hub.
    async fn hub_pod(&self) -> Result<Pod> {
        let client = self.world.central.cluster.admin();
        within("one ready pod of the hub", async || {
            let pods = workload::pods(&client, NAMESPACE, HUB_SELECTOR).await?;
            let mut ready = pods.into_iter().filter(is_ready);
            match (ready.next(), ready.next()) {
                (Some(pod), None) => Ok(pod),
                (None, _) => bail!("none is ready"),
                _ => bail!("more than one is ready"),
            }
        })
        .await
    }

    /// Waits until this hub has so many sessions.
    async fn sessions(&self, hub: &Pod, wanted: usize) -> Result<()> {
        let address = workload::address(hub).context("a pod without an address")?;
        let address = SocketAddr::new(address.parse().context("a pod's address")?, HEALTH_PORT);
        within(&format!("{wanted} sessions on {}", hub.name_any()), async || {
            let metrics = Metrics::scrape(address).await?;
            let sessions = metrics.sum("remote_istio_hub_sessions", &[]);
            ensure!(format!("{sessions:.0}") == wanted.to_string(), "{sessions} sessions");
            Ok(())
        })
        .await
    }
}

/// Why the first container of a pod does not run yet.
fn waiting_reason(pod: &Pod) -> Option<String> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    containers.first()?.state.as_ref()?.waiting.as_ref()?.reason.clone()
}

/// Milliseconds since 1970, as the clients count: all pods have this machine's clock.
fn now() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

/// To the tenth.
fn seconds(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 10.0).round() / 10.0
}
