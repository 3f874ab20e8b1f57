use std::sync::Arc;

use remote_istio::lane::NackReason;
use remote_istio::model::{ApplyState, Lane};

use super::super::test_objects::{CONNECTED_AT, World, injection, lanes, pilot};
use super::*;
use crate::crd::SessionStatus;
use crate::lifecycle::Hold;

const SECOND: u64 = 1_000_000_000;

fn decide(cleanup: &mut Cleanup, world: &World, now: u64) -> Finalizer {
    cleanup.decide(&world.facts(), true, now)
}

fn once(world: &World) -> Finalizer {
    decide(&mut Cleanup::default(), world, 0)
}

/// The agent has removed everything and said so.
fn emptied(mut world: World) -> World {
    world.accept_removal();
    world.session().applied = Arc::default();
    world
}

#[test]
fn finalizer_comes_with_the_first_claimed_session() {
    assert_eq!(once(&World::created()), Finalizer::Leave);
    let mut world = World::settled();
    assert_eq!(once(&world), Finalizer::Add);
    world.session().claimed = false;
    assert_eq!(once(&world), Finalizer::Leave);
    world.session().claimed = true;
    world.remote.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    assert_eq!(once(&world), Finalizer::Leave, "is there already");
}

#[test]
fn deleted_resource_without_our_finalizer_is_left_alone() {
    let mut world = World::deleting();
    world.remote.metadata.finalizers = Some(vec!["example.test/other".to_owned()]);
    assert_eq!(once(&world), Finalizer::Leave);
}

#[test]
fn finalizer_goes_when_the_agent_has_reported_everything_removed() {
    let mut cleanup = Cleanup::default();
    let mut world = World::deleting();
    assert_eq!(decide(&mut cleanup, &world, 0), Finalizer::Leave, "not accepted yet");
    world.accept_removal();
    assert_eq!(decide(&mut cleanup, &world, 1), Finalizer::Leave, "not removed yet");
    world.report(&pilot(), ApplyState::Removed, "");
    assert_eq!(decide(&mut cleanup, &world, 2), Finalizer::Leave, "two are left");
    let applied = Arc::make_mut(&mut world.session().applied);
    applied.retain(|key, _| *key == pilot());
    assert_eq!(decide(&mut cleanup, &world, 3), Finalizer::Remove);
    assert_eq!(decide(&mut cleanup, &emptied(world), 4), Finalizer::Remove);
}

#[test]
fn foreign_object_does_not_hold_the_finalizer_and_a_forbidden_one_does() {
    for (state, expected) in [
        (ApplyState::Foreign, Finalizer::Remove),
        (ApplyState::Forbidden, Finalizer::Leave),
    ] {
        let mut cleanup = Cleanup::default();
        let mut world = World::deleting();
        decide(&mut cleanup, &world, 0);
        world = emptied(world);
        world.report(&injection(), state, "");
        assert_eq!(decide(&mut cleanup, &world, 1), expected, "{state:?}");
    }
}

#[test]
fn finalizer_stays_while_the_agent_has_not_accepted_the_removal() {
    type Change = fn(&mut World);
    let changes: [(&str, Change); 5] = [
        ("a lane behind", |world| world.session().lanes = lanes(false)),
        ("session of the generation before", |world| {
            world.session().desired = Some(("u1".to_owned(), 1));
        }),
        ("a removal refused", |world| {
            world.refuse(pilot(), NackReason::GuardHeld, "");
        }),
        ("index behind", |world| {
            world.desired.as_mut().expect("some").deleting = false;
        }),
        ("lanes unknown", |world| {
            world.desired.as_mut().expect("some").lanes.remove(&Lane::Config);
        }),
    ];
    for (what, change) in changes {
        let mut cleanup = Cleanup::default();
        let mut world = World::deleting();
        decide(&mut cleanup, &world, 0);
        world = emptied(world);
        change(&mut world);
        assert_eq!(decide(&mut cleanup, &world, 60 * SECOND), Finalizer::Leave, "{what}");
    }
}

#[test]
fn session_that_never_named_an_object_must_be_quiet_first() {
    let mut cleanup = Cleanup::default();
    let mut world = emptied(World::deleting());
    world.session().backlog = 2;
    assert_eq!(decide(&mut cleanup, &world, 0), Finalizer::Leave);
    world.session().backlog = 0;
    assert_eq!(decide(&mut cleanup, &world, 10 * SECOND), Finalizer::Wait(25 * SECOND));
    assert_eq!(decide(&mut cleanup, &world, 20 * SECOND), Finalizer::Wait(25 * SECOND));
    world.session().epoch.connection = 3;
    assert_eq!(
        decide(&mut cleanup, &world, 24 * SECOND),
        Finalizer::Wait(39 * SECOND),
        "another session"
    );
    assert_eq!(decide(&mut cleanup, &world, 39 * SECOND), Finalizer::Remove);
}

#[test]
fn agent_that_is_away_is_waited_for() {
    let mut world = World::deleting();
    world.session = None;
    assert_eq!(once(&world), Finalizer::Leave, "its status knows of a session");
    world.remote.status.as_mut().expect("stored").session = None;
    world.disconnected_at = Some(CONNECTED_AT);
    assert_eq!(once(&world), Finalizer::Leave, "it was here");
}

fn ruled(mut world: World, ruling: Ruling) -> World {
    let desired = world.desired.as_mut().expect("computed");
    desired.deleting = ruling == Ruling::Withdrawn;
    desired.deletion = Some(ruling);
    world
}

#[test]
fn finalizer_of_a_resource_that_is_held_or_undecided_stays() {
    for ruling in [Ruling::Settling, Ruling::Held(Hold::DefinitionEnds)] {
        let mut world = ruled(emptied(World::deleting()), ruling.clone());
        assert_eq!(once(&world), Finalizer::Leave, "{ruling:?}");
        world.session = None;
        assert_eq!(once(&world), Finalizer::Leave, "{ruling:?}, away");
    }
}

#[test]
fn finalizer_of_a_remote_that_keeps_what_it_has_goes_at_once_without_a_tombstone() {
    let mut world = ruled(forced("true"), Ruling::Kept);
    assert_eq!(once(&world), Finalizer::Remove, "the leader, where the agent is away");
    assert_eq!(Cleanup::default().decide(&world.facts(), false, 0), Finalizer::Leave);
    world.session = World::deleting().session;
    assert_eq!(Cleanup::default().decide(&world.facts(), false, 0), Finalizer::Remove);
}

#[test]
fn force_goes_before_a_hold_where_the_agent_is_away() {
    let world = ruled(forced("true"), Ruling::Held(Hold::DefinitionEnds));
    assert_eq!(once(&world), Finalizer::Force);
}

/// Deleted by force, and no agent is here.
fn forced(value: &str) -> World {
    let mut world = World::deleting();
    let annotation = (FORCE_DELETE_ANNOTATION.to_owned(), value.to_owned());
    world.remote.metadata.annotations = Some([annotation].into());
    world.session = None;
    world.disconnected_at = Some(CONNECTED_AT);
    world
}

#[test]
fn force_ends_the_wait_for_an_agent_that_is_away_and_only_the_leader_obeys() {
    for (value, leads, expected) in [
        ("true", true, Finalizer::Force),
        ("true", false, Finalizer::Leave),
        ("false", true, Finalizer::Leave),
        ("", true, Finalizer::Leave),
    ] {
        let decided = Cleanup::default().decide(&forced(value).facts(), leads, 0);
        assert_eq!(decided, expected, "{value:?} {leads}");
    }
    let mut world = forced("true");
    world.remote.metadata.deletion_timestamp = None;
    assert_eq!(once(&world), Finalizer::Leave, "nobody has deleted it");
    let mut world = forced("true");
    (world.remote.status, world.disconnected_at) = (None, None);
    assert_eq!(
        once(&world),
        Finalizer::Remove,
        "nothing ever stood there: no tombstone"
    );
}

#[test]
fn force_does_not_outrun_an_agent_that_removes_what_it_can() {
    let with_agent = |edit: fn(&mut World)| {
        let mut world = forced("true");
        world.session = World::deleting().session;
        world.disconnected_at = None;
        edit(&mut world);
        once(&world)
    };
    assert_eq!(with_agent(|_| {}), Finalizer::Leave, "not accepted yet");
    assert_eq!(with_agent(World::accept_removal), Finalizer::Leave, "not removed yet");
    for state in [ApplyState::Forbidden, ApplyState::NotReady] {
        let mut world = forced("true");
        world.session = World::deleting().session;
        world.accept_removal();
        world.session().applied = Arc::default();
        world.report(&injection(), state, "");
        assert_eq!(once(&world), Finalizer::Force, "{state:?} will never go by itself");
    }
}

#[test]
fn finalizer_of_a_remote_that_no_agent_ever_joined_is_let_go_by_the_leader() {
    let mut world = World::deleting();
    world.session = None;
    world.remote.status = None;
    assert_eq!(once(&world), Finalizer::Remove);
    assert_eq!(Cleanup::default().decide(&world.facts(), false, 0), Finalizer::Leave);
    let session = Some(SessionStatus {
        start: 1,
        connection: 1,
    });
    world.remote.status = Some(crate::crd::RemoteIstioStatus {
        session,
        ..Default::default()
    });
    assert_eq!(once(&world), Finalizer::Leave);
}
