//! Which replica writes the status of a remote. Pure.
//!
//! The one with the session; without a session the one that leads. A stored status in which another replica claims a
//! live session of a later epoch, or a session where there is none here, stands for [`CLAIM_STANDS`]. Then it is
//! overwritten, but once: if the very same claim comes back, its writer lives, and it is left alone.

use std::time::Duration;

use super::changes::after;
use super::compute::session_status;
use super::conditions::{CONNECTED, stored};
use crate::crd::{RemoteIstioStatus, SessionStatus};
use crate::report::SessionEpoch;

/// Somewhat longer than the longest pause of a reconnecting agent.
pub const CLAIM_STANDS: Duration = Duration::from_secs(45);

/// Whether to write now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// This replica writes.
    Write,
    /// Ask again at this moment, nanoseconds on the hub's monotonic clock.
    Wait(u64),
    /// Another replica writes.
    Leave,
}

/// Where this replica stands towards one remote.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// Its name.
    pub replica: &'a str,
    /// Whether it leads.
    pub leads: bool,
    /// Its live session.
    pub session: Option<SessionEpoch>,
    /// It had a session that ended, and no other began here.
    pub saw_the_end: bool,
}

/// Memory of the claims seen in one remote's status.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    seen: Option<Claim>,
    since: u64,
    overwritten: Option<Claim>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    replica: Option<String>,
    session: SessionStatus,
}

impl Claims {
    /// Whether this replica writes over `status`, at `now`.
    pub fn authority(&mut self, status: Option<&RemoteIstioStatus>, standing: Standing<'_>, now: u64) -> Authority {
        if standing.session.is_none() && !standing.leads {
            return Authority::Leave;
        }
        let Some(claim) = status.and_then(|status| disputed(status, standing)) else {
            self.seen = None;
            return Authority::Write;
        };
        if self.overwritten.as_ref() == Some(&claim) {
            return Authority::Leave;
        }
        if self.seen.as_ref() != Some(&claim) {
            self.seen = Some(claim);
            self.since = now;
        }
        let until = after(self.since, CLAIM_STANDS);
        if now < until {
            Authority::Wait(until)
        } else {
            Authority::Write
        }
    }

    /// A write was done: whatever claim stood there is now overwritten.
    pub fn wrote(&mut self) {
        if let Some(claim) = self.seen.take() {
            self.overwritten = Some(claim);
        }
    }
}

/// The claim of a live session in a stored status, where this replica does not know better.
fn disputed(status: &RemoteIstioStatus, standing: Standing<'_>) -> Option<Claim> {
    let session = status.session.clone()?;
    let is_own = status.replica.as_deref() == Some(standing.replica);
    let is_live = stored(Some(status), CONNECTED).is_some_and(|connected| connected.status == "True");
    let stands = match standing.session {
        Some(epoch) => !is_own && order(&session) > order(&session_status(epoch)),
        None => !(is_own && standing.saw_the_end),
    };
    (is_live && stands).then(|| Claim {
        replica: status.replica.clone(),
        session,
    })
}

fn order(session: &SessionStatus) -> (i64, i64) {
    (session.start, session.connection)
}

#[cfg(test)]
mod tests;
