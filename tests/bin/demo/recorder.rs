//! When an address was first seen: watches that note the moment of each event on this process's own clock.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use parking_lot::Mutex;
use support::deploy::NAMESPACE;
use support::workload;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::remote::ready_addresses;

/// From one change to what follows from it; on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// One watch; it ends with the handle.
pub(crate) struct Recorder {
    seen: Arc<Seen>,
    _task: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    moments: Mutex<Vec<(Instant, BTreeSet<String>)>>,
    changed: Notify,
}

impl Recorder {
    /// Notes the ready addresses of a remote's slices of one Service.
    pub(crate) async fn slices(client: &Client, service: &str) -> Result<Self> {
        let api: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
        let label = format!("kubernetes.io/service-name={service}");
        Self::start(api, &label, ready_addresses).await
    }

    /// Notes the addresses of central's ready pods.
    pub(crate) async fn pods(client: &Client, selector: &str) -> Result<Self> {
        let api: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
        let of = |pod: &Pod| {
            workload::address(pod)
                .filter(|_| workload::is_ready(pod))
                .into_iter()
                .collect()
        };
        Self::start(api, selector, of).await
    }

    async fn start<K>(api: Api<K>, selector: &str, of: fn(&K) -> Vec<String>) -> Result<Self>
    where
        K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
    {
        let seen = Arc::new(Seen::default());
        let mut events = watcher(api, watcher::Config::default().labels(selector)).boxed();
        let listed = async {
            while let Some(event) = events.try_next().await? {
                if matches!(event, Event::InitDone) {
                    break;
                }
            }
            Result::<_, watcher::Error>::Ok(())
        };
        tokio::time::timeout(DEADLINE, listed)
            .await
            .with_context(|| format!("no list of {selector} after {DEADLINE:?}"))?
            .with_context(|| format!("watching {selector}"))?;
        let mut task = JoinSet::new();
        let noted = Arc::clone(&seen);
        task.spawn(async move {
            // An error is a watch that begins again; what is missed so is only said later.
            while let Some(event) = events.next().await {
                if let Ok(Event::Apply(object)) = event {
                    noted
                        .moments
                        .lock()
                        .push((Instant::now(), of(&object).into_iter().collect()));
                    noted.changed.notify_waiters();
                }
            }
        });
        Ok(Self { seen, _task: task })
    }

    /// When exactly these addresses were first noted.
    pub(crate) async fn first(
        &self,
        wanted: impl Fn(&BTreeSet<String>) -> bool,
    ) -> Result<(Instant, BTreeSet<String>)> {
        let noted = async {
            loop {
                let changed = self.seen.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                let found = self
                    .seen
                    .moments
                    .lock()
                    .iter()
                    .find(|(_, addresses)| wanted(addresses))
                    .cloned();
                if let Some(found) = found {
                    return found;
                }
                changed.await;
            }
        };
        tokio::time::timeout(DEADLINE, noted).await.with_context(|| {
            let moments = self.seen.moments.lock();
            let last = moments
                .last()
                .map(|(_, addresses)| addresses.clone())
                .unwrap_or_default();
            format!("the new address has not come within {DEADLINE:?}; last seen: {last:?}")
        })
    }
}
