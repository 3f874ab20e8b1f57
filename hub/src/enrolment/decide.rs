//! What becomes of a join, from what is kept of the token and of the name. Pure: the edge reads, writes and asks again
//! after each write, so that a crash between two of them leaves something the same token and key go on from.

#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use remote_istio::enrolment::Pin;
use remote_istio::limits;

use crate::crd::{Approval, JoinTokenSpec, JoinTokenStatus, RemoteIdentitySpec, TokenClaim, TokenState};

/// So far may the clocks of two hub replicas be apart: a certificate that one renewed must still be older than a join
/// that another takes afterwards. A join anew is backdated so much less than a renewal.
const REPLICAS_APART: SignedDuration = SignedDuration::from_mins(4);

/// A token as it is kept, without what the decision does not need.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept<'a> {
    pub(super) spec: &'a JoinTokenSpec,
    pub(super) status: &'a JoinTokenStatus,
    pub(super) created: Timestamp,
    /// When the certificate in the status began; nothing if there is none or it cannot be read.
    pub(super) certificate_begins: Option<Timestamp>,
}

/// Who asks. The secret of the token was found right before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'a> {
    pub(super) key: Pin,
    pub(super) cluster_uid: &'a str,
    pub(super) address: &'a str,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Decision {
    /// The token is worth nothing.
    Refuse(Refusal),
    /// The token was used and somebody came again: write that it is worth nothing from now on, and refuse.
    Kill(JoinTokenStatus),
    /// A person said no.
    Denied,
    /// Another cluster bears the name.
    NameTaken,
    /// A person must approve; the status is to be written first, where there is one.
    Wait(Option<JoinTokenStatus>),
    /// Sign a certificate that begins then, write that the token is [used], and ask again.
    Issue { begins: Timestamp },
    /// Answer with the certificate that is kept, after the name is bound, where it is not yet.
    Answer { bind: Option<RemoteIdentitySpec> },
}

/// Why a token is worth nothing. The other end is told no more than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It holds no token, or one nobody made, or one that was taken back.
    Unknown,
    /// The id is known, the secret is another.
    WrongSecret,
    /// Too late.
    Expired,
    /// Used, and a later join took the name.
    Used,
    /// Found worth nothing before.
    Dead,
    /// The name was revoked after the token was made.
    Revoked,
    /// The token is for another cluster.
    OtherCluster,
}

impl Refusal {
    /// For logs and metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown_token",
            Self::WrongSecret => "wrong_secret",
            Self::Expired => "expired",
            Self::Used => "used",
            Self::Dead => "dead",
            Self::Revoked => "revoked",
            Self::OtherCluster => "other_cluster",
        }
    }
}

/// Decides.
pub(super) fn decide(token: &Kept<'_>, record: Option<&RemoteIdentitySpec>, ask: &Ask<'_>, now: Timestamp) -> Decision {
    let is_claimed_by_another = token.status.claim.as_ref().is_some_and(|claim| !ask.is(claim));
    match token.status.state {
        TokenState::Dead => Decision::Refuse(Refusal::Dead),
        TokenState::Denied => Decision::Denied,
        TokenState::Used => again(token, record, ask, now),
        TokenState::Pending | TokenState::Approved if is_claimed_by_another => Decision::Kill(killed(token.status)),
        state => match obstacle(token, record, ask, now) {
            Some(obstacle) => obstacle,
            None => match (state, token.spec.approval) {
                (TokenState::Pending, _) => Decision::Wait(None),
                (TokenState::Unused, Approval::Manual) => Decision::Wait(Some(JoinTokenStatus {
                    state: TokenState::Pending,
                    claim: Some(ask.claim()),
                    ..JoinTokenStatus::default()
                })),
                _ => issue(record, now),
            },
        },
    }
}

/// The status of a token that was used now for this certificate, PEM.
pub(super) fn used(ask: &Ask<'_>, certificate: String, now: Timestamp) -> JoinTokenStatus {
    JoinTokenStatus {
        state: TokenState::Used,
        claim: Some(ask.claim()),
        used_at: Some(Time(now)),
        certificate: Some(certificate),
    }
}

impl Ask<'_> {
    fn is(&self, claim: &TokenClaim) -> bool {
        claim.key == self.key.to_string() && claim.cluster_uid == self.cluster_uid
    }

    fn claim(&self) -> TokenClaim {
        TokenClaim {
            key: self.key.to_string(),
            cluster_uid: self.cluster_uid.to_owned(),
            address: self.address.to_owned(),
        }
    }
}

/// A used token: its user may have lost the answer, or the hub may have crashed before the name was bound.
fn again(token: &Kept<'_>, record: Option<&RemoteIdentitySpec>, ask: &Ask<'_>, now: Timestamp) -> Decision {
    let is_user = token.status.claim.as_ref().is_some_and(|claim| ask.is(claim));
    let used_at = token.status.used_at.as_ref().map(|at| at.0);
    let is_kept = used_at.is_some_and(|at| now.duration_since(at) < signed(limits::ANSWER_KEPT));
    let (true, true, Some(begins)) = (is_user, is_kept, token.certificate_begins) else {
        return Decision::Kill(killed(token.status));
    };
    if is_barred(token, record) {
        return Decision::Refuse(Refusal::Revoked);
    }
    if is_taken(record, ask) {
        return Decision::NameTaken;
    }
    match record.map(|record| record.not_before.0) {
        // A join of another key took the very same moment: one second later, so that only one of the two counts.
        Some(bound) if bound == begins && is_of_another_key(record, ask) => issue(record, now),
        Some(bound) if bound == begins => Decision::Answer { bind: None },
        Some(bound) if bound > begins => Decision::Refuse(Refusal::Used),
        _ => Decision::Answer {
            bind: Some(RemoteIdentitySpec {
                cluster_uid: ask.cluster_uid.to_owned(),
                joined_at: Time(now),
                key: ask.key.to_string(),
                not_before: Time(begins),
                released: false,
                revoked: None,
            }),
        },
    }
}

/// What stands in the way of a token that was not used yet.
fn obstacle(token: &Kept<'_>, record: Option<&RemoteIdentitySpec>, ask: &Ask<'_>, now: Timestamp) -> Option<Decision> {
    let expected = token.spec.cluster_uid.as_deref();
    if token.spec.expires_at.0 <= now {
        Some(Decision::Refuse(Refusal::Expired))
    } else if expected.is_some_and(|expected| expected != ask.cluster_uid) {
        Some(Decision::Refuse(Refusal::OtherCluster))
    } else if is_barred(token, record) {
        Some(Decision::Refuse(Refusal::Revoked))
    } else if is_taken(record, ask) {
        Some(Decision::NameTaken)
    } else {
        None
    }
}

/// Whether the name was revoked since the token was made. Both times are whole seconds.
fn is_barred(token: &Kept<'_>, record: Option<&RemoteIdentitySpec>) -> bool {
    let revoked = record.and_then(|record| record.revoked.as_ref());
    revoked.is_some_and(|revoked| revoked.at.0.as_second() > token.created.as_second())
}

/// Whether another cluster bears the name and nobody let it go.
fn is_taken(record: Option<&RemoteIdentitySpec>, ask: &Ask<'_>) -> bool {
    record.is_some_and(|record| {
        let is_bound = !record.released && record.revoked.is_none() && !record.cluster_uid.is_empty();
        is_bound && record.cluster_uid != ask.cluster_uid
    })
}

/// Whether the name was bound by another key than the one that asks.
fn is_of_another_key(record: Option<&RemoteIdentitySpec>, ask: &Ask<'_>) -> bool {
    record.is_some_and(|record| !record.key.is_empty() && record.key != ask.key.to_string())
}

/// A certificate that begins later than all that were signed for the name before.
fn issue(record: Option<&RemoteIdentitySpec>, now: Timestamp) -> Decision {
    let backdated = signed(limits::BACKDATED);
    let begins = match record {
        None => before(now, backdated),
        Some(record) => {
            let after_the_last = record.not_before.0.as_second().saturating_add(1);
            let after_the_last = Timestamp::from_second(after_the_last).unwrap_or(Timestamp::MAX);
            before(now, backdated - REPLICAS_APART).max(after_the_last)
        }
    };
    Decision::Issue { begins }
}

fn before(now: Timestamp, duration: SignedDuration) -> Timestamp {
    let second = now.as_second().saturating_sub(duration.as_secs());
    Timestamp::from_second(second).unwrap_or(Timestamp::MIN)
}

/// The certificate is public and goes, for nobody will ask for it again; who came first stays for people to see.
fn killed(status: &JoinTokenStatus) -> JoinTokenStatus {
    JoinTokenStatus {
        state: TokenState::Dead,
        certificate: None,
        ..status.clone()
    }
}

fn signed(duration: std::time::Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
