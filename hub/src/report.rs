//! What one session knows of its remote, for status and metrics. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use remote_istio::lane::Nack;
use remote_istio::limits;
use remote_istio::model::{Applied, Key, Lane};
use remote_istio::policy::Policy;

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
    /// The certificate of the connection.
    pub certificate: CertificateReport,
    /// Epoch of the trust that the agent keeps; nothing: not known, or it was given files that say whom it trusts.
    pub trust_epoch: Option<u64>,
    /// Why the agent could not keep the trust it was sent; empty when nothing is wrong.
    pub trust_failure: String,
    /// What the remote lets the hub ask for; nothing before the agent has told it.
    pub policy: Option<Arc<Policy>>,
}

/// The validity of an agent's certificate, seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateReport {
    /// When it began.
    pub not_before: i64,
    /// When it ends.
    pub not_after: i64,
}

/// A certificate that has not been renewed by then is overdue, in hundredths of its life; it is renewed at two thirds.
const OVERDUE_PERCENT: i64 = 85;

impl CertificateReport {
    /// When its renewal is overdue, seconds since 1970.
    #[must_use]
    pub fn overdue_at(&self) -> i64 {
        // The part of its life that lies before its issue is there for clocks that are off and does not count.
        let backdated = i64::try_from(limits::BACKDATED.as_secs()).unwrap_or(0);
        let issued_at = self.not_before.saturating_add(backdated);
        let begin = if issued_at < self.not_after {
            issued_at
        } else {
            self.not_before
        };
        let life = self.not_after.saturating_sub(begin);
        begin.saturating_add(life.saturating_mul(OVERDUE_PERCENT) / 100)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_overdue_at_85_percent_of_the_life_after_issue() {
        let overdue = |not_before, not_after| CertificateReport { not_before, not_after }.overdue_at();
        assert_eq!(overdue(-900, 86_400), 73_440, "a day, backdated");
        assert_eq!(overdue(-900, 20), 17, "twenty seconds, backdated");
        assert_eq!(overdue(0, 100), 85, "not backdated");
        assert_eq!(
            overdue(0, i64::MAX),
            i64::MAX / 100 + 900,
            "a nonsense end does not overflow"
        );
    }
}
