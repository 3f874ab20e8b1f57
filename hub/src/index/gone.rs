//! Remotes whose `RemoteIstio` was let go while they were away.

use std::collections::BTreeMap;
use std::sync::Arc;

use remote_istio::identity::RemoteName;

use super::{Desired, Index, Touched};
use crate::lifecycle::Tombstone;

/// What is left of a `RemoteIstio` that was let go, and what its agent is to hold.
#[derive(Debug)]
pub(super) struct Gone {
    tombstone: Arc<Tombstone>,
    desired: Arc<Desired>,
    /// The agent holds what another `RemoteIstio` of the name asks for: it is only left to be taken away.
    is_replaced: bool,
}

impl Gone {
    fn new(tombstone: Tombstone) -> Self {
        let tombstone = Arc::new(tombstone);
        Self {
            desired: Arc::new(Desired::after(Arc::clone(&tombstone))),
            tombstone,
            is_replaced: false,
        }
    }
}

impl Index {
    /// All tombstones. Whatever is not among them is gone.
    pub fn tombstones(&mut self, tombstones: BTreeMap<RemoteName, Tombstone>) -> Touched {
        let mut before = std::mem::take(&mut self.tombstones);
        let mut changed = Touched::new();
        for (name, tombstone) in tombstones {
            let same = before.remove(&name).filter(|gone| *gone.tombstone == tombstone);
            if same.is_none() {
                changed.insert(name.clone());
            }
            let gone = same.unwrap_or_else(|| Gone::new(tombstone));
            self.tombstones.insert(name, gone);
        }
        changed.extend(before.into_keys());
        let (with, mut touched): (Touched, Touched) =
            changed.into_iter().partition(|name| self.remotes.contains_key(name));
        for name in &with {
            let uid = self
                .remotes
                .get(name)
                .and_then(|remote| remote.view.object.metadata.uid.clone());
            let tombstone = self.earlier_than(name, uid.as_deref());
            if let Some(remote) = self.remotes.get_mut(name) {
                remote.tombstone = tombstone;
            }
        }
        touched.extend(self.assemble(with));
        touched
    }

    /// The agent of a remote holds what another `RemoteIstio` asks for than the one `uid` that was let go. From now on
    /// its removals are guarded, and deleted or orphaned, as that one says, however long the tombstone stands.
    pub fn replaced(&mut self, name: &RemoteName, uid: &str) -> Touched {
        let stands = self.tombstones.get_mut(name).filter(|gone| gone.tombstone.uid == uid);
        let (Some(gone), Some(remote)) = (stands, self.remotes.get_mut(name)) else {
            return Touched::new();
        };
        gone.is_replaced = true;
        remote.tombstone = None;
        self.assemble([name.clone()].into())
    }

    /// The tombstone of an earlier `RemoteIstio` of the name than the one of this UID.
    pub(super) fn earlier_than(&self, name: &RemoteName, uid: Option<&str>) -> Option<Arc<Tombstone>> {
        let tombstone = &self.tombstones.get(name).filter(|gone| !gone.is_replaced)?.tombstone;
        (uid != Some(tombstone.uid.as_str())).then(|| Arc::clone(tombstone))
    }

    /// What the agent of a remote without `RemoteIstio` is to hold. Nothing is said before they have been listed once:
    /// there may be a new one of the name.
    pub(super) fn desired_after(&self, remote: &RemoteName) -> Option<Arc<Desired>> {
        let gone = self.tombstones.get(remote).filter(|_| self.remotes_listed)?;
        Some(Arc::clone(&gone.desired))
    }
}
