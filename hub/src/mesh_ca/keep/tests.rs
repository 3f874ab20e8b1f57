use super::super::test_authorities::{Ca, root, self_signed};
use super::*;

fn now() -> SystemTime {
    SystemTime::now()
}

fn signer(ca: &Ca) -> MeshSigner {
    MeshSigner::read(&self_signed(ca), now())
        .expect("good")
        .expect("not empty")
}

fn fingerprints(roots: &MeshRoots) -> Vec<Fingerprint> {
    roots.roots.iter().map(|root| root.fingerprint).collect()
}

#[test]
fn new_ca_is_written_with_its_root_first_and_the_earlier_one_stays() {
    let (old, new) = (root("old"), root("new"));
    let before = wanted(&MeshRoots::default(), &signer(&old), true, now());
    assert_eq!(before.signer, Some(signer(&old).pin));
    let after = wanted(&before, &signer(&new), true, now());
    assert_eq!(after.signer, Some(signer(&new).pin));
    assert_eq!(
        fingerprints(&after),
        [Fingerprint::of(new.der()), Fingerprint::of(old.der())]
    );
    assert_eq!(wanted(&after, &signer(&new), true, now()), after);
}

#[test]
fn replica_whose_watch_is_behind_does_not_write_the_old_signer_back() {
    let (old, new) = (root("old"), root("new"));
    let written = MeshRoots::default()
        .with(signer(&old).pin, &signer(&old).roots, Timestamp::UNIX_EPOCH)
        .with(signer(&new).pin, &signer(&new).roots, Timestamp::UNIX_EPOCH);
    assert_eq!(wanted(&written, &signer(&old), false, now()), written);
}

#[test]
fn root_that_was_forgotten_does_not_come_back_but_that_of_the_signer_does() {
    let (old, new) = (root("old"), root("new"));
    let mut forgotten = MeshRoots::default().with(signer(&new).pin, &signer(&new).roots, Timestamp::UNIX_EPOCH);
    assert_eq!(wanted(&forgotten, &signer(&new), false, now()), forgotten);
    forgotten.roots.clear();
    forgotten.add(&signer(&old).roots, Timestamp::UNIX_EPOCH);
    let restored = wanted(&forgotten, &signer(&new), false, now());
    assert!(restored.holds(&signer(&new).roots));
}

#[test]
fn what_else_stands_at_the_config_map_stays_and_its_version_guards_the_write() {
    let roots = MeshRoots::default().with(signer(&root("a")).pin, &[], Timestamp::UNIX_EPOCH);
    let made = body(None, "mesh", &roots);
    assert_eq!(made.metadata.resource_version, None);
    assert_eq!(roots_of(Some(&made)).signer, roots.signer);
    let mut found = made.clone();
    found.metadata.resource_version = Some("7".to_owned());
    found.metadata.annotations = Some(BTreeMap::from([("a".to_owned(), "b".to_owned())]));
    let next = body(Some(&found), "mesh", &MeshRoots::default());
    assert_eq!(next.metadata, found.metadata);
    assert_eq!(next.data, Some(BTreeMap::new()));
}
