//! How long nobody has vouched for the endpoints, and what becomes of them then.

use remote_istio::model::{Body, Component, Key, Lane};
use remote_istio::wire::v1;

use super::Engine;
use super::surroundings::Stale;

const SECOND: u64 = 1_000_000_000;

/// A hub that knows something newer says so within this time after its welcome: it computes the difference from the
/// hello. Without a word the endpoints are as they should be.
const IN_SYNC_AFTER: u64 = 2 * SECOND;

/// Since when the hub is away, and whether it vouches for the endpoints again.
#[derive(Debug)]
pub(super) enum Away {
    /// Nobody vouches for them since then.
    Since(u64),
    /// Welcomed: vouched for with the first change of the endpoints, or at this moment.
    Returning { since: u64, at: Option<u64> },
    /// Vouched for.
    No,
}

impl Away {
    pub(super) fn since(now: u64) -> Self {
        Self::Since(now)
    }

    pub(super) fn lost(&mut self, now: u64) {
        *self = match *self {
            Self::No => Self::Since(now),
            Self::Since(since) | Self::Returning { since, .. } => Self::Since(since),
        };
    }

    /// A hub without a `RemoteIstio` for this remote vouches for nothing before it has sent something.
    pub(super) fn welcomed(&mut self, welcome: &v1::Welcome, now: u64) {
        let claimed = welcome.claim.as_ref().is_none_or(|claim| claim.claimed);
        if let Self::Since(since) = *self {
            let at = claimed.then_some(now + IN_SYNC_AFTER);
            *self = Self::Returning { since, at };
        }
    }

    /// The endpoints are as the hub of this session wants them.
    pub(super) fn vouched(&mut self) {
        if let Self::Returning { .. } = self {
            *self = Self::No;
        }
    }
}

impl Engine {
    /// What the rules say, and after how long, nanoseconds.
    fn stale_rule(&self) -> Option<(Stale, u64)> {
        let state = self.state_of(Component::Rules).filter(|state| !state.removed)?;
        match state.object.body {
            Body::Rules(rules) => Some((Stale::of(rules)?, u64::from(rules.stale_after_seconds) * SECOND)),
            _ => None,
        }
    }

    /// Since when nobody vouches for the endpoints.
    fn unvouched_since(&self) -> Option<u64> {
        match self.away {
            Away::Since(since) | Away::Returning { since, .. } => Some(since),
            Away::No => None,
        }
    }

    /// Brings the endpoints to what the rules say of them now.
    pub(super) fn judge_staleness(&mut self) {
        if let Away::Returning { at: Some(at), .. } = self.away
            && at <= self.now
        {
            self.away.vouched();
        }
        let rule = self.stale_rule().zip(self.unvouched_since());
        let stale = rule.and_then(|((stale, after), since)| (since + after <= self.now).then_some(stale));
        if self.surroundings.stale == stale {
            return;
        }
        self.surroundings.stale = stale;
        self.statistics.stale = stale.is_some();
        for (key, state) in &mut self.states {
            if key.lane() == Lane::Endpoints {
                state.render(&self.settings, &self.surroundings);
                self.dirty.insert(Key::clone(key));
            }
        }
    }

    /// When [`Self::judge_staleness`] has something to do.
    pub(super) fn staleness_wake(&self) -> Option<u64> {
        if let Away::Returning { at: Some(at), .. } = self.away {
            return Some(at);
        }
        let ((_, after), since) = self.stale_rule().zip(self.unvouched_since())?;
        let due = since + after;
        (self.surroundings.stale.is_none() && due > self.now).then_some(due)
    }
}
