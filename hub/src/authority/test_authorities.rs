//! CAs and keys for the tests of the authority.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use remote_istio::identity::{Identity, RemoteName};
use time::OffsetDateTime;

use super::{CertificateRequest, IssuedCertificate, Leaf, LinkCa};

pub(super) const TRUST_DOMAIN: &str = "mesh.test";
pub(super) const DAY: Duration = Duration::from_hours(24);

pub(super) type Data = BTreeMap<String, Vec<u8>>;
pub(super) type Ca = CertifiedIssuer<'static, KeyPair>;

/// A whole second of some day.
pub(super) fn today() -> SystemTime {
    UNIX_EPOCH + Duration::from_hours(500_000)
}

pub(super) fn made() -> LinkCa {
    LinkCa::create(TRUST_DOMAIN, today()).expect("a CA is made")
}

pub(super) fn remote() -> Identity {
    Identity::Remote(RemoteName::new("remote-1").expect("a DNS label"))
}

/// A good request, and its key.
pub(super) fn request() -> (CertificateRequest, KeyPair) {
    let key = KeyPair::generate().expect("a key");
    let der = CertificateParams::default().serialize_request(&key).expect("a request");
    (CertificateRequest::check(der.der()).expect("a good request"), key)
}

/// A certificate of a remote, for a day from today on.
pub(super) fn issued(ca: &LinkCa) -> IssuedCertificate {
    let leaf = Leaf {
        identity: &remote(),
        names: &[],
        trust_domain: TRUST_DOMAIN,
        not_before: today() - Duration::from_mins(15),
        not_after: today() + DAY,
    };
    ca.issue(&request().0, &leaf).expect("it is signed")
}

pub(super) fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = date(today() - DAY);
    params.not_after = date(today() + 365 * DAY);
    params
}

pub(super) fn date(time: SystemTime) -> OffsetDateTime {
    OffsetDateTime::from(time)
}

pub(super) fn root(params: CertificateParams) -> Ca {
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA")
}

pub(super) fn below(params: CertificateParams, root: &Ca) -> Ca {
    CertifiedIssuer::signed_by(params, KeyPair::generate().expect("a key"), root).expect("a CA")
}

/// A Secret in cert-manager's shape.
pub(super) fn brought(certificate: &str, key: &KeyPair, roots: &str) -> Data {
    let entries = [
        ("tls.crt", certificate.to_owned()),
        ("tls.key", key.serialize_pem()),
        ("ca.crt", roots.to_owned()),
    ];
    entries
        .map(|(entry, text)| (entry.to_owned(), text.into_bytes()))
        .into()
}

pub(super) fn brought_root(ca: &Ca) -> Data {
    brought(&ca.pem(), ca.key(), &ca.pem())
}

pub(super) fn read(data: &Data) -> LinkCa {
    LinkCa::from_secret(data, today())
        .expect("a good Secret")
        .expect("one that is not empty")
}
