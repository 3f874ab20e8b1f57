//! Whether an agent that was told to let go of everything has done so. Pure.

use std::time::Duration;

use crate::report::{SessionEpoch, SessionReport};
use crate::status::changes::after;
use crate::status::findings::is_gone;

/// A session that has not named any object since it opened must have been quiet for so long before that counts as
/// "nothing left": longer than the interval of heartbeats, as the backlog comes with them.
pub const QUIET: Duration = Duration::from_secs(15);

/// What was seen of a remote that is about to lose everything.
#[derive(Clone, Debug, Default)]
pub struct Clearing {
    /// The session that named objects which stand in the remote.
    named_objects: Option<SessionEpoch>,
    /// Since when nothing seems to be left, and for which session.
    empty_since: Option<(SessionEpoch, u64)>,
}

/// Whether anything is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleared {
    /// Something is, or may be.
    No,
    /// Nothing seems to be; ask again at this moment, nanoseconds on the hub's monotonic clock.
    At(u64),
    /// Nothing is.
    Yes,
}

impl Clearing {
    /// Takes note of what a session says. Must be called at each change of its report.
    pub fn saw(&mut self, session: &SessionReport) {
        if names_objects(session) {
            self.named_objects = Some(session.epoch);
        }
    }

    /// The session has ended.
    pub fn lost(&mut self) {
        self.empty_since = None;
    }

    /// Whether anything is left at `now`, by a session that was seen. `accepted`: its agent has accepted that it is to
    /// hold nothing.
    pub fn look(&mut self, session: &SessionReport, accepted: bool, now: u64) -> Cleared {
        if !accepted || !session.refused.is_empty() || names_objects(session) {
            self.empty_since = None;
            return Cleared::No;
        }
        if self.named_objects == Some(session.epoch) {
            return Cleared::Yes;
        }
        if session.backlog > 0 {
            self.empty_since = None;
            return Cleared::No;
        }
        let since = match self.empty_since {
            Some((epoch, since)) if epoch == session.epoch => since,
            _ => now,
        };
        self.empty_since = Some((session.epoch, since));
        let until = after(since, QUIET);
        if now < until { Cleared::At(until) } else { Cleared::Yes }
    }
}

fn names_objects(session: &SessionReport) -> bool {
    session.applied.values().any(|applied| !is_gone(applied))
}
