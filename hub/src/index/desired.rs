//! What one remote should hold now, as the index publishes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use remote_istio::model::{Key, Lane, Snapshot};

use crate::lifecycle::{Ruling, Tombstone};

/// What one remote should hold, with what is wrong with its `RemoteIstio`. Immutable once published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// UID of the `RemoteIstio`.
    pub uid: String,
    /// `metadata.generation` of the `RemoteIstio` this was computed from.
    pub generation: i64,
    /// The `RemoteIstio` is being deleted, and that is carried out: both lanes are empty and released.
    pub deleting: bool,
    /// What becomes of the deletion; nothing while nobody has deleted it.
    pub deletion: Option<Ruling>,
    /// Per lane what to hold. A lane is missing while a watch behind it has not finished its first list: nothing is
    /// sent on it then. An object that cannot be computed (see `problems`) is left as it was, never removed.
    pub lanes: BTreeMap<Lane, Arc<Snapshot>>,
    /// What only the hub can see to be wrong; all other parts of the resource go on.
    pub problems: Vec<Problem>,
    /// Per enabled service, in the order of the spec.
    pub services: Vec<ServiceDesired>,
    /// There is no `RemoteIstio` any more: its agent is to let go of what is left. Both lanes are empty and released.
    pub tombstone: Option<Arc<Tombstone>>,
    /// What central's mesh CA can do for the remote; nothing where it is not asked for: without Citadel.
    pub mesh_ca: Option<MeshCaState>,
}

/// What central's mesh CA can do for remotes. Texts say what is wrong and what to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MeshCaState {
    /// Not looked for yet.
    Unknown,
    /// The operator of central lets the hub sign nothing for the mesh.
    #[default]
    NotGranted,
    /// None was found.
    Missing(String),
    /// It was found, and cannot sign an intermediate.
    CannotSign(String),
    /// It signs.
    Ready,
    /// It signs as it was found before, for what is found now cannot be used.
    Held(String),
    /// Not known, for whom the mesh trusts may not be read, and what to do.
    Unreadable(String),
}

impl Desired {
    /// What an agent is to hold that comes back after its `RemoteIstio` was let go: nothing.
    #[must_use]
    pub fn after(tombstone: Arc<Tombstone>) -> Self {
        Self {
            uid: tombstone.uid.clone(),
            generation: tombstone.generation,
            deleting: true,
            deletion: Some(Ruling::Withdrawn),
            lanes: nothing(tombstone.orphans()),
            tombstone: Some(tombstone),
            ..Self::default()
        }
    }

    /// Whether what is removed stays where it is.
    #[must_use]
    pub fn orphans(&self) -> bool {
        self.lanes.values().any(|lane| lane.orphaned())
    }

    /// Whether it is for the agent of this cluster: what is left of a `RemoteIstio` is its own agent's alone.
    #[must_use]
    pub fn concerns(&self, cluster_uid: &str) -> bool {
        let tombstone = self.tombstone.as_ref();
        tombstone.is_none_or(|tombstone| tombstone.concerns(cluster_uid))
    }
}

/// Both lanes, empty and released.
pub(super) fn nothing(orphaned: bool) -> BTreeMap<Lane, Arc<Snapshot>> {
    let empty = Arc::new(Snapshot::cleared(orphaned));
    Lane::ALL.map(|lane| (lane, Arc::clone(&empty))).into()
}

/// One enabled service of a remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceDesired {
    /// Key of its endpoints.
    pub key: Key,
    /// Addresses that are sent.
    pub addresses: u32,
}

/// Something in a `RemoteIstio` that cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// `CamelCase` reason of the condition, e.g. `InvalidSelector`, `UnsupportedField`, `NamespaceNotServed`.
    pub reason: &'static str,
    /// The field, e.g. `spec.enabledServices[2].labelSelector`.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
    /// Whether the resource cannot be carried out as written (else it is only said).
    pub fatal: bool,
}
