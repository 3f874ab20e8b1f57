//! Certificates for the tests of TLS and transport: good ones, and ones that are wrong in one way.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::sync::watch;

use super::files::CertificateFiles;
use super::{Seen, TlsSource, material};

pub(crate) const TRUST_DOMAIN: &str = "mesh.test";
pub(crate) const HUB_NAME: &str = "hub.test";

/// A CA of the link.
pub(crate) struct TestCa(CertifiedIssuer<'static, KeyPair>);

/// A leaf and its key.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) certificate_der: CertificateDer<'static>,
    pub(crate) key_der: PrivateKeyDer<'static>,
}

/// What a leaf says; starts as a good certificate for both ends.
pub(crate) struct LeafParams {
    pub(crate) uris: Vec<String>,
    pub(crate) names: Vec<String>,
    pub(crate) usages: Vec<ExtendedKeyUsagePurpose>,
    pub(crate) not_after: SystemTime,
}

impl LeafParams {
    pub(crate) fn uri(path: &str) -> Self {
        Self {
            uris: vec![format!("spiffe://{TRUST_DOMAIN}/{path}")],
            names: Vec::new(),
            usages: vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth],
            not_after: SystemTime::now() + Duration::from_hours(24),
        }
    }

    pub(crate) fn hub() -> Self {
        Self {
            names: vec![HUB_NAME.to_owned(), "localhost".to_owned()],
            ..Self::uri("hub")
        }
    }

    pub(crate) fn remote(name: &str) -> Self {
        Self::uri(&format!("remote/{name}"))
    }

    pub(crate) fn expired(self) -> Self {
        Self {
            not_after: SystemTime::now() - Duration::from_hours(1),
            ..self
        }
    }
}

impl TestCa {
    pub(crate) fn new() -> Self {
        Self::named("link CA")
    }

    pub(crate) fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA"))
    }

    pub(crate) fn bundle(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn root(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub(crate) fn leaf(&self, leaf: LeafParams) -> Pair {
        let mut params = CertificateParams::new(leaf.names).expect("names");
        let uris = leaf
            .uris
            .into_iter()
            .map(|uri| SanType::URI(uri.try_into().expect("an ASCII URI")));
        params.subject_alt_names.extend(uris);
        params.extended_key_usages = leaf.usages;
        params.use_authority_key_identifier_extension = true;
        params.not_before = date_time_ymd(2020, 1, 1);
        let since_1970 = leaf
            .not_after
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("after 1970");
        params.not_after = date_time_ymd(1970, 1, 1) + since_1970;
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            certificate_der: certificate.der().clone(),
            key_der: PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        }
    }

    /// A source that trusts this CA and shows the leaf.
    pub(crate) fn source(&self, leaf: LeafParams) -> Arc<TlsSource> {
        source(&self.leaf(leaf), &self.bundle())
    }
}

/// A source from a pair and a bundle that must be good except for their age.
pub(crate) fn source(pair: &Pair, bundle: &str) -> Arc<TlsSource> {
    source_in(pair, bundle, TRUST_DOMAIN)
}

/// The same for a trust domain of one's own. An expired certificate is taken as it was two days ago.
pub(crate) fn source_in(pair: &Pair, bundle: &str, trust_domain: &str) -> Arc<TlsSource> {
    let directory = Directory::new(pair, bundle);
    let contents = directory.files.read().expect("just written");
    let two_days_ago = SystemTime::now() - Duration::from_hours(48);
    let config = material::build(&directory.files, &contents, trust_domain, two_days_ago).expect("good files");
    Arc::new(TlsSource {
        files: directory.files.clone(),
        trust_domain: trust_domain.to_owned(),
        current: arc_swap::ArcSwap::from_pointee(config),
        seen: Mutex::new(Seen {
            used: contents.fingerprint(),
            refused: None,
        }),
        status: watch::Sender::default(),
    })
}

/// The three files in a folder of their own.
pub(crate) struct Directory {
    pub(crate) files: CertificateFiles,
    _folder: TempDir,
}

impl Directory {
    pub(crate) fn new(pair: &Pair, bundle: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let files = CertificateFiles {
            certificate: path("tls.crt"),
            key: path("tls.key"),
            trust_bundle: path("ca.crt"),
        };
        let directory = Self { files, _folder: folder };
        directory.write(&pair.certificate, &pair.key);
        fs::write(&directory.files.trust_bundle, bundle).expect("a bundle is written");
        directory
    }

    pub(crate) fn write(&self, certificate: &str, key: &str) {
        fs::write(&self.files.certificate, certificate).expect("a certificate is written");
        fs::write(&self.files.key, key).expect("a key is written");
    }
}
