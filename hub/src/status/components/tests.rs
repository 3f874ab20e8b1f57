use std::sync::Arc;

use remote_istio::model::{Body, Object};
use remote_istio::wire::v1;

use super::*;
use crate::crd::RemoteIstioStatus;
use crate::status::test_objects::{World, with_objects};

fn citadel() -> Key {
    Key::component(Component::Citadel, "istio-system")
}

fn injector() -> Key {
    Key::component(Component::Injector, "istio-system")
}

/// Citadel, injector and mesh configuration are desired; the agent says of the first two what a test lets it.
fn world() -> World {
    let object = |body| Object::new(0, None, body);
    let mut world = World::settled();
    with_objects(
        &mut world,
        [
            (citadel(), object(Body::Citadel(Box::default()))),
            (injector(), object(Body::Injector(Box::default()))),
            (
                Key::component(Component::Mesh, "istio-system"),
                object(Body::Mesh(v1::MeshConfig::default())),
            ),
        ],
    );
    world
}

fn count(world: &mut World, key: &Key, [desired, updated, available]: [u32; 3]) {
    let applied = Arc::make_mut(&mut world.session().applied);
    applied.get_mut(key).expect("reported").replicas = Some(v1::Replicas {
        desired,
        updated,
        available,
    });
}

fn status(name: &str, [desired, updated, available]: [i64; 3], message: &str) -> ComponentStatus {
    ComponentStatus {
        name: name.to_owned(),
        desired,
        updated,
        available,
        message: message.to_owned(),
    }
}

#[test]
fn each_component_is_counted_as_its_agent_counts_and_says_what_is_in_the_way() {
    let mut world = world();
    world.report(&citadel(), ApplyState::Applied, "");
    world.report(&injector(), ApplyState::NotReady, "0 of 2 pods are available");
    count(&mut world, &citadel(), [1, 1, 1]);
    count(&mut world, &injector(), [2, 1, 0]);
    assert_eq!(
        components(&world.facts()),
        [
            status("citadel", [1, 1, 1], ""),
            status("sidecarInjector", [2, 1, 0], "NotReady: 0 of 2 pods are available"),
        ]
    );
}

#[test]
fn what_the_agent_has_not_reported_is_said_to_be_so() {
    let mut world = world();
    world.report(&citadel(), ApplyState::Forbidden, "");
    assert_eq!(
        components(&world.facts()),
        [
            status("citadel", [0, 0, 0], "Forbidden"),
            status("sidecarInjector", [0, 0, 0], "the agent has not applied it yet"),
        ]
    );
}

#[test]
fn counts_stay_while_no_agent_counts_and_go_with_their_component() {
    let mut world = world();
    world.remote.status = Some(RemoteIstioStatus {
        components: vec![status("citadel", [3, 3, 3], "")],
        ..RemoteIstioStatus::default()
    });
    world.report(&citadel(), ApplyState::Applied, "");
    world.report(&injector(), ApplyState::Applied, "");
    let expected = [
        status("citadel", [3, 3, 3], ""),
        status("sidecarInjector", [0, 0, 0], ""),
    ];
    assert_eq!(
        components(&world.facts()),
        expected,
        "agent is back and has not counted"
    );
    let session = world.session.take();
    assert_eq!(
        components(&world.facts()),
        [status("citadel", [3, 3, 3], "")],
        "no agent"
    );
    world.session = session;
    with_objects(&mut world, []);
    assert_eq!(components(&world.facts()), [], "no component");
}
