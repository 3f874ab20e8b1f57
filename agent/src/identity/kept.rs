//! What is kept of an identity, and how it stands in the entries of a Secret. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use remote_istio::enrolment::{Pin, Trust, certificate_pem};
use remote_istio::identity::{self, Identity, RemoteName};
use remote_istio::limits;
use remote_istio::wire::v1;
use serde::{Deserialize, Serialize};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::key::PrivateKey;

/// Entries of the Secret.
pub const KEY: &str = "tls.key";
/// The certificate chain, leaf first.
pub const CERTIFICATE: &str = "tls.crt";
/// The roots of the trust.
pub const ROOTS: &str = "ca.crt";
/// The rest of the trust.
pub const LINK: &str = "link.json";
/// The key of a request under way.
pub const NEXT_KEY: &str = "next.key";

/// Everything that an agent writes into its Secret.
pub const ENTRIES: [&str; 5] = [KEY, CERTIFICATE, ROOTS, LINK, NEXT_KEY];

/// The data of a Secret.
pub type Entries = BTreeMap<String, Vec<u8>>;

/// An identity with everything needed to use it.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Of the leaf.
    pub key: Arc<PrivateKey>,
    /// Whom to trust.
    pub trust: Trust,
    /// The certificate.
    pub certificate: Certificate,
    /// When it came, by this machine's clock; it may be backdated by more or less.
    pub received: Option<SystemTime>,
    /// The id of the token it came by, which is not a secret: an old token that still lies about is not a new one.
    pub token: Option<String>,
}

/// A certificate chain, and what its leaf says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// DER, leaf first; never empty.
    pub chain: Vec<Vec<u8>>,
    /// Whom it stands for.
    pub remote: RemoteName,
    /// When it began; backdated.
    pub not_before: SystemTime,
    /// When it ends.
    pub not_after: SystemTime,
}

/// What stands in the Secret.
#[derive(Debug)]
pub enum Contents {
    /// No identity.
    Nothing,
    /// Something that is none, and why.
    Damaged(String),
    /// An identity.
    Kept(Box<Kept>),
}

/// A certificate, chain or trust that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(pub String);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Link {
    epoch: u64,
    signer: String,
    trust_domain: String,
    hubs: Vec<String>,
    enrolments: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    remote: Option<String>,
    /// Milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    received: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl Certificate {
    /// Reads a chain of DER certificates.
    ///
    /// # Errors
    /// It is over a limit, cannot be read, or stands for no remote of the trust domain.
    pub fn read(chain: &[Vec<u8>], trust_domain: &str) -> Result<Self, Unusable> {
        let wrong = |text: String| Unusable(text);
        if !(1..=limits::CHAIN_MAX).contains(&chain.len()) {
            return Err(wrong(format!("the chain has {} certificates", chain.len())));
        }
        if chain.iter().any(|der| der.len() > limits::CERTIFICATE_MAX_BYTES) {
            return Err(wrong("a certificate is larger than any should be".to_owned()));
        }
        let leaf = &chain[0];
        let remote = match identity::from_certificate(leaf, trust_domain).map_err(|error| wrong(error.to_string()))? {
            Identity::Remote(remote) => remote,
            other => {
                let uri = other.uri(trust_domain);
                return Err(wrong(format!("the certificate stands for {uri}, not for a remote")));
            }
        };
        let (_, parsed) = X509Certificate::from_der(leaf)
            .map_err(|error| wrong(format!("the certificate cannot be read: {error}")))?;
        let time = |seconds: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        Ok(Self {
            remote,
            not_before: time(parsed.validity().not_before.timestamp()),
            not_after: time(parsed.validity().not_after.timestamp()),
            chain: chain.to_vec(),
        })
    }

    /// The CA that signed it, as far as it or a root among `roots` says so.
    #[must_use]
    pub fn signer<'a>(&'a self, roots: impl Iterator<Item = &'a [u8]>) -> Option<Pin> {
        let (_, leaf) = X509Certificate::from_der(&self.chain[0]).ok()?;
        let issuer = leaf
            .extensions()
            .iter()
            .find_map(|found| match found.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(issuer) => issuer.key_identifier.as_ref().map(|id| id.0),
                _ => None,
            });
        let above = self.chain.iter().skip(1).map(Vec::as_slice).chain(roots);
        let mut same_name = Vec::new();
        for der in above {
            let Ok((_, candidate)) = X509Certificate::from_der(der) else {
                continue;
            };
            let own = candidate
                .extensions()
                .iter()
                .find_map(|found| match found.parsed_extension() {
                    ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
                    _ => None,
                });
            if issuer.is_some() && issuer == own {
                return Pin::of_certificate(der);
            }
            if candidate.subject() == leaf.issuer() {
                same_name.extend(Pin::of_certificate(der));
            }
        }
        same_name.dedup();
        // Without a key's name, the CA's own name tells only where one CA has it.
        <[Pin; 1]>::try_from(same_name).ok().map(|[pin]| pin)
    }
}

impl Kept {
    /// Whether the certificate was signed by another CA than the one that signs now.
    #[must_use]
    pub fn is_of_an_older_signer(&self) -> bool {
        let roots = self.trust.roots.iter().map(AsRef::as_ref);
        self.certificate
            .signer(roots)
            .is_some_and(|signer| signer != self.trust.signer)
    }

    /// Puts it into a Secret's entries, in place of what stands there. `next`: the key of a request under way, which
    /// must not be lost meanwhile.
    pub fn write(&self, next: Option<&PrivateKey>, entries: &mut Entries) {
        let chain: String = self.certificate.chain.iter().map(|der| certificate_pem(der)).collect();
        entries.insert(KEY.to_owned(), self.key.pem().to_vec());
        entries.insert(CERTIFICATE.to_owned(), chain.into_bytes());
        entries.insert(ROOTS.to_owned(), self.trust.bundle().into_bytes());
        entries.insert(LINK.to_owned(), self.link());
        match next {
            Some(next) => entries.insert(NEXT_KEY.to_owned(), next.pem().to_vec()),
            None => entries.remove(NEXT_KEY),
        };
    }

    fn link(&self) -> Vec<u8> {
        let wire = self.trust.write();
        let link = Link {
            epoch: self.trust.epoch,
            signer: self.trust.signer.to_string(),
            trust_domain: wire.trust_domain,
            hubs: wire.hubs,
            enrolments: wire.enrolments,
            remote: Some(self.certificate.remote.to_string()),
            received: self.received.and_then(milliseconds),
            token: self.token.clone(),
        };
        // Numbers and texts always become JSON.
        serde_json::to_vec_pretty(&link).unwrap_or_default()
    }
}

/// Reads a Secret's entries. Where key and certificate are not of one pair because a writer was cut off, the key that
/// fits is taken.
#[must_use]
pub fn read(entries: &Entries) -> Contents {
    let present = |name: &str| entries.get(name).filter(|value| !value.is_empty());
    if [KEY, CERTIFICATE, ROOTS, LINK]
        .into_iter()
        .all(|name| present(name).is_none())
    {
        return Contents::Nothing;
    }
    match read_whole(entries) {
        Ok(kept) => Contents::Kept(Box::new(kept)),
        Err(Unusable(why)) => Contents::Damaged(why),
    }
}

/// The key of a request under way, if there is one. One that is in use already is none.
#[must_use]
pub fn next_key(entries: &Entries) -> Option<PrivateKey> {
    let next = entries.get(NEXT_KEY).filter(|next| entries.get(KEY) != Some(next))?;
    PrivateKey::from_pem(next).ok()
}

fn read_whole(entries: &Entries) -> Result<Kept, Unusable> {
    let entry = |name: &str| {
        let value = entries.get(name).filter(|value| !value.is_empty());
        value.ok_or_else(|| Unusable(format!("its entry {name} is missing")))
    };
    let link: Link = serde_json::from_slice(entry(LINK)?)
        .map_err(|error| Unusable(format!("its entry {LINK} cannot be read: {error}")))?;
    let trust = trust_of(&link, certificates(ROOTS, entry(ROOTS)?)?)?;
    let chain = certificates(CERTIFICATE, entry(CERTIFICATE)?)?;
    let certificate = Certificate::read(&chain, &trust.trust_domain)
        .map_err(|Unusable(why)| Unusable(format!("its entry {CERTIFICATE} cannot be used: {why}")))?;
    let fitting = [KEY, NEXT_KEY].into_iter().find_map(|name| {
        let key = PrivateKey::from_pem(entries.get(name)?).ok()?;
        key.fits(&certificate.chain[0]).then_some(key)
    });
    let key = fitting.ok_or_else(|| {
        Unusable(format!(
            "its entry {KEY} is not the key of the certificate in {CERTIFICATE}: one of them is older"
        ))
    })?;
    Ok(Kept {
        key: Arc::new(key),
        trust,
        certificate,
        received: link.received.map(|passed| UNIX_EPOCH + Duration::from_millis(passed)),
        token: link.token,
    })
}

fn milliseconds(time: SystemTime) -> Option<u64> {
    u64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

fn trust_of(link: &Link, roots: Vec<Vec<u8>>) -> Result<Trust, Unusable> {
    let signer: Pin = link
        .signer
        .parse()
        .map_err(|error| Unusable(format!("its entry {LINK} cannot be used: {error}")))?;
    let wire = v1::Trust {
        epoch: link.epoch,
        roots,
        signer: signer.as_bytes().to_vec(),
        trust_domain: link.trust_domain.clone(),
        hubs: link.hubs.clone(),
        enrolments: link.enrolments.clone(),
    };
    Trust::read(&wire).map_err(|error| Unusable(format!("what it says of the hub cannot be used: {error}")))
}

fn certificates(name: &str, text: &[u8]) -> Result<Vec<Vec<u8>>, Unusable> {
    let blocks = pem::parse_many(text).map_err(|error| Unusable(format!("its entry {name} is damaged: {error}")))?;
    let certificates = blocks.into_iter().filter(|block| block.tag() == "CERTIFICATE");
    let certificates: Vec<Vec<u8>> = certificates.map(pem::Pem::into_contents).collect();
    if certificates.is_empty() {
        return Err(Unusable(format!("its entry {name} holds no certificate in PEM")));
    }
    Ok(certificates)
}

#[cfg(test)]
pub(super) mod tests;
