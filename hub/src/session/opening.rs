//! What a session is opened with.

use std::sync::Arc;
use std::time::Duration;

use remote_istio::enrolment::Trust;
use remote_istio::identity::RemoteName;

use crate::report::CertificateReport;

/// So long before the end of its certificate an agent is asked to leave, nanoseconds; less where little of its life is
/// left when the session opens.
const CERTIFICATE_LEAD: u64 = 2_000_000_000;

/// What a session is opened with, besides the hello.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Now.
    pub now: u64,
    /// Now on the wall clock, seconds since 1970.
    pub unix_seconds: i64,
    /// The remote, by the agent's certificate.
    pub remote: RemoteName,
    /// Namespace of the `RemoteIstio` resources on central.
    pub namespace: String,
    /// Where the agent dials from.
    pub address: String,
    /// Name of this hub replica.
    pub replica: String,
    /// Random, made once per hub process.
    pub boot_id: String,
    /// Between two heartbeats of either end.
    pub heartbeat: Duration,
    /// The agent's certificate.
    pub certificate: CertificateReport,
    /// Whom agents should trust; nothing: their files say so.
    pub trust: Option<Arc<Trust>>,
}

impl Opening {
    /// When an agent must be asked to leave for its certificate ends, nanoseconds on the hub's monotonic clock.
    pub(super) fn certificate_ends_at(&self) -> u64 {
        let left = self.certificate.not_after.saturating_sub(self.unix_seconds);
        let left = u64::try_from(left).unwrap_or(0).saturating_mul(1_000_000_000);
        let lead = CERTIFICATE_LEAD.min(left / 10);
        self.now.saturating_add(left - lead)
    }
}
