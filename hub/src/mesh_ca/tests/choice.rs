use std::time::SystemTime;

use remote_istio::enrolment::Pin;

use super::super::choice::{Found, PLUGGED_IN, SELF_SIGNED, Seen, choose, names};
use super::super::test_authorities::{Ca, entries, root, self_signed};

fn chosen(cacerts: &Seen, own: &Seen, link: &[Pin]) -> Found {
    chosen_by(None, cacerts, own, link)
}

/// By a hub that signs by the CA of Secret `held`.
fn chosen_by(held: Option<&str>, cacerts: &Seen, own: &Seen, link: &[Pin]) -> Found {
    let secrets = [(PLUGGED_IN, cacerts), (SELF_SIGNED, own)];
    choose(secrets.into_iter(), held, link, "istio-system", SystemTime::now())
}

fn data(ca: &Ca) -> Seen {
    Seen::Data(self_signed(ca))
}

#[test]
fn what_is_plugged_in_wins_over_what_citadel_made() {
    let (brought, made) = (root("brought"), root("made"));
    let found = chosen(&data(&brought), &data(&made), &[]);
    assert!(matches!(found, Found::Usable(signer, name)
        if name == PLUGGED_IN && signer.roots == [brought.der().clone()]));
    for none in [Seen::Missing, Seen::Data(entries(&[]))] {
        let found = chosen(&none, &data(&made), &[]);
        assert!(matches!(found, Found::Usable(_, name) if name == SELF_SIGNED));
    }
}

#[test]
fn plugged_in_ca_that_is_gone_for_a_moment_is_not_replaced_by_what_citadel_made() {
    let made = data(&root("made"));
    for none in [Seen::Missing, Seen::Data(entries(&[]))] {
        let found = chosen_by(Some(PLUGGED_IN), &none, &made, &[]);
        assert!(
            matches!(&found, Found::Unusable(why) if *why == "Secret istio-system/cacerts is gone or empty; to sign by the \
                CA of Secret istio-ca-secret from now on, name it with --mesh-ca-secret"),
            "{found:?}"
        );
    }
    let anew = root("anew");
    let found = chosen_by(Some(PLUGGED_IN), &data(&anew), &made, &[]);
    assert!(matches!(found, Found::Usable(signer, _) if signer.roots == [anew.der().clone()]));
    let found = chosen_by(Some(SELF_SIGNED), &Seen::Missing, &made, &[]);
    assert!(matches!(found, Found::Usable(_, name) if name == SELF_SIGNED));
    let found = chosen_by(Some(PLUGGED_IN), &Seen::Missing, &Seen::Missing, &[]);
    assert!(matches!(found, Found::Nothing(_)), "{found:?}");
}

#[test]
fn secret_that_may_not_be_read_is_no_ca_and_names_the_role() {
    for own in [Seen::Unknown, Seen::Forbidden, data(&root("made"))] {
        let found = chosen(&Seen::Forbidden, &own, &[]);
        assert!(
            matches!(&found, Found::Nothing(why) if *why == "Secret istio-system/cacerts may not be read by the hub: apply \
                deploy/roles/hub-mesh-ca.yaml"),
            "{found:?}"
        );
    }
}

#[test]
fn what_is_plugged_in_and_broken_is_not_passed_over() {
    let half = Seen::Data(entries(&[("ca-key.pem", "x")]));
    let found = chosen(&half, &data(&root("made")), &[]);
    assert!(
        matches!(&found, Found::Unusable(why)
            if why.starts_with("the mesh CA of Secret istio-system/cacerts: entry ca-cert.pem is missing")),
        "{found:?}"
    );
}

#[test]
fn nothing_is_decided_before_all_that_counts_was_looked_at() {
    assert!(matches!(
        chosen(&Seen::Unknown, &data(&root("made")), &[]),
        Found::Unknown
    ));
    assert!(matches!(chosen(&Seen::Missing, &Seen::Unknown, &[]), Found::Unknown));
    let found = chosen(&Seen::Missing, &Seen::Missing, &[]);
    assert!(
        matches!(&found, Found::Nothing(why) if why.contains("Secret cacerts and istio-ca-secret is missing or empty")),
        "{found:?}"
    );
}

#[test]
fn ca_that_the_link_trusts_too_is_refused() {
    let ca = root("our root");
    let pin = Pin::of_certificate(ca.der()).expect("a certificate");
    let found = chosen(&data(&ca), &Seen::Missing, &[pin]);
    assert!(
        matches!(&found, Found::Unusable(why) if why.contains("the link trusts \"CN=our root\" too")),
        "{found:?}"
    );
}

#[test]
fn secret_that_is_named_is_the_only_one() {
    assert_eq!(names(Some("ours")), ["ours"]);
    assert_eq!(names(None), ["cacerts", "istio-ca-secret"]);
}
