use std::fs;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::test_ca::{Directory, LeafParams, TRUST_DOMAIN, TestCa, WrongBy};
use super::*;
use crate::identity::IdentityError;

fn problem(directory: &Directory) -> (TlsFile, Problem) {
    let error = TlsSource::load(directory.files.clone(), TRUST_DOMAIN).expect_err("wrong files");
    assert!(error.to_string().starts_with(&format!(
        "{} {}: ",
        error.file,
        directory.files.path(error.file).display()
    )));
    (error.file, error.problem)
}

#[test]
fn good_files_tell_who_this_process_is() {
    let ca = TestCa::new();
    let directory = Directory::new(&ca.leaf(LeafParams::remote("remote-1")), &ca.bundle());
    let source = TlsSource::load(directory.files.clone(), TRUST_DOMAIN).expect("good files");
    let own = source.own();
    assert_eq!(own.identity.uri(TRUST_DOMAIN), "spiffe://mesh.test/remote/remote-1");
    assert!(own.not_after > SystemTime::now());
    assert!(!own.serial.is_empty() && own.serial.bytes().all(|byte| byte.is_ascii_hexdigit()));
}

#[test]
fn file_that_is_missing_empty_or_something_else_is_named() {
    let ca = TestCa::new();
    let good = ca.leaf(LeafParams::hub());
    for file in [TlsFile::Certificate, TlsFile::Key, TlsFile::TrustBundle] {
        let directory = Directory::new(&good, &ca.bundle());
        let path = directory.files.path(file).to_owned();
        fs::write(&path, "\n").expect("written");
        assert!(matches!(problem(&directory), (of, Problem::Empty) if of == file));
        fs::write(&path, "no PEM at all").expect("written");
        let (of, none) = problem(&directory);
        assert_eq!(of, file);
        assert_eq!(matches!(none, Problem::NoKey), file == TlsFile::Key, "{none}");
        assert_eq!(matches!(none, Problem::NoCertificate), file != TlsFile::Key, "{none}");
        fs::write(&path, vec![b'a'; 2 * 1024 * 1024]).expect("written");
        assert!(matches!(problem(&directory), (of, Problem::TooLarge(_)) if of == file));
        fs::remove_file(&path).expect("removed");
        assert!(matches!(problem(&directory), (of, Problem::Unreadable(_)) if of == file));
    }
}

#[test]
fn pair_that_cannot_be_used_is_refused_with_its_reason() {
    let ca = TestCa::new();
    let good = ca.leaf(LeafParams::hub());
    let with = |leaf: LeafParams| problem(&Directory::new(&ca.leaf(leaf), &ca.bundle()));

    let directory = Directory::new(&good, &ca.bundle());
    directory.write(&good.certificate, &ca.leaf(LeafParams::hub()).key);
    assert!(matches!(
        problem(&directory),
        (TlsFile::Key, Problem::KeyOfAnotherCertificate)
    ));

    assert!(matches!(
        with(LeafParams::hub().expired()),
        (TlsFile::Certificate, Problem::Expired { .. })
    ));

    let none = LeafParams {
        uris: Vec::new(),
        ..LeafParams::hub()
    };
    assert!(matches!(
        with(none),
        (TlsFile::Certificate, Problem::Identity(IdentityError::UriCount(0, _)))
    ));

    let foreign = LeafParams {
        uris: vec!["spiffe://other.test/hub".to_owned()],
        ..LeafParams::hub()
    };
    assert!(matches!(
        with(foreign),
        (
            TlsFile::Certificate,
            Problem::Identity(IdentityError::TrustDomain { .. })
        )
    ));
}

#[test]
fn certificate_of_tomorrow_is_not_valid_yet_and_says_so() {
    let ca = TestCa::new();
    let pair = ca.leaf(LeafParams::hub().fresh());
    let yesterday = Arc::new(WrongBy(-24 * 3600));
    let error = TlsSource::from_material_at(&pair.material(&ca.bundle()), "Secret a/b", TRUST_DOMAIN, yesterday)
        .expect_err("too early");
    assert!(matches!(error.problem, Problem::NotYetValid { .. }));
    let text = error.to_string();
    assert!(
        text.starts_with("Secret a/b, tls.crt: the certificate is not valid yet by this machine's clock (now "),
        "{text}"
    );
    assert!(
        text.contains(", valid from ") && text.ends_with("): correct the clock"),
        "{text}"
    );
}

#[test]
fn material_is_refused_under_the_name_of_its_secret() {
    let ca = TestCa::new();
    let (pair, other) = (ca.leaf(LeafParams::hub()), ca.leaf(LeafParams::hub()));
    let text = |material: &Material| {
        TlsSource::from_material(material, "Secret a/b", TRUST_DOMAIN)
            .expect_err("wrong material")
            .to_string()
    };
    let good = pair.material(&ca.bundle());
    let mut wrong = good.clone();
    wrong.key = other.key.clone().into_bytes();
    assert!(text(&wrong).starts_with("Secret a/b, tls.key: does not belong"));
    let mut wrong = good.clone();
    wrong.trust_bundle = Vec::new();
    assert_eq!(text(&wrong), "Secret a/b, ca.crt: is empty");
    let mut wrong = good;
    wrong.certificate = b"\n".to_vec();
    assert_eq!(text(&wrong), "Secret a/b, tls.crt: is empty");
}

#[test]
fn material_shows_no_key() {
    let ca = TestCa::new();
    let pair = ca.leaf(LeafParams::hub());
    let shown = format!("{:?}", pair.material(&ca.bundle()));
    let secret = pair.key.lines().nth(1).expect("a line of the key");
    assert!(shown.contains("BEGIN CERTIFICATE") && !shown.contains("PRIVATE KEY") && !shown.contains(secret));
    let source = TlsSource::from_material(&pair.material(&ca.bundle()), "Secret a/b", TRUST_DOMAIN).expect("good");
    assert!(!format!("{source:?}").contains(secret));
}

#[test]
fn material_is_replaced_whole_or_not_at_all() {
    let ca = TestCa::new();
    let (old, new) = (ca.leaf(LeafParams::hub()), ca.leaf(LeafParams::hub()));
    let source = TlsSource::from_material(&old.material(&ca.bundle()), "Secret a/b", TRUST_DOMAIN).expect("good");
    let (before, status) = (source.current(), source.status());

    let mut half = new.material(&ca.bundle());
    half.key = old.key.clone().into_bytes();
    let error = source.replace(&half).expect_err("half of each");
    assert!(matches!(error.problem, Problem::KeyOfAnotherCertificate));
    assert!(Arc::ptr_eq(&before, &source.current()));
    source.replace(&half).expect_err("still half of each");
    assert_eq!(
        *status.borrow(),
        ReloadStatus {
            reloads: 0,
            refused: 1,
            error: Some(error.to_string())
        }
    );

    source.replace(&new.material(&ca.bundle())).expect("good");
    assert_ne!(source.own().serial, before.own.serial);
    assert_eq!(
        *status.borrow(),
        ReloadStatus {
            reloads: 1,
            refused: 1,
            error: None
        }
    );
}

#[test]
fn own_certificate_says_when_it_began_and_who_signed_it() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let own = |ca: &TestCa| ca.source(LeafParams::hub().fresh()).own();
    let (one, two, foreign) = (own(&ca), own(&ca), own(&other));
    assert!(!one.issuer_key_id.is_empty());
    assert_eq!(one.issuer_key_id, two.issuer_key_id);
    assert_ne!(one.issuer_key_id, foreign.issuer_key_id);
    let age = SystemTime::now().duration_since(one.not_before).expect("backdated");
    assert!(age >= crate::limits::BACKDATED, "{age:?}");
}

#[test]
fn enrolment_chain_goes_on_with_the_bundle_once() {
    let (ca, other) = (TestCa::new(), TestCa::named("the next CA"));
    let pair = ca.leaf(LeafParams::hub()).below(&ca);
    let material = pair.material(&[ca.bundle(), other.bundle()].concat());
    let chain = |pem: &[u8]| super::build::certificates(pem).expect("PEM");
    let presented = super::build::with_bundle(&chain(&material.certificate), &chain(&material.trust_bundle));
    assert_eq!(presented, [pair.certificate_der, ca.root(), other.root()]);
}

#[test]
fn trust_domain_that_is_no_dns_name_is_refused() {
    let ca = TestCa::new();
    let directory = Directory::new(&ca.leaf(LeafParams::hub()), &ca.bundle());
    let error = TlsSource::load(directory.files.clone(), "not a name").expect_err("no trust domain");
    assert!(error.to_string().contains("--trust-domain"));
}

#[test]
fn half_written_pair_keeps_the_old_one_and_counts_once() {
    let ca = TestCa::new();
    let (old, new) = (ca.leaf(LeafParams::hub()), ca.leaf(LeafParams::hub()));
    let directory = Directory::new(&old, &ca.bundle());
    let source = TlsSource::load(directory.files.clone(), TRUST_DOMAIN).expect("good files");
    let (serial, status) = (source.own().serial, source.status());

    directory.write(&new.certificate, &old.key);
    source.reload();
    source.reload();
    assert_eq!(source.own().serial, serial);
    let ReloadStatus {
        reloads: 0,
        refused: 1,
        error: Some(error),
    } = status.borrow().clone()
    else {
        panic!("{:?}", status.borrow());
    };
    assert!(error.contains("does not belong to the certificate"), "{error}");

    fs::remove_file(&directory.files.key).expect("removed");
    source.reload();
    source.reload();
    assert_eq!((source.own().serial, status.borrow().refused), (serial.clone(), 2));

    directory.write(&new.certificate, &new.key);
    source.reload();
    assert_ne!(source.own().serial, serial);
    assert_eq!(
        *status.borrow(),
        ReloadStatus {
            reloads: 1,
            refused: 2,
            error: None
        }
    );
}

#[test]
fn old_files_put_back_are_no_reload_and_no_error() {
    let ca = TestCa::new();
    let old = ca.leaf(LeafParams::hub());
    let directory = Directory::new(&old, &ca.bundle());
    let source = TlsSource::load(directory.files.clone(), TRUST_DOMAIN).expect("good files");
    let before = source.current();
    directory.write(&old.certificate, "");
    source.reload();
    directory.write(&old.certificate, &old.key);
    source.reload();
    assert!(Arc::ptr_eq(&before, &source.current()));
    assert_eq!(
        *source.status().borrow(),
        ReloadStatus {
            reloads: 0,
            refused: 1,
            error: None
        }
    );
}

#[tokio::test]
async fn reload_loop_finds_new_files() {
    let ca = TestCa::new();
    let directory = Directory::new(&ca.leaf(LeafParams::hub()), &ca.bundle());
    let source = TlsSource::load(directory.files.clone(), TRUST_DOMAIN).expect("good files");
    let (mut status, stop, serial) = (source.status(), CancellationToken::new(), source.own().serial);
    let reloading = tokio::spawn(Arc::clone(&source).reload_loop(stop.clone()));
    let new = ca.leaf(LeafParams::hub());
    directory.write(&new.certificate, &new.key);
    let reloaded = status.wait_for(|status| status.reloads == 1);
    tokio::time::timeout(Duration::from_mins(1), reloaded)
        .await
        .expect("in time")
        .expect("the source lives");
    assert_ne!(source.own().serial, serial);
    stop.cancel();
    reloading.await.expect("the loop ends when asked");
}

#[test]
fn no_configuration_gives_tickets_or_keeps_sessions() {
    let config = TestCa::new().source(LeafParams::hub()).current();
    for server in [&config.server, &config.enrolment] {
        assert_eq!(server.send_tls13_tickets, 0);
        assert!(!server.session_storage.can_cache() && !server.ticketer.enabled());
    }
}
