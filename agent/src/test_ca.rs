//! Certificates of the link for tests.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, SanType,
};
use remote_istio::enrolment::{Pin, Trust};
use remote_istio::limits;
use remote_istio::tls::{CertificateFiles, TlsSource};
use tempfile::TempDir;

pub(crate) const TRUST_DOMAIN: &str = "mesh.test";

/// A CA of the link.
pub(crate) struct TestCa(CertifiedIssuer<'static, KeyPair>);

/// When a certificate begins and ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Validity {
    pub(crate) from: SystemTime,
    pub(crate) until: SystemTime,
}

impl Validity {
    /// Issued so long ago for so long a life, backdated as the hub does.
    pub(crate) fn issued(ago: Duration, life: Duration) -> Self {
        let issued = SystemTime::now() - ago;
        Self {
            from: issued - limits::BACKDATED,
            until: issued + life,
        }
    }

    /// Issued now for a day.
    pub(crate) fn fresh() -> Self {
        Self::issued(Duration::ZERO, Duration::from_hours(24))
    }

    /// Ended a minute ago.
    pub(crate) fn ended() -> Self {
        Self::issued(
            Duration::from_hours(24),
            Duration::from_hours(24) - Duration::from_mins(1),
        )
    }
}

impl TestCa {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA"))
    }

    pub(crate) fn pin(&self) -> Pin {
        Pin::of_certificate(self.0.der()).expect("a certificate")
    }

    /// What a hub of this CA hands out.
    pub(crate) fn trust(&self, epoch: u64, hub: &str, enrolment: &str) -> Trust {
        Trust {
            epoch,
            roots: vec![self.0.der().clone()],
            signer: self.pin(),
            trust_domain: TRUST_DOMAIN.to_owned(),
            hubs: vec![hub.parse().expect("an address")],
            enrolments: vec![enrolment.parse().expect("an address")],
        }
    }

    /// The chain for a signing request, whatever it asks for.
    pub(crate) fn certify(&self, request: &[u8], path: &str, validity: Validity) -> Vec<Vec<u8>> {
        let request = CertificateSigningRequestParams::from_der(&request.into()).expect("a signing request");
        let params = params(path, validity);
        let certificate = params.signed_by(&request.public_key, &self.0).expect("a certificate");
        vec![certificate.der().to_vec()]
    }

    /// The files of a certificate of this CA, whose owner trusts `trusted`.
    pub(crate) fn files(&self, path: &str, trusted: &Self) -> (CertificateFiles, TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        let files = self.write_files(path, trusted, folder.path());
        (files, folder)
    }

    /// Writes such files, or writes them anew.
    pub(crate) fn write_files(&self, path: &str, trusted: &Self, folder: &std::path::Path) -> CertificateFiles {
        let key = KeyPair::generate().expect("a key");
        let certificate = params(path, Validity::fresh())
            .signed_by(&key, &self.0)
            .expect("a certificate");
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).expect("written");
            path
        };
        CertificateFiles {
            certificate: write("tls.crt", certificate.pem()),
            key: write("tls.key", key.serialize_pem()),
            trust_bundle: write("ca.crt", trusted.0.pem()),
        }
    }

    /// A certificate of this CA that trusts `trusted`.
    pub(crate) fn source(&self, path: &str, trusted: &Self) -> (Arc<TlsSource>, TempDir) {
        let (files, folder) = self.files(path, trusted);
        (TlsSource::load(files, TRUST_DOMAIN).expect("good files"), folder)
    }
}

fn params(path: &str, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("names");
    let uri = format!("spiffe://{TRUST_DOMAIN}/{path}");
    params
        .subject_alt_names
        .push(SanType::URI(uri.try_into().expect("an ASCII URI")));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = validity.from.into();
    params.not_after = validity.until.into();
    params
}
