//! Domain types, valid by construction. Imports nothing but std, a hash and thiserror.

mod applied;
mod endpoints;
mod key;
mod object;
mod snapshot;
mod version;

pub use applied::{Applied, ApplyState};
pub use endpoints::{Endpoint, EndpointPatch, EndpointSet, PatchMismatch, Port, PortSet, Protocol};
pub use key::{Key, KeyError, Lane, is_dns_label, is_dns_subdomain};
pub use object::{Body, Object, ServiceIntent};
pub use snapshot::Snapshot;
pub use version::{Canonical, LaneHash, Version, lane_hash};
