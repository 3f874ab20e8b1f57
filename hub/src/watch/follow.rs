//! One watch: list, events, and what to do when either fails.

use std::fmt::Debug;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Resource};
use remote_istio::process::Backoff;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::statistics::{Statistics, WatchStatistics};
use crate::{api_error, clock};

/// Objects in one page of a list.
const PAGE: u32 = 500;

/// One page of a list, and the start of a watch.
const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// After so long the API server ends a watch in good order, seconds.
const WATCH_SECONDS: u32 = 240;

/// A watch on which not even a bookmark came for so long is dead: the API server sends one about once a minute.
const SILENCE_DEADLINE: Duration = Duration::from_secs(130);

/// Between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Takes what a watch sees, in order. `at`: nanoseconds on the hub's monotonic clock when it was seen.
pub(crate) trait Sink<K> {
    /// Everything there is, as of `position`.
    fn listed(&self, objects: Vec<K>, position: u64, at: u64);
    /// New or changed.
    fn applied(&self, object: K, at: u64);
    /// Gone. The object is as it was last, with the resourceVersion of its deletion.
    fn deleted(&self, object: &K, at: u64);
    /// Nothing has changed up to `position`.
    fn reached(&self, _position: u64) {}
    /// The API server does not know the kind: its definition is not installed.
    fn unknown(&self) {}
}

/// Why a list or a watch ended.
#[derive(Debug)]
enum Ended {
    /// In good order; nothing was missed. `heard`: the API server said something meanwhile.
    Orderly { heard: bool },
    /// The API server has forgotten the way from here: list again.
    Expired,
    /// Try again from the same place.
    Failed(String),
    /// The kind is not known to the API server, or no longer.
    Unknown(String),
}

/// Feeds `sink` for ever. Never returns.
pub(crate) async fn follow<K, S>(api: Api<K>, sink: S, watch: &WatchStatistics, statistics: &Statistics)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    S: Sink<K>,
{
    let mut follower = Follower {
        api,
        sink,
        watch,
        backoff: Backoff::new(PAUSES, rand::random()),
        reason: String::new(),
    };
    loop {
        match follower.list().await {
            Ok(version) => {
                statistics.listed(watch);
                follower.watch_from(version).await;
            }
            Err(ended) => follower.pause(ended).await,
        }
    }
}

struct Follower<'a, K, S> {
    api: Api<K>,
    sink: S,
    watch: &'a WatchStatistics,
    backoff: Backoff,
    /// Of the last failure that was logged; empty while all is well.
    reason: String,
}

impl<K, S> Follower<'_, K, S>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    S: Sink<K>,
{
    /// Hands everything over at once. Returns the resourceVersion to watch from.
    async fn list(&mut self) -> Result<String, Ended> {
        let mut params = ListParams::default().limit(PAGE);
        let mut objects = Vec::new();
        loop {
            let page = within(CALL_DEADLINE, "list", self.api.list(&params)).await?;
            objects.extend(page.items);
            if let Some(token) = page.metadata.continue_.filter(|token| !token.is_empty()) {
                params = ListParams::default().limit(PAGE).continue_token(&token);
                continue;
            }
            let version = page.metadata.resource_version.unwrap_or_default();
            let (kind, namespace) = (self.watch.kind(), self.watch.namespace());
            debug!(kind, namespace, objects = objects.len(), %version, "listed");
            self.heard();
            self.sink.listed(objects, position(&version), clock::now());
            return Ok(version);
        }
    }

    /// Watches from `version` on, until a list is needed.
    async fn watch_from(&mut self, mut version: String) {
        loop {
            match self.watch_once(&mut version).await {
                Ended::Orderly { heard: true } => {}
                ended @ (Ended::Expired | Ended::Unknown(_)) => return self.pause(ended).await,
                ended => self.pause(ended).await,
            }
        }
    }

    async fn watch_once(&mut self, version: &mut String) -> Ended {
        let params = WatchParams::default().timeout(WATCH_SECONDS);
        let events = match within(CALL_DEADLINE, "watch", self.api.watch(&params, version)).await {
            Ok(events) => events,
            Err(ended) => return ended,
        };
        self.events(pin!(events), version).await
    }

    async fn events(
        &mut self,
        mut events: impl Stream<Item = kube::Result<WatchEvent<K>>> + Unpin,
        version: &mut String,
    ) -> Ended {
        let mut heard = false;
        loop {
            let event = match timeout(SILENCE_DEADLINE, events.next()).await {
                Ok(Some(event)) => event,
                Ok(None) => return Ended::Orderly { heard },
                Err(_) => {
                    return Ended::Failed(format!("nothing was heard for {} seconds", SILENCE_DEADLINE.as_secs()));
                }
            };
            let seen = match event {
                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                    let seen = object.meta().resource_version.clone();
                    self.watch.event();
                    self.sink.applied(object, clock::now());
                    seen
                }
                Ok(WatchEvent::Deleted(object)) => {
                    self.watch.event();
                    self.sink.deleted(&object, clock::now());
                    object.meta().resource_version.clone()
                }
                Ok(WatchEvent::Bookmark(bookmark)) => {
                    let seen = bookmark.metadata.resource_version;
                    self.sink.reached(position(&seen));
                    Some(seen)
                }
                Ok(WatchEvent::Error(status)) => return ended(&kube::Error::Api(status)),
                Err(error) => return ended(&error),
            };
            if let Some(seen) = seen {
                *version = seen;
            }
            heard = true;
            self.heard();
            self.backoff.reset();
        }
    }

    fn heard(&mut self) {
        self.watch.heard(clock::now());
        if !std::mem::take(&mut self.reason).is_empty() {
            info!(
                kind = self.watch.kind(),
                namespace = self.watch.namespace(),
                "watch works again"
            );
        }
    }

    /// Says why, once for each reason, and waits a little.
    async fn pause(&mut self, ended: Ended) {
        let (kind, namespace) = (self.watch.kind(), self.watch.namespace());
        match ended {
            Ended::Orderly { .. } => {}
            Ended::Expired => info!(kind, namespace, "watch expired, listing again"),
            Ended::Unknown(error) => {
                self.failed(&format!(
                    "{error}; is the definition missing? apply what `remote-istio-hub crd {kind}` prints"
                ));
                self.sink.unknown();
            }
            Ended::Failed(error) => self.failed(&error),
        }
        tokio::time::sleep(self.backoff.next_pause()).await;
    }

    fn failed(&mut self, error: &str) {
        self.watch.failed();
        if error != self.reason {
            let (kind, namespace) = (self.watch.kind(), self.watch.namespace());
            warn!(kind, namespace, %error, "watch failed, trying again");
            error.clone_into(&mut self.reason);
        }
    }
}

async fn within<T>(limit: Duration, what: &str, call: impl Future<Output = kube::Result<T>>) -> Result<T, Ended> {
    match timeout(limit, call).await {
        Ok(result) => result.map_err(|error| ended(&error)),
        Err(_) => Err(Ended::Failed(format!(
            "{what}: no answer within {} seconds",
            limit.as_secs()
        ))),
    }
}

fn ended(error: &kube::Error) -> Ended {
    match api_error::code(error) {
        410 => Ended::Expired,
        404 => Ended::Unknown(api_error::message(error)),
        _ => Ended::Failed(api_error::message(error)),
    }
}

/// A resourceVersion as a number; 0 where an API server should not use numbers.
pub(crate) fn position(version: &str) -> u64 {
    version.parse().unwrap_or_default()
}
