//! The loop that looks at remotes that changed, or whose time has come, and writes what is due.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use rand::Rng as _;
use remote_istio::identity::RemoteName;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::api::{StatusApi, WriteError};
use super::changes::Budget;
use super::entry::{Entry, Here, Seen, Step, Written};
use super::identity::{Identity, announcements};
use super::metrics::StatusMetrics;
use super::schedule::Schedule;
use super::source::{Source, Wake};
use crate::clock;
use crate::crd::RemoteIstioStatus;
use crate::events::{Events, Kind as EventKind, Reason, Subject};
use crate::lifecycle::{TOMBSTONES_CONFIG_MAP, Tombstone};

/// Writes on their way at once; one for each remote at most.
const WRITES_IN_FLIGHT: usize = 8;

/// A write on its way, and what came of it.
type Write = BoxFuture<'static, (RemoteName, Kind, Result<Option<Written>, WriteError>)>;

/// What was written.
#[derive(Clone, Debug, PartialEq)]
enum Kind {
    /// A status; with the one that stood there before.
    Status(Option<Box<RemoteIstioStatus>>),
    /// Finalizers.
    Finalizers,
    /// The tombstone of a resource that is let go.
    Tombstone(Box<Tombstone>),
}

/// The status writer.
pub(super) struct Writer<S> {
    source: S,
    api: StatusApi,
    replica: String,
    metrics: StatusMetrics,
    events: Arc<Events>,
    leads: bool,
    entries: BTreeMap<RemoteName, Entry>,
    schedule: Schedule,
    budget: Budget,
    in_flight: BTreeSet<RemoteName>,
    writes: FuturesUnordered<Write>,
    last_failure: Option<String>,
}

impl<S: Source> Writer<S> {
    pub(super) fn new(source: S, api: StatusApi, replica: String, metrics: StatusMetrics, events: Arc<Events>) -> Self {
        Self {
            source,
            api,
            replica,
            metrics,
            events,
            leads: false,
            entries: BTreeMap::new(),
            schedule: Schedule::default(),
            budget: Budget::default(),
            in_flight: BTreeSet::new(),
            writes: FuturesUnordered::new(),
            last_failure: None,
        }
    }

    pub(super) async fn run(mut self, wake: Arc<Wake>, mut leader: watch::Receiver<bool>, stop: CancellationToken) {
        self.leads = *leader.borrow_and_update();
        self.look_at_all();
        loop {
            let next = self.start_due();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(ended) = self.writes.next(), if !self.writes.is_empty() => self.finish(ended),
                changed = leader.changed() => {
                    if changed.is_err() {
                        debug!("election has ended, the status writer ends too");
                        return stop.cancelled().await;
                    }
                    self.leads = *leader.borrow_and_update();
                    self.look_at_all();
                }
                changed = wake.taken() => {
                    let now = clock::now();
                    for remote in &changed {
                        self.schedule.at(remote, now);
                    }
                }
                () = tokio::time::sleep_until(clock::instant(next.unwrap_or_default())), if next.is_some() => {}
            }
        }
    }

    fn look_at_all(&mut self) {
        let now = clock::now();
        for remote in self.source.names() {
            self.schedule.at(&remote, now);
        }
    }

    /// Starts every write that is due and fits; the moment to look again, if time alone can change anything.
    fn start_due(&mut self) -> Option<u64> {
        loop {
            if self.writes.len() >= WRITES_IN_FLIGHT {
                return None;
            }
            let now = clock::now();
            let next = self.schedule.next()?.max(self.budget.free_at(now));
            if next > now {
                return Some(next);
            }
            let remote = self.schedule.pop(now)?;
            // Whoever ends it looks at the remote again.
            if !self.in_flight.contains(&remote) {
                self.look_at(&remote, now);
            }
        }
    }

    fn look_at(&mut self, remote: &RemoteName, now: u64) {
        let Some(object) = self.source.object(remote) else {
            self.entries.remove(remote);
            return;
        };
        let (desired, session) = (self.source.desired(remote), self.source.session(remote));
        let (record, conflict) = (self.source.record(remote), self.source.conflict(remote));
        let identity = Identity {
            revoked: record.as_ref().and_then(|record| record.spec.revoked.as_ref()),
            conflict: conflict.as_ref(),
            certificate: self.source.certificate(remote),
        };
        let seen = Seen {
            object: &object,
            desired: desired.as_deref(),
            session: session.as_deref(),
            disconnected_at: self.source.disconnected_at(remote),
            identity,
        };
        let here = Here {
            replica: &self.replica,
            leads: self.leads,
            now,
            now_unix: clock::unix_seconds(),
        };
        let entry = self.entries.entry(remote.clone());
        let step = entry
            .or_insert_with(|| Entry::new(rand::rng().random()))
            .step(seen, here);
        let api = self.api.clone();
        let name = remote.clone();
        let write: Write = match step {
            Step::Nothing => return,
            Step::At(moment) => return self.schedule.at(remote, moment),
            Step::Status { read, before, status } => {
                let kind = Kind::Status(before);
                Box::pin(async move { (name, kind, api.write_status(&read, &status).await.map(Some)) })
            }
            Step::Finalizers { read, finalizers } => Box::pin(async move {
                let written = api.write_finalizers(&read, &finalizers).await;
                (name, Kind::Finalizers, written.map(Some))
            }),
            Step::Tombstone(tombstone) => Box::pin(async move {
                let written = api.write_tombstone(&name, &tombstone).await;
                (name, Kind::Tombstone(tombstone), written.map(|()| None))
            }),
        };
        self.budget.take(now);
        self.in_flight.insert(remote.clone());
        self.writes.push(write);
    }

    fn finish(&mut self, (remote, kind, result): (RemoteName, Kind, Result<Option<Written>, WriteError>)) {
        let now = clock::now();
        self.in_flight.remove(&remote);
        self.schedule.at(&remote, now);
        let Some(entry) = self.entries.get_mut(&remote) else {
            return;
        };
        match result {
            Ok(written) => {
                self.metrics.writes.inc();
                self.last_failure = None;
                let written = written.unwrap_or_default();
                match kind {
                    Kind::Status(before) => {
                        said_status(&remote, before.as_deref(), &written);
                        announce(&self.events, &remote, before.as_deref(), &written);
                        entry.wrote_status(written, now);
                    }
                    Kind::Finalizers => {
                        let finalizers = written.metadata.finalizers.clone().unwrap_or_default();
                        info!(%remote, ?finalizers, "finalizers updated");
                        entry.wrote_finalizers(written);
                    }
                    Kind::Tombstone(tombstone) => {
                        entry.wrote_tombstone(&tombstone.uid);
                        left_behind(&self.events, &remote, &tombstone);
                    }
                }
            }
            Err(WriteError::Conflict(reason)) => {
                self.metrics.conflicts.inc();
                entry.failed(now);
                debug!(%remote, %reason, "status is decided anew");
            }
            // The watch is about to say so.
            Err(WriteError::Gone) => entry.failed(now),
            Err(error) => {
                self.metrics.failed(error.code());
                entry.failed(now);
                self.warn(&remote, &error);
            }
        }
    }

    /// Said once for each new reason: while the API server is away, every remote fails.
    fn warn(&mut self, remote: &RemoteName, error: &WriteError) {
        let text = error.to_string();
        if self.last_failure.as_ref() == Some(&text) {
            debug!(%remote, %error, "cannot write status or finalizer of RemoteIstio, trying again");
        } else {
            warn!(%remote, %error, "cannot write status or finalizer of RemoteIstio, trying again");
            self.last_failure = Some(text);
        }
    }
}

fn said_status(remote: &RemoteName, before: Option<&RemoteIstioStatus>, written: &Written) {
    match written.status.as_ref().and_then(|status| status.state) {
        Some(status) if before.and_then(|before| before.state) != Some(status) => {
            info!(%remote, %status, "remoteconfig status updated");
        }
        _ => debug!(%remote, "details of status updated"),
    }
}

/// What a person has decided not to wait for is told before the resource goes.
fn left_behind(events: &Events, remote: &RemoteName, tombstone: &Tombstone) {
    let outcome = if tombstone.orphans() { "lets go of" } else { "removes" };
    let note = format!(
        "deleted by force, without its remote: there stands {}; written down in ConfigMap {TOMBSTONES_CONFIG_MAP}; its \
         agent {outcome} that when it comes back, unless the entry is taken away",
        tombstone.told()
    );
    warn!(%remote, uid = tombstone.uid, keys = ?tombstone.keys, further = tombstone.further_keys, note, "left behind");
    events.publish(
        Subject::Remote(remote.clone()),
        EventKind::Warning,
        Reason::LeftBehind,
        note,
    );
}

/// The stored status remembers what was announced: once for all replicas and restarts.
fn announce(events: &Events, remote: &RemoteName, before: Option<&RemoteIstioStatus>, written: &Written) {
    let Some(status) = &written.status else {
        return;
    };
    for (reason, note) in announcements(before, status) {
        warn!(%remote, reason = reason.as_str(), note, "a remote needs a person");
        events.publish(Subject::Remote(remote.clone()), EventKind::Warning, reason, note);
    }
}
