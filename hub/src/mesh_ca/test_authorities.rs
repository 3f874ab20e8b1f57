//! Mesh CAs as Istio keeps them, for tests.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use zeroize::Zeroizing;

use super::signer::Data;

pub(super) type Ca = CertifiedIssuer<'static, KeyPair>;

pub(super) const DAY: Duration = Duration::from_hours(24);

/// A CA's name, from a day ago for a year.
pub(super) fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = (SystemTime::now() - DAY).into();
    params.not_after = (SystemTime::now() + 365 * DAY).into();
    params
}

pub(super) fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

pub(super) fn root(name: &str) -> Ca {
    CertifiedIssuer::self_signed(params(name), key()).expect("a CA")
}

pub(super) fn below(params: CertificateParams, above: &Ca) -> Ca {
    CertifiedIssuer::signed_by(params, key(), above).expect("a CA")
}

pub(super) fn entries(entries: &[(&str, &str)]) -> Data {
    let owned = entries.iter();
    owned
        .map(|(entry, text)| ((*entry).to_owned(), Zeroizing::new(text.as_bytes().to_vec())))
        .collect()
}

/// As Citadel makes it: `istio-ca-secret`.
pub(super) fn self_signed(ca: &Ca) -> Data {
    entries(&[("ca-cert.pem", &ca.pem()), ("ca-key.pem", &ca.key().serialize_pem())])
}

/// As users plug it in: `cacerts`.
pub(super) fn plugged_in(ca: &Ca, chain: &str, root: &str) -> Data {
    entries(&[
        ("ca-cert.pem", &ca.pem()),
        ("ca-key.pem", &ca.key().serialize_pem()),
        ("cert-chain.pem", chain),
        ("root-cert.pem", root),
    ])
}
