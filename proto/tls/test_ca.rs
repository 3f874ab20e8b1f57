//! Certificates for the tests of TLS and transport: good ones, and ones that are wrong in one way.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use tempfile::TempDir;

use super::TlsSource;
use super::build::Base;
use super::files::CertificateFiles;
use super::material::Material;
use super::origin::Origin;
use crate::enrolment::Pin;

pub(crate) const TRUST_DOMAIN: &str = "mesh.test";
pub(crate) const HUB_NAME: &str = "hub.test";

/// A CA of the link.
pub(crate) struct TestCa(CertifiedIssuer<'static, KeyPair>);

/// A clock that is wrong by some seconds, to either side.
#[derive(Debug)]
pub(crate) struct WrongBy(pub(crate) i64);

impl TimeProvider for WrongBy {
    fn current_time(&self) -> Option<UnixTime> {
        let now = UnixTime::now().as_secs().checked_add_signed(self.0)?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(now)))
    }
}

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
    pub(crate) common_name: Option<String>,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

impl LeafParams {
    pub(crate) fn uri(path: &str) -> Self {
        Self {
            uris: vec![format!("spiffe://{TRUST_DOMAIN}/{path}")],
            names: Vec::new(),
            usages: vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth],
            common_name: None,
            // The first of January 2020.
            not_before: SystemTime::UNIX_EPOCH + Duration::from_hours(24 * 18262),
            not_after: SystemTime::now() + Duration::from_hours(24),
        }
    }

    /// As the hub issues it: backdated by a quarter of an hour.
    pub(crate) fn fresh(self) -> Self {
        Self {
            not_before: SystemTime::now() - crate::limits::BACKDATED,
            ..self
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

    /// A CA below this one.
    pub(crate) fn intermediate(&self, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::signed_by(params, key, &self.0).expect("a CA"))
    }

    pub(crate) fn pin(&self) -> Pin {
        Pin::of_certificate(self.0.der()).expect("a certificate")
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
        if let Some(name) = leaf.common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        let date = |time: SystemTime| {
            let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
            date_time_ymd(1970, 1, 1) + since_1970
        };
        params.not_before = date(leaf.not_before);
        params.not_after = date(leaf.not_after);
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
    let material = pair.material(bundle);
    let base = Base {
        origin: Origin::Given("the test".to_owned()),
        trust_domain: trust_domain.to_owned(),
        clock: Arc::new(DefaultTimeProvider),
        gate: Arc::default(),
    };
    let now = SystemTime::now();
    let config = base
        .build(&material, now)
        .or_else(|_| base.build(&material, now - Duration::from_hours(48)))
        .expect("good but for its age");
    Arc::new(TlsSource::with_config(base, config, &material))
}

/// A source whose clock is wrong by some seconds.
pub(crate) fn source_wrong_by(pair: &Pair, bundle: &str, seconds: i64) -> Arc<TlsSource> {
    let clock = Arc::new(WrongBy(seconds));
    TlsSource::from_material_at(&pair.material(bundle), "the test", TRUST_DOMAIN, clock).expect("good material")
}

impl Pair {
    pub(crate) fn material(&self, bundle: &str) -> Material {
        Material {
            certificate: self.certificate.clone().into_bytes(),
            key: self.key.clone().into_bytes(),
            trust_bundle: bundle.to_owned().into_bytes(),
        }
    }

    /// The same leaf, with a CA's certificate shown along.
    pub(crate) fn below(mut self, ca: &TestCa) -> Self {
        self.certificate.push_str(&ca.bundle());
        self
    }
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
