use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::*;
use crate::crd::RemoteIstioSpec;
use crate::status::conditions::time;

const SECOND: u64 = 1_000_000_000;

/// When what was seen at 0 has settled.
const SETTLED: u64 = 3 * SECOND;

fn resource(name: &str) -> RemoteIstio {
    let mut resource = RemoteIstio::new(name, RemoteIstioSpec::default());
    resource.metadata.uid = Some(format!("uid-{name}"));
    resource.metadata.deletion_timestamp = Some(time(1));
    resource.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    resource
}

fn annotated(name: &str, key: &str, value: &str) -> RemoteIstio {
    let mut resource = resource(name);
    resource.metadata.annotations = Some([(key.to_owned(), value.to_owned())].into());
    resource
}

fn saying(name: &str, reason: &str) -> RemoteIstio {
    let ready = Condition {
        type_: READY.to_owned(),
        status: "False".to_owned(),
        reason: reason.to_owned(),
        message: String::new(),
        observed_generation: None,
        last_transition_time: time(1),
    };
    RemoteIstio {
        status: Some(RemoteIstioStatus {
            conditions: vec![ready],
            ..RemoteIstioStatus::default()
        }),
        ..resource(name)
    }
}

fn many(count: usize) -> Vec<RemoteIstio> {
    (0..count).map(|number| resource(&format!("r{number}"))).collect()
}

fn readable(resource: &RemoteIstio) -> Deleted {
    Deleted {
        remote: RemoteName::new(&resource.name_any()).expect("a name"),
        object: Arc::new(resource.clone()),
        is_readable: true,
    }
}

fn look(guard: &mut Guard, resources: &[RemoteIstio], reading: Option<(Definition, u64)>, now: u64) -> Next {
    let deleted: Vec<Deleted> = resources.iter().map(readable).collect();
    let reading = reading.map(|(definition, asked_at)| Reading { definition, asked_at });
    guard.look(&deleted, reading.as_ref(), now)
}

/// The rulings, in the order of the names.
fn rulings(guard: &Guard) -> Vec<Ruling> {
    guard.rulings().into_values().map(|(_, ruling)| ruling).collect()
}

/// Sees all of them at once, waits, and reads this of the CRD.
fn decided(resources: &[RemoteIstio], definition: Definition) -> Vec<Ruling> {
    let mut guard = Guard::new(5);
    look(&mut guard, resources, None, 0);
    look(&mut guard, resources, None, SETTLED);
    look(&mut guard, resources, Some((definition, SETTLED)), SETTLED);
    rulings(&guard)
}

#[test]
fn deletion_settles_then_asks_for_the_definition_and_is_withdrawn() {
    let one = [resource("r1")];
    let mut guard = Guard::new(5);
    assert_eq!(look(&mut guard, &one, None, 0), Next::At(SETTLED));
    assert_eq!(look(&mut guard, &one, None, SECOND), Next::At(SETTLED));
    assert_eq!(rulings(&guard), [Ruling::Settling]);
    assert_eq!(look(&mut guard, &one, None, SETTLED), Next::Read);
    let reading = Some((Definition::Stands, SETTLED));
    assert_eq!(look(&mut guard, &one, reading, SETTLED + 1), Next::Wait);
    assert_eq!(rulings(&guard), [Ruling::Withdrawn]);
}

#[test]
fn as_many_as_are_allowed_are_withdrawn_and_of_one_more_none() {
    assert_eq!(decided(&many(5), Definition::Stands), vec![Ruling::Withdrawn; 5]);
    let held = Ruling::Held(Hold::Many { deleted: 6, limit: 5 });
    assert_eq!(decided(&many(6), Definition::Stands), vec![held; 6]);
}

#[test]
fn definition_that_ends_or_is_gone_holds_a_single_one() {
    for (definition, hold) in [
        (Definition::Ends, Hold::DefinitionEnds),
        (Definition::Gone, Hold::DefinitionGone),
        (
            Definition::Unread("no".to_owned()),
            Hold::DefinitionUnread("no".to_owned()),
        ),
    ] {
        assert_eq!(decided(&many(1), definition), [Ruling::Held(hold)]);
    }
}

#[test]
fn definition_that_was_asked_for_before_a_deletion_settled_says_nothing_of_it() {
    let mut guard = Guard::new(5);
    look(&mut guard, &many(1), None, 0);
    let both = many(2);
    look(&mut guard, &both, None, SECOND);
    let reading = Some((Definition::Stands, SETTLED));
    // The answer came late: the second has settled meanwhile.
    assert_eq!(look(&mut guard, &both, reading, 9 * SECOND), Next::Read);
    assert_eq!(rulings(&guard), [Ruling::Withdrawn, Ruling::Settling]);
}

#[test]
fn definition_that_cannot_be_read_is_tried_again_and_then_decides() {
    let one = many(1);
    let mut guard = Guard::new(5);
    look(&mut guard, &one, None, 0);
    let unread = Some((Definition::Unread("forbidden".to_owned()), SETTLED));
    assert_eq!(
        look(&mut guard, &one, unread, SETTLED),
        Next::Wait,
        "whoever reads pauses"
    );
    assert!(guard.awaits_definition());
    assert_eq!(look(&mut guard, &one, None, SETTLED + 1), Next::Read);
    look(&mut guard, &one, Some((Definition::Stands, 2 * SETTLED)), 2 * SETTLED);
    assert_eq!(rulings(&guard), [Ruling::Withdrawn]);
    assert!(!guard.awaits_definition());
}

#[test]
fn what_is_held_stays_held_when_fewer_are_left_until_a_person_decides() {
    let mut guard = Guard::new(1);
    let both = many(2);
    look(&mut guard, &both, None, 0);
    look(&mut guard, &both, Some((Definition::Stands, SETTLED)), SETTLED);
    let held = Ruling::Held(Hold::Many { deleted: 2, limit: 1 });
    assert_eq!(rulings(&guard), [held.clone(), held.clone()]);
    let decided = [annotated("r0", DELETION_ANNOTATION, " withdraw "), resource("r1")];
    look(&mut guard, &decided, Some((Definition::Stands, 9 * SECOND)), 9 * SECOND);
    assert_eq!(rulings(&guard), [Ruling::Withdrawn, held.clone()]);
    look(
        &mut guard,
        &[resource("r1")],
        Some((Definition::Stands, 19 * SECOND)),
        19 * SECOND,
    );
    assert_eq!(rulings(&guard), [held], "although it is the only one left");
    look(
        &mut guard,
        &[annotated("r1", DELETION_ANNOTATION, "keep")],
        None,
        20 * SECOND,
    );
    assert_eq!(rulings(&guard), [Ruling::Kept]);
}

#[test]
fn what_a_person_decided_or_forced_does_not_count() {
    let resources = [
        annotated("r0", DELETION_ANNOTATION, "withdraw"),
        annotated("r1", DELETION_ANNOTATION, "keep"),
        annotated("r2", FORCE_DELETE_ANNOTATION, "true"),
        resource("r3"),
    ];
    let mut guard = Guard::new(1);
    look(&mut guard, &resources, None, 0);
    look(&mut guard, &resources, Some((Definition::Stands, SETTLED)), SETTLED);
    let (withdrawn, kept) = (Ruling::Withdrawn, Ruling::Kept);
    assert_eq!(rulings(&guard), [withdrawn.clone(), kept, withdrawn.clone(), withdrawn]);
}

#[test]
fn what_is_being_withdrawn_counts_and_goes_on() {
    let mut guard = Guard::new(1);
    look(&mut guard, &many(1), None, 0);
    look(&mut guard, &many(1), Some((Definition::Stands, SETTLED)), SETTLED);
    let both = many(2);
    look(&mut guard, &both, None, 4 * SECOND);
    look(&mut guard, &both, Some((Definition::Stands, 8 * SECOND)), 8 * SECOND);
    let held = Ruling::Held(Hold::Many { deleted: 2, limit: 1 });
    assert_eq!(rulings(&guard), [Ruling::Withdrawn, held]);
}

#[test]
fn hub_that_starts_goes_by_what_the_status_says() {
    let mut guard = Guard::new(5);
    let resources = [
        saying("r0", DELETION_HELD),
        saying("r1", DELETING),
        saying("r2", "DeletionUnchecked"),
        saying("r3", "Available"),
    ];
    assert_eq!(look(&mut guard, &resources, None, 0), Next::At(SETTLED));
    assert_eq!(
        rulings(&guard),
        [
            Ruling::Held(Hold::Before),
            Ruling::Withdrawn,
            Ruling::Settling,
            Ruling::Settling,
        ]
    );
}

#[test]
fn what_another_replica_holds_is_held_here() {
    let mut guard = Guard::new(5);
    look(&mut guard, &many(1), None, 0);
    look(
        &mut guard,
        &[saying("r0", DELETION_HELD)],
        Some((Definition::Stands, SETTLED)),
        SETTLED,
    );
    assert_eq!(rulings(&guard), [Ruling::Held(Hold::Before)]);
}

#[test]
fn what_this_hub_withdrew_by_itself_is_held_once_another_replica_holds_it() {
    let mut guard = Guard::new(5);
    look(&mut guard, &many(1), None, 0);
    look(&mut guard, &many(1), Some((Definition::Stands, SETTLED)), SETTLED);
    assert_eq!(rulings(&guard), [Ruling::Withdrawn]);
    look(&mut guard, &[saying("r0", DELETION_HELD)], None, SETTLED + SECOND);
    assert_eq!(rulings(&guard), [Ruling::Held(Hold::Before)]);
}

#[test]
fn what_cannot_be_read_is_held_until_a_person_decides() {
    let mut guard = Guard::new(5);
    let unreadable = |resource: &RemoteIstio| Deleted {
        is_readable: false,
        ..readable(resource)
    };
    let reading = Reading {
        definition: Definition::Stands,
        asked_at: SETTLED,
    };
    guard.look(&[unreadable(&resource("r0"))], Some(&reading), SETTLED);
    assert_eq!(rulings(&guard), [Ruling::Held(Hold::Unreadable)]);
    let wanted = unreadable(&annotated("r0", DELETION_ANNOTATION, "withdraw"));
    guard.look(&[wanted], None, SETTLED);
    assert_eq!(rulings(&guard), [Ruling::Withdrawn]);
}

#[test]
fn resource_made_anew_under_the_name_is_looked_at_anew() {
    let mut guard = Guard::new(5);
    look(&mut guard, &many(1), None, 0);
    look(&mut guard, &many(1), Some((Definition::Stands, SETTLED)), SETTLED);
    let mut anew = resource("r0");
    anew.metadata.uid = Some("another".to_owned());
    assert_eq!(look(&mut guard, &[anew], None, 9 * SECOND), Next::At(12 * SECOND));
    assert_eq!(rulings(&guard), [Ruling::Settling]);
    assert_eq!(look(&mut guard, &[], None, 10 * SECOND), Next::Wait);
    assert_eq!(rulings(&guard), []);
}

#[test]
fn resource_that_does_not_wait_for_us_is_not_withdrawn_unless_it_was() {
    let mut guard = Guard::new(5);
    let mut free = resource("r0");
    free.metadata.finalizers = Some(vec!["example.test/other".to_owned()]);
    assert_eq!(look(&mut guard, std::slice::from_ref(&free), None, 0), Next::Wait);
    assert_eq!(rulings(&guard), [Ruling::Kept]);
    let mut guard = Guard::new(5);
    look(&mut guard, &[annotated("r0", DELETION_ANNOTATION, "withdraw")], None, 0);
    look(&mut guard, &[free], None, 1);
    assert_eq!(rulings(&guard), [Ruling::Withdrawn]);
}

#[test]
fn annotation_that_is_none_of_the_words_decides_nothing_and_is_named() {
    let odd = annotated("r0", DELETION_ANNOTATION, "yes");
    assert_eq!(unknown_wish(&odd), Some("yes"));
    assert_eq!(unknown_wish(&annotated("r0", DELETION_ANNOTATION, "keep")), None);
    assert_eq!(unknown_wish(&resource("r0")), None);
    assert_eq!(decided(&[odd], Definition::Ends), [Ruling::Held(Hold::DefinitionEnds)]);
}
