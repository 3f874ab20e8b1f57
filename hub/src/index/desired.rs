//! What one remote should hold now, as the index publishes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use remote_istio::model::{Key, Lane, Snapshot};

/// What one remote should hold, with what is wrong with its `RemoteIstio`. Immutable once published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// UID of the `RemoteIstio`.
    pub uid: String,
    /// `metadata.generation` of the `RemoteIstio` this was computed from.
    pub generation: i64,
    /// The `RemoteIstio` is being deleted: both lanes are empty and released.
    pub deleting: bool,
    /// Per lane what to hold. A lane is missing while a watch behind it has not finished its first list: nothing is
    /// sent on it then. An object that cannot be computed (see `problems`) is left as it was, never removed.
    pub lanes: BTreeMap<Lane, Arc<Snapshot>>,
    /// What only the hub can see to be wrong; all other parts of the resource go on.
    pub problems: Vec<Problem>,
    /// Per enabled service, in the order of the spec.
    pub services: Vec<ServiceDesired>,
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
    /// `CamelCase` reason of the condition, e.g. `InvalidSelector`, `NotImplemented`, `NamespaceNotServed`.
    pub reason: &'static str,
    /// The field, e.g. `spec.enabledServices[2].labelSelector`.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
    /// Whether the resource cannot be carried out as written (else it is only said, as for components).
    pub fatal: bool,
}
