//! What central's mesh CA can do for remotes, and whom the mesh trusts: the same for all that have Citadel.

use std::sync::Arc;

use remote_istio::model::{Body, Component, Key, Object};
use remote_istio::wire::v1;

use super::remote::Cause;
use super::{Index, MeshCaState, Touched};

/// What is known of the mesh CA.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trust {
    pub(super) state: MeshCaState,
    /// What remotes with Citadel are sent.
    pub(super) object: Option<(Key, Arc<Object>)>,
}

impl Trust {
    /// Whether it was looked for.
    pub(super) fn is_known(&self) -> bool {
        !matches!(self.state, MeshCaState::Unknown | MeshCaState::Unreadable(_))
    }
}

impl Index {
    /// Of a hub that signs for the mesh: nothing leaves it for a remote with Citadel before the first
    /// [`Index::mesh_trust`], for a snapshot without trust would take the remote's intermediate away.
    #[must_use]
    pub fn awaiting_mesh_trust(mut self) -> Self {
        self.trust.state = MeshCaState::Unknown;
        self
    }

    /// What was found of central's mesh CA, and what remotes with Citadel are sent of it.
    pub fn mesh_trust(&mut self, ca: MeshCaState, trust: Option<v1::MeshTrust>, at: u64) -> Touched {
        let key = Key::component(Component::Trust, &self.settings.namespace);
        let found = Trust {
            state: ca,
            object: trust.map(|trust| (key, Arc::new(Object::new(0, Some(at), Body::Trust(trust))))),
        };
        if found == self.trust {
            return Touched::new();
        }
        let mut touched = Touched::new();
        for (name, remote) in &mut self.remotes {
            remote.trust = found.clone();
            let is_changed = remote.assemble(&self.namespaces, self.remotes_listed, Cause::Source);
            if is_changed {
                touched.insert(name.clone());
            }
        }
        self.trust = found;
        touched
    }
}
