//! A CA's certificate and its key.

use std::time::{Duration, SystemTime};

use rcgen::{Issuer, KeyPair, PublicKeyData as _};
use remote_istio::enrolment::Pin;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use zeroize::Zeroizing;

use super::entries::{Pair, chain};
use super::error::{CaError, CaProblem};
use crate::authority::certificate::{CertificateFacts, shown};

/// One who can sign. The PEM of its key is wiped from memory when this is dropped.
pub(super) struct Signer {
    chain: Vec<CertificateDer<'static>>,
    key_pem: Zeroizing<Vec<u8>>,
    issuer: Issuer<'static, KeyPair>,
    facts: CertificateFacts,
}

impl Signer {
    /// Reads the pair from its entries and judges it; its time only where `now` is given. Whether it leads to a root is
    /// another question.
    pub(super) fn read(pair: &Pair<'_>, now: Option<SystemTime>) -> Result<Self, CaError> {
        let wrong = |problem: CaProblem| problem.of(pair.certificate_entry);
        let chain = chain(pair.certificate, pair.certificate_entry)?;
        let facts = CertificateFacts::read(&chain[0]).ok_or_else(|| wrong(CaProblem::Unreadable(0)))?;
        judge(&facts).map_err(wrong)?;
        if let Some(now) = now {
            judge_time(&facts, now).map_err(wrong)?;
        }
        let wrong_key = |problem: CaProblem| problem.of(pair.key_entry);
        let key = read_key(pair.key).map_err(wrong_key)?;
        if Pin::of_key_info(&key.subject_public_key_info()) != facts.pin {
            return Err(wrong_key(CaProblem::KeyOfAnotherCertificate));
        }
        let issuer =
            Issuer::from_ca_cert_der(&chain[0], key).map_err(|error| wrong(CaProblem::Damaged(error.to_string())))?;
        Ok(Self {
            chain,
            key_pem: Zeroizing::new(pair.key.to_vec()),
            issuer,
            facts,
        })
    }

    /// The certificate first, then what stands above it in its entry.
    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(super) fn key_pem(&self) -> &[u8] {
        &self.key_pem
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    pub(super) fn pin(&self) -> Pin {
        self.facts.pin
    }

    /// As its name says it; of a made root the trust domain.
    pub(super) fn organization(&self) -> Option<&str> {
        self.facts.organization.as_deref()
    }

    /// The moment of its life that is nearest to `now`.
    pub(super) fn moment(&self, now: SystemTime) -> SystemTime {
        now.min(self.facts.not_after - Duration::from_secs(1))
            .max(self.facts.not_before)
    }

    pub(super) fn not_after(&self) -> SystemTime {
        self.facts.not_after
    }
}

fn judge(facts: &CertificateFacts) -> Result<(), CaProblem> {
    if !facts.may_sign {
        return Err(CaProblem::NotACa(facts.subject.clone()));
    }
    if !facts.has_plain_name {
        return Err(CaProblem::Name(facts.subject.clone()));
    }
    Ok(())
}

fn judge_time(facts: &CertificateFacts, now: SystemTime) -> Result<(), CaProblem> {
    if facts.not_after <= now {
        return Err(CaProblem::Ended {
            now: shown(now),
            until: shown(facts.not_after),
        });
    }
    if facts.not_before > now {
        return Err(CaProblem::NotYetValid {
            now: shown(now),
            from: shown(facts.not_before),
        });
    }
    Ok(())
}

fn read_key(text: &[u8]) -> Result<KeyPair, CaProblem> {
    let key = PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => CaProblem::NoKey,
        other => CaProblem::Damaged(other.to_string()),
    })?;
    KeyPair::try_from(&key).map_err(|error| CaProblem::KeyKind(error.to_string()))
}
