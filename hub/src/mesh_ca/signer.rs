//! Central's mesh CA as Istio keeps it: who signs, what stands above, and whether it may sign the CA of a remote. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use rcgen::{Issuer, KeyPair, PublicKeyData as _};
use remote_istio::enrolment::Pin;
use remote_istio::limits;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use zeroize::{Zeroize as _, Zeroizing};

use super::path::Path;
use super::problem::MeshCaProblem;
use crate::authority::certificate::{CertificateFacts, certificates, shown};

/// The certificate that signs.
const CERTIFICATE: &str = "ca-cert.pem";
/// Its key.
const KEY: &str = "ca-key.pem";
/// Whom the mesh trusts; the self-signed CA of `istio-ca-secret` has none.
const ROOTS: &str = "root-cert.pem";
/// The certificate and what stands between it and the root.
const CHAIN: &str = "cert-chain.pem";

/// The entries of a Secret.
pub(super) type Data = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// A CA that may sign the CAs of remotes.
pub(super) struct MeshSigner {
    pub(super) path: Path,
    pub(super) roots: Vec<CertificateDer<'static>>,
    pub(super) pin: Pin,
    /// From when on, and until when, all from the signer up to the root are valid.
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
    issuer: Issuer<'static, KeyPair>,
}

/// Never the key.
impl fmt::Debug for MeshSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshSigner")
            .field("pin", &self.pin)
            .finish_non_exhaustive()
    }
}

impl MeshSigner {
    /// Reads and judges the CA of a Secret; nothing if none of its entries is there.
    ///
    /// # Errors
    /// An entry is missing or damaged, the entries do not fit each other, or the CA may not sign the CA of a remote now.
    pub(super) fn read(data: &Data, now: SystemTime) -> Result<Option<Self>, MeshCaProblem> {
        let entries = Entries(data);
        if entries.is_empty() {
            return Ok(None);
        }
        let mut found = entries
            .certificates(CERTIFICATE)?
            .ok_or(MeshCaProblem::Missing(CERTIFICATE))?;
        let mut above = found.split_off(1);
        let certificate = found.swap_remove(0);
        above.extend(entries.certificates(CHAIN)?.unwrap_or_default());
        let key = read_key(entries.get(KEY).ok_or(MeshCaProblem::Missing(KEY))?)?;
        let roots = match entries.certificates(ROOTS)? {
            Some(roots) => roots,
            None if is_self_signed(&certificate) => vec![certificate.clone()],
            None => return Err(MeshCaProblem::Missing(ROOTS)),
        };
        let path = Path::find(certificate, &above, &roots)?;
        let signer = Self::judged(path, key, roots, now)?;
        signer.probe(now)?;
        Ok(Some(signer))
    }

    fn judged(
        path: Path,
        key: KeyPair,
        mut roots: Vec<CertificateDer<'static>>,
        now: SystemTime,
    ) -> Result<Self, MeshCaProblem> {
        let facts = path.facts()?;
        if Pin::of_key_info(&key.subject_public_key_info()) != facts[0].pin {
            return Err(MeshCaProblem::KeyOfAnotherCertificate);
        }
        if !facts[0].has_plain_name {
            return Err(MeshCaProblem::Name(facts[0].subject.clone()));
        }
        for (below, facts) in facts.iter().enumerate() {
            judge(facts, u32::try_from(below + 1).unwrap_or(u32::MAX), now)?;
        }
        // The root that vouches for the signer is the first that is handed out.
        roots.retain(|root| *root != path.root);
        roots.insert(0, path.root.clone());
        roots.dedup();
        let issuer = Issuer::from_ca_cert_der(path.signer(), key)
            .map_err(|error| MeshCaProblem::Unreadable(CERTIFICATE, error.to_string()))?;
        let begins = facts.iter().map(|facts| facts.not_before).max();
        let ends = facts.iter().map(|facts| facts.not_after).min();
        Ok(Self {
            pin: facts[0].pin,
            not_before: begins.unwrap_or(now),
            not_after: ends.unwrap_or(now),
            path,
            roots,
            issuer,
        })
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// Pins of all from the signer up to the root, with their names.
    pub(super) fn keys(&self) -> Vec<(Pin, String)> {
        let facts = self.path.facts().unwrap_or_default();
        facts.into_iter().map(|facts| (facts.pin, facts.subject)).collect()
    }

    /// Whether it signs the same and is trusted by the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.path == other.path && self.roots == other.roots
    }
}

fn judge(facts: &CertificateFacts, needed: u32, now: SystemTime) -> Result<(), MeshCaProblem> {
    let subject = facts.subject.clone();
    if !facts.may_sign {
        return Err(MeshCaProblem::NotACa(subject));
    }
    if let Some(length) = facts.path_length.filter(|length| *length < needed) {
        return Err(MeshCaProblem::PathLength {
            subject,
            length,
            needed,
        });
    }
    if facts.not_after <= now {
        let (now, until) = (shown(now), shown(facts.not_after));
        return Err(MeshCaProblem::Ended { subject, now, until });
    }
    if facts.not_before > now + Duration::from_secs(1) {
        let (now, from) = (shown(now), shown(facts.not_before));
        return Err(MeshCaProblem::NotYetValid { subject, now, from });
    }
    Ok(())
}

fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    super::path::is_issuer(certificate, certificate)
}

/// PKCS#1, SEC1 or PKCS#8: Istio 1.0 writes the first.
fn read_key(text: &[u8]) -> Result<KeyPair, MeshCaProblem> {
    let wrong = |problem: String| MeshCaProblem::Unreadable(KEY, problem);
    let mut key = PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            wrong("no unencrypted private key in PEM (-----BEGIN ...PRIVATE KEY-----)".to_owned())
        }
        other => wrong(other.to_string()),
    })?;
    let pair = KeyPair::try_from(&key).map_err(|error| wrong(format!("{error}; make an RSA or ECDSA key")));
    key.zeroize();
    pair
}

struct Entries<'a>(&'a Data);

impl<'a> Entries<'a> {
    /// Blank counts as missing.
    fn get(&self, entry: &str) -> Option<&'a [u8]> {
        let value = self.0.get(entry)?;
        (!value.iter().all(u8::is_ascii_whitespace)).then_some(value.as_slice())
    }

    fn is_empty(&self) -> bool {
        [CERTIFICATE, KEY, ROOTS, CHAIN]
            .iter()
            .all(|entry| self.get(entry).is_none())
    }

    fn certificates(&self, entry: &'static str) -> Result<Option<Vec<CertificateDer<'static>>>, MeshCaProblem> {
        let Some(text) = self.get(entry) else { return Ok(None) };
        let wrong = |problem: String| MeshCaProblem::Unreadable(entry, problem);
        let found = certificates(text).map_err(|error| wrong(error.to_string()))?;
        if found.is_empty() {
            return Err(wrong("no certificate in PEM (-----BEGIN CERTIFICATE-----)".to_owned()));
        }
        if found.len() > limits::CHAIN_MAX {
            return Err(wrong(format!(
                "{} certificates, at most {} are taken",
                found.len(),
                limits::CHAIN_MAX
            )));
        }
        if found.iter().any(|der| der.len() > limits::CERTIFICATE_MAX_BYTES) {
            return Err(wrong(format!(
                "a certificate of more than {} bytes",
                limits::CERTIFICATE_MAX_BYTES
            )));
        }
        Ok(Some(found))
    }
}
