//! Why a connection was refused before any request: a closed set, for counters and logs.

use std::error::Error as _;
use std::io;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::{CertificateError, Error};

use super::link_error::tls_error;
use crate::identity::IdentityError;
use crate::tls::NotAdmitted;

/// Between two log lines of one reason: a scanner must not fill the log.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The client showed no certificate.
    NoCertificate,
    /// Another CA signed the certificate.
    UnknownCa,
    /// The certificate has ended.
    Expired,
    /// The certificate has not begun.
    NotYetValid,
    /// The certificate is not made for clients, or damaged, or of an unknown kind.
    UnusableCertificate,
    /// The certificate carries no URI.
    NoIdentity,
    /// The certificate carries more than one URI.
    SeveralIdentities,
    /// The URI is of another trust domain.
    ForeignTrustDomain,
    /// The URI's path is no identity.
    MalformedIdentity,
    /// The certificate was taken back.
    Revoked,
    /// Nobody of that name has joined.
    UnknownIdentity,
    /// As many connections of its source address are handled as may be at once.
    SourceFull,
    /// The client did not finish in time.
    Timeout,
    /// The client closed before it finished, as load balancers' probes do.
    Closed,
    /// The client does not speak TLS.
    NotTls,
    /// The client speaks no version or cipher that is spoken here.
    Incompatible,
    /// The client wants another protocol than HTTP/2, or named none.
    UnknownProtocol,
    /// The client refused this end's certificate.
    RefusedByPeer,
    /// Anything else that breaks TLS.
    Protocol,
}

impl Refusal {
    /// Every reason, so that a counter can be made for each beforehand.
    pub const ALL: [Self; 19] = [
        Self::NoCertificate,
        Self::UnknownCa,
        Self::Expired,
        Self::NotYetValid,
        Self::UnusableCertificate,
        Self::NoIdentity,
        Self::SeveralIdentities,
        Self::ForeignTrustDomain,
        Self::MalformedIdentity,
        Self::Revoked,
        Self::UnknownIdentity,
        Self::SourceFull,
        Self::Timeout,
        Self::Closed,
        Self::NotTls,
        Self::Incompatible,
        Self::UnknownProtocol,
        Self::RefusedByPeer,
        Self::Protocol,
    ];

    /// The word used in logs and as a metric's label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::UnknownCa => "unknown_ca",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::UnusableCertificate => "unusable_certificate",
            Self::NoIdentity => "no_identity",
            Self::SeveralIdentities => "several_identities",
            Self::ForeignTrustDomain => "foreign_trust_domain",
            Self::MalformedIdentity => "malformed_identity",
            Self::Revoked => "revoked",
            Self::UnknownIdentity => "unknown_identity",
            Self::SourceFull => "source_full",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::NotTls => "not_tls",
            Self::Incompatible => "incompatible",
            Self::UnknownProtocol => "unknown_protocol",
            Self::RefusedByPeer => "refused_by_peer",
            Self::Protocol => "protocol",
        }
    }

    pub(super) fn from_io(error: &io::Error) -> Self {
        tls_error(error).map_or(Self::Closed, Self::from_tls)
    }

    fn from_tls(error: &Error) -> Self {
        match error {
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidCertificate(problem) => Self::from_certificate(problem),
            Error::NoApplicationProtocol => Self::UnknownProtocol,
            Error::PeerIncompatible(_) => Self::Incompatible,
            Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => Self::NotTls,
            Error::AlertReceived(_) => Self::RefusedByPeer,
            _ => Self::Protocol,
        }
    }

    fn from_certificate(problem: &CertificateError) -> Self {
        match problem {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownCa,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::Revoked => Self::Revoked,
            CertificateError::ApplicationVerificationFailure => Self::UnknownIdentity,
            CertificateError::Other(other) => other
                .0
                .downcast_ref()
                .map_or(Self::UnusableCertificate, Self::from_identity),
            _ => Self::UnusableCertificate,
        }
    }

    pub(super) fn from_identity(error: &IdentityError) -> Self {
        match error {
            IdentityError::UriCount(0, _) => Self::NoIdentity,
            IdentityError::UriCount(..) => Self::SeveralIdentities,
            IdentityError::TrustDomain { .. } => Self::ForeignTrustDomain,
            IdentityError::Path(_) => Self::MalformedIdentity,
            IdentityError::Unreadable(_) => Self::UnusableCertificate,
        }
    }
}

impl From<NotAdmitted> for Refusal {
    fn from(reason: NotAdmitted) -> Self {
        match reason {
            NotAdmitted::Revoked => Self::Revoked,
            NotAdmitted::Unknown => Self::UnknownIdentity,
            NotAdmitted::AnotherCa => Self::UnknownCa,
        }
    }
}

/// What an I/O error of a handshake says, with the identity's own words where there are any.
pub(super) fn describe(error: &io::Error) -> String {
    match tls_error(error) {
        Some(Error::InvalidCertificate(CertificateError::Other(other))) => {
            other.source().map_or_else(|| error.to_string(), ToString::to_string)
        }
        _ => error.to_string(),
    }
}

/// Lets one line in a while through and counts the others.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Throttle {
    last: Option<Instant>,
    held_back: u64,
}

impl Throttle {
    /// How many lines were held back since the last one, if one may be written now.
    pub(super) fn admit(&mut self, now: Instant) -> Option<u64> {
        if self
            .last
            .is_some_and(|last| now.saturating_duration_since(last) < LOG_INTERVAL)
        {
            self.held_back += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}

/// Writes refusals to the log, each reason at most once a second.
#[derive(Debug, Default)]
pub(super) struct RefusalLog {
    by_reason: Mutex<[Throttle; Refusal::ALL.len()]>,
}

impl RefusalLog {
    pub(super) fn write(&self, refusal: Refusal, peer: &str, detail: &str, now: Instant) {
        let Some(held_back) = self.by_reason.lock()[refusal as usize].admit(now) else {
            return;
        };
        tracing::info!(reason = refusal.as_str(), %peer, %detail, held_back, "connection refused");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_holds_each_reason_at_its_place() {
        for (place, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, place);
        }
    }

    #[test]
    fn throttle_admits_one_line_in_its_interval_and_counts_the_rest() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        assert_eq!(throttle.admit(start), Some(0));
        assert_eq!(throttle.admit(start + Duration::from_millis(10)), None);
        assert_eq!(throttle.admit(start + Duration::from_millis(999)), None);
        assert_eq!(throttle.admit(start + LOG_INTERVAL), Some(2));
        assert_eq!(throttle.admit(start + LOG_INTERVAL * 3), Some(0));
    }
}
