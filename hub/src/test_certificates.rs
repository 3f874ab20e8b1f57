//! Made-up certificates for tests.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use remote_istio::tls::{CertificateFiles, TlsSource};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;
use time::OffsetDateTime;

pub(crate) const TRUST_DOMAIN: &str = "mesh.test";
pub(crate) const HUB_NAME: &str = "hub.test";

/// A CA of the link.
pub(crate) struct LinkCa(CertifiedIssuer<'static, KeyPair>);

impl LinkCa {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "link CA");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA"))
    }

    pub(crate) fn root(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// A source that trusts this CA and shows a certificate for `spiffe://TRUST-DOMAIN/PATH`.
    pub(crate) fn source(&self, path: &str) -> Arc<TlsSource> {
        let (files, _folder) = self.files(path);
        TlsSource::load(files, TRUST_DOMAIN).expect("good files")
    }

    /// A source whose certificate ends so soon.
    pub(crate) fn source_for(&self, path: &str, life: Duration) -> Arc<TlsSource> {
        let (files, _folder) = self.files_until(path, OffsetDateTime::now_utc() + life);
        TlsSource::load(files, TRUST_DOMAIN).expect("good files")
    }

    /// The files of such a source, in a folder that goes when it is dropped.
    pub(crate) fn files(&self, path: &str) -> (CertificateFiles, TempDir) {
        self.files_until(path, date_time_ymd(2100, 1, 1))
    }

    fn files_until(&self, path: &str, not_after: OffsetDateTime) -> (CertificateFiles, TempDir) {
        let mut params = CertificateParams::new(vec![HUB_NAME.to_owned()]).expect("names");
        let uri = format!("spiffe://{TRUST_DOMAIN}/{path}");
        params
            .subject_alt_names
            .push(SanType::URI(uri.try_into().expect("an ASCII URI")));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = not_after;
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");

        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: String| {
            let path = folder.path().join(name);
            fs::write(&path, text).expect("a file is written");
            path
        };
        let files = CertificateFiles {
            certificate: write("tls.crt", certificate.pem()),
            key: write("tls.key", key.serialize_pem()),
            trust_bundle: write("ca.crt", self.0.pem()),
        };
        (files, folder)
    }
}
