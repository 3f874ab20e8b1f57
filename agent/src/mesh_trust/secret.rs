//! The Secret that Citadel signs with, as it stands: whose it is, what is in it, and what it would be with other
//! contents. Pure.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use remote_istio::enrolment::Pin;
use remote_istio::model::Canonical;
use zeroize::Zeroize as _;

use super::chain::{Issued, Life, kept_life, pem_of};
use super::key::{CaKey, CaKeyError};

/// Its name: Citadel's Deployment mounts it.
pub(super) const NAME: &str = "cacerts";

/// The CA's certificate.
const CERTIFICATE: &str = "ca-cert.pem";
/// The CA's private key.
const KEY: &str = "ca-key.pem";
/// What workloads send beside their own certificates.
const CHAIN: &str = "cert-chain.pem";
/// Whom workloads trust.
const ROOTS: &str = "root-cert.pem";

/// All four, in the order of the hash.
const ENTRIES: [&str; 4] = [CERTIFICATE, KEY, CHAIN, ROOTS];

/// Who signed the intermediate: the pin of that CA.
const SIGNER: &str = "istio.banzaicloud.io/signer";
/// Over certificate and chain as they were written: tells when somebody has changed them.
const WRITTEN: &str = "istio.banzaicloud.io/written";

/// Digits of the hashes.
const DIGITS: usize = 16;

/// The Secret as the API server has it. What it holds is wiped when this goes.
pub(super) struct Found {
    secret: Secret,
    ours: bool,
}

impl Found {
    /// `labels`: those of this agent's own objects.
    pub(super) fn new(secret: Secret, labels: &BTreeMap<String, String>) -> Self {
        let found = secret.metadata.labels.as_ref();
        let ours = labels
            .iter()
            .all(|(label, value)| found.and_then(|found| found.get(label)) == Some(value));
        Self { secret, ours }
    }

    /// Whether this agent may write it.
    pub(super) fn is_ours(&self) -> bool {
        self.ours
    }

    /// Names the object, not only its name.
    pub(super) fn uid(&self) -> &str {
        self.secret.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Names what stands in it now.
    pub(super) fn resource_version(&self) -> Option<&str> {
        self.secret.metadata.resource_version.as_deref()
    }

    /// Whether somebody put a CA of his own into this agent's Secret, and left the labels: all is there, the key fits, and
    /// the certificate is none that this agent wrote.
    pub(super) fn is_replaced(&self) -> bool {
        let [certificate, key] = [CERTIFICATE, KEY].map(|name| self.entry(name).unwrap_or_default());
        let wrote = self.annotation(WRITTEN).and_then(|written| written.split('.').next());
        self.ours
            && self.lacks().is_empty()
            && wrote != Some(hash_of(certificate).as_str())
            && kept_life(certificate, key).is_ok()
    }

    /// Over everything Citadel reads.
    pub(super) fn hash(&self) -> String {
        let entries = ENTRIES.map(|name| self.entry(name).unwrap_or_default());
        short_hash("cacerts", entries)
    }

    /// What Citadel needs and does not find: the chain may be empty, the others may not.
    pub(super) fn lacks(&self) -> Vec<&'static str> {
        let is_missing = |name: &&str| self.entry(name).is_none_or(|entry| entry.is_empty() && *name != CHAIN);
        ENTRIES.into_iter().filter(is_missing).collect()
    }

    /// The life of this agent's intermediate; the error says what is wrong with what stands there.
    pub(super) fn life(&self) -> Result<Life, &'static str> {
        if let Some(missing) = self.lacks().first() {
            return Err(match *missing {
                KEY => "it lacks ca-key.pem",
                CHAIN => "it lacks cert-chain.pem",
                ROOTS => "it lacks root-cert.pem",
                _ => "it lacks ca-cert.pem",
            });
        }
        let [certificate, key, chain] = [CERTIFICATE, KEY, CHAIN].map(|name| self.entry(name).unwrap_or_default());
        if self.annotation(WRITTEN) != Some(written(certificate, chain).as_str()) {
            return Err("its certificates were changed");
        }
        kept_life(certificate, key)
    }

    /// Whether the intermediate was signed by this CA.
    pub(super) fn is_signed_by(&self, signer: &[u8]) -> bool {
        shown(signer).is_some_and(|signer| self.annotation(SIGNER) == Some(&signer))
    }

    /// Whether these are the roots that stand there.
    pub(super) fn has_roots(&self, roots: &[Vec<u8>]) -> bool {
        self.entry(ROOTS) == Some(pem_of(roots).as_slice())
    }

    /// The Secret with a new intermediate.
    pub(super) fn with(&self, issued: &Issued, key: &CaKey) -> Result<Secret, CaKeyError> {
        let mut secret = self.secret.clone();
        fill(&mut secret, issued, key)?;
        Ok(secret)
    }

    /// The Secret with other roots.
    pub(super) fn with_roots(&self, roots: &[Vec<u8>]) -> Secret {
        let mut secret = self.secret.clone();
        let data = secret.data.get_or_insert_default();
        data.insert(ROOTS.to_owned(), ByteString(pem_of(roots)));
        secret
    }

    /// The Secret as one that is not this agent's any more.
    pub(super) fn let_go(&self, labels: &BTreeMap<String, String>) -> Secret {
        let mut secret = self.secret.clone();
        let ObjectMeta {
            labels: found,
            annotations,
            ..
        } = &mut secret.metadata;
        if let Some(found) = found {
            found.retain(|label, _| !labels.contains_key(label));
        }
        if let Some(annotations) = annotations {
            annotations.retain(|name, _| name != SIGNER && name != WRITTEN);
        }
        secret
    }

    fn entry(&self, name: &str) -> Option<&[u8]> {
        let data = self.secret.data.as_ref()?;
        data.get(name).map(|value| value.0.as_slice())
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        let annotations = self.secret.metadata.annotations.as_ref()?;
        annotations.get(name).map(String::as_str)
    }
}

impl Drop for Found {
    fn drop(&mut self) {
        wipe(&mut self.secret);
    }
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found")
            .field("uid", &self.uid())
            .field("ours", &self.ours)
            .finish_non_exhaustive()
    }
}

/// A Secret where there is none.
pub(super) fn fresh(
    namespace: &str,
    labels: &BTreeMap<String, String>,
    issued: &Issued,
    key: &CaKey,
) -> Result<Secret, CaKeyError> {
    let metadata = ObjectMeta {
        name: Some(NAME.to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: Some(labels.clone()),
        ..ObjectMeta::default()
    };
    let mut secret = Secret {
        metadata,
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    };
    fill(&mut secret, issued, key)?;
    Ok(secret)
}

/// Forgets what a Secret holds.
pub(super) fn wipe(secret: &mut Secret) {
    for value in secret.data.iter_mut().flat_map(BTreeMap::values_mut) {
        value.0.zeroize();
    }
}

fn fill(secret: &mut Secret, issued: &Issued, key: &CaKey) -> Result<(), CaKeyError> {
    let (certificate, chain) = (pem_of(&issued.chain[..1]), pem_of(&issued.chain));
    let annotations = secret.metadata.annotations.get_or_insert_default();
    annotations.insert(SIGNER.to_owned(), shown(&issued.signer).unwrap_or_default());
    annotations.insert(WRITTEN.to_owned(), written(&certificate, &chain));
    let data = secret.data.get_or_insert_default();
    let entries = [
        (CERTIFICATE, certificate),
        (KEY, key.pem()?.to_vec()),
        (CHAIN, chain),
        (ROOTS, pem_of(&issued.roots)),
    ];
    data.extend(entries.map(|(name, value)| (name.to_owned(), ByteString(value))));
    Ok(())
}

/// Of each by itself: a chain that was changed is mended, another certificate is another CA.
fn written(certificate: &[u8], chain: &[u8]) -> String {
    format!("{}.{}", hash_of(certificate), hash_of(chain))
}

fn hash_of(certificates: &[u8]) -> String {
    short_hash("intermediate", [certificates])
}

fn short_hash<const N: usize>(kind: &str, values: [&[u8]; N]) -> String {
    let canonical = values
        .iter()
        .fold(Canonical::new(kind), |canonical, value| canonical.bytes(value));
    let mut hash = canonical.version().to_string();
    hash.truncate(DIGITS);
    hash
}

/// As the hub's commands show it.
fn shown(signer: &[u8]) -> Option<String> {
    Pin::from_bytes(signer).map(|pin| pin.to_string())
}

#[cfg(test)]
mod tests;
