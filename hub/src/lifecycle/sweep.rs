//! Follows the tombstones, tells the index of them, and takes those away that have done their work.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use parking_lot::Mutex;
use remote_istio::identity::RemoteName;
use remote_istio::process::Backoff;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::grave::{Closed, Grave, Outcome};
use super::store::{Store, TOMBSTONES_CONFIG_MAP};
use super::tombstone::{self, Tombstone};
use crate::clock;
use crate::events::{Events, Kind, Reason, Subject};
use crate::link::Sessions;
use crate::state::State;
use crate::status::Wake;
use crate::status::changes::after;

/// A watch on which nothing came for so long is begun anew, for it may be dead. Tombstones are rare.
const SILENCE_DEADLINE: Duration = Duration::from_mins(5);

/// Between two attempts of the watch, and of a write.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// Even the shortest pause after a failed write leaves others time.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// What the tombstones need.
pub struct Deps {
    /// For the watch: silent for longer than two minutes.
    pub watches: Client,
    /// For calls.
    pub calls: Client,
    /// The hub's namespace.
    pub namespace: String,
    /// What the index is in.
    pub state: Arc<State>,
    /// The agents' sessions.
    pub sessions: Arc<Sessions>,
    /// Where people are told.
    pub events: Arc<Events>,
}

/// The tombstones of the hub.
pub struct Tombstones {
    maps: Api<ConfigMap>,
    store: Store,
    state: Arc<State>,
    sessions: Arc<Sessions>,
    events: Arc<Events>,
    known: Mutex<BTreeMap<RemoteName, Tombstone>>,
    wake: Arc<Wake>,
}

impl Tombstones {
    /// None is known before [`Tombstones::run`].
    #[must_use]
    pub fn new(deps: Deps) -> Self {
        let wake = Arc::new(Wake::default());
        let [of_state, of_sessions] = std::array::from_fn(|_| Arc::clone(&wake));
        deps.state.on_change(Box::new(move |remote| of_state.changed(remote)));
        deps.sessions
            .on_change(Box::new(move |remote| of_sessions.changed(remote)));
        Self {
            maps: Api::namespaced(deps.watches, &deps.namespace),
            store: Store::new(deps.calls, &deps.namespace),
            state: deps.state,
            sessions: deps.sessions,
            events: deps.events,
            known: Mutex::default(),
            wake,
        }
    }

    /// Follows the tombstones and takes them away when they have done their work, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.follow() => {}
            () = self.sweep() => {}
        }
    }

    /// Never returns.
    async fn follow(&self) {
        let one = format!("metadata.name={TOMBSTONES_CONFIG_MAP}");
        let mut backoff = Backoff::new(PAUSES, rand::random());
        let mut reason = String::new();
        let mut is_listed = false;
        loop {
            let mut events = pin!(watcher(self.maps.clone(), watcher::Config::default().fields(&one)));
            while let Ok(Some(event)) = timeout(SILENCE_DEADLINE, events.next()).await {
                match event {
                    Ok(Event::Init) => is_listed = false,
                    Ok(Event::InitApply(map)) => {
                        is_listed = true;
                        self.found(&map.data.unwrap_or_default());
                    }
                    Ok(Event::InitDone) => {
                        backoff.reset();
                        reason.clear();
                        if !is_listed {
                            self.found(&BTreeMap::new());
                        }
                    }
                    Ok(Event::Apply(map)) => self.found(&map.data.unwrap_or_default()),
                    Ok(Event::Delete(_)) => self.found(&BTreeMap::new()),
                    Err(error) => {
                        let error = error.to_string();
                        if error != reason {
                            warn!(%error, "watch of the tombstones failed, trying again");
                            reason = error;
                        }
                        sleep(backoff.next_pause()).await;
                    }
                }
            }
            // A stream that ends at once must not become a busy loop.
            sleep(backoff.next_pause()).await;
        }
    }

    fn found(&self, data: &BTreeMap<String, String>) {
        let (tombstones, unread) = tombstone::read(data);
        for (name, error) in unread {
            warn!(
                name,
                error,
                config_map = TOMBSTONES_CONFIG_MAP,
                "a tombstone cannot be read and tells nobody to let go"
            );
        }
        let mut known = self.known.lock();
        if *known == tombstones {
            return;
        }
        info!(tombstones = tombstones.len(), "tombstones changed");
        let names: BTreeSet<RemoteName> = known.keys().chain(tombstones.keys()).cloned().collect();
        known.clone_from(&tombstones);
        drop(known);
        self.state.update(|index| index.tombstones(tombstones));
        for name in &names {
            self.wake.changed(name);
        }
    }

    /// Never returns.
    async fn sweep(&self) {
        let mut backoff = Backoff::new(PAUSES, rand::random());
        let mut graves = BTreeMap::new();
        let mut due: BTreeMap<RemoteName, u64> = BTreeMap::new();
        loop {
            let next = due.values().min().copied();
            tokio::select! {
                changed = self.wake.taken() => {
                    let now = clock::now();
                    due.extend(changed.into_iter().map(|remote| (remote, now)));
                }
                () = sleep_until(clock::instant(next.unwrap_or_default())), if next.is_some() => {}
            }
            let now = clock::now();
            for (remote, _) in due.extract_if(.., |_, at| *at <= now).collect::<Vec<_>>() {
                if let Some(again) = self.look_at(&remote, &mut graves, &mut backoff, now).await {
                    due.insert(remote, again);
                }
            }
        }
    }

    /// Returns when to look again, if time alone can change anything.
    async fn look_at(
        &self,
        remote: &RemoteName,
        graves: &mut BTreeMap<RemoteName, Grave>,
        backoff: &mut Backoff,
        now: u64,
    ) -> Option<u64> {
        let Some(tombstone) = self.known.lock().get(remote).cloned() else {
            graves.remove(remote);
            return None;
        };
        let (desired, session) = (self.state.desired(remote), self.sessions.report(remote));
        let grave = graves.entry(remote.clone()).or_default();
        let closed = match grave.decide(&tombstone, desired.as_deref(), session.as_deref(), now) {
            Outcome::Stays => return None,
            Outcome::At(moment) => return Some(moment),
            Outcome::Closes(closed) => closed,
        };
        if closed == Closed::Replaced {
            // At once: the guard of the one of today must not wait for a write.
            self.state.update(|index| index.replaced(remote, &tombstone.uid));
        }
        if self.close(remote, &tombstone, closed).await {
            backoff.reset();
            return None;
        }
        let pause = backoff.next_pause().max(PAUSE_MIN);
        Some(after(clock::now(), pause))
    }

    /// Returns whether nothing is left to do.
    async fn close(&self, remote: &RemoteName, tombstone: &Tombstone, closed: Closed) -> bool {
        match self.store.remove(remote, &tombstone.uid).await {
            Ok(was_there) => {
                if was_there {
                    self.tell(remote, tombstone, closed);
                }
                true
            }
            Err(error) => {
                warn!(%remote, %error, "a tombstone that has done its work cannot be taken away, trying again");
                false
            }
        }
    }

    fn tell(&self, remote: &RemoteName, tombstone: &Tombstone, closed: Closed) {
        let uid = &tombstone.uid;
        let outcome = if tombstone.orphans() { "let go of" } else { "removed" };
        let note = match closed {
            Closed::CleanedUp => {
                format!("the agent came back and {outcome} what was left of the deleted RemoteIstio {uid}")
            }
            Closed::Replaced => format!(
                "the agent came back and holds what the RemoteIstio of today asks for; what was left of the deleted one {uid} is {outcome}"
            ),
        };
        info!(%remote, uid, note, "tombstone taken away");
        self.events
            .publish(Subject::Remote(remote.clone()), Kind::Normal, Reason::CleanedUp, note);
    }
}
