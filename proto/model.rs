//! Domain types, valid by construction. Parameters of components are the messages themselves:
//! they have no behaviour of their own.

mod applied;
mod endpoints;
mod key;
mod object;
mod snapshot;
mod version;

pub use applied::{Applied, ApplyState};
pub use endpoints::{Endpoint, EndpointPatch, EndpointSet, PatchMismatch, Port, PortSet, Protocol};
pub use key::{Component, Key, KeyError, Lane, is_dns_label, is_dns_subdomain};
pub use object::{Body, Object, ServiceIntent};
pub use snapshot::Snapshot;
pub use version::{Canonical, LaneHash, Version, lane_hash};
