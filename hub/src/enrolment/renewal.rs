//! The next certificate of who already has one, over the connection it has.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use remote_istio::identity::{Identity, RemoteName};
use remote_istio::limits;
use remote_istio::tls::{Admission as _, NotAdmitted, Peer};
use remote_istio::wire::v1;
use remote_istio::wire::v1::identity_server::{Identity as Service, IdentityServer};
use tonic::{Request, Response, Status};

use super::metrics::EnrolmentMetrics;
use super::records::{RecordError, Records};
use super::recover::begins;
use super::refusals::Refusals;
use crate::authority::{Authority, CertificateRequest, IssueError};
use crate::clock;
use crate::identities::{Identities, judge};

/// Remotes whose last certificate is remembered before those of a while ago are forgotten.
const REMOTES_BETWEEN_LOOKS: usize = 1_024;

/// The Identity service of the sync port.
pub struct Renewal {
    authority: Arc<Authority>,
    records: Arc<dyn Records>,
    identities: Arc<Identities>,
    metrics: EnrolmentMetrics,
    pace: Pace,
    refusals: Refusals,
}

impl fmt::Debug for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewal").finish_non_exhaustive()
    }
}

/// Why a certificate was not renewed.
#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error("the connection carries no identity")]
    Nobody,
    #[error("only a remote renews its certificate here")]
    NotARemote,
    #[error("{0}")]
    NotAdmitted(#[from] NotAdmitted),
    #[error("the last certificate is not a second old: ask again in a second")]
    TooSoon,
    #[error("{0}")]
    Invalid(String),
    #[error("central cannot answer now, ask again: {0}")]
    Records(#[from] RecordError),
    #[error("the link CA cannot sign now, ask again")]
    Authority(IssueError),
}

impl From<IssueError> for RenewError {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::AnotherCa => Self::NotAdmitted(NotAdmitted::AnotherCa),
            error => Self::Authority(error),
        }
    }
}

impl RenewError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Nobody | Self::NotARemote => "not_a_remote",
            Self::NotAdmitted(NotAdmitted::Revoked) => "revoked",
            Self::NotAdmitted(NotAdmitted::Unknown) => "unknown_identity",
            Self::NotAdmitted(NotAdmitted::AnotherCa) => "unknown_ca",
            Self::TooSoon => "limited",
            Self::Invalid(_) => "invalid",
            Self::Records(_) | Self::Authority(_) => "failed",
        }
    }

    fn status(&self) -> Status {
        let text = self.to_string();
        match self {
            Self::Nobody => Status::unauthenticated(text),
            Self::NotARemote | Self::NotAdmitted(_) => Status::permission_denied(text),
            Self::Invalid(_) => Status::invalid_argument(text),
            // An agent that is to ask again at once takes RESOURCE_EXHAUSTED for a minute's pause.
            Self::TooSoon | Self::Records(_) | Self::Authority(_) => Status::unavailable(text),
        }
    }
}

impl Renewal {
    /// Signs by `authority` for whom `identities` admits, and `records` too: the former may be behind. `lifetime`: of the certificates.
    #[must_use]
    pub fn new(
        authority: Arc<Authority>,
        records: Arc<dyn Records>,
        identities: Arc<Identities>,
        metrics: EnrolmentMetrics,
        lifetime: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            authority,
            records,
            identities,
            metrics,
            pace: Pace::of(lifetime),
            refusals: Refusals::default(),
        })
    }

    /// The service, to be served beside Sync.
    #[must_use]
    pub fn service(self: &Arc<Self>) -> IdentityServer<Self> {
        IdentityServer::from_arc(Arc::clone(self))
            .max_decoding_message_size(limits::ENROLMENT_MESSAGE_BYTES)
            .max_encoding_message_size(limits::ENROLMENT_MESSAGE_BYTES)
    }

    async fn answer(&self, peer: Option<&Arc<Peer>>, request: &v1::RenewRequest) -> Result<v1::Issued, RenewError> {
        let peer = peer.ok_or(RenewError::Nobody)?;
        let Identity::Remote(remote) = &peer.identity else {
            return Err(RenewError::NotARemote);
        };
        self.identities.admit_open(peer)?;
        let asked = CertificateRequest::check(&request.request);
        let asked = asked.map_err(|error| RenewError::Invalid(error.to_string()))?;
        if !self.pace.admit(remote) {
            return Err(RenewError::TooSoon);
        }
        // As it is now: the watch of a replica that is cut off from central shows what was.
        let record = self.records.identity(remote).await?;
        let record = record.ok_or(NotAdmitted::Unknown)?;
        judge(Some(&record.spec), peer.not_before, false)?;
        let shown = peer.presented();
        let issued = self
            .authority
            .issue_next(shown, &peer.identity, &asked, begins(&record))?;
        tracing::debug!(%remote, serial = %issued.serial, "certificate renewed");
        Ok(v1::Issued {
            chain: issued.chain.iter().map(|der| der.to_vec()).collect(),
            trust: Some(self.authority.trust().borrow().write()),
        })
    }
}

#[tonic::async_trait]
impl Service for Renewal {
    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::Issued>, Status> {
        let peer = request.extensions().get::<Arc<Peer>>().cloned();
        match self.answer(peer.as_ref(), request.get_ref()).await {
            Ok(issued) => {
                self.metrics.renewal("issued");
                Ok(Response::new(issued))
            }
            Err(error) => {
                self.metrics.renewal(error.reason());
                let remote = peer.as_ref().and_then(|peer| match &peer.identity {
                    Identity::Remote(remote) => Some(remote.to_string()),
                    _ => None,
                });
                let address = peer.as_ref().map_or("", |peer| peer.address.as_str());
                let detail = match &error {
                    RenewError::Authority(cause) => cause.to_string(),
                    error => error.to_string(),
                };
                let remote = remote.unwrap_or_default();
                self.refusals.write("renew", error.reason(), &remote, address, &detail);
                Err(error.status())
            }
        }
    }
}

/// One certificate per remote in a while. Names are those of certificates of ours, which bounds them.
#[derive(Debug)]
pub(super) struct Pace {
    between: u64,
    last: Mutex<BTreeMap<RemoteName, u64>>,
}

impl Default for Pace {
    fn default() -> Self {
        Self::of(Duration::MAX)
    }
}

impl Pace {
    /// A second, and less where certificates live for seconds.
    pub(super) fn of(lifetime: Duration) -> Self {
        let between = (lifetime / 10).min(Duration::from_secs(1));
        Self {
            between: u64::try_from(between.as_nanos()).unwrap_or(u64::MAX),
            last: Mutex::default(),
        }
    }

    /// Whether the remote may have another now; if so, the while begins.
    pub(super) fn admit(&self, remote: &RemoteName) -> bool {
        self.admit_at(remote, clock::now())
    }

    fn admit_at(&self, remote: &RemoteName, now: u64) -> bool {
        let mut last = self.last.lock();
        let is_recent = |at: &u64| now.saturating_sub(*at) < self.between;
        if last.get(remote).is_some_and(is_recent) {
            return false;
        }
        if last.len() >= REMOTES_BETWEEN_LOOKS {
            last.retain(|_, at| is_recent(at));
        }
        last.insert(remote.clone(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_gets_one_certificate_in_a_second_or_less_where_lives_are_short() {
        let (a, b) = (
            RemoteName::new("a").expect("a name"),
            RemoteName::new("b").expect("a name"),
        );
        let second = 1_000_000_000;
        let day = Pace::of(Duration::from_hours(24));
        assert!(day.admit_at(&a, second));
        assert!(day.admit_at(&b, second));
        assert!(!day.admit_at(&a, 2 * second - 1));
        assert!(day.admit_at(&a, 2 * second));
        assert!(!day.admit_at(&a, 3 * second - 1));

        let seconds = Pace::of(Duration::from_secs(3));
        assert!(seconds.admit_at(&a, second));
        assert!(!seconds.admit_at(&a, second + 299_000_000));
        assert!(seconds.admit_at(&a, second + 300_000_000));
    }

    #[test]
    fn remotes_of_a_while_ago_are_forgotten() {
        let pace = Pace::of(Duration::from_hours(24));
        for second in 0..3 {
            for number in 0..REMOTES_BETWEEN_LOOKS {
                let remote = RemoteName::new(&format!("remote-{second}-{number}")).expect("a name");
                assert!(pace.admit_at(&remote, second * 1_000_000_000));
            }
        }
        assert!(pace.last.lock().len() <= REMOTES_BETWEEN_LOOKS);
    }
}
