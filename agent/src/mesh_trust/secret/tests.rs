use super::super::chain::tests::{MeshCa, labels, life, now, signed};
use super::*;

fn found() -> Found {
    let ca = MeshCa::new("mesh");
    signed(&ca, &ca.trust(&[]), life(now()))
}

/// The same, after somebody wrote something else into it.
fn edited(found: &Found, edit: impl FnOnce(&mut BTreeMap<String, ByteString>)) -> Found {
    let mut secret = found.secret.clone();
    edit(secret.data.as_mut().expect("data"));
    Found::new(secret, &labels())
}

fn text(found: &Found, name: &str) -> String {
    String::from_utf8(found.entry(name).expect("an entry").to_vec()).expect("text")
}

#[test]
fn new_secret_holds_what_citadel_reads_and_says_whose_it_is() {
    let ca = MeshCa::plugged_in("mesh");
    let found = signed(&ca, &ca.trust(&[]), life(now()));
    assert!(found.is_ours());
    assert_eq!(found.lacks(), Vec::<&str>::new());
    assert_eq!(found.life(), Ok(life(now())));
    assert!(found.is_signed_by(&ca.trust(&[]).signer));
    assert!(found.has_roots(&[ca.root()]));
    let (certificate, chain, roots) = (text(&found, CERTIFICATE), text(&found, CHAIN), text(&found, ROOTS));
    assert!(chain.starts_with(&certificate), "workloads send the intermediate first");
    assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(!chain.contains(&roots), "the root does not travel");
    assert_eq!(found.secret.type_.as_deref(), Some("Opaque"));
}

#[test]
fn only_a_secret_with_all_labels_is_ours() {
    let found = found();
    for label in labels().keys() {
        let mut secret = found.secret.clone();
        secret.metadata.labels.as_mut().expect("labels").remove(label);
        assert!(!Found::new(secret, &labels()).is_ours(), "without {label}");
    }
    let mut secret = found.secret.clone();
    secret
        .metadata
        .labels
        .as_mut()
        .expect("labels")
        .insert("owner".to_owned(), "another".to_owned());
    assert!(!Found::new(secret, &labels()).is_ours(), "of another remote");
}

#[test]
fn every_edit_is_noticed_and_the_hash_tells_citadel() {
    let (found, other) = (found(), found());
    for name in [CERTIFICATE, KEY, CHAIN] {
        let exchanged = edited(&found, |data| {
            let value = other.secret.data.as_ref().expect("data")[name].clone();
            data.insert(name.to_owned(), value);
        });
        assert!(exchanged.life().is_err(), "{name} exchanged");
        assert_ne!(exchanged.hash(), found.hash(), "{name}");
        let removed = edited(&found, |data| drop(data.remove(name)));
        assert!(removed.life().is_err(), "{name} removed");
        assert_eq!(removed.lacks(), [name]);
    }
    let rooted = Found::new(found.with_roots(&[b"other".to_vec()]), &labels());
    assert!(rooted.life().is_ok(), "the intermediate is as it was");
    assert!(rooted.has_roots(&[b"other".to_vec()]) && !rooted.has_roots(&[]));
    assert_ne!(rooted.hash(), found.hash());
}

#[test]
fn ca_of_somebody_else_in_our_secret_is_told_from_damage() {
    let (found, other) = (found(), found());
    let with = |names: &[&str]| {
        edited(&found, |data| {
            for name in names {
                let value = other.secret.data.as_ref().expect("data")[*name].clone();
                data.insert((*name).to_owned(), value);
            }
        })
    };
    assert!(!found.is_replaced());
    assert!(with(&[CERTIFICATE, KEY]).is_replaced());
    assert!(with(&ENTRIES).is_replaced());
    for damage in [&[CERTIFICATE][..], &[KEY], &[CHAIN], &[ROOTS]] {
        assert!(!with(damage).is_replaced(), "{damage:?}");
    }
    let mut secret = found.secret.clone();
    secret.metadata.annotations = None;
    assert!(Found::new(secret, &labels()).is_replaced(), "written by nobody known");
    let incomplete = edited(&with(&[CERTIFICATE, KEY]), |data| drop(data.remove(ROOTS)));
    assert!(!incomplete.is_replaced());
}

#[test]
fn empty_chain_is_a_chain_and_an_empty_key_is_none() {
    let found = found();
    let emptied = edited(&found, |data| {
        data.insert(CHAIN.to_owned(), ByteString::default());
        data.insert(KEY.to_owned(), ByteString::default());
    });
    assert_eq!(emptied.lacks(), [KEY]);
}

#[test]
fn secret_that_is_let_go_stays_as_it_is_and_is_the_users() {
    let mut secret = found().secret.clone();
    let others = ("theirs".to_owned(), "kept".to_owned());
    secret.metadata.labels.get_or_insert_default().extend([others.clone()]);
    secret
        .metadata
        .annotations
        .get_or_insert_default()
        .extend([others.clone()]);
    let released = Found::new(secret, &labels()).let_go(&labels());
    assert_eq!(released.metadata.labels, Some([others.clone()].into()));
    assert_eq!(released.metadata.annotations, Some([others].into()));
    let after = Found::new(released, &labels());
    assert!(!after.is_ours());
    assert_eq!(after.lacks(), Vec::<&str>::new());
}

#[test]
fn new_intermediate_keeps_what_others_wrote_beside_it() {
    let (found, ca) = (found(), MeshCa::new("next"));
    let beside = edited(&found, |data| {
        drop(data.insert("theirs".to_owned(), ByteString(b"kept".to_vec())));
    });
    let key = CaKey::generate().expect("a key");
    let answer = ca.sign(&key.request().expect("a request"), life(now()));
    let issued = Issued::read(answer, &key, now()).expect("usable");
    let next = Found::new(beside.with(&issued, &key).expect("a Secret"), &labels());
    assert_eq!(next.entry("theirs"), Some(&b"kept"[..]));
    assert_eq!(next.uid(), found.uid());
    assert!(next.life().is_ok() && next.is_signed_by(&ca.trust(&[]).signer));
}

#[test]
fn nothing_of_the_key_is_shown() {
    let shown = format!("{:?}", found());
    assert!(!shown.contains("data") && !shown.contains("PRIVATE"), "{shown}");
}
