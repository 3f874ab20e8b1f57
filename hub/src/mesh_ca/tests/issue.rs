use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use remote_istio::identity::RemoteName;
use remote_istio::limits;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::super::issue::{Intermediate, Signed};
use super::super::problem::MeshCaProblem;
use super::super::signer::MeshSigner;
use super::super::test_authorities::{Ca, DAY, below, entries, params, plugged_in, root, self_signed};
use super::samples::{RSA_CERTIFICATE, RSA_KEY, RSA_REQUEST, WEAK_REQUEST};
use crate::authority::certificate::{CertificateFacts, verify_client};
use crate::authority::{CertificateRequest, RequestError};

fn signer(ca: &Ca) -> MeshSigner {
    MeshSigner::read(&self_signed(ca), SystemTime::now())
        .expect("good")
        .expect("not empty")
}

fn sign(signer: &MeshSigner, key: &KeyPair, lifetime: Duration) -> Result<Signed, MeshCaProblem> {
    // Whatever else the request asks for.
    let mut asked = CertificateParams::new(vec!["istio-pilot.istio-system.svc".to_owned()]).expect("a name");
    asked.distinguished_name.push(rcgen::DnType::CommonName, "central");
    let der = asked.serialize_request(key).expect("a request");
    let request = CertificateRequest::check_of_mesh(der.der()).expect("a good request");
    let remote = RemoteName::new("remote-1").expect("a DNS label");
    let wanted = Intermediate {
        remote: &remote,
        trust_domain: "mesh.test",
        lifetime,
    };
    signer.sign(&request, &wanted, SystemTime::now())
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

#[test]
fn intermediate_is_a_ca_of_the_remotes_name_that_signs_no_further_ca_and_whatever_was_asked_for_does_not_count() {
    let ca = root("mesh");
    let (key, now) = (key(), SystemTime::now());
    let signed = sign(&signer(&ca), &key, 30 * DAY).expect("signed");
    let (_, read) = X509Certificate::from_der(&signed.chain[0]).expect("a certificate");
    assert_eq!(read.subject().to_string(), "O=remote-istio, CN=remote-1");
    let names = read
        .subject_alternative_name()
        .expect("readable")
        .expect("a name")
        .value;
    assert_eq!(
        names.general_names,
        [GeneralName::URI("spiffe://mesh.test/remote/remote-1")]
    );
    let constraints = read.basic_constraints().expect("readable").expect("it is a CA");
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
    let usage = read.key_usage().expect("readable").expect("it has one");
    assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
    assert!(!usage.value.digital_signature());
    assert!(read.name_constraints().expect("readable").is_none());
    assert_eq!(
        read.public_key().raw,
        rcgen::PublicKeyData::subject_public_key_info(&key)
    );

    let facts = CertificateFacts::read(&signed.chain[0]).expect("a certificate");
    let begun = now.duration_since(facts.not_before).expect("it has begun");
    assert!(begun <= limits::BACKDATED && begun + Duration::from_secs(2) > limits::BACKDATED);
    let left = facts.not_after.duration_since(now).expect("it has not ended");
    assert!(left <= 30 * DAY + Duration::from_secs(5) && left + Duration::from_secs(2) > 30 * DAY);
    let again = sign(&signer(&ca), &key, 30 * DAY).expect("signed");
    assert_ne!(again.serial, signed.serial);
}

#[test]
fn intermediate_never_outlives_those_above_it() {
    let mut short = params("short");
    short.not_after = (SystemTime::now() + 5 * DAY).into();
    let ca = rcgen::CertifiedIssuer::self_signed(short, key()).expect("a CA");
    let signed = sign(&signer(&ca), &key(), 365 * DAY).expect("signed");
    let above = CertificateFacts::read(ca.der()).expect("a certificate");
    assert_eq!(signed.not_after, above.not_after);
}

#[test]
fn workload_below_the_intermediate_is_verified_by_centrals_root_through_the_chain_that_was_plugged_in() {
    let root = root("root");
    let ca = below(params("ca"), &root);
    let data = plugged_in(&ca, &ca.pem(), &root.pem());
    let mesh = MeshSigner::read(&data, SystemTime::now())
        .expect("good")
        .expect("not empty");
    let key = key();
    let signed = sign(&mesh, &key, DAY).expect("signed");
    assert_eq!(signed.chain[1..], [ca.der().clone()]);

    let issuer = Issuer::from_ca_cert_der(&signed.chain[0], &key).expect("a CA");
    let mut workload = CertificateParams::default();
    workload.is_ca = IsCa::ExplicitNoCa;
    workload.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let leaf_key = self::key();
    let leaf = workload.signed_by(&leaf_key, &issuer).expect("signed");
    let now = SystemTime::now();
    assert_eq!(
        verify_client(leaf.der(), &signed.chain, &[root.der().clone()], now),
        Ok(())
    );
    assert!(verify_client(leaf.der(), &signed.chain[..1], &[root.der().clone()], now).is_err());
}

#[test]
fn rsa_ca_signs_rsa_key_as_citadel_reads_both() {
    let data = entries(&[("ca-cert.pem", RSA_CERTIFICATE), ("ca-key.pem", RSA_KEY)]);
    let mesh = MeshSigner::read(&data, SystemTime::now())
        .expect("good")
        .expect("not empty");
    let request = CertificateRequest::check_of_mesh(&der(RSA_REQUEST)).expect("a good request");
    let remote = RemoteName::new("remote-1").expect("a DNS label");
    let wanted = Intermediate {
        remote: &remote,
        trust_domain: "mesh.test",
        lifetime: DAY,
    };
    let signed = mesh.sign(&request, &wanted, SystemTime::now()).expect("signed");
    let facts = CertificateFacts::read(&signed.chain[0]).expect("a certificate");
    assert_eq!((facts.pin, facts.path_length), (request.key(), Some(0)));
    let root = CertificateDer::from_pem_slice(RSA_CERTIFICATE.as_bytes()).expect("PEM");
    assert!(super::super::path::is_issuer(&root, &signed.chain[0]));
}

#[test]
fn weak_key_and_one_that_citadel_cannot_read_are_refused_by_name() {
    let weak = CertificateRequest::check_of_mesh(&der(WEAK_REQUEST)).expect_err("too weak");
    assert_eq!(weak, RequestError::MeshKeyKind("an RSA key of 1024 bits".to_owned()));
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let request = CertificateParams::default().serialize_request(&key).expect("a request");
    let other = CertificateRequest::check_of_mesh(request.der()).expect_err("no key for Citadel");
    assert_eq!(other, RequestError::MeshKeyKind("an Ed25519 key".to_owned()));
    // On the link it is the other way round.
    assert!(CertificateRequest::check(&der(RSA_REQUEST)).is_err());
}

#[test]
fn request_that_its_key_did_not_sign_is_refused() {
    let mut der = der(RSA_REQUEST);
    let last = der.len() - 1;
    der[last] ^= 1;
    let refused = CertificateRequest::check_of_mesh(&der).expect_err("no proof of possession");
    assert_eq!(refused, RequestError::Signature);
}

fn der(pem: &str) -> Vec<u8> {
    let request = rustls::pki_types::CertificateSigningRequestDer::from_pem_slice(pem.as_bytes());
    request.expect("PEM").to_vec()
}
