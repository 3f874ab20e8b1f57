//! Carries a join out: asks what to do, does it, asks again, until there is an answer.

mod error;
mod tell;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use remote_istio::enrolment::{Token, certificate_pem};
use remote_istio::identity::{Identity, RemoteName};
use remote_istio::limits;
use remote_istio::transport::Caller;
use remote_istio::wire::v1;
use remote_istio::wire::v1::join_response::Outcome;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tonic::Status;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use self::error::JoinError;
use super::Enrolment;
use super::decide::{Ask, Decision, Kept, Refusal, decide, used};
use super::records::RecordError;
use super::sources::Source;
use crate::authority::CertificateRequest;
use crate::clock;
use crate::crd::{JoinToken, JoinTokenStatus, RemoteIdentity, RemoteIdentitySpec, TokenState};
use crate::identities::system_time;

/// Times the records are read anew because another writer came first.
const ATTEMPTS: u32 = 5;

/// Who waits for a person asks again no sooner.
const RETRY_MILLISECONDS: u32 = 2_000;

/// A join whose token's secret was found right.
struct Join<'a> {
    token: Token,
    remote: RemoteName,
    request: CertificateRequest,
    ask: Ask<'a>,
}

impl Enrolment {
    pub(super) async fn answer_join(
        &self,
        caller: &Caller,
        request: v1::JoinRequest,
    ) -> Result<v1::JoinResponse, Status> {
        let metrics = &self.deps.metrics;
        match self.join(caller, &request).await {
            Ok(outcome) => {
                metrics.join(match outcome {
                    Outcome::Issued(_) => "issued",
                    Outcome::Pending(_) => "pending",
                });
                Ok(v1::JoinResponse { outcome: Some(outcome) })
            }
            Err((remote, error)) => {
                metrics.join(error.reason());
                if let JoinError::Refused(_) = error {
                    let source = Source::of(&caller.address);
                    self.joins.lock().failed(source, clock::now());
                }
                let detail = match &error {
                    JoinError::Authority(cause) => cause.to_string(),
                    error => error.to_string(),
                };
                let remote = remote.as_ref().map_or("", RemoteName::as_str);
                self.refusals
                    .write("join", error.reason(), remote, &caller.address, &detail);
                Err(error.status())
            }
        }
    }

    /// With the error comes the name it is about, where that is known.
    async fn join(
        &self,
        caller: &Caller,
        request: &v1::JoinRequest,
    ) -> Result<Outcome, (Option<RemoteName>, JoinError)> {
        let source = Source::of(&caller.address);
        let admitted = self.admit(&request.token, &source).await;
        let (token, remote) = admitted.map_err(|error| (None, error))?;
        let asked = readable(request).map(|request_of| Join {
            token,
            remote: remote.clone(),
            ask: Ask {
                key: request_of.key(),
                cluster_uid: &request.cluster_uid,
                address: &caller.address,
            },
            request: request_of,
        });
        let joined = match asked {
            Ok(join) => self.join_with(&join).await,
            Err(error) => Err(error),
        };
        joined.map_err(|error| (Some(remote), error))
    }

    /// Finds the token and compares its secret. A token nobody made costs at most one question, and most cost none.
    /// Who comes with a right one does not wait for the failures of others at its address.
    async fn admit(&self, text: &str, source: &Source) -> Result<(Token, RemoteName), JoinError> {
        let unknown = || JoinError::Refused(Refusal::Unknown);
        let token: Result<Token, _> = text.parse();
        let known = token.as_ref().ok().and_then(|token| self.tokens.get(token.id()));
        let is_right = match (&token, &known) {
            (Ok(token), Some(kept)) => token.has_hash(&kept.spec.secret_hash) && may_serve(kept, now()),
            _ => false,
        };
        if !is_right && self.joins.lock().must_wait(source, clock::now()) {
            return Err(JoinError::MustWait);
        }
        let token = token.map_err(|_| unknown())?;
        let kept = match known {
            Some(kept) => kept,
            None if !self.fetches.lock().take(clock::now()) => return Err(JoinError::Busy),
            None => {
                let fetched = self.deps.records.token(token.id()).await?.ok_or_else(unknown)?;
                self.tokens.seen(fetched.clone());
                fetched.into()
            }
        };
        if !token.has_hash(&kept.spec.secret_hash) {
            return Err(JoinError::Refused(Refusal::WrongSecret));
        }
        let remote = RemoteName::new(&kept.spec.remote).ok_or_else(unknown)?;
        Ok((token, remote))
    }

    async fn join_with(&self, join: &Join<'_>) -> Result<Outcome, JoinError> {
        for _ in 0..ATTEMPTS {
            match self.attempt(join).await {
                Err(JoinError::Records(RecordError::Conflict)) => {}
                done => return done,
            }
        }
        Err(RecordError::Conflict.into())
    }

    /// From what is kept now to an answer, unless another writer comes first.
    async fn attempt(&self, join: &Join<'_>) -> Result<Outcome, JoinError> {
        let records = &self.deps.records;
        // In this order: a token is written before its name is bound, so that whoever finds the name bound by it finds
        // it used too.
        let record = records.identity(&join.remote).await?;
        let token = records.token(join.token.id()).await?;
        let mut token = token.ok_or(JoinError::Refused(Refusal::Unknown))?;
        if !join.token.has_hash(&token.spec.secret_hash) || token.spec.remote != join.remote.as_str() {
            return Err(JoinError::Refused(Refusal::WrongSecret));
        }
        loop {
            let now = now();
            match decide_for(&token, record.as_ref(), join, now) {
                Decision::Refuse(refusal) => return Err(JoinError::Refused(refusal)),
                Decision::Denied => return Err(JoinError::Denied),
                Decision::NameTaken => return Err(JoinError::NameTaken(join.remote.clone())),
                Decision::Kill(status) => {
                    self.write_token(&token, status).await?;
                    self.tell_of_replay(join, &token);
                    return Err(JoinError::Refused(Refusal::Used));
                }
                Decision::Wait(status) => {
                    if let Some(status) = status {
                        self.write_token(&token, status).await?;
                        self.tell_of_waiting(join);
                    }
                    return Ok(Outcome::Pending(pending(&join.remote)));
                }
                Decision::Issue { begins } => {
                    let certificate = self.sign(join, begins)?;
                    token = self.write_token(&token, used(&join.ask, certificate, now)).await?;
                }
                Decision::Answer { bind } => {
                    if let Some(spec) = bind {
                        self.bind(join, record.as_ref(), spec).await?;
                    }
                    return Ok(Outcome::Issued(self.issued(&token)));
                }
            }
        }
    }

    /// Returns the chain, PEM.
    fn sign(&self, join: &Join<'_>, begins: Timestamp) -> Result<String, JoinError> {
        let identity = Identity::Remote(join.remote.clone());
        let authority = &self.deps.authority;
        let issued = authority.issue(&identity, &join.request, Some(system_time(begins)))?;
        Ok(issued.chain.iter().map(|der| certificate_pem(der)).collect())
    }

    async fn write_token(&self, read: &JoinToken, status: JoinTokenStatus) -> Result<JoinToken, JoinError> {
        match self.deps.records.write_token(read, status).await {
            Ok(written) => {
                self.tokens.seen(written.clone());
                Ok(written)
            }
            Err(RecordError::Gone) => Err(JoinError::Refused(Refusal::Unknown)),
            Err(error) => Err(error.into()),
        }
    }

    async fn bind(
        &self,
        join: &Join<'_>,
        read: Option<&RemoteIdentity>,
        spec: RemoteIdentitySpec,
    ) -> Result<(), JoinError> {
        let record = match read {
            Some(read) => RemoteIdentity { spec, ..read.clone() },
            None => RemoteIdentity {
                metadata: ObjectMeta {
                    name: Some(join.remote.to_string()),
                    ..ObjectMeta::default()
                },
                spec,
                status: None,
            },
        };
        let written = self.deps.records.write_identity(record).await;
        // Removed since it was read: as if another writer came first.
        let written = written.map_err(|error| match error {
            RecordError::Gone => RecordError::Conflict,
            error => error,
        })?;
        self.deps.identities.wrote(written);
        self.tell_of_join(join);
        Ok(())
    }

    fn issued(&self, token: &JoinToken) -> v1::Issued {
        v1::Issued {
            chain: certificates(token).iter().map(|der| der.to_vec()).collect(),
            trust: Some(self.trust().write()),
        }
    }
}

fn decide_for(token: &JoinToken, record: Option<&RemoteIdentity>, join: &Join<'_>, now: Timestamp) -> Decision {
    let status = token.status.clone().unwrap_or_default();
    let created = token.metadata.creation_timestamp.as_ref();
    let kept = Kept {
        spec: &token.spec,
        status: &status,
        created: created.map_or(Timestamp::MIN, |created| created.0),
        certificate_begins: certificates(token).first().and_then(begins),
    };
    decide(&kept, record.map(|record| &record.spec), &join.ask, now)
}

/// Whether a token may still have an answer but no, as far as the watch shows.
fn may_serve(token: &JoinToken, now: Timestamp) -> bool {
    let state = token.status.as_ref().map(|status| status.state).unwrap_or_default();
    match state {
        TokenState::Dead | TokenState::Denied => false,
        TokenState::Used => true,
        TokenState::Unused | TokenState::Pending | TokenState::Approved => token.spec.expires_at.0 > now,
    }
}

/// What of a request does not depend on its token.
fn readable(request: &v1::JoinRequest) -> Result<CertificateRequest, JoinError> {
    let names = [("cluster_uid", &request.cluster_uid), ("release", &request.release)];
    for (field, text) in names {
        if text.len() > limits::NAME_MAX_BYTES {
            let (length, limit) = (text.len(), limits::NAME_MAX_BYTES);
            return Err(JoinError::Invalid(format!(
                "{field} has {length} bytes, at most {limit} are taken"
            )));
        }
    }
    if request.cluster_uid.is_empty() {
        let missing = "cluster_uid is empty: it must be the UID of the remote's kube-system namespace";
        return Err(JoinError::Invalid(missing.to_owned()));
    }
    CertificateRequest::check(&request.request).map_err(|error| JoinError::Invalid(error.to_string()))
}

fn pending(remote: &RemoteName) -> v1::Pending {
    v1::Pending {
        message: format!("the join waits for a person: on central, run `remote-istio-hub join approve {remote}`"),
        retry_milliseconds: RETRY_MILLISECONDS,
    }
}

/// The chain that the token was used for, leaf first; none if there is none or it cannot be read.
fn certificates(token: &JoinToken) -> Vec<CertificateDer<'static>> {
    let pem = token.status.as_ref().and_then(|status| status.certificate.as_deref());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.unwrap_or_default().as_bytes()).collect();
    chain.unwrap_or_default()
}

fn begins(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Timestamp::from_second(certificate.validity().not_before.timestamp()).ok()
}

/// The wall clock in whole seconds, as records hold them.
fn now() -> Timestamp {
    Timestamp::from_second(clock::unix_seconds()).unwrap_or(Timestamp::MIN)
}
