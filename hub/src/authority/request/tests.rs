use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_RSA_SHA256,
    PublicKeyData, SanType, SignatureAlgorithm,
};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

use super::*;
use crate::authority::Leaf;
use crate::authority::test_authorities::{TRUST_DOMAIN, made, remote, today};

fn key(kind: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_for(kind).expect("a key")
}

fn der(params: &CertificateParams, key: &KeyPair) -> Vec<u8> {
    params.serialize_request(key).expect("a request").der().to_vec()
}

fn good() -> Vec<u8> {
    der(&CertificateParams::default(), &key(&PKCS_ECDSA_P256_SHA256))
}

/// Asks for everything that it must not get.
fn greedy() -> CertificateParams {
    let mut params = CertificateParams::new(vec!["hub.test".to_owned(), "10.0.0.1".to_owned()]).expect("names");
    params.distinguished_name.push(DnType::CommonName, "remote-2");
    for path in ["remote/remote-2", "operator/root", "hub"] {
        let uri = format!("spiffe://{TRUST_DOMAIN}/{path}");
        let uri = SanType::URI(uri.try_into().expect("an ASCII URI"));
        params.subject_alt_names.push(uri);
    }
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::CodeSigning,
    ];
    params
}

#[test]
fn request_with_a_good_key_is_taken_by_its_key() {
    for kind in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let key = key(kind);
        let request = CertificateRequest::check(&der(&CertificateParams::default(), &key)).expect("a good request");
        assert_eq!(request.key(), Pin::of_key_info(&key.subject_public_key_info()));
        assert_eq!(request.subject_public_key_info(), key.subject_public_key_info());
    }
}

#[test]
fn key_of_a_kind_that_is_not_taken_is_refused_by_name() {
    for (kind, name) in [
        (&PKCS_RSA_SHA256, "an RSA key"),
        (&PKCS_ECDSA_P521_SHA512, "an ECDSA P-521 key"),
    ] {
        let refused = CertificateRequest::check(&der(&CertificateParams::default(), &key(kind)));
        assert_eq!(refused.err(), Some(RequestError::KeyKind(name.to_owned())));
    }
}

#[test]
fn whatever_a_request_asks_for_only_its_key_is_certified() {
    let key = key(&PKCS_ECDSA_P256_SHA256);
    let request = CertificateRequest::check(&der(&greedy(), &key)).expect("wishes do not harm");
    let leaf = Leaf {
        identity: &remote(),
        names: &[],
        trust_domain: TRUST_DOMAIN,
        not_before: today(),
        not_after: today() + std::time::Duration::from_hours(24),
    };
    let issued = made().issue(&request, &leaf).expect("it is signed");
    let (_, certificate) = X509Certificate::from_der(&issued.chain[0]).expect("a certificate");
    let names = certificate
        .subject_alternative_name()
        .expect("readable")
        .expect("names")
        .value;
    assert_eq!(
        names.general_names,
        [GeneralName::URI("spiffe://mesh.test/remote/remote-1")]
    );
    assert_eq!(certificate.subject().to_string(), "CN=remote-1");
    assert!(!certificate.is_ca());
    let usage = certificate.key_usage().expect("readable").expect("a usage").value;
    assert_eq!(usage.flags, 1, "digitalSignature alone");
    let extended = certificate
        .extended_key_usage()
        .expect("readable")
        .expect("usages")
        .value;
    assert!(extended.client_auth && !extended.server_auth && !extended.code_signing && extended.other.is_empty());
    assert_eq!(certificate.public_key().raw, key.subject_public_key_info());
}

#[test]
fn request_that_is_none_or_too_large_is_refused() {
    let mut long = good();
    long.push(0);
    for wrong in [
        &[][..],
        b"-----BEGIN CERTIFICATE REQUEST-----",
        &long,
        &made().roots()[0],
    ] {
        let refused = CertificateRequest::check(wrong).expect_err("no request");
        assert!(matches!(refused, RequestError::Unreadable(_)), "{refused}");
    }
    let size = limits::REQUEST_MAX_BYTES + 1;
    assert_eq!(
        CertificateRequest::check(&vec![0; size]).err(),
        Some(RequestError::TooLarge(size))
    );
}

#[test]
fn request_that_its_key_did_not_sign_is_refused() {
    let mut foreign = good();
    // The last byte is of the signature.
    *foreign.last_mut().expect("not empty") ^= 1;
    assert_eq!(CertificateRequest::check(&foreign).err(), Some(RequestError::Signature));

    let mut renamed = good();
    let name = b"rcgen";
    let at = renamed
        .windows(name.len())
        .position(|part| part == name)
        .expect("the default name");
    renamed[at] = b'R';
    assert_eq!(CertificateRequest::check(&renamed).err(), Some(RequestError::Signature));
}

proptest! {
    #[test]
    fn bytes_that_are_no_request_are_refused_in_peace(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(CertificateRequest::check(&bytes).is_err());
    }

    #[test]
    fn changed_byte_never_gives_another_key(at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let mut bytes = good();
        let key = CertificateRequest::check(&bytes).expect("a good request").key();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(request) = CertificateRequest::check(&bytes) {
            prop_assert_eq!(request.key(), key);
        }
    }
}
