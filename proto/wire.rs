//! The generated messages and the service, as compiled from `proto/remoteistio/v1`.
//!
//! Lints are off here and nowhere else: this code is generated.

/// Messages of protocol version 1.
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]
pub mod v1 {
    tonic::include_proto!("remoteistio.v1");
}

/// The compiled descriptors of all `.proto` files, for reflection and for tests over the contract.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Lowest protocol version this release speaks.
pub const PROTOCOL_MIN: u32 = 1;

/// Highest protocol version this release speaks.
pub const PROTOCOL_MAX: u32 = 1;

/// The highest version that both ranges hold, if any.
#[must_use]
pub fn common_protocol(peer_min: u32, peer_max: u32) -> Option<u32> {
    let highest = peer_max.min(PROTOCOL_MAX);
    (highest >= peer_min.max(PROTOCOL_MIN)).then_some(highest)
}
