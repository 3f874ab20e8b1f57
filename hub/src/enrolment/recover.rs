//! A new certificate for the proof of the old key, after the old certificate has ended.

use std::time::SystemTime;

use remote_istio::enrolment::verify_proof;
use remote_istio::identity::{Identity, RemoteName};
use remote_istio::limits;
use remote_istio::tls::NotAdmitted;
use remote_istio::transport::Caller;
use remote_istio::wire::v1;
use rustls::pki_types::CertificateDer;
use tonic::Status;

use super::Enrolment;
use super::records::RecordError;
use super::sources::Source;
use crate::authority::{CertificateRequest, IssueError, PastError};
use crate::clock;
use crate::crd::RemoteIdentity;
use crate::events::{Kind, Reason, Subject};
use crate::identities::{judge, system_time};

/// What is said after each reason that only a new join can help.
const JOIN_ANEW: &str = "to let it back in, make a token on central with `remote-istio-hub token create NAME`";

/// Why a certificate was not recovered.
#[derive(Debug, thiserror::Error)]
enum RecoverError {
    #[error("{0}")]
    Past(#[from] PastError),
    #[error("the certificate is not a remote's")]
    NotARemote,
    #[error("{0}")]
    Proof(String),
    #[error("remote {0} is unknown to this hub: {JOIN_ANEW}")]
    Unknown(RemoteName),
    #[error("certificate revoked: remote {0} was revoked or has joined anew since; {JOIN_ANEW}")]
    Revoked(RemoteName),
    #[error("the name {0} belongs to another cluster than this: {JOIN_ANEW}")]
    OtherCluster(RemoteName),
    #[error("too many failed attempts from this address: ask again in a minute")]
    MustWait,
    #[error("the last attempt is not a second ago: ask again in a second")]
    TooSoon,
    #[error("{0}")]
    Invalid(String),
    #[error("central cannot answer now, ask again: {0}")]
    Records(#[from] RecordError),
    #[error("the link CA cannot sign now, ask again")]
    Authority(IssueError),
}

impl From<IssueError> for RecoverError {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::AnotherCa => Self::Past(PastError::AnotherCa),
            error => Self::Authority(error),
        }
    }
}

impl RecoverError {
    /// For logs and metrics.
    fn reason(&self) -> &'static str {
        match self {
            Self::Past(PastError::AnotherCa) => "unknown_ca",
            Self::Past(PastError::TooOld { .. }) => "too_old",
            Self::Past(PastError::NotYetValid { .. }) => "not_yet_valid",
            Self::Past(_) => "unusable_certificate",
            Self::NotARemote => "not_a_remote",
            Self::Proof(_) => "wrong_proof",
            Self::Unknown(_) => "unknown_identity",
            Self::Revoked(_) => "revoked",
            Self::OtherCluster(_) => "other_cluster",
            Self::MustWait | Self::TooSoon => "limited",
            Self::Invalid(_) => "invalid",
            Self::Records(_) | Self::Authority(_) => "failed",
        }
    }

    fn status(&self) -> Status {
        let text = self.to_string();
        match self {
            Self::MustWait => Status::resource_exhausted(text),
            Self::Invalid(_) => Status::invalid_argument(text),
            // An agent that is to ask again at once takes RESOURCE_EXHAUSTED for a minute's pause.
            Self::TooSoon | Self::Records(_) | Self::Authority(_) => Status::unavailable(text),
            _ => Status::permission_denied(text),
        }
    }

    /// Whether the caller is to blame.
    fn is_failure(&self) -> bool {
        !matches!(
            self,
            Self::MustWait | Self::TooSoon | Self::Records(_) | Self::Authority(_)
        )
    }
}

impl Enrolment {
    pub(super) async fn answer_recover(
        &self,
        caller: &Caller,
        request: v1::RecoverRequest,
    ) -> Result<v1::Issued, Status> {
        let metrics = &self.deps.metrics;
        match self.recover(caller, &request).await {
            Ok(issued) => {
                metrics.recovery("issued");
                Ok(issued)
            }
            Err(error) => {
                metrics.recovery(error.reason());
                if error.is_failure() {
                    let source = Source::of(&caller.address);
                    self.recoveries.lock().failed(source, clock::now());
                }
                let detail = match &error {
                    RecoverError::Authority(cause) => cause.to_string(),
                    error => error.to_string(),
                };
                self.refusals
                    .write("recover", error.reason(), "", &caller.address, &detail);
                Err(error.status())
            }
        }
    }

    async fn recover(&self, caller: &Caller, request: &v1::RecoverRequest) -> Result<v1::Issued, RecoverError> {
        let source = Source::of(&caller.address);
        let (remote, begun, asked) = match self.proved(caller, request) {
            // Who proves its key does not wait for the failures of others at its address.
            Err(_) if self.recoveries.lock().must_wait(&source, clock::now()) => return Err(RecoverError::MustWait),
            proved => proved?,
        };
        if !self.pace.admit(&remote) {
            return Err(RecoverError::TooSoon);
        }
        let record = self.deps.records.identity(&remote).await?;
        let record = record.ok_or_else(|| RecoverError::Unknown(remote.clone()))?;
        may_recover(&remote, &record, begun, &request.cluster_uid)?;
        let shown: Vec<CertificateDer<'_>> = request.chain.iter().map(|der| der.as_slice().into()).collect();
        self.reissue(remote, &record, &asked, &shown, caller)
    }

    /// Whose certificate it was, when it began, and what is asked for. Asks nobody.
    fn proved(
        &self,
        caller: &Caller,
        request: &v1::RecoverRequest,
    ) -> Result<(RemoteName, SystemTime, CertificateRequest), RecoverError> {
        let asked = CertificateRequest::check(&request.request);
        let asked = asked.map_err(|error| RecoverError::Invalid(error.to_string()))?;
        let past = self.deps.authority.verify_past(&request.chain)?;
        let Identity::Remote(remote) = past.identity else {
            return Err(RecoverError::NotARemote);
        };
        verify_proof(&past.leaf, &caller.exporter, &request.request, &request.proof)
            .map_err(|error| RecoverError::Proof(error.to_string()))?;
        Ok((remote, past.not_before, asked))
    }

    fn reissue(
        &self,
        remote: RemoteName,
        record: &RemoteIdentity,
        asked: &CertificateRequest,
        shown: &[CertificateDer<'_>],
        caller: &Caller,
    ) -> Result<v1::Issued, RecoverError> {
        let authority = &self.deps.authority;
        let issued = authority.issue_next(shown, &Identity::Remote(remote.clone()), asked, begins(record))?;
        let address = &caller.address;
        tracing::info!(%remote, %address, serial = %issued.serial, "remote recovered its identity");
        let note = format!("remote {remote} proved its ended certificate from {address} and got a new one");
        let subject = Subject::Remote(remote);
        self.deps.events.publish(subject, Kind::Normal, Reason::Recovered, note);
        Ok(v1::Issued {
            chain: issued.chain.iter().map(|der| der.to_vec()).collect(),
            trust: Some(self.trust().write()),
        })
    }
}

/// When the next certificate of a name begins: backdated, and not before the last join.
pub(super) fn begins(record: &RemoteIdentity) -> SystemTime {
    let backdated = SystemTime::now()
        .checked_sub(limits::BACKDATED)
        .unwrap_or(SystemTime::UNIX_EPOCH);
    backdated.max(system_time(record.spec.not_before.0))
}

fn may_recover(
    remote: &RemoteName,
    record: &RemoteIdentity,
    not_before: SystemTime,
    cluster_uid: &str,
) -> Result<(), RecoverError> {
    judge(Some(&record.spec), not_before, false).map_err(|refusal| match refusal {
        NotAdmitted::Revoked => RecoverError::Revoked(remote.clone()),
        NotAdmitted::Unknown => RecoverError::Unknown(remote.clone()),
        NotAdmitted::AnotherCa => RecoverError::Past(PastError::AnotherCa),
    })?;
    let bound = &record.spec.cluster_uid;
    if !bound.is_empty() && bound != cluster_uid {
        return Err(RecoverError::OtherCluster(remote.clone()));
    }
    Ok(())
}
