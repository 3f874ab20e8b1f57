use proptest::prelude::*;
use remote_istio::model::ApplyState;

use super::super::test_objects::{CONNECTED_AT, World, lanes, pilot};
use super::*;
use crate::crd::ComponentStatus;

const SECOND: u64 = 1_000_000_000;

/// Difference between a settled remote and the same after a change.
fn difference_after(change: impl FnOnce(&mut World)) -> Option<Difference> {
    let mut world = World::settled();
    world.store(CONNECTED_AT);
    change(&mut world);
    difference(world.remote.status.as_ref(), &world.status(CONNECTED_AT + 1_000))
}

#[test]
fn unchanged_facts_are_no_difference_however_they_are_stored() {
    assert_eq!(difference_after(|_| {}), None);
    let reversed = difference_after(|world| {
        world.remote.status.as_mut().expect("stored").conditions.reverse();
    });
    assert_eq!(reversed, None);
    let of_others = difference_after(|world| {
        let conditions = &mut world.remote.status.as_mut().expect("stored").conditions;
        let mut foreign = conditions[0].clone();
        foreign.type_ = "Paused".to_owned();
        conditions.push(foreign);
    });
    assert_eq!(of_others, None);
}

#[test]
fn counts_and_words_alone_are_counts() {
    let addresses = difference_after(|world| world.desired.as_mut().expect("some").services[0].addresses = 2);
    assert_eq!(addresses, Some(Difference::Counts));
    let skew = difference_after(|world| world.session().clock_skew_milliseconds = 90_000);
    assert_eq!(skew, Some(Difference::Counts));
    let mut world = World::settled();
    world.report(&pilot(), ApplyState::Forbidden, "one reason");
    world.store(CONNECTED_AT);
    world.report(&pilot(), ApplyState::Forbidden, "another");
    let words = difference(world.remote.status.as_ref(), &world.status(CONNECTED_AT));
    assert_eq!(words, Some(Difference::Counts));
}

#[test]
fn catching_up_within_a_generation_is_a_dip_and_a_new_generation_is_not() {
    assert_eq!(
        difference_after(|world| world.session().lanes = lanes(false)),
        Some(Difference::Dip)
    );
    let new_generation = difference_after(|world| {
        world.remote.metadata.generation = Some(2);
        world.desired.as_mut().expect("some").generation = 2;
    });
    assert_eq!(new_generation, Some(Difference::Flip));
}

#[test]
fn everything_else_is_a_flip() {
    assert_eq!(difference(None, &World::created().status(1)), Some(Difference::Flip));
    let failed = difference_after(|world| world.report(&pilot(), ApplyState::Forbidden, ""));
    assert_eq!(failed, Some(Difference::Flip));
    let lost = difference_after(|world| (world.session, world.disconnected_at) = (None, Some(CONNECTED_AT + 9)));
    assert_eq!(lost, Some(Difference::Flip));
    let another_session = difference_after(|world| world.session().epoch.connection = 3);
    assert_eq!(another_session, Some(Difference::Flip));
    let mut world = World::settled();
    world.session().lanes = lanes(false);
    world.store(CONNECTED_AT);
    world.session().lanes = lanes(true);
    let caught_up = difference(world.remote.status.as_ref(), &world.status(CONNECTED_AT));
    assert_eq!(caught_up, Some(Difference::Flip), "good news is told at once");
}

#[test]
fn component_that_has_all_its_pods_is_a_flip_and_one_more_of_many_is_a_count() {
    let of = |desired, available| RemoteIstioStatus {
        components: vec![ComponentStatus {
            name: "citadel".to_owned(),
            desired,
            updated: desired,
            available,
            message: String::new(),
        }],
        ..World::settled().status(CONNECTED_AT)
    };
    assert_eq!(difference(Some(&of(3, 2)), &of(3, 3)), Some(Difference::Flip));
    assert_eq!(difference(Some(&of(3, 3)), &of(3, 2)), Some(Difference::Flip));
    assert_eq!(difference(Some(&of(3, 1)), &of(3, 2)), Some(Difference::Counts));
}

#[test]
fn flip_is_due_at_once_but_never_within_a_second_of_the_last_write() {
    let mut pace = Pace::default();
    assert_eq!(pace.due(Difference::Flip, 50 * SECOND), 50 * SECOND);
    pace.wrote(50 * SECOND);
    assert_eq!(pace.due(Difference::Flip, 50 * SECOND), 51 * SECOND);
    assert_eq!(pace.due(Difference::Flip, 70 * SECOND), 70 * SECOND);
}

#[test]
fn count_waits_until_it_has_settled_and_a_minute_since_the_last_write() {
    let mut pace = Pace::default();
    assert_eq!(pace.due(Difference::Counts, 50 * SECOND), 55 * SECOND);
    pace.wrote(55 * SECOND);
    assert_eq!(pace.due(Difference::Counts, 56 * SECOND), 115 * SECOND);
    assert_eq!(
        pace.due(Difference::Counts, 100 * SECOND),
        115 * SECOND,
        "asking again does not put it off"
    );
    assert_eq!(pace.due(Difference::Counts, 116 * SECOND), 115 * SECOND);
    pace.unchanged();
    assert_eq!(pace.due(Difference::Counts, 200 * SECOND), 205 * SECOND, "settles anew");
}

#[test]
fn dip_is_due_only_when_it_lasts() {
    let mut pace = Pace::default();
    assert_eq!(pace.due(Difference::Dip, 50 * SECOND), 53 * SECOND);
    assert_eq!(pace.due(Difference::Dip, 52 * SECOND), 53 * SECOND);
    pace.unchanged();
    assert_eq!(pace.due(Difference::Dip, 53 * SECOND), 56 * SECOND);
    assert_eq!(pace.due(Difference::Counts, 54 * SECOND), 59 * SECOND);
    assert_eq!(pace.due(Difference::Dip, 55 * SECOND), 58 * SECOND, "another dip");
}

#[test]
fn failed_write_holds_back_everything_for_its_pause() {
    let mut pace = Pace::default();
    pace.failed(Duration::from_secs(7), 50 * SECOND);
    assert_eq!(pace.due(Difference::Flip, 51 * SECOND), 57 * SECOND);
    pace.wrote(57 * SECOND);
    assert_eq!(pace.not_before(), 0);
}

#[test]
fn budget_gives_forty_at_once_and_then_twenty_a_second() {
    let start = 100 * SECOND;
    let mut budget = Budget::default();
    for taken in 0..40 {
        assert_eq!(budget.free_at(start), start, "after {taken}");
        budget.take(start);
    }
    assert_eq!(budget.free_at(start), start + SECOND / 20);
    budget.take(start + SECOND / 20);
    assert_eq!(budget.free_at(start + SECOND / 20), start + SECOND / 10);
    assert_eq!(budget.free_at(start + 60 * SECOND), start + 60 * SECOND);
}

proptest! {
    #[test]
    fn remote_that_flips_all_the_time_is_written_at_most_once_a_second(
        pauses in prop::collection::vec(0..SECOND, 1..200),
    ) {
        let (mut pace, mut now, mut writes) = (Pace::default(), SECOND, Vec::new());
        for pause in pauses {
            now += pause;
            if pace.due(Difference::Flip, now) <= now {
                pace.wrote(now);
                writes.push(now);
            }
        }
        prop_assert!(writes.windows(2).all(|pair| pair[1] - pair[0] >= SECOND));
        prop_assert!(!writes.is_empty());
    }

    #[test]
    fn budget_is_never_exceeded(pauses in prop::collection::vec(0..SECOND / 4, 1..400)) {
        let (mut budget, mut now, mut writes) = (Budget::default(), 0, Vec::new());
        for pause in pauses {
            now += pause;
            while budget.free_at(now) <= now {
                budget.take(now);
                writes.push(now);
            }
        }
        for (first, start) in writes.iter().enumerate() {
            let within = writes[first..].iter().take_while(|at| **at < start + SECOND).count();
            prop_assert!(within <= 60, "{within} writes within a second");
        }
    }
}
