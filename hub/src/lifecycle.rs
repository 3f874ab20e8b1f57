//! From the end of a `RemoteIstio` to the end of what stands in its remote.
//!
//! One that is deleted is looked at first: where too much goes at once, or the CRD goes, it is held until a person decides
//! ([`guard`]). Else it waits by its finalizer until its agent has let go of everything. One that is deleted by force
//! leaves a tombstone: the agent is told to let go when it comes back, and the tombstone goes. All tombstones stand in
//! one `ConfigMap`; whoever takes one away leaves the remote with what it has.

mod clearing;
mod deletions;
mod grave;
pub mod guard;
mod store;
mod sweep;
#[cfg(test)]
mod tests;
mod tombstone;

pub use self::clearing::{Cleared, Clearing, QUIET};
pub use self::deletions::{DeletionMetrics, Deletions};
pub use self::grave::{Closed, Grave, Outcome};
pub use self::guard::{Deleted, Guard, Hold, Ruling, Rulings};
pub use self::store::{Store, StoreError, TOMBSTONES_CONFIG_MAP};
pub use self::sweep::{Deps, Tombstones};
pub use self::tombstone::Tombstone;
