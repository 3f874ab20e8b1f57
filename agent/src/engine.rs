//! The agent's core: one pure state machine. Watch events, answers to writes, link events and time go in; writes and
//! frames come out. It owns the session, what is observed and what is desired.
//!
//! An event never decides a write by itself: it marks the keys it concerns, and `plan` compares what each of them
//! wants with what is observed. So a lost, late or repeated event costs time and never correctness.

mod admit;
mod components;
mod events;
mod facts;
mod interface;
mod kept;
mod leaving;
mod matching;
mod names;
mod observed;
mod packing;
mod plan;
mod policy;
mod progress;
mod record;
mod recover;
mod render;
mod stale;
mod state;
mod statistics;
mod surroundings;
#[cfg(test)]
mod tests;
mod wants;
mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use remote_istio::model::{Applied, ApplyState, Key, Lane, LaneHash};
use remote_istio::policy::Policy;
use remote_istio::wire::v1;

pub use crate::session::SessionError;
pub use facts::{Facts, Served, Trust};
pub use interface::{Failure, Kind, NamespaceLabels, ObjectName, Outcome, Output, Resource, Seen, Write, WriteId};
pub use leaving::Left;
pub use names::{MANAGED_BY, OWNER, OWNER_LABELS, owner_labels, owner_of};
pub use statistics::{Statistics, Verb};
pub use wants::Wants;

use crate::session::{KeptLane, Session};
use observed::Observed;
use plan::Others;
use stale::Away;
use state::State;
use surroundings::Surroundings;

/// What the engine must know of its surroundings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whose objects are this agent's: see [`owner_of`].
    pub owner: String,
    /// The agent's own namespace, where records are kept.
    pub namespace: String,
    /// The namespaces that are watched for services and endpoints.
    pub service_namespaces: BTreeSet<String>,
    /// What the hub may ask for.
    pub policy: Arc<Policy>,
    /// Whether `Endpoints` objects are written beside the slices.
    pub endpoints_objects: bool,
    /// The agent's release: state kept by another one counts as unknown.
    pub release: String,
}

/// What to say in the hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Per lane the hash of what is held (nothing: unknown) and how many objects that is.
    pub lanes: BTreeMap<Lane, (Option<LaneHash>, usize)>,
    /// Everything held is applied as accepted.
    pub settled: bool,
}

/// The state machine. All times are nanoseconds on one monotonic clock.
pub struct Engine {
    settings: Settings,
    session: Session,
    /// The stream has been welcomed and still stands.
    welcomed: bool,
    observed: Observed,
    surroundings: Surroundings,
    /// How far the components were when they were looked at last.
    others: Others,
    away: Away,
    /// A change of the config lane has come in this life.
    config_heard: bool,
    states: BTreeMap<Key, State>,
    /// Keys by the names of their slices and records, which do not say it.
    keys: BTreeMap<ObjectName, Key>,
    /// Keys to look at. Their order puts endpoints before everything else.
    dirty: BTreeSet<Key>,
    wakes: BTreeMap<Key, u64>,
    in_flight: BTreeMap<WriteId, Flight>,
    last_write: u64,
    /// Per lane the keys of the delta in flight that are not kept yet.
    keeping: BTreeMap<Lane, BTreeSet<Key>>,
    reports: BTreeMap<Key, Applied>,
    /// What the hello of a stream that is about to take over stands for.
    prepared: Option<BTreeMap<Key, Applied>>,
    outputs: VecDeque<Output>,
    random: StdRng,
    now: u64,
    statistics: Statistics,
}

/// One write in flight.
struct Flight {
    key: Key,
    object: ObjectName,
    write: Write,
    /// Revision of the object that a watch saw go meanwhile: an answer no newer than this is of what is gone.
    gone: Option<u64>,
}

impl Engine {
    /// Starts from everything the first lists of all watches showed, records included. `seed` is for jitter.
    #[must_use]
    pub fn new(settings: Settings, listed: Vec<Resource>, seed: u64, now: u64) -> Self {
        let mut observed = Observed::new(settings.owner.clone());
        for resource in listed {
            observed.put(resource);
        }
        let recovered = recover::recover(&settings, &observed);
        let mut kept: BTreeMap<Lane, KeptLane> = Lane::ALL
            .map(|lane| (lane, (BTreeMap::new(), !recovered.unknown.contains(&lane))))
            .into();
        for state in recovered.states.values().filter(|state| !state.removed) {
            let (objects, _) = kept.entry(state.key.lane()).or_default();
            objects.insert(state.key.clone(), (Arc::clone(&state.object), state.source.clone()));
        }
        let policy = settings.clone();
        let session = Session::new(kept, Box::new(move |key, object| admit::admit(&policy, key, object)));
        let statistics = Statistics {
            unreadable_records: recovered.unreadable,
            ..Statistics::default()
        };
        let mut engine = Self {
            settings,
            session,
            welcomed: false,
            observed,
            surroundings: Surroundings::default(),
            others: Others::default(),
            away: Away::since(now),
            config_heard: false,
            dirty: recovered.states.keys().cloned().collect(),
            states: recovered.states,
            keys: BTreeMap::new(),
            wakes: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            last_write: 0,
            keeping: BTreeMap::new(),
            reports: BTreeMap::new(),
            prepared: None,
            outputs: VecDeque::new(),
            random: StdRng::seed_from_u64(seed),
            now,
            statistics,
        };
        for key in engine.dirty.clone() {
            engine.index(&key);
        }
        engine.namespace_may_differ();
        engine.mesh_may_differ();
        engine.enforce_policy();
        engine.count_held();
        engine
    }

    /// A watch saw something.
    pub fn seen(&mut self, seen: Seen, now: u64) {
        self.pass(now);
        let (name, news) = match seen {
            Seen::Present(resource) => (resource.name(), self.observed.put(resource)),
            Seen::Gone(name) => {
                let gone = self.observed.get(&name).and_then(Resource::revision);
                for flight in self.in_flight.values_mut().filter(|flight| flight.object == name) {
                    flight.gone = flight.gone.max(gone);
                }
                let news = self.observed.remove(&name);
                self.statistics.unreadable_records.remove(&name);
                (name, news)
            }
        };
        if news {
            self.changed(&name);
        }
    }

    /// A write was answered.
    pub fn written(&mut self, id: WriteId, outcome: Outcome, now: u64) {
        self.pass(now);
        let Some(flight) = self.in_flight.remove(&id) else {
            return;
        };
        self.answered(&flight, outcome);
        self.dirty.insert(flight.key);
    }

    /// A new stream opens: what to say in the hello.
    pub fn greet(&mut self, now: u64) -> Greeting {
        self.disconnected(now);
        let greeting = self.prepare(now);
        self.moved(now);
        greeting
    }

    /// A second stream is about to take over from the one that stands: what to say in its hello. Until
    /// [`Self::moved`] or [`Self::stayed`] nothing is reported, so that nothing is told to a stream that is on its
    /// way out, and no delta may be handed over, for the hello would no longer be true.
    pub fn prepare(&mut self, now: u64) -> Greeting {
        self.pass(now);
        self.run();
        let applied = self.applied();
        let (lanes, settled) = self.session.greeting(&applied);
        let removing = self.states.values().any(|state| state.removed);
        self.prepared = Some(applied);
        Greeting {
            lanes,
            settled: settled && !removing,
        }
    }

    /// The stream that was prepared for has taken over; the other one is no more.
    pub fn moved(&mut self, now: u64) {
        self.disconnected(now);
        let said = self.prepared.take().unwrap_or_default();
        self.session.reopen(&said);
        let applied = self.applied();
        self.reports.extend(applied);
    }

    /// Nothing came of the stream that was prepared for: the one that stands goes on.
    pub fn stayed(&mut self, now: u64) {
        self.pass(now);
        self.prepared = None;
    }

    fn applied(&self) -> BTreeMap<Key, Applied> {
        let report = |(key, state): (&Key, &State)| Some((key.clone(), state.report.clone()?));
        self.states.iter().filter_map(report).collect()
    }

    /// The hub has answered the hello.
    pub fn welcomed(&mut self, welcome: &v1::Welcome, now: u64) {
        self.pass(now);
        self.session.welcomed(welcome);
        self.welcomed = true;
        self.tell_policy();
        self.away.welcomed(welcome, self.now);
        // How far the pods of components are, the hub cannot know from an earlier session.
        let components = self
            .states
            .iter()
            .filter(|(key, _)| matches!(key, Key::Component { .. }));
        let reports = components.filter_map(|(key, state)| Some((key.clone(), state.report.clone()?)));
        self.reports.extend(reports);
    }

    /// A part of a delta came.
    ///
    /// # Errors
    /// The stream cannot go on.
    pub fn delta(&mut self, delta: v1::Delta, now: u64) -> Result<(), SessionError> {
        self.pass(now);
        self.session.delta(delta)?;
        self.listen();
        Ok(())
    }

    /// The stream ended.
    pub fn disconnected(&mut self, now: u64) {
        self.pass(now);
        self.welcomed = false;
        self.away.lost(self.now);
        // An answer to a delta of one stream means nothing on the next.
        self.outputs.retain(|output| matches!(output, Output::Write(..)));
    }

    /// Time passed: retries and deferred writes.
    pub fn tick(&mut self, now: u64) {
        self.pass(now);
        let due: Vec<Key> = self
            .wakes
            .iter()
            .filter(|(_, at)| **at <= self.now)
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            self.wakes.remove(&key);
            self.dirty.insert(key);
        }
        self.judge_staleness();
    }

    /// When [`Self::tick`] has something to do.
    #[must_use]
    pub fn next_wake(&self) -> Option<u64> {
        let wake = self.wakes.values().min().copied();
        [wake, self.staleness_wake()].into_iter().flatten().min()
    }

    /// The next thing to do.
    pub fn next_output(&mut self) -> Option<Output> {
        self.judge_staleness();
        self.run();
        self.outputs.pop_front()
    }

    /// Objects accepted and not yet applied.
    #[must_use]
    pub fn backlog(&self) -> u32 {
        let open = |state: &&State| {
            state
                .report
                .as_ref()
                .is_none_or(|report| report.state != ApplyState::Applied)
        };
        u32::try_from(self.states.values().filter(open).count()).unwrap_or(u32::MAX)
    }

    /// What was counted.
    #[must_use]
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// The clock only goes forward.
    fn pass(&mut self, now: u64) {
        self.now = self.now.max(now);
    }
}
