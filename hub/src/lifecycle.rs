//! From the end of a `RemoteIstio` to the end of what stands in its remote.
//!
//! One that is deleted waits by its finalizer until its agent has let go of everything. One that is deleted by force
//! leaves a tombstone: the agent is told to let go when it comes back, and the tombstone goes. All tombstones stand in
//! one `ConfigMap`; whoever takes one away leaves the remote with what it has.

mod clearing;
mod grave;
mod store;
mod sweep;
#[cfg(test)]
mod tests;
mod tombstone;

pub use self::clearing::{Cleared, Clearing, QUIET};
pub use self::grave::{Closed, Grave, Outcome};
pub use self::store::{Store, StoreError, TOMBSTONES_CONFIG_MAP};
pub use self::sweep::{Deps, Tombstones};
pub use self::tombstone::Tombstone;
