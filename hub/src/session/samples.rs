//! What a session counts and measures.

use std::collections::BTreeMap;

use remote_istio::lane::NackReason;
use remote_istio::model::Lane;

/// What a session has counted and measured since it was last asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// From a central event to its acceptance, nanoseconds.
    pub accepted: Vec<(Lane, u64)>,
    /// From a central event to its application, nanoseconds.
    pub applied: Vec<(Lane, u64)>,
    /// Refused objects.
    pub nacks: BTreeMap<NackReason, u64>,
    /// Changes replaced by a later one before they were sent.
    pub merged: BTreeMap<Lane, u64>,
    /// How often the agent turned out to hold something else than it should.
    pub resyncs: BTreeMap<Lane, u64>,
    /// Frames of a kind this release does not know.
    pub unknown_frames: u64,
    /// Answers to a delta that is not in flight.
    pub stale_acks: u64,
    /// States of objects of no known kind or name.
    pub unread_states: u64,
}
