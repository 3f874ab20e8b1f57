//! The agent's core: one pure state machine. Watch events, answers to writes, link events and time go in; writes and
//! frames come out. It owns the session, what is observed and what is desired.

mod interface;
mod statistics;

use std::collections::{BTreeMap, BTreeSet};

use remote_istio::identity::RemoteName;
use remote_istio::model::{Lane, LaneHash};
use remote_istio::wire::v1;

pub use crate::session::SessionError;
pub use interface::{Failure, Kind, NamespaceLabels, ObjectName, Outcome, Output, Resource, Seen, Write, WriteId};
pub use statistics::{Statistics, Verb};

/// What the engine must know of its surroundings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Of the link's identities.
    pub trust_domain: String,
    /// This remote's name.
    pub remote: RemoteName,
    /// The agent's own namespace, where records are kept.
    pub namespace: String,
    /// What the hub may write services and endpoints into.
    pub service_namespaces: BTreeSet<String>,
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
    statistics: Statistics,
}

impl Engine {
    /// Starts from everything the first lists of all watches showed, records included. `seed` is for jitter.
    #[must_use]
    pub fn new(settings: Settings, listed: Vec<Resource>, seed: u64, now: u64) -> Self {
        let _ = (settings, listed, seed, now);
        Self { statistics: Statistics::default() }
    }

    /// A watch saw something.
    pub fn seen(&mut self, seen: Seen, now: u64) {
        let _ = (seen, now);
    }

    /// A write was answered.
    pub fn written(&mut self, id: WriteId, outcome: Outcome, now: u64) {
        let _ = (id, outcome, now);
    }

    /// A new stream opens: what to say in the hello.
    pub fn greet(&mut self, now: u64) -> Greeting {
        let _ = now;
        Greeting { lanes: BTreeMap::new(), settled: false }
    }

    /// The hub has answered the hello.
    pub fn welcomed(&mut self, welcome: &v1::Welcome, now: u64) {
        let _ = (welcome, now);
    }

    /// A part of a delta came.
    ///
    /// # Errors
    /// The stream cannot go on.
    pub fn delta(&mut self, delta: v1::Delta, now: u64) -> Result<(), SessionError> {
        let _ = (delta, now);
        Ok(())
    }

    /// The stream ended.
    pub fn disconnected(&mut self, now: u64) {
        let _ = now;
    }

    /// Time passed: retries and deferred writes.
    pub fn tick(&mut self, now: u64) {
        let _ = now;
    }

    /// When [`Self::tick`] has something to do.
    #[must_use]
    pub fn next_wake(&self) -> Option<u64> {
        None
    }

    /// The next thing to do.
    pub fn next_output(&mut self) -> Option<Output> {
        None
    }

    /// Objects accepted and not yet applied.
    #[must_use]
    pub fn backlog(&self) -> u32 {
        0
    }

    /// What was counted.
    #[must_use]
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }
}
