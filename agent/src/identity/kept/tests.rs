use std::sync::LazyLock;

use super::*;
use crate::test_ca::{TRUST_DOMAIN, TestCa, Validity};

pub(in crate::identity) const TOKEN_ID: &str = "abcdefgh";

static CA: LazyLock<TestCa> = LazyLock::new(TestCa::new);

/// An identity of remote-1, issued now.
pub(in crate::identity) fn kept() -> Kept {
    kept_of(&CA, Validity::fresh())
}

/// An identity of remote-1.
pub(in crate::identity) fn kept_of(ca: &TestCa, validity: Validity) -> Kept {
    let key = PrivateKey::generate().expect("a key");
    let request = key.request().expect("a request");
    Kept {
        key: Arc::new(key),
        trust: ca.trust(3, "hub.test:8444", "hub.test:8443"),
        certificate: certificate(ca, &request, "remote/remote-1", validity),
        received: None,
        token: Some(TOKEN_ID.to_owned()),
    }
}

fn certificate(ca: &TestCa, request: &[u8], path: &str, validity: Validity) -> Certificate {
    Certificate::read(&ca.certify(request, path, validity), TRUST_DOMAIN).expect("a certificate of a remote")
}

fn entries(kept: &Kept) -> Entries {
    let mut entries = Entries::new();
    kept.write(None, &mut entries);
    entries
}

/// What can be compared of an identity.
fn facts(kept: &Kept) -> (Vec<u8>, Trust, Certificate, Option<String>) {
    (
        kept.key.pem().to_vec(),
        kept.trust.clone(),
        kept.certificate.clone(),
        kept.token.clone(),
    )
}

fn read_back(entries: &Entries) -> Kept {
    match read(entries) {
        Contents::Kept(kept) => *kept,
        other => panic!("no identity: {other:?}"),
    }
}

fn damage(entries: &Entries) -> String {
    match read(entries) {
        Contents::Damaged(why) => why,
        other => panic!("not damaged: {other:?}"),
    }
}

#[test]
fn identity_reads_back_and_leaves_no_other_key_behind() {
    let kept = kept();
    let mut entries = entries(&kept);
    entries.insert(
        NEXT_KEY.to_owned(),
        PrivateKey::generate().expect("a key").pem().to_vec(),
    );
    entries.insert("of.another".to_owned(), b"stays".to_vec());
    kept.write(None, &mut entries);
    assert_eq!(facts(&read_back(&entries)), facts(&kept));
    let names: Vec<&str> = entries.keys().map(String::as_str).collect();
    assert_eq!(names, [ROOTS, LINK, "of.another", CERTIFICATE, KEY]);
}

#[test]
fn time_of_receipt_reads_back() {
    let received = Some(UNIX_EPOCH + Duration::from_millis(1_700_000_000_123));
    let kept = Kept { received, ..kept() };
    assert_eq!(read_back(&entries(&kept)).received, received);
}

#[test]
fn empty_secret_holds_nothing() {
    let blank: Entries = [KEY, CERTIFICATE].map(|name| (name.to_owned(), Vec::new())).into();
    let only_a_request: Entries = [(NEXT_KEY.to_owned(), b"x".to_vec())].into();
    for entries in [Entries::new(), blank, only_a_request] {
        assert!(matches!(read(&entries), Contents::Nothing), "{entries:?}");
    }
}

#[test]
fn half_written_pair_is_read_by_whichever_key_fits() {
    let (old, new) = (kept(), kept());
    let mut torn = entries(&old);
    torn.insert(KEY.to_owned(), new.key.pem().to_vec());
    assert!(damage(&torn).contains("tls.key is not the key of the certificate in tls.crt"));
    torn.insert(NEXT_KEY.to_owned(), old.key.pem().to_vec());
    assert_eq!(facts(&read_back(&torn)), facts(&old));
}

#[test]
fn what_is_missing_or_damaged_is_named_and_no_key_is_repeated() {
    let kept = kept();
    for name in [KEY, CERTIFICATE, ROOTS, LINK] {
        let mut without = entries(&kept);
        without.remove(name);
        assert!(damage(&without).contains(name), "{}", damage(&without));
        let mut garbled = entries(&kept);
        garbled.insert(name.to_owned(), b"-----BEGIN CERTIFICATE-----\ngarbage".to_vec());
        let why = damage(&garbled);
        assert!(why.contains(name), "{name}: {why}");
    }
    let body = String::from_utf8(kept.key.pem().to_vec()).expect("PEM");
    let body = body.lines().nth(1).expect("a body");
    assert!(!format!("{kept:?}").contains(body));
}

#[test]
fn key_of_a_request_under_way_is_found() {
    let key = PrivateKey::generate().expect("a key");
    let entries: Entries = [(NEXT_KEY.to_owned(), key.pem().to_vec())].into();
    assert_eq!(next_key(&entries).expect("a key").pem(), key.pem());
    assert!(next_key(&Entries::new()).is_none());
    let in_use: Entries = [KEY, NEXT_KEY].map(|name| (name.to_owned(), key.pem().to_vec())).into();
    assert!(
        next_key(&in_use).is_none(),
        "a renewal takes another key than the one in use"
    );
}

#[test]
fn certificate_of_another_signer_is_told_by_the_key_that_signed_it() {
    let (old, new) = (TestCa::new(), TestCa::new());
    let mut kept = kept_of(&old, Validity::fresh());
    assert!(!kept.is_of_an_older_signer());
    let rolled = new.trust(4, "hub.test:8444", "hub.test:8443");
    kept.trust.roots.extend(rolled.roots);
    assert!(!kept.is_of_an_older_signer(), "a root more is no other signer");
    kept.trust.signer = rolled.signer;
    assert!(kept.is_of_an_older_signer());
}

#[test]
fn certificate_that_stands_for_no_remote_of_the_trust_domain_is_refused() {
    let request = PrivateKey::generate().expect("a key").request().expect("a request");
    let read = |path: &str, domain: &str| Certificate::read(&CA.certify(&request, path, Validity::fresh()), domain);
    assert!(read("remote/remote-1", TRUST_DOMAIN).is_ok());
    assert!(read("hub", TRUST_DOMAIN).is_err());
    assert!(read("remote/remote-1", "other.test").is_err());
    assert!(Certificate::read(&[], TRUST_DOMAIN).is_err());
    let leaf = CA.certify(&request, "remote/remote-1", Validity::fresh());
    let long = vec![leaf[0].clone(); limits::CHAIN_MAX + 1];
    assert!(Certificate::read(&long, TRUST_DOMAIN).is_err());
}
