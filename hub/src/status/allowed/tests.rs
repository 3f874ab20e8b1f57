use std::collections::BTreeSet;

use remote_istio::model::{Body, Component, Lane, Object, ServiceIntent};
use remote_istio::policy::Runs;
use remote_istio::wire::v1;

use super::super::test_objects::{CONNECTED_AT, World, with_objects};
use super::*;
use crate::crd::PolicyStatus;

fn open() -> Policy {
    Policy {
        components: Runs::ALL.into(),
        namespaces: BTreeSet::from(["istio-system".to_owned()]),
        ..Policy::default()
    }
}

fn tells(world: &mut World, policy: Policy) {
    world.session().policy = Some(Arc::new(policy));
}

/// Status, reason and message of the condition, with what was judged before kept in `judgement`.
fn judged(judgement: &mut Judgement, world: &World) -> (&'static str, String, String) {
    judgement.update(
        world.session.as_ref(),
        world.remote.status.as_ref(),
        "istio-system",
        world.desired.as_ref(),
    );
    let verdict = allowed(&world.facts().with_judgement(judgement)).expect("judged");
    (verdict.status, verdict.reason, verdict.message)
}

fn citadel() -> (Key, Object) {
    let key = Key::component(Component::Citadel, "istio-system");
    let body = Body::Citadel(Box::new(v1::Citadel {
        workload: Some(v1::Workload {
            image: "evil.example/citadel:1".to_owned(),
            ..v1::Workload::default()
        }),
    }));
    (key, Object::new(1, None, body))
}

#[test]
fn policy_that_was_never_told_is_unknown() {
    let (status, reason, _) = judged(&mut Judgement::default(), &World::settled());
    assert_eq!((status, reason.as_str()), ("Unknown", "PolicyUnknown"));
}

#[test]
fn policy_that_allows_everything_is_true() {
    let mut world = World::settled();
    tells(&mut world, open());
    let (status, reason, _) = judged(&mut Judgement::default(), &world);
    assert_eq!((status, reason.as_str()), ("True", "AllAllowed"));
}

#[test]
fn everything_that_would_be_refused_is_named_with_its_rule_and_its_remedy() {
    let mut world = World::settled();
    let service = Object::new(1, None, Body::Service(ServiceIntent::default()));
    with_objects(&mut world, [citadel(), (Key::service("shop", "web"), service)]);
    tells(&mut world, open());
    let (status, reason, message) = judged(&mut Judgement::default(), &world);
    assert_eq!((status, reason.as_str()), ("False", "PolicyRefuses"));
    for part in [
        "service/shop/web (namespace-not-allowed: ",
        "citadel/istio-system (image-registry: ",
        "imageRegistries",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn list_that_finds_no_room_says_how_much_is_missing() {
    let refusal = Refusal {
        rule: "namespace-not-allowed",
        detail: "x".repeat(300),
    };
    let keys: Vec<Key> = (0..20)
        .map(|number| Key::service("shop", &format!("s{number}")))
        .collect();
    let refusals: Vec<(&Key, &Refusal)> = keys.iter().map(|key| (key, &refusal)).collect();
    let text = list(&refusals);
    assert!(text.len() <= DETAIL_MAX_BYTES, "{}", text.len());
    assert!(text.ends_with("; and 18 more"), "{text}");
}

#[test]
fn changed_policy_and_changed_objects_are_judged_anew() {
    let (mut judgement, mut world) = (Judgement::default(), World::settled());
    let (key, object) = citadel();
    with_objects(&mut world, [(key.clone(), object)]);
    tells(&mut world, open());
    assert_eq!(judged(&mut judgement, &world).0, "False");
    let harmless = Object::new(1, None, Body::Citadel(Box::default()));
    with_objects(&mut world, [(key.clone(), harmless)]);
    assert_eq!(judged(&mut judgement, &world).0, "True");
    tells(
        &mut world,
        Policy {
            components: BTreeSet::new(),
            ..open()
        },
    );
    assert_eq!(judged(&mut judgement, &world).0, "False");
    with_objects(&mut world, []);
    assert_eq!(judged(&mut judgement, &world).0, "True");
}

#[test]
fn remote_that_is_away_is_judged_by_what_it_told_last() {
    let mut world = World::settled();
    tells(&mut world, open());
    let told = PolicyStatus::of(&open());
    assert_eq!(policy(&world.facts()), Some(told.clone()));
    world.store(CONNECTED_AT);
    world.session = None;
    with_objects(&mut world, [citadel()]);
    assert_eq!(judged(&mut Judgement::default(), &world).0, "False");
    assert_eq!(policy(&world.facts()), Some(told), "it stays in the status");
}

#[test]
fn what_is_not_computed_yet_leaves_what_was_said() {
    let mut world = World::settled();
    tells(&mut world, open());
    with_objects(&mut world, [citadel()]);
    let said = judged(&mut Judgement::default(), &world);
    world.store(CONNECTED_AT);
    let desired = world.desired.as_mut().expect("computed");
    desired.lanes.remove(&Lane::Config);
    assert_eq!(judged(&mut Judgement::default(), &world), said);
}
