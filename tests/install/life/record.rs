//! Everything an agent owns in its remote, and what a watch sees become of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use futures::StreamExt as _;
use kube::api::{DynamicObject, ListParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt as _};
use parking_lot::Mutex;
use support::eventually::{eventually, seen};
use tokio::task::JoinSet;

use super::stage::{api, identity_of};

/// What marks an object as an agent's own.
const OWNER: &str = "istio.banzaicloud.io/owner";

/// Kinds that an agent makes.
const KINDS: [(&str, &str); 6] = [
    ("v1", "Service"),
    ("v1", "Endpoints"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
    ("v1", "ConfigMap"),
    ("apps/v1", "Deployment"),
    ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
];

/// UID and resource version of what an agent owns, by kind and name.
pub async fn owned(client: &Client) -> Result<BTreeMap<String, (String, String)>> {
    let mut owned = BTreeMap::new();
    for (version, kind) in KINDS {
        let listed = api(client, version, kind)
            .await?
            .list(&ListParams::default().labels(OWNER))
            .await?;
        let entries = listed
            .iter()
            .map(|object| (format!("{kind} {}", object.name_any()), identity_of(object)));
        owned.extend(entries);
    }
    Ok(owned)
}

/// Running watches on all of it. They end with their value.
#[derive(Debug)]
pub struct Record {
    seen: Arc<Mutex<Seen>>,
    _watching: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Seen {
    listed: usize,
    deleted: Vec<String>,
    /// Slices of the followed service that had no address.
    emptied: Vec<String>,
}

impl Record {
    /// Watches, and returns once the first lists are there.
    pub async fn start(client: &Client) -> Result<Self> {
        let noted = Arc::new(Mutex::new(Seen::default()));
        let mut watching = JoinSet::new();
        for (version, kind) in KINDS {
            watching.spawn(watch(api(client, version, kind).await?, kind, Arc::clone(&noted)));
        }
        eventually("the watches have listed", || {
            let listed = noted.lock().listed;
            std::future::ready(seen(listed == KINDS.len(), listed))
        })
        .await;
        Ok(Self {
            seen: noted,
            _watching: watching,
        })
    }

    /// What was deleted since, or stood without an address.
    pub fn losses(&self) -> Vec<String> {
        let seen = self.seen.lock();
        seen.deleted.iter().chain(&seen.emptied).cloned().collect()
    }
}

async fn watch(api: Api<DynamicObject>, kind: &'static str, seen: Arc<Mutex<Seen>>) {
    let mut events = watcher::watcher(api, watcher::Config::default().labels(OWNER))
        .default_backoff()
        .boxed();
    // The watcher begins anew after an error; what it listed before is not listed twice here.
    let mut is_listed = false;
    while let Some(event) = events.next().await {
        let mut seen = seen.lock();
        match event {
            Ok(Event::InitDone) if !is_listed => {
                is_listed = true;
                seen.listed += 1;
            }
            Ok(Event::Delete(object)) => seen.deleted.push(format!("{kind} {} was deleted", object.name_any())),
            Ok(Event::Apply(object)) if kind == "EndpointSlice" => {
                let endpoints = object.data["endpoints"].as_array();
                if endpoints.is_none_or(Vec::is_empty) {
                    seen.emptied.push(format!("{kind} {} was emptied", object.name_any()));
                }
            }
            Ok(_) => {}
            // What happens until it has begun anew would not be seen.
            Err(error) => seen.deleted.push(format!("the watch of {kind} failed: {error}")),
        }
    }
}
