use remote_istio::model::{Body, Object};
use remote_istio::wire::v1;

use super::*;
use crate::status::conditions::READY;
use crate::status::test_objects::{World, condition, with_objects};

const NOW: i64 = 1_700_000_100;

fn key(component: Component) -> Key {
    Key::component(component, "istio-system")
}

/// Citadel and trust are desired; the agent says of them what a test lets it.
fn world(ca: MeshCaState) -> World {
    let mut world = World::settled();
    let trust = v1::MeshTrust {
        signer: vec![1; 32],
        roots: vec![vec![1]],
    };
    with_objects(
        &mut world,
        [
            (
                key(Component::Citadel),
                Object::new(0, None, Body::Citadel(Box::default())),
            ),
            (key(Component::Trust), Object::new(0, None, Body::Trust(trust))),
        ],
    );
    world.desired.as_mut().expect("computed").mesh_ca = Some(ca);
    world
}

fn found(world: &World) -> (&'static str, String, String) {
    let verdict = mesh_trust(&world.facts()).expect("with citadel");
    (verdict.status, verdict.reason, verdict.message)
}

#[test]
fn condition_is_absent_without_citadel() {
    assert_eq!(mesh_trust(&World::settled().facts()), None);
}

#[test]
fn what_central_cannot_do_is_said_with_its_remedy() {
    let table = [
        (MeshCaState::Unknown, "Pending", "not looked"),
        (MeshCaState::NotGranted, "SigningNotGranted", "--sign-mesh-ca"),
        (
            MeshCaState::Missing("no Secret: make one".to_owned()),
            "CaMissing",
            "no Secret: make one",
        ),
        (
            MeshCaState::Unreadable("ConfigMap x may not be read: apply the role".to_owned()),
            "CaUnreadable",
            "ConfigMap x may not be read: apply the role; until then the remote is sent no configuration",
        ),
        (
            MeshCaState::CannotSign("path length 0: bring another".to_owned()),
            "CaCannotSign",
            "path length 0: bring another",
        ),
    ];
    for (ca, reason, part) in table {
        let mut world = world(ca);
        world.report(&key(Component::Citadel), ApplyState::NotReady, "waits for cacerts");
        let (status, said, message) = found(&world);
        assert_eq!((status, said.as_str()), ("False", reason));
        assert!(message.contains(part), "{message}");
        assert_eq!(
            condition(&world.status(NOW), "MeshTrust").reason,
            reason,
            "stands in the status"
        );
    }
}

#[test]
fn citadel_that_runs_without_grant_runs_with_a_ca_that_was_brought() {
    let mut world = world(MeshCaState::NotGranted);
    world.report(&key(Component::Citadel), ApplyState::Applied, "");
    let (status, reason, _) = found(&world);
    assert_eq!((status, reason.as_str()), ("True", "BroughtInRemote"));
}

#[test]
fn word_of_the_agent_on_its_intermediate_counts_once_central_signs() {
    let table = [
        (None, "False", "Pending"),
        (Some((ApplyState::Applied, "")), "True", "Signed"),
        (Some((ApplyState::NotReady, "not signed yet")), "False", "NotReady"),
        (Some((ApplyState::Forbidden, "no role")), "False", "Forbidden"),
    ];
    for (said, status, reason) in table {
        let mut world = world(MeshCaState::Ready);
        if let Some((state, detail)) = said {
            world.report(&key(Component::Trust), state, detail);
        }
        let (found_status, found_reason, message) = found(&world);
        assert_eq!((found_status, found_reason.as_str()), (status, reason));
        let detail = said.map_or("", |(_, detail)| detail);
        assert!(message.contains(detail), "{message}");
    }
}

#[test]
fn ca_that_is_held_although_it_cannot_be_read_any_more_is_said_beside_the_word_of_the_agent() {
    let mut world = world(MeshCaState::Held("the Secret is half written".to_owned()));
    world.report(&key(Component::Trust), ApplyState::Applied, "signed by root 1");
    let said = "signed by root 1; the hub goes on with the CA that it holds: the Secret is half written".to_owned();
    assert_eq!(found(&world), ("True", "Signed".to_owned(), said));
}

#[test]
fn agent_that_is_away_leaves_what_it_said_last_and_it_stays_so() {
    let held = MeshCaState::Held("the Secret is half written".to_owned());
    for (ca, reason) in [
        (MeshCaState::Ready, "Signed"),
        (held, "Signed"),
        (MeshCaState::NotGranted, "BroughtInRemote"),
    ] {
        let mut world = world(ca);
        world.report(&key(Component::Trust), ApplyState::Applied, "");
        world.report(&key(Component::Citadel), ApplyState::Applied, "");
        world.store(NOW);
        let before = found(&world);
        world.session = None;
        world.disconnected_at = Some(NOW);
        world.store(NOW);
        assert_eq!(found(&world), before);
        assert_eq!(found(&world).1, reason);
        assert_eq!(condition(&world.status(NOW), READY).status, "False");
    }
}

#[test]
fn pods_of_citadel_that_are_replaced_do_not_unsay_the_ca_that_was_brought() {
    let mut world = world(MeshCaState::NotGranted);
    world.report(
        &key(Component::Citadel),
        ApplyState::NotReady,
        "0 of 1 pods are available",
    );
    assert_eq!(found(&world).1, "SigningNotGranted");
    let applied = std::sync::Arc::make_mut(&mut world.session().applied);
    applied.get_mut(&key(Component::Citadel)).expect("reported").replicas = Some(v1::Replicas {
        desired: 1,
        updated: 1,
        available: 0,
    });
    assert_eq!(found(&world).1, "BroughtInRemote");
}
