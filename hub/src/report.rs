//! What one session knows of its remote, for status and metrics. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use remote_istio::lane::Nack;
use remote_istio::model::{Applied, Key, Lane};

/// The newest knowledge of one live session. Replaced as a whole on each change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionReport {
    /// Order of sessions of one remote: fences whoever writes its status.
    pub epoch: SessionEpoch,
    /// Seconds since 1970 when the session opened.
    pub connected_at: i64,
    /// Where the agent dials from.
    pub address: String,
    /// Release of the agent.
    pub agent_release: String,
    /// Version of the remote's API server.
    pub kubernetes_version: String,
    /// UID of the remote's kube-system namespace.
    pub cluster_uid: String,
    /// Whether a `RemoteIstio` stands behind it.
    pub claimed: bool,
    /// UID and generation of the `RemoteIstio` whose desired state the lanes speak of.
    pub desired: Option<(String, i64)>,
    /// Per lane how far it has come.
    pub lanes: BTreeMap<Lane, LaneReport>,
    /// What the agent said of each object it accepted.
    pub applied: Arc<BTreeMap<Key, Applied>>,
    /// Objects the agent refused and has not accepted since.
    pub refused: Vec<Nack>,
    /// Objects accepted and not yet applied, by the agent's last heartbeat.
    pub backlog: u32,
    /// Agent's wall clock minus the hub's, milliseconds, by the last heartbeat.
    pub clock_skew_milliseconds: i64,
}

/// Orders the sessions of one remote: the agent's own start counter, then the connection of that process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionEpoch {
    /// `session_epoch` of the hello.
    pub start: u64,
    /// `connection` of the hello.
    pub connection: u64,
}

/// How far one lane has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneReport {
    /// The agent has accepted everything desired, apart from what it refused.
    pub in_sync: bool,
    /// Objects not accepted yet.
    pub pending: usize,
}
