//! Signing: what a certificate of the link says is decided here and nowhere else.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
    SerialNumber,
};
use remote_istio::enrolment::{Pin, certificate_pem};
use remote_istio::identity::Identity;
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;

use super::LinkCa;
use super::entries::{CROSS, ROOTS, pin_of};
use super::error::{CaError, CaProblem};
use super::signer::Signer;
use super::{Origin, Rollover};
use crate::authority::certificate::{CertificateFacts, seconds_of, shown, verify_client};

/// What a certificate shall say.
#[derive(Clone, Copy, Debug)]
pub struct Leaf<'a> {
    /// Whom it stands for.
    pub identity: &'a Identity,
    /// DNS names and IP addresses; of hubs only.
    pub names: &'a [String],
    /// Of the identity.
    pub trust_domain: &'a str,
    /// When it begins; rounded up to a second.
    pub not_before: SystemTime,
    /// When it ends at the latest; rounded down to a second, and never beyond the CA's own end.
    pub not_after: SystemTime,
}

/// A certificate that was just signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// The certificate, then what stands between it and the roots.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its serial number, lower-case hex.
    pub serial: String,
    /// When it begins.
    pub not_before: SystemTime,
    /// When it ends.
    pub not_after: SystemTime,
    /// The CA that signed it.
    pub signer: Pin,
}

/// Why nothing was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The CA is at its end.
    #[error("the link CA ended at {0}: replace it")]
    CaEnded(String),
    /// Of who asked for the next one.
    #[error("the certificate is signed by another CA")]
    AnotherCa,
    /// It would end before it begins.
    #[error("the certificate would begin at {from} and end at {until}")]
    Period {
        /// Its beginning.
        from: String,
        /// Its end.
        until: String,
    },
    /// Signing failed.
    #[error("the certificate cannot be signed: {0}")]
    Signing(String),
}

impl IssuedCertificate {
    /// The chain in PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.chain.iter().map(|der| certificate_pem(der)).collect()
    }
}

impl From<rcgen::Error> for IssueError {
    fn from(error: rcgen::Error) -> Self {
        Self::Signing(error.to_string())
    }
}

impl LinkCa {
    /// Signs a certificate for a key.
    ///
    /// # Errors
    /// The CA has ended, the period is none, or signing fails.
    pub fn issue(&self, key: &impl PublicKeyData, leaf: &Leaf<'_>) -> Result<IssuedCertificate, IssueError> {
        let der = sign(&self.signer, key, leaf)?;
        let facts = CertificateFacts::read(&der).ok_or_else(|| IssueError::Signing("it cannot be read".to_owned()))?;
        let mut chain = vec![der];
        chain.extend(self.between(leaf.not_before));
        Ok(IssuedCertificate {
            chain,
            serial: facts.serial,
            not_before: facts.not_before,
            not_after: facts.not_after,
            signer: self.signer(),
        })
    }

    /// Makes sure that what it signs is verified by its roots, and that a rollover's parts belong together. Returns
    /// the pin of a root above the signer.
    pub(super) fn judge(&self, now: SystemTime) -> Result<Pin, CaError> {
        let below = |problem: String| CaProblem::NotBelowRoots(problem).of(ROOTS);
        let at = self.signer.moment(now);
        let probe = probe(&self.signer, at).map_err(|error| below(error.to_string()))?;
        let between = self.between(now);
        verify_client(&probe, &between, &self.roots, at).map_err(|error| below(error.to_string()))?;
        self.judge_cross(now)?;
        // Any chain from the signer to a root alone will do; the signer's own root is the nearest.
        let is_above = |root: &CertificateDer<'static>| {
            let root = std::slice::from_ref(root);
            verify_client(&probe, &between, root, at).is_ok()
        };
        let mut pins: Vec<Pin> = self
            .roots
            .iter()
            .filter(|root| is_above(root))
            .filter_map(|root| pin_of(root))
            .collect();
        pins.sort_by_key(|pin| *pin != self.signer());
        pins.first()
            .copied()
            .ok_or_else(|| below("no root is above it".to_owned()))
    }

    /// By the cross certificate, who trusts the old root alone must verify what the new one signs. It ends with the old
    /// root, and then serves nobody.
    fn judge_cross(&self, now: SystemTime) -> Result<(), CaError> {
        let (newer, cross) = match &self.origin {
            Origin::Made(Rollover::Begun { next, cross }) => (next, cross),
            Origin::Made(Rollover::Switched { cross }) => (&self.signer, cross),
            _ => return Ok(()),
        };
        if has_ended(cross, now) {
            return Ok(());
        }
        let wrong = |problem: String| CaProblem::NotBelowRoots(problem).of(CROSS);
        let now = newer.moment(now);
        let old: Vec<_> = self
            .roots
            .iter()
            .filter(|root| **root != newer.chain()[0])
            .cloned()
            .collect();
        let probe = probe(newer, now).map_err(|error| wrong(error.to_string()))?;
        verify_client(&probe, std::slice::from_ref(cross), &old, now).map_err(|error| wrong(error.to_string()))
    }
}

/// Not of one that cannot be read.
pub(super) fn has_ended(certificate: &CertificateDer<'_>, now: SystemTime) -> bool {
    CertificateFacts::read(certificate).is_some_and(|facts| facts.not_after <= now)
}

/// A certificate for nobody that is shown to nobody.
fn probe(signer: &Signer, now: SystemTime) -> Result<CertificateDer<'static>, IssueError> {
    let leaf = Leaf {
        identity: &Identity::Hub,
        names: &[],
        trust_domain: "probe.invalid",
        not_before: now - Duration::from_secs(1),
        not_after: now + Duration::from_secs(2),
    };
    sign(signer, signer.issuer().key(), &leaf)
}

fn sign(signer: &Signer, key: &impl PublicKeyData, leaf: &Leaf<'_>) -> Result<CertificateDer<'static>, IssueError> {
    let until = leaf.not_after.min(signer.not_after());
    let (begin, end) = (rounded_up(leaf.not_before), seconds_of(until));
    if begin >= end {
        return Err(if until < leaf.not_after {
            IssueError::CaEnded(shown(until))
        } else {
            IssueError::Period {
                from: shown(leaf.not_before),
                until: shown(until),
            }
        });
    }
    let mut params = CertificateParams::new(leaf.names)?;
    let uri = leaf.identity.uri(leaf.trust_domain);
    params.subject_alt_names.push(SanType::URI(uri.try_into()?));
    params.not_before = date(begin)?;
    params.not_after = date(end)?;
    params.serial_number = Some(serial()?);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name(leaf.identity));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages(leaf.identity);
    params.use_authority_key_identifier_extension = true;
    let issuer: &Issuer<'_, KeyPair> = signer.issuer();
    Ok(params.signed_by(key, issuer)?.into())
}

/// Hub replicas also dial each other.
fn usages(identity: &Identity) -> Vec<ExtendedKeyUsagePurpose> {
    match identity {
        Identity::Hub => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        Identity::Remote(_) | Identity::Operator(_) => vec![ExtendedKeyUsagePurpose::ClientAuth],
    }
}

/// For people; nothing reads it.
fn common_name(identity: &Identity) -> &str {
    match identity {
        Identity::Hub => "remote-istio-hub",
        Identity::Remote(name) => name.as_str(),
        Identity::Operator(name) => name,
    }
}

/// 128 random bits.
pub(crate) fn serial() -> Result<SerialNumber, IssueError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| IssueError::Signing("no random bytes".to_owned()))?;
    Ok(SerialNumber::from_slice(&bytes))
}

/// Seconds since 1970 as rcgen takes them.
pub(crate) fn date(seconds: u64) -> Result<OffsetDateTime, IssueError> {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|error| IssueError::Signing(error.to_string()))
}

/// Whole seconds since 1970, not before the time.
pub(crate) fn rounded_up(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() + u64::from(since.subsec_nanos() > 0)
}
