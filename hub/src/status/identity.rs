//! Who the remote is: its certificate, its revocation, and whether two agents claim to be it. Pure.

use super::conditions::{
    CERTIFICATE_VALID, DELETION_HELD, DELETION_UNCHECKED, IDENTITY_CONFLICT, READY, REVOKED, Verdict, last_known,
    stored, time,
};
use super::facts::Facts;
use crate::crd::{RemoteIstioStatus, Revocation};
use crate::events as event;
use crate::registry::Conflict;
use crate::report::CertificateReport;

/// Reason of a certificate that is valid and should have been renewed by now.
pub const RENEWAL_OVERDUE: &str = "RenewalOverdue";

/// Reason while two agents claim to be one remote.
pub const TWO_AGENTS: &str = "TwoAgents";

/// What the hub knows of the identity of one remote.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity<'a> {
    /// Its certificates do not count.
    pub revoked: Option<&'a Revocation>,
    /// Two agents lately wanted to be it.
    pub conflict: Option<&'a Conflict>,
    /// The certificate of its session, or of the last one here.
    pub certificate: Option<CertificateReport>,
}

impl CertificateReport {
    /// The next moment after `now_unix` at which time alone changes what is said of it, seconds since 1970.
    fn changes_at(self, now_unix: i64) -> Option<i64> {
        let moments = [self.not_before, self.overdue_at(), self.not_after];
        moments.into_iter().filter(|moment| *moment > now_unix).min()
    }
}

impl Identity<'_> {
    /// When time alone changes what is said of it, nanoseconds on the hub's monotonic clock. `now` and `now_unix`: the
    /// same moment on that clock and in seconds since 1970.
    #[must_use]
    pub fn changes_at(&self, now: u64, now_unix: i64) -> Option<u64> {
        let certificate = self.certificate.filter(|_| self.revoked.is_none());
        let certificate = certificate
            .and_then(|certificate| certificate.changes_at(now_unix))
            .map(|at| {
                let seconds = u64::try_from(at - now_unix).unwrap_or(0);
                now.saturating_add(seconds.saturating_mul(1_000_000_000))
            });
        let conflict = self.conflict.map(Conflict::ends_at);
        certificate.into_iter().chain(conflict).min()
    }
}

/// Why nothing of this remote is taken, and what helps.
#[must_use]
pub fn revocation(revoked: &Revocation, name: &str) -> String {
    let reason = if revoked.reason.is_empty() {
        String::new()
    } else {
        format!(" ({})", revoked.reason)
    };
    format!(
        "certificate revoked at {}{reason}; to let the remote back in: remote-istio-hub token create {name}, and join it again",
        revoked.at.0
    )
}

/// Whether the agent's certificate is good, and renewed in time. No message holds times that move with each renewal.
#[must_use]
pub fn certificate_valid(facts: &Facts<'_>, now_unix: i64) -> Verdict {
    if let Some(revoked) = facts.identity.revoked {
        return Verdict {
            is_failure: true,
            ..Verdict::fails(REVOKED, revocation(revoked, &facts.name()))
        };
    }
    let Some(certificate) = facts.identity.certificate else {
        return last_known(facts, CERTIFICATE_VALID, &["AllGood", RENEWAL_OVERDUE, "Expired"]);
    };
    let CertificateReport { not_before, not_after } = certificate;
    if now_unix < not_before {
        let message = format!(
            "the agent's certificate is not valid before {} by the clock of this hub: correct the clocks of central",
            time(not_before).0
        );
        return Verdict::fails("NotYetValid", message);
    }
    if now_unix >= not_after {
        let message = format!(
            "the agent's certificate ended at {}; an agent that joined by a token recovers when it returns, others need a new \
             certificate in their files",
            time(not_after).0
        );
        return Verdict::fails("Expired", message);
    }
    if now_unix >= certificate.overdue_at() {
        let message = format!(
            "the agent's certificate ends at {} and has not been renewed in time; look at the agent's log, or renew the \
             certificate in its files",
            time(not_after).0
        );
        return Verdict::holds(RENEWAL_OVERDUE, message);
    }
    let trust = facts
        .session
        .filter(|session| !session.trust_failure.is_empty())
        .map(|session| format!("; but it cannot keep the hub's new roots: {}", session.trust_failure));
    let message = format!("the agent's certificate is valid{}", trust.unwrap_or_default());
    Verdict::holds("AllGood", message)
}

/// Whether two agents claim to be this remote; nothing where that was never so.
#[must_use]
pub fn identity_conflict(facts: &Facts<'_>) -> Option<Verdict> {
    if let Some(Conflict { holder, challenger, .. }) = facts.identity.conflict {
        let message = format!(
            "two agents run with the identity of this remote: the one that counts is {holder}, refused is {challenger}; stop \
             one, or join it under a name of its own"
        );
        return Some(Verdict::holds(TWO_AGENTS, message));
    }
    stored(facts.previous(), IDENTITY_CONFLICT)?;
    Some(Verdict::fails("NoConflict", "one agent claims to be this remote"))
}

/// What a new status says that a person should be told by an event, for the first time since the one before.
#[must_use]
pub fn announcements<'a>(
    before: Option<&RemoteIstioStatus>,
    status: &'a RemoteIstioStatus,
) -> Vec<(event::Reason, &'a str)> {
    let is = |status: Option<&RemoteIstioStatus>, kind: &str, reason: &str| {
        stored(status, kind).is_some_and(|condition| condition.reason == reason)
    };
    let announced = [
        (CERTIFICATE_VALID, RENEWAL_OVERDUE, event::Reason::RenewalOverdue),
        (IDENTITY_CONFLICT, TWO_AGENTS, event::Reason::IdentityConflict),
        (READY, DELETION_HELD, event::Reason::DeletionHeld),
        (READY, DELETION_UNCHECKED, event::Reason::DeletionHeld),
    ];
    announced
        .into_iter()
        .filter(|(kind, reason, _)| is(Some(status), kind, reason) && !is(before, kind, reason))
        .filter_map(|(kind, _, event)| Some((event, stored(Some(status), kind)?.message.as_str())))
        .collect()
}

#[cfg(test)]
mod tests;
