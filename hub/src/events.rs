//! Kubernetes Events: what happened to a remote, for whoever describes it. Nobody waits for them.

mod merge;
mod write;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use remote_istio::identity::RemoteName;
use remote_istio::limits;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::merge::{Merging, Step};
use self::write::Writer;
use crate::clock;
use crate::metrics::PREFIX;

/// Events that wait to be written. More at once are dropped and counted.
const QUEUED: usize = 256;

/// Between two looks at repetitions that were counted and not written yet.
const FLUSH_INTERVAL: Duration = Duration::from_secs(10);

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The `RemoteIstio` of this name; where there is none, its `RemoteIdentity`.
    Remote(RemoteName),
    /// The `JoinToken` of this id.
    Token(String),
}

/// Whether somebody should look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// For the record.
    Normal,
    /// Something needs a person.
    Warning,
}

/// Why there is an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A remote joined by a token.
    Joined,
    /// A join waits for a person.
    JoinPending,
    /// A token was used again, by another key or too late.
    TokenReplayed,
    /// Certificates of the name count no longer.
    Revoked,
    /// A remote got a certificate for the proof of its ended one.
    Recovered,
    /// A certificate is near its end and was not renewed.
    RenewalOverdue,
    /// Two agents bear one identity.
    IdentityConflict,
    /// A remote was given an intermediate CA of the mesh.
    MeshCaSigned,
    /// Central's mesh CA is another now.
    MeshCaChanged,
    /// A `RemoteIstio` was deleted by force, and what it asked for still stands in its remote.
    LeftBehind,
    /// What was left of such a one is gone.
    CleanedUp,
    /// A `RemoteIstio` was deleted and is held until a person decides.
    DeletionHeld,
}

impl Reason {
    /// The word in the event.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Joined => "Joined",
            Self::JoinPending => "JoinPending",
            Self::TokenReplayed => "TokenReplayed",
            Self::Revoked => "Revoked",
            Self::Recovered => "Recovered",
            Self::RenewalOverdue => "RenewalOverdue",
            Self::IdentityConflict => "IdentityConflict",
            Self::MeshCaSigned => "MeshCaSigned",
            Self::MeshCaChanged => "MeshCaChanged",
            Self::LeftBehind => "LeftBehind",
            Self::DeletionHeld => "DeletionHeld",
            Self::CleanedUp => "CleanedUp",
        }
    }
}

/// One event as it was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What it is about.
    pub subject: Subject,
    /// Whether somebody should look at it.
    pub kind: Kind,
    /// Why.
    pub reason: Reason,
    /// For people; never a secret.
    pub note: String,
    /// Where several replicas see the same thing: what it is called by all of them, so that it is written once.
    pub once: Option<String>,
}

/// Where events go. Publishing never waits.
pub struct Events {
    namespace: String,
    replica: String,
    queue: mpsc::Sender<Event>,
    queued: Mutex<Option<mpsc::Receiver<Event>>>,
    metrics: EventMetrics,
}

/// What became of events.
#[derive(Clone, Debug, Default)]
struct EventMetrics {
    written: Counter,
    dropped: Counter,
    failed: Counter,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// Of a replica, about objects of `namespace`. Nothing is written before [`Events::run`].
    #[must_use]
    pub fn new(namespace: &str, replica: &str, registry: &mut Registry) -> Arc<Self> {
        let events = Self::unregistered(namespace, replica);
        let registry = registry.sub_registry_with_prefix(PREFIX);
        let EventMetrics {
            written,
            dropped,
            failed,
        } = events.metrics.clone();
        registry.register("events_written", "Kubernetes Events written or counted up", written);
        registry.register(
            "events_dropped",
            "Kubernetes Events that found the queue full and were not written",
            dropped,
        );
        registry.register("events_failed", "Kubernetes Events the API server did not take", failed);
        Arc::new(events)
    }

    fn unregistered(namespace: &str, replica: &str) -> Self {
        let (queue, queued) = mpsc::channel(QUEUED);
        Self {
            namespace: namespace.to_owned(),
            replica: replica.to_owned(),
            queue,
            queued: Mutex::new(Some(queued)),
            metrics: EventMetrics::default(),
        }
    }

    /// Tells of something. The same reason about the same subject within ten minutes is counted in one event.
    pub fn publish(&self, subject: Subject, kind: Kind, reason: Reason, note: impl Into<String>) {
        self.send(Event {
            subject,
            kind,
            reason,
            note: limits::detail(note),
            once: None,
        });
    }

    /// Tells of something that all replicas see. `name`: the same for all of them, of letters that an object's name
    /// may have.
    pub fn publish_once(&self, subject: Subject, kind: Kind, reason: Reason, note: impl Into<String>, name: &str) {
        self.send(Event {
            subject,
            kind,
            reason,
            note: limits::detail(note),
            once: Some(name.to_owned()),
        });
    }

    fn send(&self, event: Event) {
        if let Err(error) = self.queue.try_send(event) {
            self.metrics.dropped.inc();
            tracing::debug!(%error, "an event was dropped");
        }
    }

    /// Writes events until `stop`. To be run once.
    pub async fn run(self: Arc<Self>, client: kube::Client, stop: CancellationToken) {
        let Some(mut queued) = self.queued.lock().take() else {
            tracing::error!("events are written already");
            return stop.cancelled().await;
        };
        let writer = Writer::new(client, &self.namespace, &self.replica);
        let mut merging = Merging::default();
        let mut flush = tokio::time::interval(FLUSH_INTERVAL);
        flush.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let steps = tokio::select! {
                () = stop.cancelled() => return,
                Some(event) = queued.recv() => merging.take(event, clock::unix_milliseconds()),
                _ = flush.tick() => merging.flush(clock::unix_milliseconds()),
            };
            for step in steps {
                self.carry_out(&writer, &mut merging, step).await;
            }
        }
    }

    async fn carry_out(&self, writer: &Writer, merging: &mut Merging, step: Step) {
        match writer.write(&step).await {
            Ok(()) => {
                self.metrics.written.inc();
            }
            Err(error) => {
                self.metrics.failed.inc();
                merging.forget(&step);
                let (subject, reason) = step.about();
                tracing::debug!(?subject, reason = reason.as_str(), %error, "an event could not be written");
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Events that keep what is published.
    pub(crate) fn kept() -> Arc<Events> {
        Arc::new(Events::unregistered("istio-system", "hub-1"))
    }

    /// What was published since the last call.
    pub(crate) fn published(events: &Events) -> Vec<Event> {
        let mut queued = events.queued.lock();
        let receiver = queued.as_mut().expect("they are not run");
        std::iter::from_fn(|| receiver.try_recv().ok()).collect()
    }

    #[test]
    fn full_queue_drops_and_counts_and_never_waits() {
        let events = kept();
        for _ in 0..QUEUED + 3 {
            events.publish(
                Subject::Token("a".to_owned()),
                Kind::Warning,
                Reason::TokenReplayed,
                "n",
            );
        }
        assert_eq!(events.metrics.dropped.get(), 3);
        assert_eq!(published(&events).len(), QUEUED);
    }
}
