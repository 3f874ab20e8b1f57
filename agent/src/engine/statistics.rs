//! What the engine counts, for metrics and logs. Counters only ever rise; gauges are set as they change.

use std::collections::BTreeMap;

use remote_istio::lane::NackReason;
use remote_istio::model::Lane;

use super::{Kind, ObjectName};

/// Kinds of writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// POST.
    Create,
    /// Server-side apply.
    Apply,
    /// DELETE.
    Delete,
    /// PATCH that takes the owner's labels off.
    Release,
}

impl Verb {
    /// The word used in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Apply => "apply",
            Self::Delete => "delete",
            Self::Release => "release",
        }
    }
}

/// What the engine counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Owned objects that were found changed or gone and were put right.
    pub drift_repaired: u64,
    /// Refused objects by reason.
    pub nacks: BTreeMap<NackReason, u64>,
    /// Writes by kind and verb, as they were started.
    pub writes: BTreeMap<(Kind, Verb), u64>,
    /// Failed writes by reason, see [`super::Failure`].
    pub failures: BTreeMap<&'static str, u64>,
    /// Contents replaced by a newer one before they were written: latest wins.
    pub merged: u64,
    /// Gauge: objects held per lane.
    pub held: BTreeMap<Lane, usize>,
    /// Gauge: keys that somebody keeps changing.
    pub contended: usize,
    /// Gauge: the hub was away for too long, and the endpoints are not ready or withdrawn.
    pub stale: bool,
    /// Gauge: records that could not be read and are left alone, with the reason, for the log.
    pub unreadable_records: BTreeMap<ObjectName, String>,
}
