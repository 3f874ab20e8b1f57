//! What a watch on the remote sees of one service's addresses, from its first list on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::TryStreamExt as _;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt as _};
use parking_lot::Mutex;
use support::eventually::{eventually, seen};
use tokio::task::JoinHandle;

/// A running watch. Ends with its value.
#[derive(Debug)]
pub struct AddressLog {
    seen: Arc<Mutex<Seen>>,
    watching: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    listed: bool,
    slices: BTreeMap<String, BTreeSet<String>>,
    history: Vec<BTreeSet<String>>,
    deletions: usize,
}

impl Seen {
    fn note(&mut self) {
        if !self.listed {
            return;
        }
        let now: BTreeSet<String> = self.slices.values().flatten().cloned().collect();
        if self.history.last() != Some(&now) {
            self.history.push(now);
        }
    }

    fn take(&mut self, event: Event<EndpointSlice>) {
        match event {
            Event::Init => self.slices.clear(),
            Event::InitDone => self.listed = true,
            Event::InitApply(slice) | Event::Apply(slice) => {
                self.slices.insert(slice.name_any(), ready_addresses(&slice));
            }
            Event::Delete(slice) => {
                self.deletions += 1;
                self.slices.remove(&slice.name_any());
            }
        }
        self.note();
    }
}

/// The ready addresses of a slice.
pub fn ready_addresses(slice: &EndpointSlice) -> BTreeSet<String> {
    let ready = |conditions: &Option<k8s_openapi::api::discovery::v1::EndpointConditions>| {
        conditions
            .as_ref()
            .is_none_or(|conditions| conditions.ready != Some(false))
    };
    slice
        .endpoints
        .iter()
        .flatten()
        .filter(|endpoint| ready(&endpoint.conditions))
        .flat_map(|endpoint| endpoint.addresses.iter().cloned())
        .collect()
}

impl AddressLog {
    /// Watches, and returns once the first list is there.
    pub async fn start(client: Client, namespace: &str, service: &str) -> Self {
        let slices: Api<EndpointSlice> = Api::namespaced(client, namespace);
        let selector = format!("kubernetes.io/service-name={service}");
        let seen_now = Arc::new(Mutex::new(Seen::default()));
        let noted = Arc::clone(&seen_now);
        let watching = tokio::spawn(async move {
            let events = watcher::watcher(slices, watcher::Config::default().labels(&selector));
            let ended = events
                .try_for_each(|event| {
                    noted.lock().take(event);
                    std::future::ready(Ok(()))
                })
                .await;
            ended.expect("a watch as administrator goes on");
        });
        let log = Self {
            seen: seen_now,
            watching,
        };
        eventually("the watch has listed", || {
            std::future::ready(seen(log.seen.lock().listed, "nothing"))
        })
        .await;
        log
    }

    /// Every set of addresses that was seen, in order, without repetitions.
    pub fn history(&self) -> Vec<BTreeSet<String>> {
        self.seen.lock().history.clone()
    }

    /// How many addresses each of them had.
    pub fn sizes(&self) -> Vec<usize> {
        self.seen.lock().history.iter().map(BTreeSet::len).collect()
    }

    /// How many slices were deleted.
    pub fn deletions(&self) -> usize {
        self.seen.lock().deletions
    }

    /// Waits until exactly these addresses were seen last.
    pub async fn until(&self, addresses: &[&str]) {
        let wanted: BTreeSet<String> = addresses.iter().map(ToString::to_string).collect();
        eventually("the watch has seen it", || {
            let history = self.history();
            std::future::ready(seen(history.last() == Some(&wanted), history))
        })
        .await;
    }
}

impl Drop for AddressLog {
    fn drop(&mut self) {
        self.watching.abort();
    }
}
