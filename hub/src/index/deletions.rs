//! What was decided about resources that are being deleted.

use std::sync::Arc;

use remote_istio::identity::RemoteName;

use super::{Index, RemoteView, Touched};
use crate::lifecycle::{Deleted, Ruling, Rulings};

impl Index {
    /// What becomes of the resources that are being deleted. Of one that is not among them nothing is decided: it stays as
    /// it is.
    pub fn rulings(&mut self, rulings: Rulings, at: u64) -> Touched {
        let before = std::mem::replace(&mut self.rulings, rulings);
        let differs = |name: &&RemoteName| before.get(*name) != self.rulings.get(*name);
        let concerned: Touched = before
            .keys()
            .chain(self.rulings.keys())
            .filter(differs)
            .cloned()
            .collect();
        let mut touched = Touched::new();
        for name in concerned {
            let view = self.remotes.get(&name).map(|remote| remote.view.clone());
            if let Some(view) = view {
                touched.extend(self.remote_applied(view, at));
            }
        }
        touched
    }

    /// All resources that are being deleted.
    #[must_use]
    pub fn deleted(&self) -> Vec<Deleted> {
        let views = self.remotes.iter().map(|(name, remote)| (name, &remote.view));
        views
            .filter(|(_, view)| view.object.metadata.deletion_timestamp.is_some())
            .map(|(name, view)| Deleted {
                remote: name.clone(),
                object: Arc::clone(&view.object),
                is_readable: view.broken.is_none(),
            })
            .collect()
    }

    /// Of a resource; nothing while nobody has deleted it.
    pub(super) fn ruling(&self, view: &RemoteView) -> Option<Ruling> {
        let metadata = &view.object.metadata;
        metadata.deletion_timestamp.as_ref()?;
        let ruled = self.rulings.get(&view.remote);
        let ruled = ruled.filter(|(uid, _)| metadata.uid.as_ref() == Some(uid));
        Some(ruled.map(|(_, ruling)| ruling.clone()).unwrap_or_default())
    }
}
