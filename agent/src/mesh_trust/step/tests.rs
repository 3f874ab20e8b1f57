use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::super::chain::tests::{MeshCa, labels, life, now, signed};
use super::*;

fn there(found: Found) -> Seen {
    Seen::There(Box::new(found))
}

/// A `cacerts` that a user brought, with these entries.
fn users(entries: &[&str]) -> Seen {
    let data = entries
        .iter()
        .map(|name| ((*name).to_owned(), ByteString(b"x".to_vec())));
    let secret = Secret {
        data: Some(data.collect()),
        ..Secret::default()
    };
    there(Found::new(secret, &labels()))
}

const ALL: [&str; 4] = ["ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"];

fn at(now: SystemTime) -> Timing {
    Timing {
        now,
        other_signer_since: None,
        chance: 0.5,
    }
}

fn wish(trust: Option<&v1::MeshTrust>) -> Wish<'_> {
    Wish {
        trust,
        citadel: true,
        ..Wish::default()
    }
}

fn removal(orphaned: bool) -> Wish<'static> {
    Wish {
        removed: true,
        orphaned,
        ..Wish::default()
    }
}

fn missing(trust: &Trust) -> &str {
    match trust {
        Trust::Missing(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn intermediate_is_signed_only_where_citadel_has_a_trust_and_none() {
    let trust = MeshCa::new("mesh").trust(&[]);
    let idle = Wish {
        citadel: false,
        ..wish(Some(&trust))
    };
    for (seen, wish, expected) in [
        (Seen::Absent, wish(Some(&trust)), Step::Sign(Why::None)),
        (Seen::Absent, idle, Step::Rest(None)),
        (Seen::Absent, wish(None), Step::Rest(None)),
        (Seen::Absent, removal(false), Step::Rest(None)),
        (Seen::Unknown, wish(Some(&trust)), Step::Rest(None)),
        (Seen::Unreadable(String::new()), wish(Some(&trust)), Step::Rest(None)),
    ] {
        assert_eq!(step(&seen, wish, at(now())), expected, "{seen:?} {wish:?}");
    }
}

#[test]
fn users_own_is_never_touched_and_used_as_it_is() {
    let trust = MeshCa::new("mesh").trust(&[]);
    for wish in [
        wish(Some(&trust)),
        wish(None),
        removal(false),
        removal(true),
        Wish::default(),
    ] {
        for seen in [users(&ALL), users(&[])] {
            assert_eq!(step(&seen, wish, at(now())), Step::Rest(None), "{wish:?}");
        }
        assert!(matches!(
            verdict(&users(&ALL), wish, now(), None),
            Trust::Ready { own: false, .. }
        ));
    }
    let incomplete = verdict(&users(&ALL[..1]), wish(Some(&trust)), now(), None);
    let why = missing(&incomplete);
    assert!(
        why.contains("ca-key.pem, cert-chain.pem, root-cert.pem") && why.contains("delete it"),
        "{why}"
    );
}

#[test]
fn ours_is_renewed_at_two_thirds_of_its_life() {
    let ca = MeshCa::new("mesh");
    let (trust, life) = (ca.trust(&[]), life(now()));
    let seen = there(signed(&ca, &trust, life));
    let Step::Rest(Some(renewal)) = step(&seen, wish(Some(&trust)), at(now())) else {
        panic!("nothing is to be done");
    };
    let share = renewal.duration_since(life.not_before).expect("later").as_secs_f64()
        / life
            .not_after
            .duration_since(life.not_before)
            .expect("later")
            .as_secs_f64();
    assert!((share - 2.0 / 3.0).abs() < 0.01, "{share}");
    assert_eq!(step(&seen, wish(Some(&trust)), at(renewal)), Step::Sign(Why::Age));
    assert!(matches!(
        verdict(&seen, wish(Some(&trust)), renewal, None),
        Trust::Ready { own: true, .. }
    ));
    let ended = verdict(&seen, wish(Some(&trust)), life.not_after, Some("the hub is away"));
    assert!(missing(&ended).contains("ended: the hub is away"));
}

#[test]
fn change_of_the_ca_brings_the_new_root_first_and_then_a_new_intermediate() {
    let (old, new) = (MeshCa::new("old"), MeshCa::new("new"));
    let before = signed(&old, &old.trust(&[]), life(now()));
    let trust = new.trust(&[&old]);
    assert_eq!(step(&there(before), wish(Some(&trust)), at(now())), Step::Roots);
    let mut rooted = old.trust(&[]);
    rooted.roots.push(new.root());
    let between = there(signed(&old, &rooted, life(now())));
    let wanted = v1::MeshTrust {
        signer: trust.signer.clone(),
        roots: rooted.roots,
    };
    assert!(has_other_signer(&between, wish(Some(&wanted))));
    assert!(matches!(
        verdict(&between, wish(Some(&wanted)), now(), None),
        Trust::Ready { own: true, .. }
    ));
    let noticed = at(now());
    let Step::Rest(Some(due)) = step(&between, wish(Some(&wanted)), noticed) else {
        panic!("not all remotes at once");
    };
    assert!(due > now() && due <= now() + Duration::from_secs(20));
    let patient = Timing {
        other_signer_since: Some(now()),
        ..at(due)
    };
    assert_eq!(
        step(&between, wish(Some(&wanted)), patient),
        Step::Sign(Why::OtherSigner)
    );
    let after = there(signed(&new, &trust, life(now())));
    assert!(!has_other_signer(&after, wish(Some(&trust))));
    assert!(matches!(step(&after, wish(Some(&trust)), patient), Step::Rest(Some(_))));
}

#[test]
fn old_root_that_is_forgotten_rewrites_the_roots_alone() {
    let (old, new) = (MeshCa::new("old"), MeshCa::new("new"));
    let seen = there(signed(&new, &new.trust(&[&old]), life(now())));
    assert_eq!(step(&seen, wish(Some(&new.trust(&[]))), at(now())), Step::Roots);
}

#[test]
fn edit_of_ours_is_repaired_and_said_meanwhile() {
    let ca = MeshCa::new("mesh");
    let trust = ca.trust(&[]);
    let mut secret = signed(&ca, &trust, life(now())).with_roots(&trust.roots);
    secret.data.as_mut().expect("data").remove("ca-key.pem");
    let seen = there(Found::new(secret, &labels()));
    assert_eq!(
        step(&seen, wish(Some(&trust)), at(now())),
        Step::Sign(Why::Broken("it lacks ca-key.pem"))
    );
    let said = verdict(&seen, wish(Some(&trust)), now(), None);
    assert!(missing(&said).contains("it lacks ca-key.pem"));
}

#[test]
fn ca_that_a_user_put_into_ours_is_let_go_of_and_used_as_it_is() {
    let (ca, theirs) = (MeshCa::new("mesh"), MeshCa::new("theirs"));
    let trust = ca.trust(&[]);
    let mut secret = signed(&ca, &trust, life(now())).with_roots(&trust.roots);
    secret.data = signed(&theirs, &theirs.trust(&[]), life(now()))
        .with_roots(&[theirs.root()])
        .data;
    let seen = there(Found::new(secret, &labels()));
    for (wish, expected) in [
        (wish(Some(&trust)), Step::LetGo),
        (removal(false), Step::LetGo),
        (removal(true), Step::LetGo),
        (Wish::default(), Step::Rest(None)),
    ] {
        assert_eq!(step(&seen, wish, at(now())), expected, "{wish:?}");
    }
    assert!(matches!(
        verdict(&seen, wish(Some(&trust)), now(), None),
        Trust::Ready { own: false, .. }
    ));
    assert!(
        matches!(
            verdict(&seen, removal(false), now(), None),
            Trust::Ready { own: true, .. }
        ),
        "until the labels are off"
    );
}

#[test]
fn ours_goes_only_when_it_is_said_to_be_removed() {
    let ca = MeshCa::new("mesh");
    let trust = ca.trust(&[]);
    let seen = there(signed(&ca, &trust, life(now())));
    for (wish, expected) in [
        (removal(false), Step::Delete),
        (removal(true), Step::LetGo),
        (wish(None), Step::Rest(None)),
        (Wish::default(), Step::Rest(None)),
    ] {
        assert_eq!(step(&seen, wish, at(now())), expected, "{wish:?}");
    }
    assert_eq!(Wish::of(&Wants::default()), Wish::default());
    let wants = Wants {
        trust: Some(trust.clone()),
        trust_removed: true,
        ..Wants::default()
    };
    assert!(!Wish::of(&wants).removed, "a trust that is wanted is not removed");
}

#[test]
fn until_ours_is_gone_the_engine_hears_that_it_is_there() {
    let ca = MeshCa::new("mesh");
    let mut secret = signed(&ca, &ca.trust(&[]), life(now())).with_roots(&[]);
    secret.data = None;
    let seen = there(Found::new(secret, &labels()));
    assert!(matches!(
        verdict(&seen, removal(false), now(), None),
        Trust::Ready { own: true, .. }
    ));
    assert!(matches!(
        verdict(&Seen::Absent, removal(false), now(), None),
        Trust::Missing(_)
    ));
}

#[test]
fn what_is_missing_is_told_with_what_to_do() {
    let trust = MeshCa::new("mesh").trust(&[]);
    let never = verdict(&Seen::Absent, wish(None), now(), None);
    assert!(missing(&never).contains("--sign-mesh-ca") && missing(&never).contains("of your own"));
    let refused = verdict(&Seen::Absent, wish(Some(&trust)), now(), Some("the hub does not sign"));
    assert!(missing(&refused).ends_with("not signed yet: the hub does not sign"));
    assert_eq!(verdict(&Seen::Unknown, wish(Some(&trust)), now(), None), Trust::Unknown);
    let shut_out = Seen::Unreadable("apply the roles".to_owned());
    assert_eq!(missing(&verdict(&shut_out, wish(None), now(), None)), "apply the roles");
}

#[test]
fn right_to_look_that_is_lost_does_not_read_as_gone() {
    let shut_out = Seen::Unreadable("apply the roles".to_owned());
    for orphaned in [false, true] {
        assert_eq!(verdict(&shut_out, removal(orphaned), now(), None), Trust::Unknown);
    }
    // Citadel, which waits for a CA of its own, is told why there is none.
    let citadel = Wish {
        citadel: true,
        ..removal(false)
    };
    assert_eq!(missing(&verdict(&shut_out, citadel, now(), None)), "apply the roles");
}
