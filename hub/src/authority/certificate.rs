//! What a certificate says, as far as a CA must know it, and whether a chain leads to a root. Pure.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use remote_istio::enrolment::{Pin, hex};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime, pem};
use rustls::server::WebPkiClientVerifier;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// One certificate, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateFacts {
    pub(crate) pin: Pin,
    pub(crate) subject: String,
    pub(crate) organization: Option<String>,
    pub(crate) serial: String,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    /// It is a CA's, and its key may sign certificates.
    pub(crate) may_sign: bool,
    /// How many CAs may stand below it; nothing: any number.
    pub(crate) path_length: Option<u32>,
    /// Its name can be written again as an issuer's: no part of it has two values, comes twice, or is of a kind that
    /// cannot be written.
    pub(crate) has_plain_name: bool,
}

impl CertificateFacts {
    /// Nothing if this is no certificate.
    pub(crate) fn read(der: &[u8]) -> Option<Self> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let usage = certificate.key_usage().ok()?;
        let validity = certificate.validity();
        Some(Self {
            pin: Pin::of_key_info(certificate.public_key().raw),
            subject: certificate.subject().to_string(),
            organization: organization(&certificate),
            serial: hex(certificate.raw_serial()),
            not_before: time_of(validity.not_before.timestamp()),
            not_after: time_of(validity.not_after.timestamp()),
            may_sign: certificate.is_ca() && usage.is_none_or(|usage| usage.value.key_cert_sign()),
            path_length: path_length(&certificate),
            has_plain_name: has_plain_name(&certificate),
        })
    }
}

fn organization(certificate: &X509Certificate<'_>) -> Option<String> {
    let name = certificate.subject().iter_organization().next()?;
    Some(name.as_str().ok()?.to_owned())
}

fn path_length(certificate: &X509Certificate<'_>) -> Option<u32> {
    let constraints = certificate.basic_constraints().ok().flatten();
    constraints.and_then(|constraints| constraints.value.path_len_constraint)
}

fn has_plain_name(certificate: &X509Certificate<'_>) -> bool {
    let mut kinds = Vec::new();
    for part in certificate.subject().iter() {
        let mut values = part.iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return false;
        };
        // The DER writer below rcgen panics at kinds that begin with 2.40 and above.
        let is_writable = value.attr_type().as_bytes().first().is_some_and(|first| *first < 120);
        if !is_writable || kinds.contains(&value.attr_type()) {
            return false;
        }
        kinds.push(value.attr_type());
    }
    true
}

/// Seconds since 1970 as a time; what lies before 1970 counts as 1970.
fn time_of(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// Whole seconds since 1970.
pub(crate) fn seconds_of(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A time for a person, to the second.
pub(crate) fn shown(time: SystemTime) -> String {
    let seconds = i64::try_from(seconds_of(time)).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).map_or_else(|_| format!("{seconds} s after 1970"), |time| time.to_string())
}

/// The certificates of a PEM text, in its order.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    CertificateDer::pem_slice_iter(pem).collect()
}

/// Makes sure that a client's certificate leads to one of the roots, as seen at `at`.
pub(crate) fn verify_client(
    leaf: &CertificateDer<'_>,
    above: &[CertificateDer<'_>],
    roots: &[CertificateDer<'static>],
    at: SystemTime,
) -> Result<(), rustls::Error> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone())?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider)
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds_of(at)));
    verifier.verify_client_cert(leaf, above, at).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::test_authorities::{ca_params, root};

    /// Its subject is OU=a, OU=b, CN=two parts of a kind.
    const TWO_UNITS: &str = "\
-----BEGIN CERTIFICATE-----
MIIBwzCCAWmgAwIBAgIURzEuqlLLe+E67whWfMQVSnY5i/AwCgYIKoZIzj0EAwIw
NjEKMAgGA1UECwwBYTEKMAgGA1UECwwBYjEcMBoGA1UEAwwTdHdvIHBhcnRzIG9m
IGEga2luZDAgFw0yNjExMjUwMzE3MTNaGA8yMTI2MTEwMTAzMTcxM1owNjEKMAgG
A1UECwwBYTEKMAgGA1UECwwBYjEcMBoGA1UEAwwTdHdvIHBhcnRzIG9mIGEga2lu
ZDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABKjINaHWUWLkqBYhAMpL4XE/8xP0
wiv8WrkjGVVI3vm7+irSmlrwTjTaEC/YM2TN3T5RHs0s3u3H0Gltey6ZjZGjUzBR
MB0GA1UdDgQWBBTFmG8+d71N1+v9SleukpRQLoKq0zAfBgNVHSMEGDAWgBTFmG8+
d71N1+v9SleukpRQLoKq0zAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gA
MEUCIQCV5cXsdZkYKpfoV5nBarojmE1Xy9YK9Juu7iWAo5D72AIgfRinQe3l0emV
2viawaZiAvj4GIrAVKAWDNS7OyZ8DEs=
-----END CERTIFICATE-----
";

    #[test]
    fn name_with_a_part_twice_is_not_plain() {
        let twice = certificates(TWO_UNITS.as_bytes()).expect("PEM").swap_remove(0);
        assert!(!CertificateFacts::read(&twice).expect("a certificate").has_plain_name);
        let plain = root(ca_params("plain"));
        assert!(
            CertificateFacts::read(plain.der())
                .expect("a certificate")
                .has_plain_name
        );
    }

    #[test]
    fn certificate_with_bytes_after_its_end_is_none() {
        let mut long = root(ca_params("long")).der().to_vec();
        assert!(CertificateFacts::read(&long).is_some());
        long.push(0);
        assert_eq!(CertificateFacts::read(&long), None);
    }

    #[test]
    fn time_is_shown_to_the_second() {
        assert_eq!(shown(UNIX_EPOCH + Duration::from_millis(1_500)), "1970-01-01T00:00:01Z");
    }
}
