//! Made-up certificates of the link: good ones, and ones that are wrong in one way.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use remote_istio::enrolment::Pin;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use time::OffsetDateTime;

/// The trust domain of all tests that do not ask for another.
pub const TRUST_DOMAIN: &str = "remote-istio.local";

/// How long a good leaf lives.
const LIFETIME: Duration = Duration::from_hours(30 * 24);

/// A certificate authority.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What a leaf says.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// DNS names and addresses.
    pub names: Vec<String>,
    /// URI names; a good one has exactly one.
    pub uris: Vec<String>,
    /// Without `not_before`, from a day before this.
    pub not_after: SystemTime,
    /// From when on it counts.
    pub not_before: Option<SystemTime>,
}

impl Leaf {
    /// A good leaf with this one URI name, for both ends, at this machine.
    pub fn uri(uri: impl Into<String>) -> Self {
        Self {
            names: ["localhost", "127.0.0.1", "::1"].map(String::from).to_vec(),
            uris: vec![uri.into()],
            not_after: SystemTime::now() + LIFETIME,
            not_before: None,
        }
    }

    /// The hub's.
    #[must_use]
    pub fn hub() -> Self {
        Self::uri(format!("spiffe://{TRUST_DOMAIN}/hub"))
    }

    /// That of a remote.
    #[must_use]
    pub fn remote(name: &str) -> Self {
        Self::uri(format!("spiffe://{TRUST_DOMAIN}/remote/{name}"))
    }

    /// A remote of a foreign trust domain.
    #[must_use]
    pub fn foreign(name: &str) -> Self {
        Self::uri(format!("spiffe://elsewhere.test/remote/{name}"))
    }

    /// From when on it counts.
    #[must_use]
    pub fn from(mut self, not_before: SystemTime) -> Self {
        self.not_before = Some(not_before);
        self
    }

    /// Until when it counts.
    #[must_use]
    pub fn until(mut self, not_after: SystemTime) -> Self {
        self.not_after = not_after;
        self
    }

    /// Without any URI name.
    #[must_use]
    pub fn without_uri(mut self) -> Self {
        self.uris.clear();
        self
    }

    /// With one more URI name.
    #[must_use]
    pub fn and_uri(mut self, uri: impl Into<String>) -> Self {
        self.uris.push(uri.into());
        self
    }

    /// Expired an hour ago.
    #[must_use]
    pub fn expired(mut self) -> Self {
        self.not_after = SystemTime::now() - Duration::from_hours(1);
        self
    }
}

/// What all CAs have in common.
fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = OffsetDateTime::now_utc() - Duration::from_hours(48);
    params.not_after = OffsetDateTime::now_utc() + LIFETIME * 2;
    params
}

/// A certificate with its key, PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its key, PKCS #8.
    pub key: String,
}

impl Pair {
    /// The certificate, DER.
    ///
    /// # Errors
    /// It is none.
    pub fn der(&self) -> Result<Vec<u8>> {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes());
        Ok(certificate.context("a certificate, PEM")?.to_vec())
    }
}

/// Three files as a cert-manager Secret has them.
#[derive(Debug, Clone)]
pub struct Files {
    /// `tls.crt`.
    pub certificate: PathBuf,
    /// `tls.key`.
    pub key: PathBuf,
    /// `ca.crt`.
    pub trust_bundle: PathBuf,
}

impl Authority {
    /// A new one; two of the same name are still two.
    ///
    /// # Errors
    /// No key can be made.
    pub fn new(name: &str) -> Result<Self> {
        let key = KeyPair::generate().context("making a key")?;
        let signed = CertifiedIssuer::self_signed(authority(name), key);
        Ok(Self(signed.context("signing a CA")?))
    }

    /// One below this one.
    ///
    /// # Errors
    /// No key can be made.
    pub fn intermediate(&self, name: &str) -> Result<Self> {
        let key = KeyPair::generate().context("making a key")?;
        let mut params = authority(name);
        params.use_authority_key_identifier_extension = true;
        let signed = CertifiedIssuer::signed_by(params, key, &self.0);
        Ok(Self(signed.context("signing an intermediate CA")?))
    }

    /// Its key, PEM.
    #[must_use]
    pub fn key(&self) -> String {
        self.0.key().serialize_pem()
    }

    /// The pin of its key.
    ///
    /// # Panics
    /// Never: it is a certificate.
    #[must_use]
    pub fn pin(&self) -> String {
        let pin = Pin::of_certificate(self.0.der()).expect("a CA has a certificate");
        pin.to_string()
    }

    /// Its own certificate, PEM.
    #[must_use]
    pub fn bundle(&self) -> String {
        self.0.pem()
    }

    /// Signs a leaf.
    ///
    /// # Errors
    /// A name of the leaf is not ASCII.
    pub fn issue(&self, leaf: &Leaf) -> Result<Pair> {
        let mut params = CertificateParams::new(leaf.names.clone()).context("names of a leaf")?;
        for uri in &leaf.uris {
            let uri = uri.as_str().try_into().with_context(|| format!("URI name {uri:?}"))?;
            params.subject_alt_names.push(SanType::URI(uri));
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let not_after = OffsetDateTime::from(leaf.not_after);
        params.not_before = match leaf.not_before {
            Some(not_before) => not_before.into(),
            None => not_after.min(OffsetDateTime::now_utc()) - Duration::from_hours(24),
        };
        params.not_after = not_after;
        let key = KeyPair::generate().context("making a key")?;
        let certificate = params.signed_by(&key, &self.0).context("signing a leaf")?;
        Ok(Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// Signs a leaf and writes the three files into `folder`, which is made.
    ///
    /// # Errors
    /// As [`Self::issue`], or the folder cannot be written.
    pub fn issue_into(&self, folder: &Path, leaf: &Leaf) -> Result<Files> {
        let files = Files::in_folder(folder);
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        write(&files.trust_bundle, &self.bundle())?;
        files.replace(&self.issue(leaf)?)?;
        Ok(files)
    }
}

impl Files {
    /// The usual names.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            certificate: folder.join("tls.crt"),
            key: folder.join("tls.key"),
            trust_bundle: folder.join("ca.crt"),
        }
    }

    /// Writes another certificate and key over the present ones.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn replace(&self, pair: &Pair) -> Result<()> {
        write(&self.certificate, &pair.certificate)?;
        write(&self.key, &pair.key)
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
