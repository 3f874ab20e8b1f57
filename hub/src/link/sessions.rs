//! The live sessions for everybody else: their reports, and when a remote was last heard of.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use remote_istio::identity::RemoteName;
use remote_istio::model::Lane;
use tokio_util::sync::CancellationToken;

use crate::registry::{Claimant, Refused, Registry, SessionId};
use crate::report::SessionReport;

/// Wakes whoever must look at a remote again. Must not block and must not call back into the sessions.
pub type Hook = Box<dyn Fn(&RemoteName) + Send + Sync>;

/// The sessions that this replica holds.
#[derive(Default)]
pub struct Sessions {
    inner: Mutex<Inner>,
    hooks: RwLock<Vec<Hook>>,
}

#[derive(Debug, Default)]
struct Inner {
    registry: Registry,
    live: BTreeMap<RemoteName, Live>,
    /// Names come from certificates of our CA, which bounds how many there can be.
    disconnected_at: BTreeMap<RemoteName, i64>,
}

#[derive(Debug)]
struct Live {
    id: SessionId,
    end: CancellationToken,
    report: Option<Arc<SessionReport>>,
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
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
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
        self.inner.lock().disconnected_at.get(remote).copied()
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
            for (lane, lane_report) in &report.lanes {
                *summary.pending.entry(*lane).or_default() += lane_report.pending;
            }
        }
        summary
    }

    /// Opens a session, and ends the one it replaces.
    pub(super) fn open(self: &Arc<Self>, remote: &RemoteName, claimant: Claimant) -> Result<Standing, Refused> {
        let mut inner = self.inner.lock();
        let opened = inner.registry.open(remote, claimant)?;
        let superseded = CancellationToken::new();
        let live = Live {
            id: opened.id,
            end: superseded.clone(),
            report: None,
        };
        inner.disconnected_at.remove(remote);
        if let Some(replaced) = inner.live.insert(remote.clone(), live) {
            replaced.end.cancel();
        }
        Ok(Standing {
            sessions: Arc::clone(self),
            remote: remote.clone(),
            id: opened.id,
            superseded,
        })
    }

    fn notify(&self, remote: &RemoteName) {
        self.hooks.read().iter().for_each(|hook| hook(remote));
    }
}

/// One session's place among the others. It is given up when this is dropped, however that comes about.
#[derive(Debug)]
pub(super) struct Standing {
    sessions: Arc<Sessions>,
    remote: RemoteName,
    id: SessionId,
    /// Becomes cancelled when a newer session of the same remote has taken the place.
    pub(super) superseded: CancellationToken,
}

impl Standing {
    /// Shows what the session knows, if that has changed and the session still stands.
    pub(super) fn publish(&self, report: SessionReport) {
        {
            let mut inner = self.sessions.inner.lock();
            let Some(live) = inner.live.get_mut(&self.remote).filter(|live| live.id == self.id) else {
                return;
            };
            if live.report.as_deref() == Some(&report) {
                return;
            }
            live.report = Some(Arc::new(report));
        }
        self.sessions.notify(&self.remote);
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        {
            let mut inner = self.sessions.inner.lock();
            if !inner.registry.close(&self.remote, self.id) {
                return;
            }
            inner.live.remove(&self.remote);
            inner
                .disconnected_at
                .insert(self.remote.clone(), crate::clock::unix_seconds());
        }
        self.sessions.notify(&self.remote);
    }
}
