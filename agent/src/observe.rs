//! Watches of the remote: what the engine sees of it, kept up through errors, expiry and silence.
//!
//! A watch that fails leaves what was observed as it is: stale beats empty.

mod observable;
mod owned_labels;
mod relist;

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use remote_istio::process::Backoff;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::apply::explain;
use crate::engine::{Kind, Seen};
use crate::metrics::Metrics;
pub use observable::Observable;
pub use owned_labels::owned_labels;
use relist::Relist;

/// Events between the watches and the driver. A full queue makes the watches wait, not the driver.
pub const OBSERVED_QUEUED: usize = 256;

/// The server ends a watch after so long and the watcher notices 5 s later that nobody did: it bounds how long a
/// silently dead connection hides drift.
const WATCH_SECONDS: u32 = 60;

/// Silence on a connection of the watches that ends it; above the watcher's own idle limit.
pub const WATCH_READ_TIMEOUT: Duration = Duration::from_secs(75);

/// A page of a list may take so long.
const PAGE_DEADLINE: Duration = Duration::from_secs(30);

/// First and largest bound of the pause after an error.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// A watch that has not failed again for so long works: longer than any silence that ends in an error.
const RECOVERED_AFTER: Duration = Duration::from_secs(80);

/// Between looks at what the agent has no right to look at: nobody need have given it one.
const SHUT_OUT_PAUSE: Duration = Duration::from_secs(15);

/// Records carry this label; others' `ConfigMap`s are never read.
const RECORDS: &str = "app.kubernetes.io/managed-by=remote-istio-agent";

/// What the watches tell the driver.
#[derive(Clone, Debug, PartialEq)]
pub enum Observed {
    /// An object came, changed or went.
    Seen(Seen),
    /// The first list of a watch is complete.
    Listed(String),
    /// A watch fails, for a reason it did not have before.
    Failing(String, String),
}

/// The watches ended although nobody asked them to.
#[derive(Debug, thiserror::Error)]
#[error("a watch ended unasked: {0}")]
pub struct WatchEnded(String);

/// What is watched.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Where the records are.
    pub namespace: String,
    /// Where services, slices and `Endpoints` are.
    pub service_namespaces: BTreeSet<String>,
}

impl Scope {
    /// The names of all watches: so many [`Observed::Listed`] come before everything was listed once.
    #[must_use]
    pub fn watches(&self) -> BTreeSet<String> {
        let services = self.service_namespaces.iter().flat_map(|namespace| {
            [Kind::Service, Kind::EndpointSlice, Kind::Endpoints].map(|kind| watch_name(kind, namespace))
        });
        let others = [
            watch_name(Kind::ConfigMap, &self.namespace),
            watch_name(Kind::Namespace, ""),
            watch_name(Kind::Deployment, &self.namespace),
            watch_name(Kind::MutatingWebhook, ""),
        ];
        // Components have services in the agent's own namespace, whether or not the hub may write others there.
        let own = watch_name(Kind::Service, &self.namespace);
        services.chain(others).chain([own]).collect()
    }
}

fn watch_name(kind: Kind, namespace: &str) -> String {
    match kind {
        Kind::Namespace | Kind::MutatingWebhook => crate::metrics::kind_word(kind).to_owned(),
        kind => format!("{} in {namespace}", crate::metrics::kind_word(kind)),
    }
}

/// Watches everything in scope until `stop`.
///
/// # Errors
/// A watch ended by itself, which is a defect.
pub async fn observe(
    client: Client,
    scope: Scope,
    observed: mpsc::Sender<Observed>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> Result<(), WatchEnded> {
    let mut watches = JoinSet::new();
    let config = watcher::Config::default().timeout(WATCH_SECONDS);
    let watch = |name: String| Watch {
        name,
        observed: observed.clone(),
        metrics: Arc::clone(&metrics),
        relist: Relist::default(),
        listed: false,
        failing: None,
        optional: false,
    };
    // An agent that may run no component has no right to look at them.
    let optional = |kind: Kind, namespace: &str| Watch {
        optional: true,
        ..watch(watch_name(kind, namespace))
    };
    for namespace in &scope.service_namespaces {
        let name = |kind| watch_name(kind, namespace);
        let (services, slices, endpoints) = (
            Api::<Service>::namespaced(client.clone(), namespace),
            Api::<EndpointSlice>::namespaced(client.clone(), namespace),
            Api::<Endpoints>::namespaced(client.clone(), namespace),
        );
        watches.spawn(watch(name(Kind::Service)).run(services, config.clone()));
        watches.spawn(watch(name(Kind::EndpointSlice)).run(slices, config.clone()));
        watches.spawn(watch(name(Kind::Endpoints)).run(endpoints, config.clone()));
    }
    let records = Api::<ConfigMap>::namespaced(client.clone(), &scope.namespace);
    let records_only = config.clone().labels(RECORDS);
    watches.spawn(watch(watch_name(Kind::ConfigMap, &scope.namespace)).run(records, records_only));
    let (own, ours) = (scope.namespace.as_str(), config.clone().labels(RECORDS));
    let deployments = Deployment::api(client.clone(), own);
    watches.spawn(optional(Kind::Deployment, own).run(deployments, ours.clone()));
    let webhooks = MutatingWebhookConfiguration::api(client.clone(), "");
    watches.spawn(optional(Kind::MutatingWebhook, "").run(webhooks, ours.clone()));
    if !scope.service_namespaces.contains(own) {
        let services = Service::api(client.clone(), own);
        watches.spawn(optional(Kind::Service, own).run(services, ours));
    }
    let namespaces = Api::<PartialObjectMeta<Namespace>>::all(client);
    watches.spawn(watch(watch_name(Kind::Namespace, "")).run(namespaces, config));
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        Some(ended) = watches.join_next() => match ended {
            // The driver has ended, and says why itself.
            Ok(_) if observed.is_closed() => { stop.cancelled().await; Ok(()) }
            Ok(name) => Err(WatchEnded(name)),
            Err(error) => Err(WatchEnded(error.to_string())),
        },
    }
}

struct Watch {
    name: String,
    observed: mpsc::Sender<Observed>,
    metrics: Arc<Metrics>,
    relist: Relist,
    listed: bool,
    failing: Option<String>,
    /// Without the right to look, nothing is there.
    optional: bool,
}

/// The driver no longer listens.
struct Deaf;

impl Watch {
    /// Goes on until the driver no longer listens; says which watch it was.
    async fn run<K: Observable>(mut self, api: Api<K>, config: watcher::Config) -> String {
        let mut backoff = Backoff::new(PAUSE, rand::random());
        loop {
            let mut events = pin!(watcher(api.clone(), config.clone()));
            self.relist.begins();
            while let Ok(next) = self.next(&mut events, &mut backoff).await {
                let heard = match next {
                    Some(Ok(event)) => {
                        if !matches!(event, Event::Init) {
                            backoff.reset();
                        }
                        self.event(event).await
                    }
                    Some(Err(error)) if self.optional && is_forbidden(&error) => {
                        let heard = self.shut_out(&reason(&error)).await;
                        tokio::time::sleep(SHUT_OUT_PAUSE).await;
                        heard
                    }
                    Some(Err(error)) => {
                        let heard = self.failed::<K>(&reason(&error)).await;
                        tokio::time::sleep(backoff.next_pause()).await;
                        heard
                    }
                    None => break,
                };
                if matches!(heard, Err(Deaf)) {
                    return self.name;
                }
            }
            let silent = format!("no answer within {PAGE_DEADLINE:?}");
            if matches!(self.failed::<K>(&silent).await, Err(Deaf)) {
                return self.name;
            }
            tokio::time::sleep(backoff.next_pause()).await;
        }
    }

    /// The next event; an error when a list has fallen silent. An open watch may say nothing for as long as it likes:
    /// the watcher and the client notice when its connection is dead.
    async fn next<S: futures::Stream + Unpin>(
        &mut self,
        events: &mut S,
        backoff: &mut Backoff,
    ) -> Result<Option<S::Item>, ()> {
        if self.relist.is_listing() {
            return tokio::time::timeout(PAGE_DEADLINE, events.next()).await.map_err(|_| ());
        }
        if self.failing.is_some() {
            if let Ok(next) = tokio::time::timeout(RECOVERED_AFTER, events.next()).await {
                return Ok(next);
            }
            backoff.reset();
            self.recovered();
        }
        Ok(events.next().await)
    }

    fn recovered(&mut self) {
        if self.failing.take().is_some() {
            tracing::info!(watch = %self.name, "watch works again");
        }
    }

    async fn event<K: Observable>(&mut self, event: Event<K>) -> Result<(), Deaf> {
        match event {
            Event::Init => self.relist.begins(),
            Event::InitApply(object) | Event::Apply(object) => {
                self.relist.present(object.object_name());
                self.tell(Observed::Seen(Seen::Present(object.into_resource()))).await?;
            }
            Event::Delete(object) => {
                let name = object.object_name();
                self.relist.gone(&name);
                self.tell(Observed::Seen(Seen::Gone(name))).await?;
            }
            Event::InitDone => {
                for name in self.relist.ends() {
                    tracing::debug!(watch = %self.name, name = %name.name, "object vanished between two lists");
                    self.tell(Observed::Seen(Seen::Gone(name))).await?;
                }
                if !std::mem::replace(&mut self.listed, true) {
                    self.tell(Observed::Listed(self.name.clone())).await?;
                }
            }
        }
        if !self.relist.is_listing() {
            self.recovered();
        }
        Ok(())
    }

    async fn failed<K: Observable>(&mut self, error: &str) -> Result<(), Deaf> {
        self.metrics.watch_failed(K::KIND);
        if self.failing.as_deref() == Some(error) {
            tracing::debug!(watch = %self.name, %error, "watch still fails, trying again");
            return if self.observed.is_closed() { Err(Deaf) } else { Ok(()) };
        }
        tracing::warn!(watch = %self.name, %error, "watch failed, trying again; what was observed stays");
        self.failing = Some(error.to_owned());
        self.tell(Observed::Failing(self.name.clone(), error.to_owned())).await
    }

    /// May not look, which is no fault: what needs the right says so itself.
    async fn shut_out(&mut self, error: &str) -> Result<(), Deaf> {
        tracing::debug!(watch = %self.name, %error, "not allowed to watch, nothing is taken to be there");
        if !std::mem::replace(&mut self.listed, true) {
            return self.tell(Observed::Listed(self.name.clone())).await;
        }
        if self.observed.is_closed() { Err(Deaf) } else { Ok(()) }
    }

    async fn tell(&self, observed: Observed) -> Result<(), Deaf> {
        self.observed.send(observed).await.map_err(|_| Deaf)
    }
}

fn is_forbidden(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status.code == 403,
        _ => false,
    }
}

fn reason(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error) => format!("cannot list: {}", explain(error)),
        watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => {
            format!("cannot watch: {}", explain(error))
        }
        watcher::Error::WatchError(status) => format!("watch ended: {}", status.message),
        watcher::Error::NoResourceVersion => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_watch_of_a_scope_has_its_own_name() {
        let scope = Scope {
            namespace: "own".to_owned(),
            service_namespaces: ["a", "b"].map(str::to_owned).into(),
        };
        assert_eq!(scope.watches().len(), 11);
    }
}
