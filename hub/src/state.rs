//! The index for everybody: behind one lock, with a channel per remote that somebody follows.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use remote_istio::identity::RemoteName;
use remote_istio::model::Lane;
use tokio::sync::watch;
use tracing::info;

use crate::crd::RemoteIstio;
use crate::index::{Desired, Index, Touched};
use crate::lifecycle::Deleted;

/// More remotes touched at once than this are logged by their number only.
const REMOTES_LOGGED: usize = 50;

/// Wakes whoever must look at a remote again. Must not block and must not change the state; it may read it.
pub type Hook = Box<dyn Fn(&RemoteName) + Send + Sync>;

/// The index, and who follows it.
pub struct State {
    inner: Mutex<Inner>,
    remotes_known: watch::Sender<bool>,
    hooks: RwLock<Vec<Hook>>,
}

#[derive(Debug)]
struct Inner {
    index: Index,
    followed: BTreeMap<RemoteName, watch::Sender<Option<Arc<Desired>>>>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl State {
    /// Nobody follows yet.
    #[must_use]
    pub fn new(index: Index) -> Arc<Self> {
        let known = index.remotes_known();
        Arc::new(Self {
            inner: Mutex::new(Inner {
                index,
                followed: BTreeMap::new(),
            }),
            remotes_known: watch::Sender::new(known),
            hooks: RwLock::default(),
        })
    }

    /// Changes the index, publishes what became of each touched remote, then calls the hooks for each.
    pub fn update(&self, change: impl FnOnce(&mut Index) -> Touched) {
        let mut inner = self.inner.lock();
        let touched = change(&mut inner.index);
        inner.publish(&touched);
        let known = inner.index.remotes_known();
        self.remotes_known
            .send_if_modified(|was| std::mem::replace(was, known) != known);
        drop(inner);
        let hooks = self.hooks.read();
        for remote in &touched {
            hooks.iter().for_each(|hook| hook(remote));
        }
    }

    /// Follows one remote. `None`: no `RemoteIstio` of that name, as far as is known, see [`State::remotes_known`].
    #[must_use]
    pub fn subscribe(&self, remote: &RemoteName) -> watch::Receiver<Option<Arc<Desired>>> {
        let inner = &mut *self.inner.lock();
        inner.followed.retain(|_, sender| sender.receiver_count() > 0);
        let sender = inner.followed.entry(remote.clone());
        sender
            .or_insert_with(|| watch::Sender::new(inner.index.desired(remote)))
            .subscribe()
    }

    /// Whether the `RemoteIstio`s have been listed once.
    #[must_use]
    pub fn remotes_known(&self) -> watch::Receiver<bool> {
        self.remotes_known.subscribe()
    }

    /// Calls `hook` for each remote whose `RemoteIstio` or desired state changes from now on.
    pub fn on_change(&self, hook: Hook) {
        self.hooks.write().push(hook);
    }

    /// What the remote should hold now.
    #[must_use]
    pub fn desired(&self, remote: &RemoteName) -> Option<Arc<Desired>> {
        self.inner.lock().index.desired(remote)
    }

    /// The newest `RemoteIstio` as watched; with an empty spec where it could not be read.
    #[must_use]
    pub fn remote_object(&self, remote: &RemoteName) -> Option<Arc<RemoteIstio>> {
        self.inner.lock().index.remote_object(remote)
    }

    /// All `RemoteIstio`s that are being deleted.
    #[must_use]
    pub fn deleted(&self) -> Vec<Deleted> {
        self.inner.lock().index.deleted()
    }

    /// All remotes that have a `RemoteIstio`.
    #[must_use]
    pub fn remote_names(&self) -> Vec<RemoteName> {
        self.inner.lock().index.remote_names().cloned().collect()
    }
}

impl Inner {
    fn publish(&mut self, touched: &Touched) {
        let mut updated = 0;
        for remote in touched {
            let Some(sender) = self.followed.get(remote) else {
                continue;
            };
            let desired = self.index.desired(remote);
            let before = sender.borrow().clone();
            if unchanged(before.as_ref(), desired.as_ref()) {
                continue;
            }
            updated += 1;
            if touched.len() <= REMOTES_LOGGED {
                log_endpoints(remote, before.as_deref(), desired.as_deref());
            }
            sender.send_replace(desired);
        }
        if updated > 0 && touched.len() > REMOTES_LOGGED {
            info!(remotes = updated, "updating endpoints");
        }
    }
}

fn unchanged(before: Option<&Arc<Desired>>, after: Option<&Arc<Desired>>) -> bool {
    match (before, after) {
        (Some(before), Some(after)) => Arc::ptr_eq(before, after),
        (None, None) => true,
        _ => false,
    }
}

fn log_endpoints(remote: &RemoteName, before: Option<&Desired>, after: Option<&Desired>) {
    let lane = |desired: Option<&Desired>| desired.and_then(|desired| desired.lanes.get(&Lane::Endpoints).cloned());
    let Some(after) = lane(after) else { return };
    let before = lane(before);
    for (key, object) in after.objects() {
        let held = before.as_ref().and_then(|before| before.objects().get(key));
        if held.is_none_or(|held| held.version != object.version) {
            let addresses = object.endpoints().map_or(0, |set| set.endpoints.len());
            info!(%remote, %key, addresses, "updating endpoints");
        }
    }
}
