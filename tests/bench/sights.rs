//! What a client of each remote sees: watches that stand before anything changes, and the moment of each event.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::pin::pin;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Endpoints;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::system::System;

/// Events that nobody has looked at yet. Read before every change, so this is never full.
const QUEUED: usize = 4_096;

/// The label that says whose addresses a slice holds.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Addresses of one service in one remote, as of one moment.
#[derive(Debug)]
struct Sight {
    remote: usize,
    service: String,
    addresses: BTreeSet<String>,
    at: Instant,
}

/// An object that holds the addresses of one service.
pub trait Shown:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static
{
    /// Whose.
    fn service(&self) -> Option<String>;
    /// Which.
    fn addresses(&self) -> BTreeSet<String>;
}

impl Shown for EndpointSlice {
    fn service(&self) -> Option<String> {
        self.labels().get(SERVICE_NAME).cloned()
    }

    fn addresses(&self) -> BTreeSet<String> {
        self.endpoints
            .iter()
            .flatten()
            .flat_map(|endpoint| endpoint.addresses.iter().cloned())
            .collect()
    }
}

impl Shown for Endpoints {
    fn service(&self) -> Option<String> {
        Some(self.name_any())
    }

    fn addresses(&self) -> BTreeSet<String> {
        let subsets = self.subsets.iter().flatten();
        subsets
            .flat_map(|subset| subset.addresses.iter().flatten())
            .map(|address| address.ip.clone())
            .collect()
    }
}

/// What is seen of one system.
#[derive(Debug)]
pub struct Sights {
    system: System,
    sender: mpsc::Sender<Sight>,
    receiver: mpsc::Receiver<Sight>,
    latest: HashMap<(usize, String), BTreeSet<String>>,
    watches: JoinSet<()>,
}

impl Sights {
    /// Nothing yet.
    pub fn of(system: System) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUED);
        Self {
            system,
            sender,
            receiver,
            latest: HashMap::new(),
            watches: JoinSet::new(),
        }
    }

    /// Starts to look at another remote.
    pub fn watch(&mut self, remote: usize, client: Client) {
        let sender = self.sender.clone();
        let namespace = self.system.namespace();
        match self.system {
            System::RemoteIstio | System::Floor => self
                .watches
                .spawn(look::<EndpointSlice>(client, namespace, remote, sender)),
            System::SequentialPush => self.watches.spawn(look::<Endpoints>(client, namespace, remote, sender)),
        };
    }

    /// Waits until each of `remotes` shows the service with addresses of which `holds`, at most until `limit`. The
    /// moments when they did; a remote that did not is missing.
    pub async fn until(
        &mut self,
        service: &str,
        remotes: &[usize],
        limit: Instant,
        holds: impl Fn(&BTreeSet<String>) -> bool,
    ) -> BTreeMap<usize, Instant> {
        let shown = |remote: &&usize| self.latest.get(&(**remote, service.to_owned())).is_some_and(&holds);
        let now = Instant::now();
        let mut arrived: BTreeMap<usize, Instant> = remotes.iter().filter(shown).map(|remote| (*remote, now)).collect();
        while arrived.len() < remotes.len() {
            let Ok(Some(sight)) = timeout_at(limit, self.receiver.recv()).await else {
                break;
            };
            if sight.service == service && remotes.contains(&sight.remote) && holds(&sight.addresses) {
                arrived.entry(sight.remote).or_insert(sight.at);
            }
            self.latest.insert((sight.remote, sight.service), sight.addresses);
        }
        arrived
    }
}

async fn look<K: Shown>(client: Client, namespace: &str, remote: usize, sender: mpsc::Sender<Sight>) {
    let api: Api<K> = Api::namespaced(client, namespace);
    let mut events = pin!(watcher(api, watcher::Config::default()));
    while let Some(event) = events.next().await {
        let at = Instant::now();
        let object = match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => object,
            Ok(Event::Init | Event::InitDone | Event::Delete(_)) => continue,
            Err(error) => {
                // Nothing of the measured system: the next event is late, and the change is counted as failed.
                eprintln!("bench: the watch of remote-{} failed: {error}", remote + 1);
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(service) = object.service() else { continue };
        let addresses = object.addresses();
        let sight = Sight {
            remote,
            service,
            addresses,
            at,
        };
        if sender.send(sight).await.is_err() {
            return;
        }
    }
}
