//! Between a CA and the entries of its Secret.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use remote_istio::enrolment::{Pin, certificate_pem};
use remote_istio::limits;
use rustls::pki_types::CertificateDer;

use super::error::{CaError, CaProblem};
use super::signer::Signer;
use super::{LinkCa, Origin, Rollover};
use crate::authority::certificate::{CertificateFacts, certificates, seconds_of};

/// The certificate that signs and what stands above it, as cert-manager writes it.
pub(super) const CERTIFICATE: &str = "tls.crt";
/// Its key.
pub(super) const KEY: &str = "tls.key";
/// All trusted roots.
pub(super) const ROOTS: &str = "ca.crt";
/// Of made CAs only: the number of the roots' changes, from 1.
pub(super) const EPOCH: &str = "epoch";
/// Between begin and switch: the root that will sign.
pub(super) const NEXT_CERTIFICATE: &str = "next.crt";
/// Its key.
pub(super) const NEXT_KEY: &str = "next.key";
/// Between begin and drop: the new root's key, signed by the old root.
pub(super) const CROSS: &str = "cross.crt";

/// Entries of one certificate and its key.
pub(super) struct Pair<'a> {
    pub(super) certificate_entry: &'static str,
    pub(super) certificate: &'a [u8],
    pub(super) key_entry: &'static str,
    pub(super) key: &'a [u8],
}

impl LinkCa {
    /// Reads a CA from the data of its Secret: one that [`Self::to_secret`] gave, or cert-manager's shape (`tls.crt`,
    /// `tls.key`, `ca.crt`). Nothing if the Secret is empty.
    ///
    /// # Errors
    /// An entry is missing, damaged, no CA's, ended, or does not fit the others.
    pub fn from_secret(data: &BTreeMap<String, Vec<u8>>, now: SystemTime) -> Result<Option<Self>, CaError> {
        Self::read(data, now, Some(now))
    }

    /// The same of a CA that may have ended, or not begun: to show it, and to replace it.
    ///
    /// # Errors
    /// An entry is missing, damaged, no CA's, or does not fit the others.
    pub fn from_secret_of_any_time(data: &BTreeMap<String, Vec<u8>>, now: SystemTime) -> Result<Option<Self>, CaError> {
        Self::read(data, now, None)
    }

    /// `judged`: when the signers must be valid, if they must.
    fn read(
        data: &BTreeMap<String, Vec<u8>>,
        now: SystemTime,
        judged: Option<SystemTime>,
    ) -> Result<Option<Self>, CaError> {
        let entries = Entries(data);
        if entries.is_empty() {
            return Ok(None);
        }
        let signer = Arc::new(Signer::read(&entries.pair(CERTIFICATE, KEY)?, judged)?);
        let roots = roots(entries.required(ROOTS)?)?;
        let (origin, epoch) = match entries.epoch()? {
            Some(epoch) => (Origin::Made(entries.rollover(&roots, judged)?), epoch),
            None => (Origin::Brought, newest_beginning(&roots)),
        };
        let mut ca = Self {
            pin: signer.pin(),
            signer,
            roots,
            epoch,
            origin,
        };
        ca.pin = ca.judge(now)?;
        Ok(Some(ca))
    }

    /// The whole data of its Secret: an entry that is not in it must go.
    #[must_use]
    pub fn to_secret(&self) -> BTreeMap<String, Vec<u8>> {
        let mut entries = vec![
            (CERTIFICATE, pem(self.signer.chain())),
            (KEY, self.signer.key_pem().to_vec()),
            (ROOTS, pem(&self.roots)),
        ];
        if let Origin::Made(rollover) = &self.origin {
            entries.push((EPOCH, self.epoch.to_string().into_bytes()));
            if let Rollover::Begun { next, .. } = rollover {
                entries.push((NEXT_CERTIFICATE, pem(next.chain())));
                entries.push((NEXT_KEY, next.key_pem().to_vec()));
            }
        }
        if let Some(cross) = self.cross() {
            entries.push((CROSS, pem(std::slice::from_ref(cross))));
        }
        let owned = entries.into_iter();
        owned.map(|(entry, value)| (entry.to_owned(), value)).collect()
    }
}

struct Entries<'a>(&'a BTreeMap<String, Vec<u8>>);

impl<'a> Entries<'a> {
    /// Blank counts as missing.
    fn get(&self, entry: &str) -> Option<&'a [u8]> {
        let value = self.0.get(entry)?;
        (!value.iter().all(u8::is_ascii_whitespace)).then_some(value.as_slice())
    }

    fn required(&self, entry: &'static str) -> Result<&'a [u8], CaError> {
        self.get(entry).ok_or_else(|| CaProblem::Missing.of(entry))
    }

    /// None of ours is there; what else somebody keeps in it does not count.
    fn is_empty(&self) -> bool {
        let all = [CERTIFICATE, KEY, ROOTS, EPOCH, NEXT_CERTIFICATE, NEXT_KEY, CROSS];
        all.iter().all(|entry| self.get(entry).is_none())
    }

    fn pair(&self, certificate_entry: &'static str, key_entry: &'static str) -> Result<Pair<'a>, CaError> {
        Ok(Pair {
            certificate_entry,
            certificate: self.required(certificate_entry)?,
            key_entry,
            key: self.required(key_entry)?,
        })
    }

    /// Nothing of a CA that was brought.
    fn epoch(&self) -> Result<Option<u64>, CaError> {
        let Some(text) = self.get(EPOCH) else {
            let is_ours = [NEXT_CERTIFICATE, NEXT_KEY, CROSS]
                .iter()
                .any(|entry| self.get(entry).is_some());
            return if is_ours {
                Err(CaProblem::Missing.of(EPOCH))
            } else {
                Ok(None)
            };
        };
        let number = std::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok());
        let counted = number.filter(|epoch| (1..=i64::MAX.unsigned_abs()).contains(epoch));
        counted.map(Some).ok_or_else(|| CaProblem::Epoch.of(EPOCH))
    }

    fn rollover(&self, roots: &[CertificateDer<'static>], judged: Option<SystemTime>) -> Result<Rollover, CaError> {
        let has_next = self.get(NEXT_CERTIFICATE).is_some() || self.get(NEXT_KEY).is_some();
        if !has_next && self.get(CROSS).is_none() {
            return Ok(Rollover::None);
        }
        let cross = chain(self.required(CROSS)?, CROSS)?.swap_remove(0);
        if !has_next {
            return Ok(Rollover::Switched { cross });
        }
        let next = Signer::read(&self.pair(NEXT_CERTIFICATE, NEXT_KEY)?, judged)?;
        if !roots.contains(&next.chain()[0]) {
            return Err(CaProblem::Lacks(NEXT_CERTIFICATE).of(ROOTS));
        }
        Ok(Rollover::Begun {
            next: Arc::new(next),
            cross,
        })
    }
}

/// The certificates of an entry: at least one, each of a size that it may have.
pub(super) fn chain(text: &[u8], entry: &'static str) -> Result<Vec<CertificateDer<'static>>, CaError> {
    // The certificate that is issued comes on top.
    read(text, entry, limits::CHAIN_MAX - 1)
}

fn read(text: &[u8], entry: &'static str, most: usize) -> Result<Vec<CertificateDer<'static>>, CaError> {
    let found = certificates(text).map_err(|error| CaProblem::Damaged(error.to_string()).of(entry))?;
    if found.is_empty() {
        return Err(CaProblem::NoCertificate.of(entry));
    }
    if found.len() > most {
        return Err(CaProblem::TooMany(found.len(), most).of(entry));
    }
    match found.iter().position(|der| der.len() > limits::CERTIFICATE_MAX_BYTES) {
        Some(number) => Err(CaProblem::TooLarge(number).of(entry)),
        None => Ok(found),
    }
}

fn roots(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, CaError> {
    let mut roots = Vec::new();
    for (number, root) in read(text, ROOTS, limits::TRUST_ROOTS)?.into_iter().enumerate() {
        let facts = CertificateFacts::read(&root).ok_or_else(|| CaProblem::Unreadable(number).of(ROOTS))?;
        if !facts.may_sign {
            return Err(CaProblem::NotACa(facts.subject).of(ROOTS));
        }
        if !roots.contains(&root) {
            roots.push(root);
        }
    }
    Ok(roots)
}

fn newest_beginning(roots: &[CertificateDer<'static>]) -> u64 {
    let facts = roots.iter().filter_map(|root| CertificateFacts::read(root));
    facts.map(|facts| seconds_of(facts.not_before)).max().unwrap_or(1)
}

/// The pin of a certificate that was read before.
pub(super) fn pin_of(der: &[u8]) -> Option<Pin> {
    Pin::of_certificate(der)
}

fn pem(certificates: &[CertificateDer<'static>]) -> Vec<u8> {
    let texts = certificates.iter().map(|der| certificate_pem(der));
    texts.collect::<String>().into_bytes()
}
