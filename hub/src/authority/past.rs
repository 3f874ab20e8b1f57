//! A certificate that has ended: it is worth nothing on the link, but its key may fetch a new one for a while. Pure.

use std::time::{Duration, SystemTime};

use remote_istio::identity::{self, Identity, IdentityError};
use remote_istio::limits;
use rustls::CertificateError;
use rustls::pki_types::CertificateDer;

use super::certificate::{CertificateFacts, shown, verify_client};

/// A certificate of the link that was good until its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastCertificate {
    /// Whom it stood for.
    pub identity: Identity,
    /// When it began.
    pub not_before: SystemTime,
    /// When it ended, or will end.
    pub not_after: SystemTime,
    /// The certificate itself.
    pub leaf: CertificateDer<'static>,
}

/// Why a certificate opens no way back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PastError {
    /// None was given, or more than any chain has.
    #[error("the chain has {0} certificates, it must have 1 to {max}", max = limits::CHAIN_MAX)]
    Count(usize),
    /// One that is no certificate, or too large to be one.
    #[error("number {0} of the chain is no certificate")]
    Unreadable(usize),
    /// No root above it is trusted here, or no longer.
    #[error("the certificate is signed by another CA")]
    AnotherCa,
    /// Its clock or ours is wrong.
    #[error("the certificate is not valid yet: it begins at {from}, and this hub's clock says {now}")]
    NotYetValid {
        /// Its beginning.
        from: String,
        /// The hub's time.
        now: String,
    },
    /// It has ended too long ago.
    #[error("the certificate ended at {ended}, which is more than {} ago: join anew with a token", days(*.grace))]
    TooOld {
        /// Its end.
        ended: String,
        /// How long recovery is possible.
        grace: Duration,
    },
    /// It stands for nobody here.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Anything else that is wrong with the chain, in the TLS stack's words.
    #[error("the certificate cannot be used: {0}")]
    Unusable(String),
}

fn days(grace: Duration) -> String {
    let seconds = grace.as_secs();
    match seconds / 86_400 {
        0 => format!("{seconds} seconds"),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

/// Judges a chain (DER, leaf first) as it was when its leaf ended, or as it is now while that has not ended. It may
/// have ended no longer than `grace` ago.
///
/// # Errors
/// It would not have been taken then, or it ended too long ago.
pub fn verify_past(
    chain: &[impl AsRef<[u8]>],
    roots: &[CertificateDer<'static>],
    trust_domain: &str,
    now: SystemTime,
    grace: Duration,
) -> Result<PastCertificate, PastError> {
    if !(1..=limits::CHAIN_MAX).contains(&chain.len()) {
        return Err(PastError::Count(chain.len()));
    }
    let mut certificates = Vec::with_capacity(chain.len());
    for (number, der) in chain.iter().enumerate() {
        let der = der.as_ref();
        if der.len() > limits::CERTIFICATE_MAX_BYTES {
            return Err(PastError::Unreadable(number));
        }
        certificates.push(CertificateDer::from(der));
    }
    let leaf = &certificates[0];
    let facts = CertificateFacts::read(leaf).ok_or(PastError::Unreadable(0))?;
    verify_client(leaf, &certificates[1..], roots, now.min(facts.not_after))
        .map_err(|error| refused(error, &facts, now))?;
    let identity = identity::from_certificate(leaf, trust_domain)?;
    if now.duration_since(facts.not_after).is_ok_and(|since| since > grace) {
        return Err(PastError::TooOld {
            ended: shown(facts.not_after),
            grace,
        });
    }
    Ok(PastCertificate {
        identity,
        not_before: facts.not_before,
        not_after: facts.not_after,
        leaf: leaf.clone().into_owned(),
    })
}

/// Whether a chain led to one of the roots while its leaf was valid: now, or when that ended.
pub(super) fn leads_to(chain: &[CertificateDer<'_>], roots: &[CertificateDer<'static>], now: SystemTime) -> bool {
    let Some((leaf, above)) = chain.split_first() else {
        return false;
    };
    let facts = CertificateFacts::read(leaf);
    facts.is_some_and(|facts| {
        let at = now.max(facts.not_before).min(facts.not_after);
        verify_client(leaf, above, roots, at).is_ok()
    })
}

fn refused(error: rustls::Error, facts: &CertificateFacts, now: SystemTime) -> PastError {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            PastError::AnotherCa
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => PastError::NotYetValid {
            from: shown(facts.not_before),
            now: shown(now),
        },
        other => PastError::Unusable(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
