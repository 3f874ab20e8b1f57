//! Where the status writer looks, and what wakes it.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use remote_istio::identity::RemoteName;
use tokio::sync::Notify;

use crate::crd::{RemoteIdentity, RemoteIstio};
use crate::index::Desired;
use crate::link::{Records, Sessions};
use crate::registry::Conflict;
use crate::report::{CertificateReport, SessionReport};
use crate::state::State;

/// What the hub knows of its remotes.
pub trait Source: Send + Sync {
    /// All remotes that have a `RemoteIstio`.
    fn names(&self) -> Vec<RemoteName>;
    /// The newest `RemoteIstio` as watched.
    fn object(&self, remote: &RemoteName) -> Option<Arc<RemoteIstio>>;
    /// What the remote should hold.
    fn desired(&self, remote: &RemoteName) -> Option<Arc<Desired>>;
    /// The live session.
    fn session(&self, remote: &RemoteName) -> Option<Arc<SessionReport>>;
    /// Seconds since 1970 when the last session ended.
    fn disconnected_at(&self, remote: &RemoteName) -> Option<i64>;
    /// What the name of the remote is bound to.
    fn record(&self, remote: &RemoteName) -> Option<Arc<RemoteIdentity>>;
    /// Two agents that both wanted to be this remote lately.
    fn conflict(&self, remote: &RemoteName) -> Option<Conflict>;
    /// The certificate of the session, or of the last one.
    fn certificate(&self, remote: &RemoteName) -> Option<CertificateReport>;
}

/// State and sessions of this process.
#[derive(Clone, Debug)]
pub struct Live {
    /// The watched resources and what they ask for.
    pub state: Arc<State>,
    /// The agents' sessions.
    pub sessions: Arc<Sessions>,
    /// What the names of remotes are bound to.
    pub records: Arc<dyn Records>,
}

impl Live {
    /// Wakes the writer at each change from now on.
    pub fn wake(&self, wake: &Arc<Wake>) {
        let [of_state, of_sessions, of_records] = std::array::from_fn(|_| Arc::clone(wake));
        self.state.on_change(Box::new(move |remote| of_state.changed(remote)));
        self.sessions
            .on_change(Box::new(move |remote| of_sessions.changed(remote)));
        self.records
            .on_change(Box::new(move |remote| of_records.changed(remote)));
    }
}

impl Source for Live {
    fn names(&self) -> Vec<RemoteName> {
        self.state.remote_names()
    }

    fn object(&self, remote: &RemoteName) -> Option<Arc<RemoteIstio>> {
        self.state.remote_object(remote)
    }

    fn desired(&self, remote: &RemoteName) -> Option<Arc<Desired>> {
        self.state.desired(remote)
    }

    fn session(&self, remote: &RemoteName) -> Option<Arc<SessionReport>> {
        self.sessions.report(remote)
    }

    fn disconnected_at(&self, remote: &RemoteName) -> Option<i64> {
        self.sessions.disconnected_at(remote)
    }

    fn record(&self, remote: &RemoteName) -> Option<Arc<RemoteIdentity>> {
        self.records.record(remote)
    }

    fn conflict(&self, remote: &RemoteName) -> Option<Conflict> {
        self.sessions.conflict(remote)
    }

    fn certificate(&self, remote: &RemoteName) -> Option<CertificateReport> {
        self.sessions.certificate(remote)
    }
}

/// The remotes to look at again: a set, so that its size is bounded by the number of remotes.
#[derive(Debug, Default)]
pub struct Wake {
    changed: Mutex<BTreeSet<RemoteName>>,
    notify: Notify,
}

impl Wake {
    /// This remote must be looked at.
    pub fn changed(&self, remote: &RemoteName) {
        let is_first = {
            let mut changed = self.changed.lock();
            let is_first = changed.is_empty();
            changed.insert(remote.clone());
            is_first
        };
        if is_first {
            self.notify.notify_one();
        }
    }

    /// Waits until some remote must be looked at, and takes all such. Safe to drop while it waits.
    pub async fn taken(&self) -> BTreeSet<RemoteName> {
        loop {
            let changed = std::mem::take(&mut *self.changed.lock());
            if !changed.is_empty() {
                return changed;
            }
            self.notify.notified().await;
        }
    }
}
