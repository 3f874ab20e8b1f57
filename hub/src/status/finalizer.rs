//! When a `RemoteIstio` gets our finalizer, and when it is let go. Pure.

use std::time::Duration;

use super::changes::after;
use super::facts::Facts;
use super::findings::is_gone;
use crate::crd::{FINALIZER, RemoteIstio};
use crate::report::{SessionEpoch, SessionReport};

/// A session that has not named any object since it opened must have been quiet for so long before that counts as
/// "nothing left": longer than the interval of heartbeats, as the backlog comes with them.
pub const QUIET: Duration = Duration::from_secs(15);

/// What to do with the finalizer now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finalizer {
    /// Nothing.
    Leave,
    /// Add it: an agent has joined, so deleting the resource must wait for it.
    Add,
    /// Remove it: the remote holds nothing any more, or never did.
    Remove,
    /// Ask again at this moment, nanoseconds on the hub's monotonic clock.
    Wait(u64),
}

/// What was seen of a remote that is about to lose everything.
#[derive(Clone, Debug, Default)]
pub struct Cleanup {
    /// The session that named objects which stand in the remote.
    named_objects: Option<SessionEpoch>,
    /// Since when nothing seems to be left, and for which session.
    empty_since: Option<(SessionEpoch, u64)>,
}

impl Cleanup {
    /// What to do, by what is known at `now`. Must be asked at each change of the session's report.
    pub fn decide(&mut self, facts: &Facts<'_>, leads: bool, now: u64) -> Finalizer {
        let held = holds_finalizer(facts.remote);
        if let Some(session) = facts.session.filter(|session| names_objects(session)) {
            self.named_objects = Some(session.epoch);
        }
        match (facts.is_deleting(), held) {
            (false, false) if facts.session.is_some_and(|session| session.claimed) => Finalizer::Add,
            (false, _) | (true, false) => Finalizer::Leave,
            (true, true) => self.let_go(facts, leads, now),
        }
    }

    fn let_go(&mut self, facts: &Facts<'_>, leads: bool, now: u64) -> Finalizer {
        let Some(session) = facts.session else {
            self.empty_since = None;
            let never_joined = !facts.has_joined();
            return if never_joined && leads {
                Finalizer::Remove
            } else {
                Finalizer::Leave
            };
        };
        if !is_empty(facts, session) {
            self.empty_since = None;
            return Finalizer::Leave;
        }
        if self.named_objects == Some(session.epoch) {
            return Finalizer::Remove;
        }
        if session.backlog > 0 {
            self.empty_since = None;
            return Finalizer::Leave;
        }
        let since = match self.empty_since {
            Some((epoch, since)) if epoch == session.epoch => since,
            _ => now,
        };
        self.empty_since = Some((session.epoch, since));
        let until = after(since, QUIET);
        if now < until {
            Finalizer::Wait(until)
        } else {
            Finalizer::Remove
        }
    }
}

/// Whether the resource waits for us.
#[must_use]
pub fn holds_finalizer(remote: &RemoteIstio) -> bool {
    remote
        .metadata
        .finalizers
        .iter()
        .flatten()
        .any(|name| name == FINALIZER)
}

/// The agent accepted that both lanes are empty, and nothing it named still stands.
fn is_empty(facts: &Facts<'_>, session: &SessionReport) -> bool {
    let asked_for = facts
        .desired
        .is_some_and(|desired| desired.deleting && desired.lanes.values().all(|lane| lane.objects().is_empty()));
    asked_for && facts.in_sync() && session.refused.is_empty() && !names_objects(session)
}

fn names_objects(session: &SessionReport) -> bool {
    session.applied.values().any(|applied| !is_gone(applied))
}

#[cfg(test)]
mod tests;
