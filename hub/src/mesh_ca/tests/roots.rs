use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use remote_istio::enrolment::Pin;
use remote_istio::limits;
use remote_istio::wire::v1;

use super::super::roots::{Fingerprint, MeshRoots};
use super::super::test_authorities::{Ca, root};

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_800_000_000 + seconds)
}

fn pin(ca: &Ca) -> Pin {
    Pin::of_certificate(ca.der()).expect("a certificate")
}

fn one(ca: &Ca) -> MeshRoots {
    MeshRoots::default().with(pin(ca), &[ca.der().clone()], at(0))
}

#[test]
fn roots_read_back_as_they_were_written() {
    let (old, new) = (root("old"), root("new"));
    let roots = one(&old).with(pin(&new), &[new.der().clone()], at(60));
    let written = roots.write();
    assert_eq!(MeshRoots::read(&written), roots);
    assert!(written.values().all(|text| !text.contains("PRIVATE")));
    assert_eq!(written.len(), 6);
}

#[test]
fn remotes_are_told_the_signers_root_first_then_the_newest() {
    let (oldest, old, new) = (root("oldest"), root("old"), root("new"));
    let roots =
        one(&oldest)
            .with(pin(&old), &[old.der().clone()], at(60))
            .with(pin(&new), &[new.der().clone()], at(120));
    let expected = v1::MeshTrust {
        signer: pin(&new).as_bytes().to_vec(),
        roots: [&new, &old, &oldest].map(|ca| ca.der().to_vec()).to_vec(),
    };
    assert_eq!(roots.trust(), Some(expected));
    // Back to one that is known: its time stays.
    let back = roots.with(pin(&old), &[old.der().clone()], at(180));
    let told = back.trust().expect("there is a CA").roots;
    assert_eq!(told, [&old, &new, &oldest].map(|ca| ca.der().to_vec()));
}

#[test]
fn no_more_roots_are_told_than_a_trust_holds_and_the_signers_is_among_them() {
    let first = root("first");
    let mut roots = one(&first);
    for number in 0..limits::MESH_ROOTS {
        let later = root(&format!("later {number}"));
        roots.add(&[later.der().clone()], at(60));
    }
    let told = roots.trust().expect("there is a CA").roots;
    assert_eq!((told.len(), &told[0]), (limits::MESH_ROOTS, &first.der().to_vec()));
}

#[test]
fn nothing_is_told_before_a_ca_was_found_and_what_cannot_be_read_is_left_out() {
    assert_eq!(MeshRoots::default().trust(), None);
    let ca = root("mesh");
    let mut data = one(&ca).write();
    let other = Fingerprint::of(b"other");
    data.extend([
        (format!("root-{other}.pem"), "no certificate".to_owned()),
        (
            "root-00.pem".to_owned(),
            one(&ca).write().into_values().last().unwrap_or_default(),
        ),
        ("note".to_owned(), "of a person".to_owned()),
    ]);
    assert_eq!(MeshRoots::read(&data), one(&ca));
    assert_eq!(MeshRoots::read(&BTreeMap::new()), MeshRoots::default());
    // A trust whose signer's root is not there would be none.
    data.retain(|_, text| !text.contains("BEGIN CERTIFICATE"));
    assert_eq!(MeshRoots::read(&data).trust(), None);
}

#[test]
fn fingerprint_is_what_openssl_prints() {
    let shown = Fingerprint::of(b"abc").to_string();
    assert_eq!(
        shown,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
}
