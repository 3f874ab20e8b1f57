use std::sync::Arc;

use remote_istio::lane::NackReason;
use remote_istio::model::{ApplyState, Key, Snapshot};

use super::super::test_objects::{
    CONNECTED_AT, REPLICA, World, condition, desired, injection, lanes, outline, pilot, pilot_service,
};
use super::*;
use crate::index::Desired;
use crate::lifecycle::{Hold, Ruling};

const NOW: i64 = CONNECTED_AT + 100;

#[test]
fn resource_without_any_agent_is_created_and_says_what_to_run() {
    let status = World::created().status(NOW);
    assert_eq!((status.state, &status.error_message), (Some(State::Created), &None));
    assert_eq!(
        outline(&status),
        [
            ("Connected", "False", "AgentNeverConnected"),
            ("CertificateValid", "Unknown", "NoAgent"),
            ("Allowed", "Unknown", "PolicyUnknown"),
            ("Accepted", "Unknown", "NoAgent"),
            ("Applied", "Unknown", "NoAgent"),
            ("Ready", "False", "AgentNeverConnected"),
        ]
    );
    assert!(
        condition(&status, READY)
            .message
            .contains("certificate for remote/remote-1")
    );
    assert_eq!(
        (status.session, status.last_contact, status.replica),
        (None, None, None)
    );
}

#[test]
fn settled_remote_is_available_with_everything_that_is_known() {
    let status = World::settled().status(NOW);
    let expected = RemoteIstioStatus {
        state: Some(State::Available),
        error_message: None,
        observed_generation: Some(1),
        conditions: status.conditions.clone(),
        last_contact: Some(time(CONNECTED_AT)),
        agent_version: Some("0.1.0".to_owned()),
        kubernetes_version: Some("v1.37.2".to_owned()),
        replica: Some(REPLICA.to_owned()),
        session: Some(SessionStatus {
            start: 5,
            connection: 2,
        }),
        services: vec![ServiceStatus {
            name: "istio-pilot".to_owned(),
            namespace: "istio-system".to_owned(),
            addresses_sent: 3,
            addresses_applied: 3,
        }],
        components: Vec::new(),
        cluster_uid: Some("c1".to_owned()),
        policy: None,
    };
    assert_eq!(status, expected);
    assert_eq!(
        outline(&status),
        [
            ("Connected", "True", "AgentConnected"),
            ("CertificateValid", "True", "AllGood"),
            ("Allowed", "Unknown", "PolicyUnknown"),
            ("Accepted", "True", "AllAccepted"),
            ("Applied", "True", "AllApplied"),
            ("Ready", "True", "Available"),
        ]
    );
    assert!(
        status
            .conditions
            .iter()
            .all(|condition| condition.observed_generation == Some(1))
    );
    assert!(
        status
            .conditions
            .iter()
            .all(|condition| condition.last_transition_time == time(NOW))
    );
}

#[test]
fn available_needs_everything_accepted_and_applied_for_this_generation() {
    type Change = fn(&mut World);
    let changes: [(&str, Change, [&str; 2]); 8] = [
        (
            "lane not in sync",
            |world| world.session().lanes = lanes(false),
            ["False", "False"],
        ),
        (
            "lane unknown to the session",
            |world| {
                world.session().lanes.pop_last();
            },
            ["False", "False"],
        ),
        (
            "older generation sent",
            |world| world.session().desired = Some(("u1".to_owned(), 0)),
            ["False", "False"],
        ),
        (
            "another resource sent",
            |world| world.session().desired = Some(("u0".to_owned(), 1)),
            ["False", "False"],
        ),
        (
            "generation not computed",
            |world| world.remote.metadata.generation = Some(2),
            ["False", "False"],
        ),
        (
            "not claimed yet",
            |world| world.session().claimed = false,
            ["False", "False"],
        ),
        (
            "lane not computed",
            |world| {
                world.desired.as_mut().expect("some").lanes.pop_last();
            },
            ["False", "False"],
        ),
        (
            "nothing reported",
            |world| world.session().applied = std::sync::Arc::default(),
            ["True", "False"],
        ),
    ];
    for (what, change, expected) in changes {
        let mut world = World::settled();
        change(&mut world);
        let status = world.status(NOW);
        assert_eq!(
            (status.state, status.error_message.clone()),
            (Some(State::Reconciling), None),
            "{what}"
        );
        let found = [ACCEPTED, APPLIED].map(|kind| condition(&status, kind).status.as_str());
        assert_eq!(found, expected, "{what}");
        let ready = condition(&status, READY);
        assert_eq!(
            (ready.status.as_str(), ready.reason.as_str()),
            ("False", "Pending"),
            "{what}"
        );
    }
}

#[test]
fn state_of_an_older_version_does_not_count_as_applied() {
    let mut world = World::settled();
    let applied = std::sync::Arc::make_mut(&mut world.session().applied);
    applied.get_mut(&pilot()).expect("reported").version = None;
    let status = world.status(NOW);
    assert_eq!(condition(&status, APPLIED).reason, "Pending");
    assert_eq!(status.state, Some(State::Reconciling));
}

#[test]
fn object_that_is_no_longer_desired_must_be_gone_before_the_remote_is_available() {
    let mut world = World::settled();
    let gone = Key::injection("old");
    for (state, reason) in [
        (ApplyState::Applied, "Pending"),
        (ApplyState::Forbidden, "Forbidden"),
        (ApplyState::Removed, "AllApplied"),
        (ApplyState::Foreign, "AllApplied"),
    ] {
        world.report(&gone, state, "");
        assert_eq!(condition(&world.status(NOW), APPLIED).reason, reason, "{state:?}");
    }
}

#[test]
fn each_failure_names_the_object_the_reason_and_what_to_do() {
    for (state, remedy) in [
        (ApplyState::Foreign, "have it adopted"),
        (ApplyState::Forbidden, "apply the roles"),
        (ApplyState::NamespaceMissing, "create namespace default"),
        (ApplyState::Rejected, "webhook"),
        (ApplyState::Unavailable, "tried again by itself"),
        (ApplyState::Contended, "who else writes it"),
    ] {
        let mut world = World::settled();
        world.report(&injection(), state, "what the agent saw");
        let status = world.status(NOW);
        assert_eq!(status.state, Some(State::ReconcileFailed), "{state:?}");
        let applied = condition(&status, APPLIED);
        assert_eq!(
            (applied.status.as_str(), applied.reason.as_str()),
            ("False", state.as_str())
        );
        for part in ["injection/default", state.as_str(), "what the agent saw", remedy] {
            assert!(applied.message.contains(part), "{part:?} in {}", applied.message);
        }
        assert_eq!(status.error_message.as_ref(), Some(&applied.message));
        assert_eq!(condition(&status, READY).message, applied.message);
    }
}

#[test]
fn decision_of_a_user_of_the_remote_is_said_and_leaves_the_remote_available() {
    let mut world = World::settled();
    world.report(&injection(), ApplyState::UserDecided, "istio-injection=disabled");
    let status = world.status(NOW);
    assert_eq!((status.state, &status.error_message), (Some(State::Available), &None));
    let applied = condition(&status, APPLIED);
    assert_eq!(
        (applied.status.as_str(), applied.reason.as_str()),
        ("True", "UserDecided")
    );
    assert!(
        applied
            .message
            .contains("injection/default is not applied (UserDecided: istio-injection=disabled)")
    );
}

#[test]
fn each_refusal_names_the_object_the_reason_and_what_to_do() {
    for reason in NackReason::ALL {
        let mut world = World::settled();
        world.refuse(pilot_service(), reason, "because");
        world.report(&pilot_service(), ApplyState::Removed, "");
        let status = world.status(NOW);
        assert_eq!(status.state, Some(State::ReconcileFailed), "{reason:?}");
        let accepted = condition(&status, ACCEPTED);
        assert_eq!(
            (accepted.status.as_str(), accepted.reason.as_str()),
            ("False", "ObjectsRefused")
        );
        let start = format!(
            "the agent refused service/istio-system/istio-pilot ({}: because); ",
            reason.as_str()
        );
        assert!(
            accepted.message.len() > start.len() + 10,
            "no remedy in {}",
            accepted.message
        );
        assert!(accepted.message.starts_with(&start), "{}", accepted.message);
        assert_eq!(status.error_message.as_ref(), Some(&accepted.message));
    }
}

#[test]
fn several_failures_are_the_first_and_a_count() {
    let mut world = World::settled();
    world.report(&injection(), ApplyState::Forbidden, "");
    world.report(&pilot(), ApplyState::Rejected, "");
    world.report(&pilot_service(), ApplyState::Foreign, &"long ".repeat(400));
    let message = world.status(NOW).error_message.expect("failed");
    assert!(
        message.starts_with("endpoints/istio-system/istio-pilot cannot be applied (Rejected)"),
        "{message}"
    );
    assert!(message.ends_with("(and 2 more)"), "{message}");
    world.report(&pilot(), ApplyState::Applied, "");
    let message = world.status(NOW).error_message.expect("failed");
    assert!(message.ends_with("(and 1 more)") && message.len() < 1_000, "{message}");
}

#[test]
fn fatal_problem_fails_with_its_own_reason_while_the_rest_goes_on() {
    for mut world in [World::settled(), World::created(), World::lost(NOW)] {
        world.problem(
            "InvalidSelector",
            "spec.enabledServices[2].labelSelector",
            "\"a==\" does not parse",
            true,
        );
        let status = world.status(NOW);
        assert_eq!(status.state, Some(State::ReconcileFailed));
        let ready = condition(&status, READY);
        assert_eq!(
            (ready.status.as_str(), ready.reason.as_str()),
            ("False", "InvalidSelector")
        );
        assert_eq!(
            ready.message,
            "spec.enabledServices[2].labelSelector: \"a==\" does not parse"
        );
        assert_eq!(condition(&status, ACCEPTED).reason, "InvalidSelector");
        assert_eq!(status.error_message.as_ref(), Some(&ready.message));
        let applied = if world.disconnected_at.is_some() || world.session.is_some() {
            "True"
        } else {
            "Unknown"
        };
        assert_eq!(condition(&status, APPLIED).status, applied);
    }
}

#[test]
fn what_is_only_said_is_a_note_and_does_not_hinder() {
    let mut world = World::settled();
    world.problem(
        "ServiceAbsent",
        "spec.enabledServices[0]",
        "central has no such Service",
        false,
    );
    let status = world.status(NOW);
    assert_eq!((status.state, &status.error_message), (Some(State::Available), &None));
    let accepted = condition(&status, ACCEPTED);
    assert_eq!(accepted.status, "True");
    assert!(
        accepted
            .message
            .ends_with("note spec.enabledServices[0]: central has no such Service")
    );
}

#[test]
fn object_that_waits_for_its_pods_keeps_the_remote_from_being_available_and_is_no_failure() {
    let mut world = World::settled();
    world.report(&injection(), ApplyState::NotReady, "0 of 1 pods are available");
    let status = world.status(NOW);
    let message = "injection/default is not ready (NotReady: 0 of 1 pods are available); it goes on by itself once what \
                   it names is there";
    assert_eq!(
        (status.state, status.error_message.as_deref()),
        (Some(State::Reconciling), Some(message))
    );
    for kind in [APPLIED, READY] {
        let found = condition(&status, kind);
        assert_eq!(
            (found.status.as_str(), found.reason.as_str()),
            ("False", "NotReady"),
            "{kind}"
        );
        assert_eq!(found.message, message, "{kind}");
    }
    world.report(&pilot(), ApplyState::Rejected, "");
    assert_eq!(
        condition(&world.status(NOW), READY).reason,
        "Rejected",
        "failures come first"
    );
}

#[test]
fn removal_that_waits_is_no_failure() {
    let mut world = World::settled();
    world.report(
        &Key::injection("old"),
        ApplyState::NotReady,
        "waits for the webhook to go",
    );
    let status = world.status(NOW);
    assert_eq!(condition(&status, APPLIED).reason, "NotReady");
    let message = &condition(&status, APPLIED).message;
    assert!(
        message.starts_with("injection/old is not removed yet (NotReady: waits"),
        "{message}"
    );
}

#[test]
fn lost_agent_leaves_what_was_known_and_says_since_when() {
    let before = World::settled().status(CONNECTED_AT);
    let lost = World::lost(NOW);
    let status = lost.status(NOW + 1);
    assert_eq!(
        outline(&status),
        [
            ("Connected", "False", "AgentDisconnected"),
            ("CertificateValid", "True", "AllGood"),
            ("Allowed", "Unknown", "PolicyUnknown"),
            ("Accepted", "True", "AllAccepted"),
            ("Applied", "True", "AllApplied"),
            ("Ready", "False", "AgentDisconnected"),
        ]
    );
    assert_eq!(
        status.state,
        Some(State::Reconciling),
        "available is only what is known to be so now"
    );
    assert_eq!(status.last_contact, Some(time(NOW)));
    let connected = condition(&status, CONNECTED);
    assert!(
        connected.message.contains(&time(NOW).0.to_string()),
        "{}",
        connected.message
    );
    assert_eq!(status.error_message.as_ref(), Some(&connected.message));
    assert_eq!(
        (
            &status.services,
            &status.session,
            &status.agent_version,
            &status.replica
        ),
        (
            &before.services,
            &before.session,
            &before.agent_version,
            &before.replica
        )
    );
    for kind in [ACCEPTED, APPLIED] {
        assert_eq!(condition(&status, kind), condition(&before, kind), "stays as it was");
    }
}

#[test]
fn what_agents_said_keeps_its_generation_when_the_resource_goes_on_without_them() {
    let mut world = World::lost(NOW);
    world.remote.metadata.generation = Some(2);
    world.desired = Some(desired(2));
    let status = world.status(NOW);
    let generations = status.conditions.iter().map(|condition| condition.observed_generation);
    assert_eq!(
        generations.collect::<Vec<_>>(),
        [Some(2), Some(2), Some(2), Some(1), Some(1), Some(2)]
    );
    assert_eq!(status.observed_generation, Some(2));
}

#[test]
fn problem_that_is_mended_while_the_agent_is_away_leaves_nothing_known() {
    let mut world = World::lost(NOW);
    world.problem("InvalidSelector", "spec", "broken", true);
    world.store(NOW);
    world.desired = Some(desired(1));
    assert_eq!(condition(&world.status(NOW), ACCEPTED).status, "Unknown");
}

#[test]
fn transition_time_moves_only_when_the_status_of_a_condition_does() {
    let mut world = World::settled();
    world.store(NOW);
    world.report(&pilot(), ApplyState::Forbidden, "");
    world.store(NOW + 10);
    world.report(&pilot(), ApplyState::Rejected, "");
    let status = world.status(NOW + 20);
    let times = [CONNECTED, ACCEPTED, APPLIED, READY].map(|kind| condition(&status, kind).last_transition_time.clone());
    assert_eq!(times, [time(NOW), time(NOW), time(NOW + 10), time(NOW + 10)]);
}

#[test]
fn status_of_unchanged_facts_stays_the_same_as_time_goes_by() {
    let mut failed = World::settled();
    failed.report(&pilot(), ApplyState::Forbidden, "");
    for mut world in [
        World::settled(),
        World::created(),
        World::lost(NOW),
        World::deleting(),
        failed,
    ] {
        world.store(NOW);
        assert_eq!(Some(world.status(NOW + 1_000_000)), world.remote.status);
    }
}

#[test]
fn new_leader_does_not_put_its_name_on_a_session_that_it_never_had() {
    let mut world = World::lost(NOW);
    world.store(NOW);
    (world.disconnected_at, world.last_certificate) = (None, None);
    let status = world.status_by("hub-9", NOW + 60);
    assert_eq!(Some(status), world.remote.status);
}

#[test]
fn deleted_resource_says_what_it_waits_for() {
    let mut world = World::deleting();
    let waiting = world.status(NOW);
    let ready = condition(&waiting, READY);
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "Deleting"));
    assert_eq!(ready.message, "waits for the agent to remove what it holds");
    assert_eq!(waiting.state, Some(State::Reconciling));

    world.session = None;
    world.disconnected_at = Some(NOW);
    let status = world.status(NOW);
    let message = &condition(&status, READY).message;
    for part in [
        "waits for the agent to return",
        "kubectl -n istio-system annotate remoteistio remote-1 istio.banzaicloud.io/force-delete=true",
        "ConfigMap remote-istio-gone",
    ] {
        assert!(message.contains(part), "{part:?} in {message}");
    }
    assert_eq!(status.error_message.as_ref(), Some(message));
}

/// Deleted and held for this reason; the agent holds what it held before.
fn held(hold: Hold) -> World {
    let mut world = World::deleting();
    world.desired = Some(Desired {
        deletion: Some(Ruling::Held(hold)),
        ..desired(2)
    });
    world
}

#[test]
fn held_deletion_says_why_and_the_two_ways_on() {
    for (hold, reason, why) in [
        (
            Hold::Many { deleted: 8, limit: 5 },
            "DeletionHeld",
            "8 RemoteIstios are being deleted at once, more than 5",
        ),
        (Hold::DefinitionEnds, "DeletionHeld", "the CRD is being deleted"),
        (Hold::DefinitionGone, "DeletionHeld", "the CRD is gone"),
        (Hold::Unreadable, "DeletionHeld", "cannot read all of it"),
        (
            Hold::DefinitionUnread("forbidden".to_owned()),
            "DeletionUnchecked",
            "cannot be read (forbidden)",
        ),
    ] {
        let world = held(hold);
        let status = world.status(NOW);
        let ready = condition(&status, READY);
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", reason));
        for part in [
            why,
            "kubectl -n istio-system annotate remoteistio remote-1 --overwrite istio.banzaicloud.io/deletion=withdraw",
            "istio.banzaicloud.io/deletion=keep",
        ] {
            assert!(ready.message.contains(part), "{part} in {}", ready.message);
        }
        assert_eq!(status.state, Some(State::ReconcileFailed));
        assert_eq!(status.error_message.as_deref(), Some(ready.message.as_str()));
    }
}

#[test]
fn reason_of_a_hold_outlives_the_hub_that_saw_it_and_an_unknown_word_is_named() {
    let mut world = held(Hold::Many { deleted: 8, limit: 5 });
    world.store(NOW);
    let before = condition(world.remote.status.as_ref().expect("stored"), READY)
        .message
        .clone();
    world.desired.as_mut().expect("computed").deletion = Some(Ruling::Held(Hold::Before));
    assert_eq!(condition(&world.status(NOW), READY).message, before);
    let annotation = ("istio.banzaicloud.io/deletion".to_owned(), "yes".to_owned());
    world.remote.metadata.annotations = Some([annotation].into());
    let status = world.status(NOW);
    let ready = condition(&status, READY);
    assert_eq!(ready.reason, "DeletionHeld");
    assert!(
        ready.message.ends_with("\"yes\" in that annotation is neither"),
        "{}",
        ready.message
    );
}

#[test]
fn deleted_resource_that_orphans_says_so() {
    let mut world = World::deleting();
    for lane in world.desired.as_mut().expect("computed").lanes.values_mut() {
        *lane = Arc::new(Snapshot::cleared(true));
    }
    let status = world.status(NOW);
    let message = &condition(&status, READY).message;
    assert_eq!(message, "waits for the agent to let go of what it holds");
}

#[test]
fn paused_resource_says_that_nothing_is_sent_and_nothing_more() {
    let mut world = World::settled();
    world.store(NOW);
    world.remote.spec.paused = Some(true);
    let status = world.status(NOW);
    let ready = condition(&status, READY);
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("Unknown", "Paused"));
    assert!(ready.message.contains("set spec.paused to false"), "{}", ready.message);
    assert_eq!(status.state, Some(State::Reconciling));
    assert_eq!(status.error_message.as_ref(), Some(&ready.message));

    // A hub that has just started does not know what the agent holds; what was said before stays.
    let before: Vec<Condition> = world.remote.status.clone().expect("stored").conditions;
    world.desired.as_mut().expect("computed").lanes.clear();
    let status = world.status(NOW + 60);
    for kind in [ACCEPTED, APPLIED] {
        let said = before.iter().find(|condition| condition.type_ == kind).expect("stored");
        assert_eq!(condition(&status, kind).status, said.status, "{kind}");
        assert_eq!(condition(&status, kind).reason, said.reason, "{kind}");
    }

    world.revoke("stolen");
    assert_eq!(
        condition(&world.status(NOW), READY).reason,
        "Revoked",
        "worse than paused"
    );
    world.revoked = None;
    world.remote.metadata.deletion_timestamp = Some(time(NOW));
    assert_eq!(condition(&world.status(NOW), READY).reason, "Deleting", "paused or not");
}

#[test]
fn removal_that_fails_is_said_with_the_way_to_force_it() {
    let mut world = World::deleting();
    world.accept_removal();
    world.report(&injection(), ApplyState::Forbidden, "no patch");
    let status = world.status(NOW);
    assert_eq!(status.state, Some(State::ReconcileFailed));
    let message = status.error_message.expect("failed");
    assert!(
        message.contains("injection/default cannot be removed (Forbidden: no patch)"),
        "{message}"
    );
    assert!(message.contains("force-delete=true"), "{message}");
}

#[test]
fn clock_that_is_far_off_is_mentioned_in_coarse_steps() {
    let message = |milliseconds| {
        let mut world = World::settled();
        world.session().clock_skew_milliseconds = milliseconds;
        condition(&world.status(NOW), CONNECTED).message.clone()
    };
    let plain = "agent 0.1.0 is connected from 192.0.2.7:4711";
    assert_eq!(message(-29_000), plain);
    assert_eq!(
        message(31_000),
        format!("{plain}; its clock is 30 s or more ahead, correct it")
    );
    assert_eq!(
        message(-95_000),
        format!("{plain}; its clock is 90 s or more behind, correct it")
    );
    assert_eq!(message(35_000), message(44_000));
}

#[test]
fn desired_state_of_an_earlier_resource_of_the_same_name_is_not_taken_for_this_one() {
    let mut world = World::settled();
    world.remote.metadata.uid = Some("u2".to_owned());
    let status = world.status(NOW);
    assert_eq!(status.state, Some(State::Reconciling));
    assert_eq!((status.observed_generation, status.services), (None, Vec::new()));
}
