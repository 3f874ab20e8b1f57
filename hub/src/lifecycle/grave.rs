//! When a tombstone has done its work. Pure.

use remote_istio::lane::NackReason;
use remote_istio::model::Lane;

use super::clearing::{Cleared, Clearing};
use super::tombstone::Tombstone;
use crate::index::Desired;
use crate::report::SessionReport;

/// What is remembered of one tombstone.
#[derive(Clone, Debug, Default)]
pub struct Grave {
    clearing: Clearing,
}

/// What to do with a tombstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It stays until something changes.
    Stays,
    /// Ask again at this moment, nanoseconds on the hub's monotonic clock.
    At(u64),
    /// It has done its work.
    Closes(Closed),
}

/// Why a tombstone is no longer needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The agent came back and let go of everything.
    CleanedUp,
    /// Another `RemoteIstio` bears the name, and its agent has accepted all that it asks for.
    Replaced,
}

impl Grave {
    /// What to do at `now`. `desired` is what the remote of the name should hold now, `session` its session. Must be
    /// asked at each change of either.
    pub fn decide(
        &mut self,
        tombstone: &Tombstone,
        desired: Option<&Desired>,
        session: Option<&SessionReport>,
        now: u64,
    ) -> Outcome {
        let Some(session) = session else {
            self.clearing.lost();
            return Outcome::Stays;
        };
        self.clearing.saw(session);
        let Some(desired) = desired.filter(|desired| speaks_of(session, desired)) else {
            self.clearing.lost();
            return Outcome::Stays;
        };
        let accepted = Lane::ALL
            .iter()
            .all(|lane| desired.lanes.contains_key(lane) && session.lanes.get(lane).is_some_and(|lane| lane.in_sync));
        if desired.tombstone.is_some() {
            return match self.clearing.look(session, accepted, now) {
                Cleared::No => Outcome::Stays,
                Cleared::At(moment) => Outcome::At(moment),
                Cleared::Yes => Outcome::Closes(Closed::CleanedUp),
            };
        }
        let is_another = desired.uid != tombstone.uid;
        let held_back = session.refused.iter().any(|nack| nack.reason == NackReason::GuardHeld);
        if is_another && accepted && !held_back {
            Outcome::Closes(Closed::Replaced)
        } else {
            Outcome::Stays
        }
    }
}

fn speaks_of(session: &SessionReport, desired: &Desired) -> bool {
    let spoken_of = session.desired.as_ref().map(|(uid, generation)| (uid, *generation));
    session.claimed && spoken_of == Some((&desired.uid, desired.generation))
}
