//! Who is at the other end of a connection, read once from the verified certificate.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::time::ASN1Time;

use crate::enrolment::{Pin, hex};
use crate::identity::{self, Identity, IdentityError};

/// The other end of one connection. Handlers find it as `Arc<Peer>` among a request's extensions.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Whom the certificate stands for.
    pub identity: Identity,
    /// The certificate's serial number, lower-case hex.
    pub serial: String,
    /// When the certificate began.
    pub not_before: SystemTime,
    /// When the certificate ends; the connection ends then at the latest.
    pub not_after: SystemTime,
    /// Names the key that signed the certificate (authority key identifier); empty if the certificate does not say.
    pub issuer_key_id: Vec<u8>,
    /// Where the connection comes from or goes to, for logs.
    pub address: String,
    presented: Presented,
    cut: CancellationToken,
    in_session: Arc<AtomicBool>,
}

/// The certificates that were shown in the handshake, leaf first.
#[derive(Clone)]
struct Presented(Arc<[CertificateDer<'static>]>);

/// How many; nobody reads their bytes.
impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} certificates", self.0.len())
    }
}

/// What a certificate says of its owner, as far as an [`Admission`](super::Admission) may need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafFacts {
    /// Whom it stands for.
    pub identity: Identity,
    /// Its serial number, lower-case hex.
    pub serial: String,
    /// When it began.
    pub not_before: SystemTime,
    /// When it ends.
    pub not_after: SystemTime,
}

impl Peer {
    /// Of the certificate alone.
    pub(crate) fn new(der: &[u8], trust_domain: &str, address: String) -> Result<Self, IdentityError> {
        Self::presenting(&[CertificateDer::from(der)], trust_domain, address)
    }

    /// Of a chain that was verified: leaf first, at least that.
    pub(crate) fn presenting(
        chain: &[CertificateDer<'_>],
        trust_domain: &str,
        address: String,
    ) -> Result<Self, IdentityError> {
        let leaf = chain.first().map(AsRef::as_ref).unwrap_or_default();
        let Leaf { facts, issuer_key_id } = read_leaf(leaf, trust_domain)?;
        Ok(Self {
            identity: facts.identity,
            serial: facts.serial,
            not_before: facts.not_before,
            not_after: facts.not_after,
            issuer_key_id,
            address,
            presented: Presented(chain.iter().map(|link| link.clone().into_owned()).collect()),
            cut: CancellationToken::new(),
            in_session: Arc::default(),
        })
    }

    /// What the certificate says, without the connection.
    #[must_use]
    pub fn facts(&self) -> LeafFacts {
        LeafFacts {
            identity: self.identity.clone(),
            serial: self.serial.clone(),
            not_before: self.not_before,
            not_after: self.not_after,
        }
    }

    /// The certificates that were shown, leaf first.
    #[must_use]
    pub fn presented(&self) -> &[CertificateDer<'static>] {
        &self.presented.0
    }

    /// Names the CA that signed the certificate: one of `roots`, or one that was shown beside it. Nothing where no name
    /// of a key fits.
    #[must_use]
    pub fn signer(&self, roots: &[CertificateDer<'_>]) -> Option<Pin> {
        let shown = self.presented().iter().skip(1);
        let signer = roots.iter().chain(shown).find(|ca| {
            let key_id = X509Certificate::from_der(ca).ok().and_then(|(_, ca)| key_id(&ca));
            key_id.is_some_and(|id| id == self.issuer_key_id)
        })?;
        Pin::of_certificate(signer)
    }

    /// Ends the connection at once: its reads and writes fail from now on.
    pub fn cut(&self) {
        self.cut.cancel();
    }

    /// Notes whether the session that stands runs on this connection. Who opens and ends sessions says so.
    pub fn holds_session(&self, holds: bool) {
        self.in_session.store(holds, Ordering::Relaxed);
    }

    /// Whether the session that stands runs on this connection, as far as anybody has said.
    #[must_use]
    pub fn is_in_session(&self) -> bool {
        self.in_session.load(Ordering::Relaxed)
    }

    /// Becomes cancelled when the connection is cut.
    #[must_use]
    pub fn cut_token(&self) -> &CancellationToken {
        &self.cut
    }
}

/// A leaf certificate, read.
pub(super) struct Leaf {
    pub(super) facts: LeafFacts,
    pub(super) issuer_key_id: Vec<u8>,
}

pub(super) fn read_leaf(der: &[u8], trust_domain: &str) -> Result<Leaf, IdentityError> {
    let identity = identity::from_certificate(der, trust_domain)?;
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|error| IdentityError::Unreadable(error.to_string()))?;
    let validity = certificate.validity();
    let facts = LeafFacts {
        identity,
        serial: hex(certificate.raw_serial()),
        not_before: system_time(validity.not_before.timestamp()),
        not_after: system_time(validity.not_after.timestamp()),
    };
    Ok(Leaf {
        facts,
        issuer_key_id: issuer_key_id(&certificate),
    })
}

fn issuer_key_id(certificate: &X509Certificate<'_>) -> Vec<u8> {
    let mut extensions = certificate.extensions().iter();
    extensions
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(issuer) => issuer.key_identifier.as_ref().map(|id| id.0.to_vec()),
            _ => None,
        })
        .unwrap_or_default()
}

fn key_id(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    let mut extensions = certificate.extensions().iter();
    extensions.find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    })
}

/// Seconds since 1970 as a time; what lies before 1970 counts as 1970.
fn system_time(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// A time in words for a person, to the second.
pub(crate) fn shown(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| ASN1Time::from_timestamp(seconds).ok())
        .map_or_else(|| format!("{seconds} s after 1970"), |time| time.to_string())
}
