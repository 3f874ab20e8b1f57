//! What the real pair is compared with: a task that watches the pods of one namespace and writes to all remotes.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use support::workload;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::prepare::endpoint;
use crate::sequential::Sequential;
use crate::system::{APP, System};

/// The longest watch that the client library allows, seconds; longer than any turn.
const WATCH_SECONDS: u32 = 290;

/// From start to the watch.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// A running one; it ends with the handle.
#[derive(Debug)]
pub struct Rival {
    system: System,
    task: JoinHandle<Result<()>>,
    /// The resourceVersion up to which every event has been dealt with.
    handled: watch::Receiver<u64>,
}

impl Rival {
    /// Starts the rival of this name and waits until it watches; nothing for remote-istio, which runs all the time.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(system: System, central: Client, remotes: Vec<Client>) -> Result<Option<Self>> {
        let way = match system {
            System::RemoteIstio => return Ok(None),
            System::Floor => Way::Floor(Floor::new(remotes)),
            System::SequentialPush => Way::Sequential(Sequential::new(remotes)),
        };
        let pods: Api<Pod> = Api::namespaced(central, system.namespace());
        let (sender, handled) = watch::channel(0);
        let task = tokio::spawn(follow(pods, way, sender));
        let mut rival = Self { system, task, handled };
        if rival.until_handled(1, START_DEADLINE).await? {
            Ok(Some(rival))
        } else {
            bail!("{} does not watch after {START_DEADLINE:?}", system.name())
        }
    }

    /// Waits until all events up to this resourceVersion have been dealt with; false when that takes too long.
    ///
    /// # Errors
    /// It has ended.
    pub async fn until_handled(&mut self, position: u64, limit: Duration) -> Result<bool> {
        match timeout(limit, self.handled.wait_for(|handled| *handled >= position)).await {
            Ok(Ok(_)) => return Ok(true),
            Err(_) => return Ok(false),
            Ok(Err(_)) => {}
        }
        let ended = (&mut self.task).await.context("its task broke")?;
        ended.with_context(|| format!("{} has ended", self.system.name()))?;
        bail!("{} has ended", self.system.name())
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        self.task.abort();
    }
}

enum Way {
    Floor(Floor),
    Sequential(Sequential),
}

/// One worker: the next event is read when the last one has been dealt with.
async fn follow(pods: Api<Pod>, mut way: Way, handled: watch::Sender<u64>) -> Result<()> {
    let listed = pods.list(&ListParams::default()).await.context("listing pods")?;
    let version = listed.metadata.resource_version.unwrap_or_default();
    if let Way::Floor(floor) = &mut way {
        listed.items.iter().for_each(|pod| floor.know(pod));
    }
    let parameters = WatchParams::default().timeout(WATCH_SECONDS);
    let mut events = pin!(pods.watch(&parameters, &version).await.context("watching pods")?);
    handled.send_replace(position(&version)?);
    while let Some(event) = events.next().await {
        let pod = match event.context("watching pods")? {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => pod,
            WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(status) => bail!("watching pods: {}", status.message),
        };
        let version = pod.resource_version().unwrap_or_default();
        match &mut way {
            Way::Floor(floor) => floor.changed(&pod).await?,
            Way::Sequential(sequential) => sequential.changed(&pod).await?,
        }
        handled.send_replace(position(&version)?);
    }
    bail!("the watch of pods ended")
}

/// The order of a resourceVersion among others of the same kind.
///
/// # Errors
/// It is no number.
pub fn position(version: &str) -> Result<u64> {
    version
        .parse()
        .with_context(|| format!("resourceVersion {version:?} is no number"))
}

/// Bare watch, bare PATCH: no link between clusters, no state but the pods, no ownership, no retry.
struct Floor {
    slices: Vec<Api<EndpointSlice>>,
    /// Service, and address while ready, by name of the pod.
    pods: BTreeMap<String, (String, Option<String>)>,
}

impl Floor {
    fn new(remotes: Vec<Client>) -> Self {
        let slices = remotes
            .into_iter()
            .map(|client| Api::namespaced(client, System::Floor.namespace()))
            .collect();
        let pods = BTreeMap::new();
        Self { slices, pods }
    }

    fn know(&mut self, pod: &Pod) {
        let service = pod.labels().get(APP).cloned().unwrap_or_default();
        let address = workload::address(pod).filter(|_| workload::is_ready(pod));
        self.pods.insert(pod.name_any(), (service, address));
    }

    /// One PATCH for each remote, all at once.
    async fn changed(&mut self, pod: &Pod) -> Result<()> {
        self.know(pod);
        let service = pod.labels().get(APP).context("a pod without the label")?;
        let ready = self
            .pods
            .values()
            .filter(|(of, _)| of == service)
            .filter_map(|(_, address)| address.as_deref());
        let patch = Patch::Merge(json!({"endpoints": ready.map(endpoint).collect::<Vec<_>>()}));
        let parameters = PatchParams::default();
        try_join_all(
            self.slices
                .iter()
                .map(|slices| slices.patch(service, &parameters, &patch)),
        )
        .await
        .with_context(|| format!("patching slice {service}"))?;
        Ok(())
    }
}
