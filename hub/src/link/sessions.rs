//! The live sessions for everybody else: their reports, and when a remote was last heard of.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use remote_istio::identity::RemoteName;
use remote_istio::model::Lane;
use remote_istio::tls::{Admission, Peer};
use remote_istio::wire::v1;

use super::standing::{Asked, Ending, Signalled, Signals, Standing, signals};
use crate::clock;
use crate::registry::{Answer, Claimant, Conflict, Conflicts, Outcome, Refused, Registry, SessionId};
use crate::report::{CertificateReport, SessionReport};

/// Wakes whoever must look at a remote again. Must not block and must not call back into the sessions.
pub type Hook = Box<dyn Fn(&RemoteName) + Send + Sync>;

/// The sessions that this replica holds.
#[derive(Default)]
pub struct Sessions {
    pub(super) inner: Mutex<Inner>,
    hooks: RwLock<Vec<Hook>>,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) registry: Registry,
    pub(super) live: BTreeMap<RemoteName, Live>,
    /// Names come from certificates of our CA, which bounds how many there can be.
    pub(super) last_seen: BTreeMap<RemoteName, LastSeen>,
    conflicts: Conflicts,
}

#[derive(Debug)]
pub(super) struct Live {
    pub(super) id: SessionId,
    pub(super) peer: Arc<Peer>,
    pub(super) signals: Signals,
    pub(super) report: Option<Arc<SessionReport>>,
}

/// A remote without a session that had one.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastSeen {
    /// When it ended, seconds since 1970.
    pub(super) at: i64,
    /// Its certificate, if the session came so far.
    pub(super) certificate: Option<CertificateReport>,
}

/// What comes of the wish to open a session.
#[derive(Debug)]
pub(super) enum Place {
    /// It stands.
    Standing(Standing, Signalled),
    /// The holder is asked first.
    Asked(Asked),
}

/// All sessions in figures, for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Sessions that stand.
    pub sessions: usize,
    /// Of these, sessions without a `RemoteIstio`.
    pub unclaimed: usize,
    /// Objects not accepted yet, over all sessions.
    pub pending: BTreeMap<Lane, usize>,
    /// Objects accepted and not applied yet, over all sessions.
    pub backlog: u64,
    /// Largest clock skew of an agent, milliseconds, without its sign.
    pub clock_skew_milliseconds: u64,
    /// How many agents keep the trust of an epoch; those of no known epoch are not in it.
    pub trust_epochs: BTreeMap<u64, usize>,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// Notes what a refusal shows. Returns whether that is news. `now`: nanoseconds on the hub's monotonic clock.
    fn refused(&mut self, remote: &RemoteName, claimant: &Claimant, refused: &Refused, now: u64) -> bool {
        let parties = match refused {
            Refused::OlderAgent { holder, challenger } => self
                .conflicts
                .older(remote, &claimant.boot_id, now)
                .then(|| (holder.clone(), challenger.clone())),
            _ => refused.parties(),
        };
        parties.is_some_and(|parties| self.conflicts.note(remote, parties, now))
    }
}

impl Sessions {
    /// None yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// What the live session of a remote knows; nothing where none stands here.
    #[must_use]
    pub fn report(&self, remote: &RemoteName) -> Option<Arc<SessionReport>> {
        self.inner.lock().live.get(remote)?.report.clone()
    }

    /// When the last session of a remote ended, seconds since 1970; nothing while one stands, or where none ever did
    /// in the life of this process.
    #[must_use]
    pub fn disconnected_at(&self, remote: &RemoteName) -> Option<i64> {
        self.inner.lock().last_seen.get(remote).map(|seen| seen.at)
    }

    /// The certificate of the live session of a remote, or of its last one here.
    #[must_use]
    pub fn certificate(&self, remote: &RemoteName) -> Option<CertificateReport> {
        let inner = self.inner.lock();
        match inner.live.get(remote) {
            Some(live) => live.report.as_ref().map(|report| report.certificate),
            None => inner.last_seen.get(remote)?.certificate,
        }
    }

    /// Two agents that both wanted to be this remote lately.
    #[must_use]
    pub fn conflict(&self, remote: &RemoteName) -> Option<Conflict> {
        self.inner.lock().conflicts.current(remote, clock::now()).cloned()
    }

    /// Ends the session of a remote whose certificate `admission` takes no longer; the agent is told. Returns whether
    /// there was one.
    pub fn end_unless_admitted(&self, remote: &RemoteName, admission: &dyn Admission) -> bool {
        let standing = |inner: &Inner| inner.live.get(remote).map(|live| (live.id, Arc::clone(&live.peer)));
        // No lock is held while foreign code runs.
        let found = standing(&self.inner.lock());
        let Some((id, peer)) = found else { return false };
        let Err(why) = admission.admit_open(&peer) else {
            return false;
        };
        let inner = self.inner.lock();
        let live = inner.live.get(remote).filter(|live| live.id == id);
        live.is_some_and(|live| live.signals.end(Ending::NotAdmitted(why)))
    }

    /// Calls `hook` for each remote whose report changes, or whose session opens or ends, from now on.
    pub fn on_change(&self, hook: Hook) {
        self.hooks.write().push(hook);
    }

    /// How many sessions stand.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.lock().registry.len()
    }

    /// Whether none stands.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All sessions in figures.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let inner = self.inner.lock();
        let mut summary = Summary {
            sessions: inner.registry.len(),
            ..Summary::default()
        };
        for report in inner.live.values().filter_map(|live| live.report.as_ref()) {
            summary.unclaimed += usize::from(!report.claimed);
            summary.backlog += u64::from(report.backlog);
            let skew = report.clock_skew_milliseconds.unsigned_abs();
            summary.clock_skew_milliseconds = summary.clock_skew_milliseconds.max(skew);
            if let Some(epoch) = report.trust_epoch {
                *summary.trust_epochs.entry(epoch).or_default() += 1;
            }
            for (lane, lane_report) in &report.lanes {
                *summary.pending.entry(*lane).or_default() += lane_report.pending;
            }
        }
        summary
    }

    /// Opens a session and ends the one it replaces, or has the holder asked. `bound`: UID of the cluster that the name is
    /// bound to. `answer`: of the holder that was asked for this claimant.
    pub(super) fn open(
        self: &Arc<Self>,
        remote: &RemoteName,
        claimant: &Claimant,
        peer: &Arc<Peer>,
        bound: Option<&str>,
        answer: Option<(SessionId, Answer)>,
    ) -> Result<Place, Refused> {
        let mut inner = self.inner.lock();
        let opened = match inner.registry.open(remote, claimant.clone(), bound, answer) {
            Ok(Outcome::Opened(opened)) => opened,
            Ok(Outcome::Ask(ask)) => {
                let challenge = v1::Challenge {
                    nonce: ask.nonce,
                    session_epoch: claimant.epoch.start,
                    cluster_uid: claimant.cluster_uid.clone(),
                    address: claimant.address.clone(),
                };
                let live = inner.live.get(remote).ok_or(Refused::Contended)?;
                let challenge = ask.is_new.then_some(challenge);
                return Ok(Place::Asked(live.signals.ask(ask.holder, ask.nonce, challenge)));
            }
            Err(refused) => {
                let is_new = inner.refused(remote, claimant, &refused, clock::now());
                drop(inner);
                if is_new {
                    self.notify(remote);
                }
                return Err(refused);
            }
        };
        let (signals, signalled) = signals();
        let live = Live {
            id: opened.id,
            peer: Arc::clone(peer),
            signals,
            report: None,
        };
        peer.holds_session(true);
        inner.last_seen.remove(remote);
        if let Some(replaced) = inner.live.insert(remote.clone(), live) {
            // One connection may have been both.
            if !Arc::ptr_eq(&replaced.peer, peer) {
                replaced.peer.holds_session(false);
            }
            replaced.signals.end(Ending::Superseded);
        }
        let standing = Standing {
            sessions: Arc::clone(self),
            remote: remote.clone(),
            id: opened.id,
        };
        Ok(Place::Standing(standing, signalled))
    }

    pub(super) fn notify(&self, remote: &RemoteName) {
        self.hooks.read().iter().for_each(|hook| hook(remote));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{PREDECESSOR_ENDS_WITHIN, Party};
    use crate::report::SessionEpoch;

    #[test]
    fn older_agent_that_does_not_end_is_a_conflict_and_news_once() {
        let remote = RemoteName::new("remote-1").expect("a DNS label");
        let claimant = |boot_id: &str, start| Claimant {
            boot_id: boot_id.to_owned(),
            epoch: SessionEpoch { start, connection: 1 },
            cluster_uid: "cluster".to_owned(),
            address: format!("{boot_id}:1"),
        };
        let (holder, clone) = (claimant("a", 5), claimant("b", 4));
        let mut inner = Inner::default();
        let opened = inner.registry.open(&remote, holder.clone(), None, None);
        assert!(matches!(opened, Ok(Outcome::Opened(_))));
        let refused = inner
            .registry
            .open(&remote, clone.clone(), None, None)
            .expect_err("older");
        let minute = u64::try_from(PREDECESSOR_ENDS_WITHIN.as_nanos()).expect("small");
        for (now, is_news) in [(0, false), (minute - 1, false), (minute, true), (minute + 1, false)] {
            assert_eq!(inner.refused(&remote, &clone, &refused, now), is_news, "{now}");
            let conflict = inner.conflicts.current(&remote, now);
            let parties = conflict.map(|conflict| (conflict.holder.clone(), conflict.challenger.clone()));
            let expected = (now >= minute).then(|| (Party::of(&holder), Party::of(&clone)));
            assert_eq!(parties, expected, "{now}");
        }
    }
}
