//! Central with two nodes, two remotes with one each, and what a person has at hand.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use support::deploy::NAMESPACE;
use support::etcd::Etcd;
use support::folder::Folder;
use support::image::{self, Images};
use support::manifest::apply;
use support::node::{Ground, RealCluster};
use support::seed;
use support::tools::Tool;
use support::workload::{self, is_ready};

use crate::terminal::{Shell, Terminal};

/// For anything that is waited for, on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_mins(3);

/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The Service that is followed through everything.
pub(crate) const TELEMETRY: &str = "istio-telemetry";

/// One of its ports.
const TELEMETRY_PORT: u16 = 15004;

/// The pod on each remote that follows it.
const CLIENT: &str = "client";

/// What the control plane's pods and the clients are of.
const POD_IMAGE: &str = "remote-istio-pod:test";

/// Nodes of central.
const CENTRAL_NODES: u8 = 2;

/// Remotes.
const REMOTES: u8 = 2;

/// All of it; remotes end first, the ground last.
pub(crate) struct World {
    pub(crate) remotes: Vec<RealCluster>,
    pub(crate) central: RealCluster,
    _etcd: Arc<Etcd>,
    pub(crate) ground: Arc<Ground>,
    pub(crate) images: Images,
    pub(crate) folder: Arc<Folder>,
}

/// What a client saw last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Milliseconds since 1970.
    pub(crate) at: u64,
    /// `ADDRESS answered POD ADDRESS:PORT`, or that there was no answer.
    pub(crate) what: String,
}

impl World {
    pub(crate) async fn start(terminal: &Terminal) -> Result<Self> {
        let images = tokio::task::spawn_blocking(image::build).await;
        let images = images.context("the builder of images panicked")??;
        for image in [&images.hub, &images.agent] {
            terminal.line(&format!(
                "{}: program {:.1} MB, image {:.1} MB",
                image.reference,
                megabytes(image.program_bytes),
                megabytes(image.image_bytes)
            ));
        }
        let ground = Ground::prepare().await?;
        let folder = Folder::create("e2e")?;
        let programs = folder.data("programs");
        std::fs::create_dir_all(&programs).context("making a folder")?;
        for (tool, name) in [(Tool::Helm, "helm"), (Tool::Kubectl, "kubectl")] {
            symlink(ground.tools().path(tool), programs.join(name)).context("linking a program")?;
        }
        let etcd = Etcd::start().await?;
        let (hub, agent) = ([images.hub.path.clone()], [images.agent.path.clone()]);
        let names: Vec<String> = (1..=REMOTES).map(|number| format!("remote-{number}")).collect();
        let remotes = names
            .iter()
            .zip(1..)
            .map(|(name, number)| RealCluster::start(&ground, &etcd, (number, name), 1, &agent));
        let central = RealCluster::start(&ground, &etcd, (0, "central"), CENTRAL_NODES, &hub);
        let (central, remotes) = tokio::try_join!(central, futures::future::try_join_all(remotes))?;
        Ok(Self {
            remotes,
            central,
            _etcd: etcd,
            ground,
            images,
            folder,
        })
    }

    /// Keeps the logs of everything, after a failure.
    pub(crate) fn keep_logs(&self) {
        self.ground.folder().keep_logs();
        for cluster in self.remotes.iter().chain([&self.central]) {
            cluster.cluster.folder().keep_logs();
        }
    }

    /// The administrator of central.
    pub(crate) fn on_central<'a>(&'a self, terminal: &'a Terminal, places: &'a Places) -> Shell<'a> {
        shell(&self.central, terminal, places)
    }

    /// The administrator of a remote.
    pub(crate) fn on_remote<'a>(&'a self, index: usize, terminal: &'a Terminal, places: &'a Places) -> Shell<'a> {
        shell(&self.remotes[index], terminal, places)
    }

    pub(crate) fn places(&self) -> Places {
        Places {
            programs: self.folder.data("programs"),
            home: self.folder.data("home"),
        }
    }

    /// The control plane of the walk, as pods that answer who they are.
    pub(crate) async fn control_plane(&self) -> Result<()> {
        let client = self.central.cluster.admin();
        for mut object in seed::control_plane("") {
            if object["kind"] == "Deployment" {
                make_real(&mut object);
            }
            apply(&client, object).await?;
        }
        for part in seed::PARTS {
            let selector = part.label_selector();
            within(&format!("a ready pod of {}", part.deployment), async || {
                let pods = workload::pods(&client, NAMESPACE, &selector).await?;
                anyhow::ensure!(pods.iter().any(is_ready), "{} pods, none ready", pods.len());
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Starts the pod on a remote that follows the name of telemetry.
    pub(crate) async fn start_client(&self, index: usize) -> Result<()> {
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": CLIENT, "namespace": "default"},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "main",
                    "image": POD_IMAGE,
                    "imagePullPolicy": "Never",
                    "args": ["follow", format!("{TELEMETRY}.{NAMESPACE}.svc:{TELEMETRY_PORT}")],
                }],
            },
        });
        apply(&self.remotes[index].cluster.admin(), pod).await.map(|_| ())
    }

    /// What a remote's client has seen so far.
    pub(crate) async fn seen(&self, index: usize) -> Result<Vec<Seen>> {
        let pods: Api<Pod> = Api::namespaced(self.remotes[index].cluster.admin(), "default");
        let log = pods
            .logs(CLIENT, &LogParams::default())
            .await
            .context("reading the client's log")?;
        Ok(log.lines().filter_map(parse).collect())
    }

    /// Waits until a remote's client is answered by this pod, and gives the moment of it.
    pub(crate) async fn leads_to(&self, index: usize, pod: &Pod) -> Result<Seen> {
        let (name, address) = (
            pod.name_any(),
            workload::address(pod).context("a pod without an address")?,
        );
        let expected = format!("{address} answered {name} {address}:{TELEMETRY_PORT}");
        within(&format!("the name leads to {name} at {address}"), async || {
            let seen = self.seen(index).await?;
            let last = seen.last().context("the client has seen nothing")?;
            anyhow::ensure!(last.what == expected, "the client sees: {}", last.what);
            Ok(last.clone())
        })
        .await
    }

    /// The one ready pod of telemetry on central.
    pub(crate) async fn telemetry_pod(&self) -> Result<Pod> {
        let part = seed::PARTS
            .iter()
            .find(|part| part.service == TELEMETRY)
            .context("telemetry")?;
        let client = self.central.cluster.admin();
        within("one ready pod of telemetry", async || {
            let pods = workload::pods(&client, NAMESPACE, &part.label_selector()).await?;
            let mut ready = pods.into_iter().filter(is_ready);
            match (ready.next(), ready.next()) {
                (Some(pod), None) => Ok(pod),
                _ => bail!("none, or more than one"),
            }
        })
        .await
    }
}

/// Folders of the person.
pub(crate) struct Places {
    programs: PathBuf,
    home: PathBuf,
}

fn shell<'a>(cluster: &'a RealCluster, terminal: &'a Terminal, places: &'a Places) -> Shell<'a> {
    Shell {
        terminal,
        cluster: cluster.cluster.name(),
        kubeconfig: cluster.cluster.admin_kubeconfig(),
        programs: &places.programs,
        home: &places.home,
    }
}

/// Runs where the scheduler says, listens on its ports, and may do nothing else.
fn make_real(deployment: &mut Value) {
    let pod = &mut deployment["spec"]["template"]["spec"];
    if let Some(pod) = pod.as_object_mut() {
        pod.remove("nodeName");
    }
    let container = &mut pod["containers"][0];
    let ports = container["ports"].as_array().cloned().unwrap_or_default();
    let ports = ports.iter().map(|port| port["containerPort"].to_string());
    let arguments: Vec<String> = std::iter::once("serve".to_owned()).chain(ports).collect();
    container["image"] = json!(POD_IMAGE);
    container["imagePullPolicy"] = json!("Never");
    container["args"] = json!(arguments);
    container["securityContext"] = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
}

/// `MILLISECONDS WHAT`.
fn parse(line: &str) -> Option<Seen> {
    let (at, what) = line.split_once(' ')?;
    Some(Seen {
        at: at.parse().ok()?,
        what: what.to_owned(),
    })
}

/// Looks until it holds; says what was seen last if it never does.
pub(crate) async fn within<T>(what: &str, look: impl AsyncFn() -> Result<T>) -> Result<T> {
    let started = std::time::Instant::now();
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(error) if started.elapsed() > DEADLINE => bail!("{what}: not within {DEADLINE:?}: {error:#}"),
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

/// Of bytes, for people.
pub(crate) fn megabytes(bytes: u64) -> f64 {
    u32::try_from(bytes / 1000).map_or(f64::INFINITY, f64::from) / 1000.0
}
