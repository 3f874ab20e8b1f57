//! Certificates of the link for tests.

use std::fs;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use remote_istio::tls::{CertificateFiles, TlsSource};
use tempfile::TempDir;

pub(crate) const TRUST_DOMAIN: &str = "mesh.test";

/// A CA of the link.
pub(crate) struct TestCa(CertifiedIssuer<'static, KeyPair>);

impl TestCa {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA"))
    }

    /// The files of a certificate of this CA, whose owner trusts `trusted`.
    pub(crate) fn files(&self, path: &str, trusted: &Self) -> (CertificateFiles, TempDir) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("names");
        let uri = format!("spiffe://{TRUST_DOMAIN}/{path}");
        params
            .subject_alt_names
            .push(SanType::URI(uri.try_into().expect("an ASCII URI")));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: String| {
            let path = folder.path().join(name);
            fs::write(&path, text).expect("written");
            path
        };
        let files = CertificateFiles {
            certificate: write("tls.crt", certificate.pem()),
            key: write("tls.key", key.serialize_pem()),
            trust_bundle: write("ca.crt", trusted.0.pem()),
        };
        (files, folder)
    }

    /// A certificate of this CA that trusts `trusted`.
    pub(crate) fn source(&self, path: &str, trusted: &Self) -> (Arc<TlsSource>, TempDir) {
        let (files, folder) = self.files(path, trusted);
        (TlsSource::load(files, TRUST_DOMAIN).expect("good files"), folder)
    }
}
