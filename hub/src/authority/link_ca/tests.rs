use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use rcgen::{ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256};
use remote_istio::enrolment::certificate_pem;
use remote_istio::identity::Identity;
use remote_istio::limits;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::UnixTime;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::*;
use crate::authority::certificate::{seconds_of, verify_client};
use crate::authority::test_authorities::{
    Ca, DAY, Data, TRUST_DOMAIN, below, brought, brought_root, ca_params, date, issued, made, read, remote, request,
    root, today,
};

fn parsed(der: &[u8]) -> X509Certificate<'_> {
    X509Certificate::from_der(der).expect("a certificate").1
}

/// A Secret, the entry that is wrong, and whether a problem is the expected one.
type Case = (Data, &'static str, fn(&CaProblem) -> bool);

fn problem(data: &Data) -> CaError {
    LinkCa::from_secret(data, today()).expect_err("it is wrong")
}

fn entry(data: &Data, name: &str) -> String {
    String::from_utf8(data[name].clone()).expect("PEM is text")
}

fn with(data: &Data, name: &str, text: &str) -> Data {
    let mut changed = data.clone();
    changed.insert(name.to_owned(), text.as_bytes().to_vec());
    changed
}

#[test]
fn made_ca_is_one_root_for_ten_years_that_may_have_one_ca_below() {
    let ca = made();
    assert_eq!((ca.stage(), ca.epoch(), ca.pin()), (Stage::Stable, 1, ca.signer()));
    let [facts] = ca.root_facts().try_into().expect("one root");
    assert_eq!((facts.pin, facts.signs), (ca.signer(), true));
    assert!(facts.name.contains("O=mesh.test"), "{}", facts.name);
    assert!(
        facts.name.contains("CN=remote-istio link CA 2027-01-15 "),
        "{}",
        facts.name
    );
    assert!(facts.not_after >= today() + 3650 * DAY);
    assert_eq!(facts.not_after, ca.signer_end());

    let root = parsed(&ca.roots()[0]);
    let constraints = root.basic_constraints().expect("readable").expect("constraints");
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(1));
    let usage = root.key_usage().expect("readable").expect("a usage");
    assert!(usage.critical && usage.value.key_cert_sign() && !usage.value.digital_signature());
    let begins = seconds_of(today() - DAY);
    assert_eq!(u64::try_from(root.validity().not_before.timestamp()), Ok(begins));
}

#[test]
fn ca_that_a_command_made_with_a_clock_hours_ahead_is_usable_now() {
    let ahead = today() + Duration::from_hours(23);
    let created = LinkCa::create("mesh.test", ahead).expect("a CA");
    let begun = made().begin(ahead).expect("begun");
    for ca in [created, begun.switch().expect("switched"), begun] {
        let read = LinkCa::from_secret(&ca.to_secret(), today()).expect("usable now");
        assert!(read.is_some());
    }
}

#[test]
fn two_roots_of_one_day_have_two_names() {
    let names: BTreeSet<_> = [made(), made()]
        .iter()
        .map(|ca| ca.root_facts()[0].name.clone())
        .collect();
    assert_eq!(names.len(), 2);
}

#[test]
fn certificate_of_a_hub_serves_and_dials_under_its_names() {
    let ca = made();
    let leaf = Leaf {
        identity: &Identity::Hub,
        names: &["hub.test".to_owned(), "10.0.0.1".to_owned(), "2001:db8::1".to_owned()],
        trust_domain: TRUST_DOMAIN,
        not_before: today(),
        not_after: today() + DAY,
    };
    let issued = ca
        .issue(&KeyPair::generate().expect("a key"), &leaf)
        .expect("it is signed");
    let certificate = parsed(&issued.chain[0]);
    let names = certificate
        .subject_alternative_name()
        .expect("readable")
        .expect("names")
        .value;
    let version_6 = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    assert_eq!(
        names.general_names,
        [
            GeneralName::DNSName("hub.test"),
            GeneralName::IPAddress(&[10, 0, 0, 1]),
            GeneralName::IPAddress(&version_6),
            GeneralName::URI("spiffe://mesh.test/hub"),
        ]
    );
    let usages = certificate
        .extended_key_usage()
        .expect("readable")
        .expect("usages")
        .value;
    assert!(usages.server_auth && usages.client_auth && !usages.any);
    assert_eq!((issued.not_before, issued.not_after), (today(), today() + DAY));
    assert_eq!(issued.signer, ca.signer());
}

#[test]
fn certificate_names_its_signer_and_has_a_random_serial() {
    let ca = made();
    let own = parsed(&ca.roots()[0])
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(own) => Some(own.0.to_vec()),
            _ => None,
        });
    let mut serials = BTreeSet::new();
    for _ in 0..50 {
        let one = issued(&ca);
        let certificate = parsed(&one.chain[0]);
        let names_signer = certificate
            .extensions()
            .iter()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(key) => Some(key.key_identifier.as_ref()?.0.to_vec()),
                _ => None,
            });
        assert_eq!(names_signer, own);
        assert_eq!(one.serial, remote_istio::enrolment::hex(certificate.raw_serial()));
        assert!((30..=34).contains(&one.serial.len()), "{}", one.serial);
        serials.insert(one.serial);
    }
    assert_eq!(serials.len(), 50);
}

#[test]
fn certificate_never_outlives_its_ca() {
    let mut params = ca_params("ends soon");
    params.not_after = date(today() + Duration::from_mins(10));
    let ca = read(&brought_root(&root(params)));
    assert_eq!(issued(&ca).not_after, today() + Duration::from_mins(10));

    let later = Leaf {
        identity: &remote(),
        names: &[],
        trust_domain: TRUST_DOMAIN,
        not_before: today() + Duration::from_mins(20),
        not_after: today() + DAY,
    };
    let (request, _) = request();
    assert!(matches!(ca.issue(&request, &later), Err(IssueError::CaEnded(_))));
    let none = Leaf {
        not_after: later.not_before,
        ..later
    };
    assert!(matches!(made().issue(&request, &none), Err(IssueError::Period { .. })));
}

#[test]
fn certificate_begins_and_ends_on_whole_seconds_within_what_was_asked() {
    let half = Duration::from_millis(500);
    let leaf = Leaf {
        identity: &remote(),
        names: &[],
        trust_domain: TRUST_DOMAIN,
        not_before: today() + half,
        not_after: today() + DAY + half,
    };
    let issued = made().issue(&request().0, &leaf).expect("it is signed");
    assert_eq!(issued.not_before, today() + Duration::from_secs(1));
    assert_eq!(issued.not_after, today() + DAY);
}

#[test]
fn ca_reads_back_from_its_secret_at_every_stage() {
    let begun = made().begin(today()).expect("begun");
    let switched = begun.switch().expect("switched");
    let dropped = switched.drop_old().expect("dropped");
    let stages = [made(), begun, switched, dropped];
    for ca in &stages {
        let again = read(&ca.to_secret());
        assert!(again.is_same(ca), "{ca:?}");
        assert_eq!(again.pin(), ca.pin());
        assert_eq!(again.to_secret(), ca.to_secret());
        assert!(
            verify_client(
                &issued(&again).chain[0],
                &issued(&again).chain[1..],
                ca.roots(),
                today()
            )
            .is_ok()
        );
    }
    for (number, ca) in stages.iter().enumerate() {
        for other in &stages[..number] {
            assert!(!ca.is_same(other), "{ca:?} {other:?}");
        }
    }
}

#[test]
fn secret_that_holds_nothing_of_a_ca_is_empty() {
    for data in [
        Data::new(),
        Data::from([
            ("tls.crt".to_owned(), Vec::new()),
            ("tls.key".to_owned(), b" \n".to_vec()),
        ]),
        Data::from([("note".to_owned(), b"of somebody".to_vec())]),
    ] {
        assert!(LinkCa::from_secret(&data, today()).expect("not wrong").is_none());
    }
}

#[test]
fn secret_of_which_an_entry_is_wrong_is_refused_with_its_name() {
    let good = brought_root(&root(ca_params("good")));
    let made = made().begin(today()).expect("begun").to_secret();
    let no_pem = "something else";
    let large = certificate_pem(&vec![0; limits::CERTIFICATE_MAX_BYTES + 1]);
    let many = entry(&good, "ca.crt").repeat(limits::TRUST_ROOTS + 1);
    let many_links = entry(&good, "tls.crt").repeat(limits::CHAIN_MAX);
    let key_as_certificate = entry(&good, "tls.key");
    let cases: Vec<Case> = vec![
        (with(&good, "tls.crt", ""), "tls.crt", |problem| {
            *problem == CaProblem::Missing
        }),
        (with(&good, "tls.key", " "), "tls.key", |problem| {
            *problem == CaProblem::Missing
        }),
        (with(&good, "ca.crt", ""), "ca.crt", |problem| {
            *problem == CaProblem::Missing
        }),
        (with(&good, "tls.crt", no_pem), "tls.crt", |problem| {
            *problem == CaProblem::NoCertificate
        }),
        (with(&good, "tls.crt", &key_as_certificate), "tls.crt", |problem| {
            *problem == CaProblem::NoCertificate
        }),
        (with(&good, "ca.crt", no_pem), "ca.crt", |problem| {
            *problem == CaProblem::NoCertificate
        }),
        (with(&good, "tls.key", no_pem), "tls.key", |problem| {
            *problem == CaProblem::NoKey
        }),
        (
            with(&good, "tls.crt", &certificate_pem(b"no certificate")),
            "tls.crt",
            |problem| *problem == CaProblem::Unreadable(0),
        ),
        (
            with(&good, "ca.crt", &certificate_pem(b"no certificate")),
            "ca.crt",
            |problem| *problem == CaProblem::Unreadable(0),
        ),
        (with(&good, "ca.crt", &large), "ca.crt", |problem| {
            *problem == CaProblem::TooLarge(0)
        }),
        (with(&good, "ca.crt", &many), "ca.crt", |problem| {
            matches!(problem, CaProblem::TooMany(..))
        }),
        (with(&good, "tls.crt", &many_links), "tls.crt", |problem| {
            matches!(problem, CaProblem::TooMany(..))
        }),
        (
            with(&good, "tls.crt", "-----BEGIN CERTIFICATE-----\nAA"),
            "tls.crt",
            |problem| matches!(problem, CaProblem::Damaged(_)),
        ),
        (with(&made, "epoch", "0"), "epoch", |problem| {
            *problem == CaProblem::Epoch
        }),
        (with(&made, "epoch", "one"), "epoch", |problem| {
            *problem == CaProblem::Epoch
        }),
        (with(&made, "epoch", ""), "epoch", |problem| {
            *problem == CaProblem::Missing
        }),
        (with(&made, "next.key", ""), "next.key", |problem| {
            *problem == CaProblem::Missing
        }),
        (with(&made, "next.crt", ""), "next.crt", |problem| {
            *problem == CaProblem::Missing
        }),
        (with(&made, "cross.crt", ""), "cross.crt", |problem| {
            *problem == CaProblem::Missing
        }),
        (
            with(&made, "cross.crt", &entry(&made, "tls.crt")),
            "cross.crt",
            |problem| matches!(problem, CaProblem::NotBelowRoots(_)),
        ),
        (
            with(&made, "next.key", &entry(&made, "tls.key")),
            "next.key",
            |problem| *problem == CaProblem::KeyOfAnotherCertificate,
        ),
        (with(&made, "ca.crt", &entry(&made, "tls.crt")), "ca.crt", |problem| {
            *problem == CaProblem::Lacks("next.crt")
        }),
    ];
    for (number, (data, entry, is_expected)) in cases.into_iter().enumerate() {
        let error = problem(&data);
        assert!(
            error.entry == entry && is_expected(&error.problem),
            "case {number}: {error}"
        );
        assert!(error.to_string().contains(entry));
    }
}

#[test]
fn secret_that_is_half_of_one_ca_and_half_of_another_is_refused() {
    let (one, two) = (
        brought_root(&root(ca_params("one"))),
        brought_root(&root(ca_params("one"))),
    );
    let names = ["tls.crt", "tls.key", "ca.crt"];
    for mask in 1..7_u8 {
        let mut mixed = one.clone();
        for (bit, name) in names.iter().enumerate() {
            if mask & (1 << bit) != 0 {
                mixed.insert((*name).to_owned(), two[*name].clone());
            }
        }
        let error = problem(&mixed);
        let fits = match error.problem {
            CaProblem::KeyOfAnotherCertificate => error.entry == "tls.key",
            CaProblem::NotBelowRoots(_) => error.entry == "ca.crt",
            _ => false,
        };
        assert!(fits, "{mask:03b}: {error}");
    }
}

#[test]
fn certificate_that_may_not_sign_now_is_no_ca() {
    let wrong = |change: fn(&mut rcgen::CertificateParams)| {
        let mut params = ca_params("wrong");
        change(&mut params);
        let data = brought_root(&root(params));
        let error = problem(&data);
        assert_eq!(error.entry, "tls.crt");
        error.problem
    };
    let no_ca = |problem| matches!(problem, CaProblem::NotACa(_));
    assert!(no_ca(wrong(|params| params.is_ca = IsCa::ExplicitNoCa)));
    assert!(no_ca(wrong(|params| params.is_ca = IsCa::NoCa)));
    assert!(no_ca(wrong(
        |params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]
    )));
    assert!(matches!(
        wrong(|params| params.not_after = date(today())),
        CaProblem::Ended { .. }
    ));
    let early = wrong(|params| params.not_before = date(today() + DAY));
    assert!(matches!(early, CaProblem::NotYetValid { .. }));
}

#[test]
fn root_that_is_no_ca_is_refused() {
    let good = root(ca_params("good"));
    let mut params = ca_params("a server");
    params.is_ca = IsCa::ExplicitNoCa;
    let bundle = format!("{}{}", good.pem(), root(params).pem());
    let error = problem(&brought(&good.pem(), good.key(), &bundle));
    assert!(
        error.entry == "ca.crt" && matches!(error.problem, CaProblem::NotACa(_)),
        "{error}"
    );
}

#[test]
fn ca_that_may_not_sign_for_clients_is_refused_by_what_it_signs() {
    let root = root(ca_params("a root"));
    let mut params = ca_params("servers only");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let servers = below(params, &root);
    let error = problem(&brought(&servers.pem(), servers.key(), &root.pem()));
    assert!(
        error.entry == "ca.crt" && matches!(error.problem, CaProblem::NotBelowRoots(_)),
        "{error}"
    );
}

#[test]
fn brought_intermediate_comes_along_and_its_root_is_pinned() {
    let root = root(ca_params("a root"));
    let middle = below(ca_params("in between"), &root);
    let chain = format!("{}{}", middle.pem(), root.pem());
    for certificate in [middle.pem(), chain] {
        let ca = read(&brought(&certificate, middle.key(), &root.pem()));
        assert_eq!(ca.stage(), Stage::Brought);
        assert_eq!(ca.signer(), Pin::of_certificate(middle.der()).expect("a certificate"));
        assert_eq!(ca.pin(), Pin::of_certificate(root.der()).expect("a certificate"));
        let issued = issued(&ca);
        assert_eq!(issued.chain[1..], [middle.der().clone()]);
        assert!(verify_client(&issued.chain[0], &issued.chain[1..], ca.roots(), today()).is_ok());
    }
}

#[test]
fn brought_root_signs_without_anything_in_between() {
    for kind in [&PKCS_ECDSA_P384_SHA384, &PKCS_RSA_SHA256] {
        let key = KeyPair::generate_for(kind).expect("a key");
        let root = Ca::self_signed(ca_params("a root"), key).expect("a CA");
        let ca = read(&brought_root(&root));
        let issued = issued(&ca);
        assert_eq!((issued.chain.len(), ca.pin()), (1, ca.signer()));
        assert!(verify_client(&issued.chain[0], &[], ca.roots(), today()).is_ok());
        assert_eq!(ca.to_secret(), brought_root(&root));
    }
}

#[test]
fn brought_ca_counts_its_epoch_by_its_newest_root() {
    let older = root(ca_params("older"));
    let mut params = ca_params("newer");
    params.not_before = date(today() - Duration::from_secs(5));
    let newer = root(params);
    let epoch = |roots: &str| read(&brought(&older.pem(), older.key(), roots)).epoch();
    assert_eq!(epoch(&older.pem()), seconds_of(today() - DAY));
    assert_eq!(
        epoch(&format!("{}{}", older.pem(), newer.pem())),
        seconds_of(today()) - 5
    );
}

#[test]
fn who_trusts_the_old_or_the_new_root_verifies_by_the_stage() {
    let stable = made();
    let begun = stable.begin(today()).expect("begun");
    let switched = begun.switch().expect("switched");
    let dropped = switched.drop_old().expect("dropped");
    let (old, both, new) = (stable.roots(), begun.roots(), dropped.roots());
    // Whether certificates of this stage are good for who trusts the old root, both, the new one.
    for (ca, expected) in [
        (&stable, [true, true, false]),
        (&begun, [true, true, false]),
        (&switched, [true, true, true]),
        (&dropped, [false, true, true]),
    ] {
        let issued = issued(ca);
        let verified = [old, both, new].map(|roots| {
            let (leaf, above) = issued.chain.split_first().expect("a leaf");
            verify_client(leaf, above, roots, today()).is_ok()
        });
        assert_eq!(verified, expected, "{ca:?}");
        assert_eq!(issued.pem().matches("BEGIN CERTIFICATE").count(), issued.chain.len());
    }
}

#[test]
fn rollover_goes_through_its_steps_in_order_and_counts_the_changes_of_the_roots() {
    let stable = made();
    let begun = stable.begin(today()).expect("begun");
    assert_eq!(
        (begun.stage(), begun.epoch(), begun.roots().len()),
        (Stage::Begun, 2, 2)
    );
    assert_eq!((begun.signer(), begun.pin()), (stable.signer(), stable.signer()));
    assert_eq!(
        begun.root_facts().iter().map(|root| root.signs).collect::<Vec<_>>(),
        [true, false]
    );

    let switched = begun.switch().expect("switched");
    assert_eq!((switched.stage(), switched.epoch()), (Stage::Switched, 2));
    assert_eq!(switched.roots(), begun.roots());
    assert_ne!(switched.signer(), stable.signer());
    assert_eq!(switched.pin(), switched.signer());

    let dropped = switched.drop_old().expect("dropped");
    assert_eq!((dropped.stage(), dropped.epoch()), (Stage::Stable, 3));
    assert_eq!(dropped.roots(), &begun.roots()[1..]);
    assert_eq!(dropped.signer(), switched.signer());
    assert!(dropped.root_facts()[0].name.contains("O=mesh.test"));

    let again = dropped
        .begin(today())
        .expect("begun again")
        .switch()
        .expect("switched again");
    assert_eq!(again.epoch(), 4);
}

#[test]
fn step_of_a_rollover_out_of_its_order_is_refused_in_words() {
    let stable = made();
    let begun = stable.begin(today()).expect("begun");
    let switched = begun.switch().expect("switched");
    let brought = read(&brought_root(&root(ca_params("brought"))));
    for (outcome, expected) in [
        (stable.switch(), RolloverError::NotBegun),
        (stable.drop_old(), RolloverError::NotBegun),
        (begun.begin(today()), RolloverError::Begun),
        (begun.drop_old(), RolloverError::NotSwitched),
        (switched.begin(today()), RolloverError::Switched),
        (switched.switch(), RolloverError::Switched),
        (brought.begin(today()), RolloverError::Brought),
        (brought.switch(), RolloverError::Brought),
        (brought.drop_old(), RolloverError::Brought),
    ] {
        assert_eq!(outcome.expect_err("out of order"), expected);
    }
}

#[test]
fn cross_certificate_ends_with_the_old_root() {
    let stable = made();
    let later = today() + 365 * DAY;
    let begun = stable.begin(later).expect("begun");
    let cross = begun.cross().expect("a cross certificate");
    let end = u64::try_from(parsed(cross).validity().not_after.timestamp());
    assert_eq!(end, Ok(seconds_of(stable.signer_end())));
    let cross = parsed(cross);
    let constraints = cross.basic_constraints().expect("readable").expect("constraints");
    assert_eq!(constraints.value.path_len_constraint, Some(0));
}

#[test]
fn rollover_that_outlives_the_old_root_can_be_served_and_ended() {
    let stable = made();
    let begun = stable.begin(today() + 3640 * DAY).expect("begun");
    let switched = begun.switch().expect("switched");
    let after = stable.signer_end() + DAY;
    let of_day = |ca: &LinkCa, day: SystemTime| {
        let leaf = Leaf {
            identity: &remote(),
            names: &[],
            trust_domain: TRUST_DOMAIN,
            not_before: day,
            not_after: day + DAY,
        };
        ca.issue(&request().0, &leaf).expect("it is signed")
    };
    assert_eq!(of_day(&switched, stable.signer_end() - DAY).chain.len(), 2);

    let found = LinkCa::from_secret(&switched.to_secret(), after).expect("a hub starts by it");
    let found = found.expect("not empty");
    assert_eq!((found.stage(), found.pin()), (Stage::Switched, switched.signer()));
    let issued = of_day(&found, after);
    assert_eq!(issued.chain.len(), 1, "the cross certificate serves nobody any more");
    let dropped = found.drop_old().expect("dropped");
    assert!(verify_client(&issued.chain[0], &[], dropped.roots(), after).is_ok());
}

#[test]
fn ca_that_has_ended_does_not_serve_but_can_be_replaced() {
    let stable = made();
    let after = stable.signer_end() + DAY;
    let begun = stable.begin(today() + 3640 * DAY).expect("begun");
    let of_any_time = |ca: &LinkCa| {
        let data = ca.to_secret();
        let error = LinkCa::from_secret(&data, after).expect_err("ended");
        assert!(matches!(error.problem, CaProblem::Ended { .. }), "{error}");
        let read = LinkCa::from_secret_of_any_time(&data, after).expect("it is read");
        read.expect("not empty")
    };
    let late = of_any_time(&stable).begin(after).expect("begun late");
    for begun in [of_any_time(&begun), of_any_time(&late)] {
        let switched = begun.switch().expect("switched");
        let serves = LinkCa::from_secret(&switched.to_secret(), after).expect("it serves");
        assert_eq!(serves.expect("not empty").stage(), Stage::Switched);
    }
}

#[test]
fn no_print_shows_a_key() {
    let ca = made().begin(today()).expect("begun");
    let shown = format!("{ca:?}");
    for name in ["tls.key", "next.key"] {
        let text = entry(&ca.to_secret(), name);
        let line = text.lines().nth(1).expect("a line of the key");
        assert!(line.len() > 20 && !shown.contains(line));
    }
    assert!(shown.contains("Begun") && !shown.contains("PRIVATE"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn changed_byte_of_a_secret_never_gives_another_signer(at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let ca = made();
        let good = ca.to_secret();
        for name in ["tls.crt", "tls.key", "ca.crt"] {
            let mut data = good.clone();
            let value = data.get_mut(name).expect("an entry");
            let at = at.index(value.len());
            value[at] ^= flip;
            if let Ok(Some(read)) = LinkCa::from_secret(&data, today()) {
                prop_assert_eq!(read.signer(), ca.signer());
            }
        }
    }
}

#[test]
fn hub_of_the_new_root_is_found_good_by_who_was_away_and_knows_the_old_one_alone() {
    let stable = made();
    let switched = stable.begin(today()).expect("begun").switch().expect("switched");
    let leaf = Leaf {
        identity: &Identity::Hub,
        names: &["hub.test".to_owned()],
        trust_domain: TRUST_DOMAIN,
        not_before: today(),
        not_after: today() + DAY,
    };
    let issued = switched.issue(&KeyPair::generate().expect("a key"), &leaf);
    let chain = issued.expect("it is signed").chain;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(stable.roots()[0].clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let verifier = verifier.expect("a verifier");
    let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds_of(today())));
    let is_good = |above: &[CertificateDer<'static>], name: &'static str| {
        let name = name.try_into().expect("a name");
        verifier.verify_server_cert(&chain[0], above, &name, &[], at).is_ok()
    };
    assert!(is_good(&chain[1..], "hub.test"));
    assert!(!is_good(&[], "hub.test"));
    assert!(!is_good(&chain[1..], "other.test"));
}
