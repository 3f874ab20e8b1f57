//! When a `RemoteIstio` gets our finalizer, and when it is let go. Pure.

use super::facts::Facts;
use super::findings::application;
use crate::crd::{FINALIZER, FORCE_DELETE_ANNOTATION, RemoteIstio};
use crate::lifecycle::{Cleared, Clearing, Ruling};

/// What to do with the finalizer now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finalizer {
    /// Nothing.
    Leave,
    /// Add it: an agent has joined, so deleting the resource must wait for it.
    Add,
    /// Remove it: the remote holds nothing any more, or never did.
    Remove,
    /// Remove it once a tombstone stands: a person does not want to wait for the remote.
    Force,
    /// Ask again at this moment, nanoseconds on the hub's monotonic clock.
    Wait(u64),
}

/// What was seen of a remote that is about to lose everything.
#[derive(Clone, Debug, Default)]
pub struct Cleanup {
    clearing: Clearing,
}

impl Cleanup {
    /// What to do, by what is known at `now`. Must be asked at each change of the session's report.
    pub fn decide(&mut self, facts: &Facts<'_>, leads: bool, now: u64) -> Finalizer {
        let held = holds_finalizer(facts.remote);
        if let Some(session) = facts.session {
            self.clearing.saw(session);
        }
        match (facts.is_deleting(), held) {
            (false, false) if facts.session.is_some_and(|session| session.claimed) => Finalizer::Add,
            (false, _) | (true, false) => Finalizer::Leave,
            (true, true) => self.let_go(facts, leads, now),
        }
    }

    fn let_go(&mut self, facts: &Facts<'_>, leads: bool, now: u64) -> Finalizer {
        match facts.ruling() {
            Some(Ruling::Kept) if leads || facts.session.is_some() => return Finalizer::Remove,
            Some(Ruling::Settling | Ruling::Kept) => return Finalizer::Leave,
            Some(Ruling::Held(_) | Ruling::Withdrawn) | None => {}
        }
        let forced = is_forced(facts.remote);
        let Some(session) = facts.session else {
            self.clearing.lost();
            return match (leads, facts.has_joined()) {
                (true, false) => Finalizer::Remove,
                (true, true) if forced => Finalizer::Force,
                _ => Finalizer::Leave,
            };
        };
        match self.clearing.look(session, accepts_nothing(facts), now) {
            Cleared::Yes => Finalizer::Remove,
            Cleared::At(moment) => Finalizer::Wait(moment),
            // Whatever can still go is waited for.
            Cleared::No if forced && is_stuck(facts) => Finalizer::Force,
            Cleared::No => Finalizer::Leave,
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

/// Whether a person wants it gone although its remote still holds something.
fn is_forced(remote: &RemoteIstio) -> bool {
    let annotations = remote.metadata.annotations.as_ref();
    annotations
        .and_then(|all| all.get(FORCE_DELETE_ANNOTATION))
        .map(|value| value.trim())
        == Some("true")
}

/// The agent accepted that both lanes are empty.
fn accepts_nothing(facts: &Facts<'_>) -> bool {
    let asked_for = facts
        .desired
        .is_some_and(|desired| desired.deleting && desired.lanes.values().all(|lane| lane.objects().is_empty()));
    asked_for && facts.in_sync()
}

/// The agent has removed what it can, and cannot remove the rest.
fn is_stuck(facts: &Facts<'_>) -> bool {
    let application = application(facts);
    let is_held_up = !application.failures.is_empty() || !application.waiting.is_empty();
    accepts_nothing(facts) && application.pending == 0 && is_held_up
}

#[cfg(test)]
mod tests;
