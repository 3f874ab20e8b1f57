//! All desired state of one remote in one lane.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Key, LaneHash, Object, lane_hash};

/// All desired state of one remote in one lane, complete; immutable once made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    objects: BTreeMap<Key, Arc<Object>>,
    hash: LaneHash,
    released: bool,
    orphaned: bool,
}

impl Snapshot {
    /// A snapshot of these objects. `released`: a person wants whatever this removes, so it passes the guard.
    #[must_use]
    pub fn new(objects: BTreeMap<Key, Arc<Object>>, released: bool) -> Self {
        let hash = lane_hash(objects.iter().map(|(key, object)| (key, object.version)));
        Self {
            objects,
            hash,
            released,
            orphaned: false,
        }
    }

    /// Nothing, and a person wants it so. `orphaned`: what this removes is let go of and stays where it is.
    #[must_use]
    pub fn cleared(orphaned: bool) -> Self {
        Self {
            orphaned,
            ..Self::new(BTreeMap::new(), true)
        }
    }

    /// The same, and what it removes is let go of and stays where it is.
    #[must_use]
    pub fn orphaning(self) -> Self {
        Self { orphaned: true, ..self }
    }

    /// The objects by key.
    #[must_use]
    pub fn objects(&self) -> &BTreeMap<Key, Arc<Object>> {
        &self.objects
    }

    /// The lane's hash when exactly this is held.
    #[must_use]
    pub fn hash(&self) -> LaneHash {
        self.hash
    }

    /// Whether removals pass the receiver's guard.
    #[must_use]
    pub fn released(&self) -> bool {
        self.released
    }

    /// Whether removals leave the objects where they are, as the remote's own.
    #[must_use]
    pub fn orphaned(&self) -> bool {
        self.orphaned
    }
}
