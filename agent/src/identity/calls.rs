//! The requests for certificates: join and recover on the enrolment port, renew beside the session.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use remote_istio::enrolment::{Pin, Token, Trust};
use remote_istio::identity::DEFAULT_TRUST_DOMAIN;
use remote_istio::limits;
use remote_istio::transport::{ConnectError, EnrolmentConnector, EnrolmentTrust, HubAddress, Link, Way, open};
use remote_istio::wire::v1;
use remote_istio::wire::v1::enrolment_client::EnrolmentClient;
use remote_istio::wire::v1::identity_client::IdentityClient;
use remote_istio::wire::v1::join_response::Outcome;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::kept::{Certificate, Kept, Unusable};
use super::key::PrivateKey;
use super::pauses::Failure;

/// One request, connection included; longer than the hub's own deadline, so that the hub's words come through.
const DEADLINE: Duration = Duration::from_secs(15);

/// How the enrolment port is reached, and what is said there.
#[derive(Clone, Debug)]
pub struct Enroller {
    /// Where the hub takes joins.
    pub enrolments: Vec<HubAddress>,
    /// Of the hub's CA, from the join command.
    pub pins: Vec<Pin>,
    /// As given by a flag: what the hub says must agree.
    pub trust_domain: Option<String>,
    /// The file with the token.
    pub token_file: PathBuf,
    /// How the hub is reached.
    pub way: Way,
    /// UID of the remote's kube-system namespace.
    pub cluster_uid: String,
    /// The agent's release.
    pub release: String,
}

/// A certificate that was issued, checked as far as one can be on this side.
#[derive(Clone, Debug)]
pub struct Issued {
    pub certificate: Certificate,
    pub trust: Trust,
}

enum Call<'a> {
    Join(v1::JoinRequest),
    Recover {
        kept: &'a Kept,
        request: Vec<u8>,
        cluster_uid: String,
    },
}

enum Answer {
    Issued(v1::Issued),
    Pending(v1::Pending),
}

impl Enroller {
    /// Redeems a token for a certificate of this key. It is shown to no hub but one that the pins fit, whatever roots
    /// are kept: who joins anew may do so because one of those was stolen.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn join(&self, token: &Token, key: &PrivateKey) -> Result<Issued, Failure> {
        let call = Call::Join(v1::JoinRequest {
            token: token.reveal(),
            request: signing_request(key)?,
            cluster_uid: self.cluster_uid.clone(),
            release: self.release.clone(),
        });
        // Before the first answer nothing but a flag can say of which trust domain the hub is.
        let trust_domain = self.trust_domain.as_deref().unwrap_or(DEFAULT_TRUST_DOMAIN);
        let connector = self.connector(EnrolmentTrust::Pins(self.pins.clone()), trust_domain)?;
        let addresses: Vec<&HubAddress> = self.enrolments.iter().collect();
        joined(first_answer(&connector, &addresses, &call).await, key, trust_domain)
    }

    /// Asks for a certificate of this key, for the proof that the ended certificate's key is still here.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn recover(&self, kept: &Kept, key: &PrivateKey) -> Result<Issued, Failure> {
        let trust_domain = &kept.trust.trust_domain;
        let (connector, addresses) = self.by_kept(kept)?;
        let call = Call::Recover {
            kept,
            request: signing_request(key)?,
            cluster_uid: self.cluster_uid.clone(),
        };
        match first_answer(&connector, &addresses, &call).await? {
            Answer::Issued(issued) => {
                read_issued(issued, key, trust_domain).and_then(|issued| same_remote(issued, kept))
            }
            Answer::Pending(_) => Err(Failure::Unusable("it says that a recovery must be approved".to_owned())),
        }
    }

    /// The hub as the kept trust knows it, with the addresses of flags as a last resort.
    fn by_kept<'a>(&'a self, kept: &'a Kept) -> Result<(EnrolmentConnector, Vec<&'a HubAddress>), Failure> {
        let roots = EnrolmentTrust::Roots(kept.trust.roots.clone());
        let connector = self.connector(roots, &kept.trust.trust_domain)?;
        let known = &kept.trust.enrolments;
        let flags = self.enrolments.iter().filter(|address| !known.contains(address));
        Ok((connector, known.iter().chain(flags).collect()))
    }

    fn connector(&self, trust: EnrolmentTrust, trust_domain: &str) -> Result<EnrolmentConnector, Failure> {
        EnrolmentConnector::new(trust, trust_domain, self.way.clone()).map_err(|error| Failure::Own(error.to_string()))
    }
}

/// Asks for the next certificate over the connection of the session that stands.
///
/// # Errors
/// Why there is none.
pub async fn renew(channel: Channel, kept: &Kept, key: &PrivateKey) -> Result<Issued, Failure> {
    let mut client = IdentityClient::new(channel)
        .max_decoding_message_size(limits::ENROLMENT_MESSAGE_BYTES)
        .max_encoding_message_size(limits::ENROLMENT_MESSAGE_BYTES);
    let request = v1::RenewRequest {
        request: signing_request(key)?,
    };
    let answer = timeout(DEADLINE, client.renew(request)).await;
    let answer = answer.map_err(|_| Failure::Unreachable("the hub did not answer in time".to_owned()))?;
    let issued = answer.map_err(|status| failure(&status))?.into_inner();
    read_issued(issued, key, &kept.trust.trust_domain).and_then(|issued| same_remote(issued, kept))
}

fn joined(answer: Result<Answer, Failure>, key: &PrivateKey, trust_domain: &str) -> Result<Issued, Failure> {
    match answer? {
        Answer::Issued(issued) => read_issued(issued, key, trust_domain),
        Answer::Pending(pending) => {
            let retry = Duration::from_millis(pending.retry_milliseconds.into());
            Err(Failure::Pending(limits::detail(pending.message), retry))
        }
    }
}

/// The first hub that answers counts, whatever it says.
async fn first_answer(
    connector: &EnrolmentConnector,
    addresses: &[&HubAddress],
    call: &Call<'_>,
) -> Result<Answer, Failure> {
    let mut troubles: Vec<String> = Vec::new();
    let mut untrusted = 0;
    for address in addresses {
        let asked = timeout(DEADLINE, ask(connector, address, call)).await;
        match asked.unwrap_or_else(|_| Err(Failure::Unreachable(format!("{address}: did not answer in time")))) {
            Err(Failure::Unreachable(trouble)) => troubles.push(trouble),
            Err(Failure::Untrusted(trouble)) => {
                untrusted += 1;
                troubles.push(trouble);
            }
            answer => return answer,
        }
    }
    let text = troubles.join("; ");
    Err(match troubles.len() {
        0 => Failure::Unreachable("no address of the hub's enrolment port is known, give --enrolment".to_owned()),
        all if all == untrusted => Failure::Untrusted(text),
        _ => Failure::Unreachable(text),
    })
}

async fn ask(connector: &EnrolmentConnector, address: &HubAddress, call: &Call<'_>) -> Result<Answer, Failure> {
    let unreachable = |error: &dyn std::fmt::Display| Failure::Unreachable(error.to_string());
    let stream = connector.connect(address).await.map_err(|error| match error {
        ConnectError::UnknownCa(_) => Failure::Untrusted(error.to_string()),
        error => unreachable(&error),
    })?;
    let link = open(stream, address).await.map_err(|error| unreachable(&error))?;
    let answer = send(&link, call).await;
    link.peer.cut();
    answer.map_err(|failed| match (failed, link.error.explain()) {
        (Failure::Unreachable(_), Some(cause)) => Failure::Unreachable(format!("{address}: {cause}")),
        (Failure::Unreachable(text), None) => Failure::Unreachable(format!("{address}: {text}")),
        (other, _) => other,
    })
}

async fn send(link: &Link, call: &Call<'_>) -> Result<Answer, Failure> {
    let mut client = EnrolmentClient::new(link.channel.clone())
        .max_decoding_message_size(limits::ENROLMENT_MESSAGE_BYTES)
        .max_encoding_message_size(limits::ENROLMENT_MESSAGE_BYTES);
    match call {
        Call::Join(request) => {
            let answer = client.join(request.clone()).await.map_err(|status| failure(&status))?;
            match answer.into_inner().outcome {
                Some(Outcome::Issued(issued)) => Ok(Answer::Issued(issued)),
                Some(Outcome::Pending(pending)) => Ok(Answer::Pending(pending)),
                None => Err(Failure::Unusable(
                    "it is empty; is the hub newer than this agent?".to_owned(),
                )),
            }
        }
        Call::Recover {
            kept,
            request,
            cluster_uid,
        } => {
            let proof = kept.key.proof(&link.exporter, request);
            let request = v1::RecoverRequest {
                chain: kept.certificate.chain.clone(),
                request: request.clone(),
                proof: proof.map_err(|error| Failure::Own(error.to_string()))?,
                cluster_uid: cluster_uid.clone(),
            };
            let answer = client.recover(request).await.map_err(|status| failure(&status))?;
            Ok(Answer::Issued(answer.into_inner()))
        }
    }
}

fn signing_request(key: &PrivateKey) -> Result<Vec<u8>, Failure> {
    key.request().map_err(|error| Failure::Own(error.to_string()))
}

/// What a refusal by the hub means for whoever asked.
fn failure(status: &Status) -> Failure {
    let text = limits::detail(status.message());
    match status.code() {
        Code::Unauthenticated
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::InvalidArgument
        | Code::AlreadyExists
        | Code::NotFound
        | Code::Unimplemented => Failure::Refused(text),
        Code::ResourceExhausted => Failure::Busy(text),
        code => Failure::Unreachable(format!("{text} ({code:?})")),
    }
}

fn read_issued(issued: v1::Issued, key: &PrivateKey, trust_domain: &str) -> Result<Issued, Failure> {
    let unusable = |text: &str| Failure::Unusable(text.to_owned());
    let trust = issued
        .trust
        .ok_or_else(|| unusable("it says nothing of whom to trust"))?;
    let trust = Trust::read(&trust).map_err(|error| Failure::Unusable(error.to_string()))?;
    if trust.trust_domain != trust_domain {
        let (theirs, ours) = (&trust.trust_domain, trust_domain);
        return Err(Failure::Unusable(format!(
            "its trust domain is {theirs:?}, not {ours:?}; see --trust-domain"
        )));
    }
    let certificate = Certificate::read(&issued.chain, trust_domain).map_err(|Unusable(why)| Failure::Unusable(why))?;
    if !key.fits(&certificate.chain[0]) {
        return Err(unusable("the certificate is of another key than the one that was sent"));
    }
    Ok(Issued { certificate, trust })
}

fn same_remote(issued: Issued, kept: &Kept) -> Result<Issued, Failure> {
    let (theirs, ours) = (&issued.certificate.remote, &kept.certificate.remote);
    if theirs == ours {
        return Ok(issued);
    }
    Err(Failure::Unusable(format!(
        "the certificate stands for {theirs}, not for {ours}"
    )))
}

impl Issued {
    /// As it is kept. `token`: the id of the token that it came by.
    #[must_use]
    pub fn with(self, key: Arc<PrivateKey>, token: Option<String>) -> Kept {
        Kept {
            key,
            trust: self.trust,
            certificate: self.certificate,
            received: Some(SystemTime::now()),
            token,
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
