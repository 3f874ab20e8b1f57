use jiff::{SignedDuration, Timestamp};
use remote_istio::enrolment::Pin;
use rustls::pki_types::CertificateDer;

use super::*;
use crate::authority::LinkCa;
use crate::commands::test_objects::{at, link_ca};
use crate::crd::{Component, RemoteIstioStatus};

/// Any self-signed certificate will do.
fn certificate(ca: &LinkCa) -> CertificateDer<'static> {
    ca.roots()[0].clone()
}

fn pin(ca: &LinkCa) -> Pin {
    Pin::of_certificate(&certificate(ca)).expect("a certificate")
}

fn changed() -> (MeshRoots, [LinkCa; 2]) {
    let (old, new) = (link_ca(), link_ca());
    let later: Timestamp = at(0) + SignedDuration::from_mins(1);
    let roots =
        MeshRoots::default()
            .with(pin(&old), &[certificate(&old)], at(0))
            .with(pin(&new), &[certificate(&new)], later);
    (roots, [old, new])
}

fn with_status(name: &str, trust: Option<&str>) -> RemoteIstio {
    let mut remote = RemoteIstio::default();
    remote.metadata.name = Some(name.to_owned());
    remote.spec.citadel = Some(Component::default());
    let condition = |status: &str| Condition {
        last_transition_time: Time(at(0)),
        message: "words".to_owned(),
        observed_generation: None,
        reason: "Signed".to_owned(),
        status: status.to_owned(),
        type_: CONDITION.to_owned(),
    };
    remote.status = trust.map(|status| RemoteIstioStatus {
        conditions: vec![condition(status)],
        ..RemoteIstioStatus::default()
    });
    remote
}

#[test]
fn earlier_root_is_forgotten_by_the_beginning_of_its_fingerprint() {
    let (roots, [old, new]) = changed();
    let old = roots
        .roots
        .iter()
        .find(|root| root.certificate == certificate(&old))
        .expect("it is there")
        .clone();
    let digits = &old.fingerprint.to_string()[..12];
    let (forgotten, left) = without(&roots, digits).expect("an earlier one");
    assert_eq!(forgotten, old);
    let left: Vec<_> = left.roots.iter().map(|root| root.certificate.clone()).collect();
    assert_eq!(left, [certificate(&new)]);
}

#[test]
fn root_of_the_ca_that_signs_and_one_that_is_not_there_are_not_forgotten() {
    let (roots, _) = changed();
    let signing = roots.signer_root.expect("it signs").to_string();
    let error = without(&roots, &signing).expect_err("it signs").to_string();
    assert!(error.contains("change central's mesh CA first"), "{error}");
    let error = without(&roots, "00000000").expect_err("unknown").to_string();
    assert!(error.starts_with("no root has"), "{error}");
    let error = without(&roots, "").expect_err("which one?").to_string();
    assert!(error.starts_with("several roots have"), "{error}");
}

#[test]
fn remote_is_behind_until_its_status_says_otherwise() {
    let remotes = [
        with_status("a", Some("True")),
        with_status("b", Some("False")),
        with_status("c", None),
    ];
    assert_eq!(behind(&remotes), ["b", "c"]);
}

#[test]
fn roots_are_shown_with_who_signs_and_how_far_remotes_are() {
    let (roots, _) = changed();
    let remotes = [with_status("a", Some("True")), with_status("b", None)];
    let text = text(&roots, &remotes);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], format!("signer  {}", roots.signer.expect("it signs")));
    assert!(lines[2].starts_with("ROOT") && lines[3].contains("  yes    "), "{text}");
    assert!(lines[4].contains("  no     "), "{text}");
    for root in &roots.roots {
        assert!(text.contains(&root.fingerprint.to_string()), "{text}");
    }
    let rest = &lines[lines.len() - 3..];
    assert_eq!(
        rest,
        [
            "REMOTE  TRUST  REASON  MESSAGE",
            "a       True   Signed  words",
            "b       -      -       -"
        ]
    );
}

#[test]
fn json_names_signer_roots_and_remotes_and_shows_no_key() {
    let (roots, _) = changed();
    let shown = json(&roots, &[with_status("a", Some("True"))]);
    let value: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(value["roots"][0]["signs"], true);
    assert_eq!(value["roots"][1]["since"], moment(&Time(at(0))));
    assert_eq!(value["remotes"][0]["trust"], "True");
    assert!(!shown.contains("PRIVATE"));
}
