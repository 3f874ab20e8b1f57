mod identity;
mod policy;
mod script;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use remote_istio::convert::FrameError;
use remote_istio::lane::{Nack, NackReason};
use remote_istio::liveness::Dead;
use remote_istio::model::{Applied, ApplyState, Key, Lane, LaneHash};
use remote_istio::wire::v1;
use remote_istio::wire::v1::hub_frame::Frame;

use self::script::{
    Agent, MILLISECOND, OPENED_AT, SECOND, Start, World, delta, deltas, frames, hello, status, welcome,
};
use super::*;
use crate::crd::DeletionPolicy;
use crate::lifecycle::Tombstone;
use crate::report::CertificateReport;

#[test]
fn fresh_agent_is_welcomed_and_sent_one_snapshot_per_lane() {
    let world = World::new().set("pilot", &[1, 2]).service("pilot").at(0);
    let mut agent = Agent::default();
    let mut session = agent.open(Start::claimed(&world));
    let sent = frames(&mut session, 0);
    assert_eq!(
        welcome(&sent[0]).claim,
        Some(v1::Claim {
            claimed: true,
            message: String::new()
        })
    );
    let snapshots: Vec<_> = sent[1..]
        .iter()
        .map(|frame| (delta(frame).lane(), delta(frame).complete))
        .collect();
    assert_eq!(snapshots, [(v1::Lane::Endpoints, true), (v1::Lane::Config, true)]);

    agent.take_all(&mut session, sent, MILLISECOND);
    assert_eq!(agent.hashes(), world.hashes());
    let report = session.report();
    assert!(
        report.lanes.values().all(|lane| lane.in_sync && lane.pending == 0),
        "{report:?}"
    );
}

#[test]
fn reconnect_of_an_unchanged_world_sends_no_state() {
    let world = World::new().set("pilot", &[1, 2]).service("pilot").at(0);
    let mut agent = Agent::default();
    agent.catch_up(&world);
    let mut session = agent.open(Start::claimed(&world).settled());
    let sent = frames(&mut session, 0);
    assert_eq!(sent.len(), 1, "the welcome and nothing else: {sent:?}");
    let report = session.report();
    assert!(report.lanes.values().all(|lane| lane.in_sync));
    let key = Key::endpoints("istio-system", "pilot");
    let expected = Applied {
        version: Some(world.version(&key)),
        state: ApplyState::Applied,
        detail: String::new(),
        addresses: 2,
        replicas: None,
    };
    assert_eq!(report.applied.get(&key), Some(&expected));
    assert_eq!(report.applied.len(), 2);
}

#[test]
fn agent_that_is_not_settled_counts_as_having_applied_nothing() {
    let world = World::new().set("pilot", &[1]).at(0);
    let mut agent = Agent::default();
    agent.catch_up(&world);
    let session = agent.open(Start::claimed(&world));
    assert_eq!(session.report().applied.len(), 0);
    assert!(session.report().lanes[&Lane::Endpoints].in_sync);
}

#[test]
fn greeting_is_compared_when_the_lane_becomes_known() {
    let world = World::new().set("pilot", &[1]).service("pilot").at(0);
    let mut agent = Agent::default();
    agent.catch_up(&world);
    let start = Start::claimed(&world.clone().without(Lane::Endpoints)).settled();
    let mut session = agent.open(start);
    assert_eq!(deltas(&frames(&mut session, 0)), 0);
    assert!(!session.report().lanes[&Lane::Endpoints].in_sync);
    session.desired(Some(world.desired()));
    assert_eq!(deltas(&frames(&mut session, SECOND)), 0);
    assert!(session.report().lanes[&Lane::Endpoints].in_sync);
    assert_eq!(session.report().applied.len(), 2);
}

#[test]
fn unclaimed_session_says_what_to_create_and_sends_no_state() {
    let mut agent = Agent::default();
    let mut session = agent.open(Start::unclaimed());
    let sent = frames(&mut session, 0);
    assert_eq!(sent.len(), 1);
    let message = "create RemoteIstio remote-1 in namespace istio-system on central".to_owned();
    assert_eq!(
        welcome(&sent[0]).claim,
        Some(v1::Claim {
            claimed: false,
            message
        })
    );
    assert!(!session.report().claimed);

    session.desired(Some(World::new().set("pilot", &[1]).service("pilot").at(0).desired()));
    let sent = frames(&mut session, 0);
    assert!(
        matches!(&sent[0].frame, Some(Frame::Claim(claim)) if claim.claimed),
        "{sent:?}"
    );
    assert_eq!(deltas(&sent), 2);
}

#[test]
fn resource_forced_away_unclaims_and_removes_nothing() {
    let world = World::new().set("pilot", &[1]).at(0);
    let mut agent = Agent::default();
    let mut session = agent.connected(&world);
    session.desired(None);
    let sent = frames(&mut session, SECOND);
    assert!(matches!(&sent[..], [frame] if matches!(&frame.frame, Some(Frame::Claim(claim)) if !claim.claimed)));
    assert_eq!(agent.hashes(), world.hashes());

    session.desired(Some(world.clone().set("pilot", &[2]).at(2).desired()));
    let sent = frames(&mut session, 2 * SECOND);
    assert_eq!(deltas(&sent), 1, "what is held is still known: {sent:?}");
    assert!(
        sent.iter()
            .all(|frame| !matches!(&frame.frame, Some(Frame::Delta(delta)) if delta.complete))
    );
}

#[test]
fn deleted_resource_sends_explicit_released_removals() {
    let world = World::new().set("pilot", &[1]).service("pilot").at(0);
    let mut agent = Agent::default();
    let mut session = agent.connected(&world);
    session.desired(Some(World::new().deleting().desired()));
    let sent = frames(&mut session, SECOND);
    let removals: Vec<_> = sent
        .iter()
        .map(delta)
        .map(|delta| {
            (
                delta.complete,
                delta.released,
                delta.removals.len(),
                delta.upserts.len(),
            )
        })
        .collect();
    assert_eq!(removals, [(false, true, 1, 0), (false, true, 1, 0)]);
    agent.take_all(&mut session, sent, SECOND);
    assert_eq!(agent.held(), 0);
    assert!(session.report().lanes.values().all(|lane| lane.in_sync));
}

#[test]
fn one_delta_is_in_flight_and_later_changes_merge_into_the_newest() {
    let world = World::new().set("pilot", &[1]).at(0);
    let mut agent = Agent::default();
    let mut session = agent.connected(&world);
    session.desired(Some(world.clone().set("pilot", &[2]).at(1).desired()));
    let first = frames(&mut session, SECOND);
    assert_eq!(deltas(&first), 1);
    for last in 3..=9 {
        session.desired(Some(world.clone().set("pilot", &[last]).at(2).desired()));
        assert_eq!(frames(&mut session, SECOND), [], "one is in flight");
    }
    agent.take_all(&mut session, first, SECOND);
    assert_eq!(agent.hashes(), world.clone().set("pilot", &[9]).at(0).hashes());
    assert_eq!(session.take_samples().merged, BTreeMap::from([(Lane::Endpoints, 6)]));
}

#[test]
fn large_config_delta_does_not_hold_back_endpoints() {
    let mut many = World::new().set("pilot", &[1]);
    for index in 0..3000 {
        many = many.service(&format!(
            "a-service-with-quite-a-long-name-that-fills-the-frames-{index}"
        ));
    }
    let many = many.at(0);
    let mut agent = Agent::default();
    let mut session = agent.open(Start::claimed(&many));
    let mut lanes = Vec::new();
    let mut sent = Vec::new();
    // The welcome, the endpoints, and the first part of several of the config lane.
    for _ in 0..3 {
        sent.push(session.next_frame(0).expect("a frame"));
    }
    assert!(!delta(&sent[2]).last, "several parts");
    for frame in sent {
        agent.take(frame);
    }
    agent.answer(&mut session, 0);
    session.desired(Some(many.set("pilot", &[2]).at(1).desired()));
    while let Some(frame) = session.next_frame(1) {
        lanes.push(delta(&frame).lane());
    }
    assert_eq!(lanes[0], v1::Lane::Endpoints, "between two parts of the other lane");
    assert!(
        lanes.len() > 2 && lanes[1..].iter().all(|lane| *lane == v1::Lane::Config),
        "{lanes:?}"
    );
}

/// What is left of a `RemoteIstio` that was let go while the agent of cluster "cluster" was away.
fn left_behind(cluster_uid: &str, deletion_policy: DeletionPolicy) -> Arc<Desired> {
    Arc::new(Desired::after(Arc::new(Tombstone {
        uid: "old".to_owned(),
        generation: 7,
        deletion_policy,
        cluster_uid: cluster_uid.to_owned(),
        at: String::new(),
        replica: "hub-0".to_owned(),
        keys: vec![],
        further_keys: 0,
    })))
}

#[test]
fn agent_that_comes_back_to_a_tombstone_lets_go_of_everything_and_is_unclaimed_then() {
    for (policy, orphaned) in [(DeletionPolicy::Delete, false), (DeletionPolicy::Orphan, true)] {
        let world = World::new().set("pilot", &[1]).service("pilot").service("zipkin").at(0);
        let mut agent = Agent::default();
        agent.catch_up(&world);
        let mut session = agent.open(Start::unclaimed());
        assert!(!session.is_claimed());
        session.desired(Some(left_behind("cluster", policy)));
        assert!(session.is_claimed());
        let sent = frames(&mut session, 0);
        let said: Vec<_> = sent
            .iter()
            .filter(|frame| script::kind(frame) == "delta")
            .map(|frame| (delta(frame).complete, delta(frame).released, delta(frame).orphaned))
            .collect();
        assert_eq!(said, [(true, true, orphaned); 2]);
        agent.take_all(&mut session, sent, 0);
        assert_eq!(agent.held(), 0);
        assert_eq!(session.report().desired, Some(("old".to_owned(), 7)));
        session.desired(None);
        assert!(!session.is_claimed());
    }
}

#[test]
fn tombstone_is_nothing_to_the_agent_of_another_cluster() {
    let world = World::new().set("pilot", &[1]).at(0);
    let mut agent = Agent::default();
    agent.catch_up(&world);
    let mut session = agent.open(Start::unclaimed());
    session.desired(Some(left_behind("another", DeletionPolicy::Delete)));
    assert!(!session.is_claimed());
    assert_eq!(deltas(&frames(&mut session, 0)), 0);
    assert_eq!(agent.held(), 1);
}

#[test]
fn new_resource_during_the_cleaning_takes_over_and_what_both_have_is_kept() {
    let old = World::new().set("pilot", &[1]).service("pilot").service("zipkin").at(0);
    let mut agent = Agent::default();
    agent.catch_up(&old);
    let mut session = agent.open(Start::unclaimed());
    let new = World::new().set("pilot", &[1]).service("pilot").at(0).released();
    session.desired(Some(left_behind("cluster", DeletionPolicy::Delete)));
    session.desired(Some(new.desired()));
    let sent = frames(&mut session, 0);
    agent.take_all(&mut session, sent, 0);
    assert_eq!(agent.hashes(), new.hashes(), "zipkin alone went");
    assert!(session.report().lanes.values().all(|lane| lane.in_sync));
}

#[test]
fn control_goes_before_state_and_never_piles_up() {
    let world = World::new().set("pilot", &[1]).at(0);
    let mut agent = Agent::default();
    let mut session = agent.open(Start::claimed(&world));
    for second in 0..20 {
        session.tick(second * 10 * SECOND, 0, 0.5);
    }
    session.drain("stopping", (Duration::from_millis(200), Duration::from_secs(2)));
    let sent = frames(&mut session, 200 * SECOND);
    let kinds: Vec<&str> = sent.iter().map(script::kind).collect();
    assert_eq!(
        kinds,
        ["welcome", "drain", "heartbeat"],
        "a draining session begins no delta"
    );
    let drain = v1::Drain {
        reason: "stopping".to_owned(),
        reconnect_min_milliseconds: 200,
        reconnect_max_milliseconds: 2000,
    };
    assert_eq!(sent[1].frame, Some(Frame::Drain(drain)));
}

#[test]
fn latencies_are_measured_from_the_central_event_once() {
    let world = World::new().set("pilot", &[1]).at(0);
    let mut agent = Agent::default();
    let mut session = agent.connected(&world);
    session.take_samples();
    let changed = world.clone().set("pilot", &[2]).at(10 * SECOND);
    session.desired(Some(changed.desired()));
    let sent = frames(&mut session, 10 * SECOND);
    agent.take_all(&mut session, sent, 10 * SECOND + 3 * MILLISECOND);
    let key = Key::endpoints("istio-system", "pilot");
    let stale = status(&key, Some(world.version(&key)), ApplyState::Applied);
    let applied = status(&key, Some(changed.version(&key)), ApplyState::Applied);
    for (frame, at) in [(stale, 4), (applied.clone(), 5), (applied, 6)] {
        session
            .frame(frame, 10 * SECOND + at * MILLISECOND, 0)
            .expect("a good frame");
    }
    let expected = Samples {
        accepted: vec![(Lane::Endpoints, 3 * MILLISECOND)],
        applied: vec![(Lane::Endpoints, 5 * MILLISECOND)],
        ..Samples::default()
    };
    assert_eq!(session.take_samples(), expected);
    assert_eq!(session.take_samples(), Samples::default());
}

#[test]
fn what_was_caused_before_the_session_gives_no_latency() {
    let world = World::new().set("pilot", &[1]).at(SECOND);
    let mut agent = Agent::default();
    let mut session = agent.open(Start::claimed(&world).at(2 * SECOND));
    let sent = frames(&mut session, 2 * SECOND);
    agent.take_all(&mut session, sent, 3 * SECOND);
    assert_eq!(session.take_samples().accepted, []);
}

#[test]
fn state_of_a_removed_object_is_forgotten() {
    let world = World::new().set("pilot", &[1]).at(0);
    let mut agent = Agent::default();
    let mut session = agent.connected(&world);
    let key = Key::endpoints("istio-system", "pilot");
    session
        .frame(status(&key, Some(world.version(&key)), ApplyState::Applied), 1, 0)
        .expect("good");
    assert_eq!(session.report().applied.len(), 1);
    session
        .frame(status(&key, None, ApplyState::Forbidden), 2, 0)
        .expect("good");
    assert_eq!(session.report().applied[&key].state, ApplyState::Forbidden);
    session
        .frame(status(&key, None, ApplyState::Removed), 3, 0)
        .expect("good");
    assert_eq!(session.report().applied.len(), 0);
}

#[test]
fn refused_object_is_reported_and_the_others_stand() {
    let world = World::new().set("pilot", &[1]).set("policy", &[2]).at(0);
    let mut agent = Agent::default();
    let policy = Key::endpoints("istio-system", "policy");
    agent.refuses = Some(policy.clone());
    let mut session = agent.connected(&world);
    let report = session.report();
    let nack = Nack {
        key: policy.clone(),
        reason: NackReason::Policy,
        detail: "not here".to_owned(),
    };
    assert_eq!(report.refused, [nack]);
    assert!(report.lanes[&Lane::Endpoints].in_sync, "apart from what was refused");
    assert_eq!(session.take_samples().nacks, BTreeMap::from([(NackReason::Policy, 1)]));

    agent.refuses = None;
    session.desired(Some(world.set("policy", &[3]).at(SECOND).desired()));
    let sent = frames(&mut session, SECOND);
    agent.take_all(&mut session, sent, SECOND);
    assert_eq!(session.report().refused, []);
}

#[test]
fn answer_in_several_frames_counts_once_it_is_whole() {
    let world = World::new().set("pilot", &[1]).set("policy", &[2]).at(0);
    let mut session = Agent::default().open(Start::claimed(&world));
    frames(&mut session, 0);
    let nack = |key: &str| v1::Nack {
        key: key.to_owned(),
        reason: v1::NackReason::Policy.into(),
        detail: "no".to_owned(),
    };
    let nothing = LaneHash::from_bytes(remote_istio::model::lane_hash([]).as_bytes()).expect("16 bytes");
    let ack = |key: &str, more: bool| v1::AgentFrame {
        frame: Some(v1::agent_frame::Frame::Ack(v1::Ack {
            lane: v1::Lane::Endpoints.into(),
            nonce: 1,
            hash: nothing.as_bytes().to_vec(),
            nacks: vec![nack(key)],
            more,
        })),
    };
    session
        .frame(ack("endpoints/istio-system/pilot", true), 1, 0)
        .expect("good");
    assert_eq!(session.report().refused, []);
    session
        .frame(ack("endpoints/istio-system/policy", false), 2, 0)
        .expect("good");
    let refused: Vec<String> = session
        .report()
        .refused
        .iter()
        .map(|nack| nack.key.to_string())
        .collect();
    assert_eq!(
        refused,
        ["endpoints/istio-system/pilot", "endpoints/istio-system/policy"]
    );
}

#[test]
fn frames_that_make_no_sense_end_the_stream_or_are_counted() {
    use v1::agent_frame::Frame;

    let world = World::new().set("pilot", &[1]).at(0);
    let mut session = Agent::default().connected(&world);
    session.take_samples();
    let mut take = |frame| session.frame(v1::AgentFrame { frame }, 1, 0);
    assert_eq!(take(None), Ok(()));
    assert_eq!(take(Some(Frame::Delta(v1::Delta::default()))), Ok(()));
    let ack = v1::Ack {
        lane: v1::Lane::Endpoints.into(),
        nonce: 77,
        hash: vec![0; 16],
        ..v1::Ack::default()
    };
    assert_eq!(take(Some(Frame::Ack(ack))), Ok(()));
    assert_eq!(
        take(Some(Frame::Hello(v1::Hello::default()))),
        Err(SessionError::HelloTwice)
    );
    let lane = take(Some(Frame::Ack(v1::Ack::default())));
    assert_eq!(lane, Err(SessionError::Frame(FrameError::Lane(0))));
    let samples = session.take_samples();
    assert_eq!((samples.unknown_frames, samples.stale_acks), (2, 1));
}

#[test]
fn answer_before_the_last_part_ends_the_stream() {
    let mut many = World::new();
    for index in 0..3000 {
        many = many.service(&format!(
            "a-service-with-quite-a-long-name-that-fills-the-frames-{index}"
        ));
    }
    let mut session = Agent::default().open(Start::claimed(&many.at(0)));
    for _ in 0..3 {
        session.next_frame(0).expect("a frame");
    }
    let ack = v1::Ack {
        lane: v1::Lane::Config.into(),
        nonce: 1,
        hash: vec![0; 16],
        ..v1::Ack::default()
    };
    let ack = v1::AgentFrame {
        frame: Some(v1::agent_frame::Frame::Ack(ack)),
    };
    let (lane, nonce) = (Lane::Config, 1);
    assert_eq!(session.frame(ack, 1, 0), Err(SessionError::EarlyAck { lane, nonce }));
}

#[test]
fn silent_agent_is_dead_and_one_that_beats_lives() {
    let world = World::new().set("pilot", &[1]).at(0);
    let mut session = Agent::default().connected(&world);
    let mut received = u64::try_from(frames(&mut session, 0).len()).expect("few") + 3;
    let mut now = 0;
    while now < 100 * SECOND {
        now = session.next_wake().max(now + 1);
        assert_eq!(session.tick(now, 0, 0.5), None, "at {now}");
        received += u64::try_from(frames(&mut session, now).len()).expect("few");
        session.frame(script::heartbeat(received, 0), now, 0).expect("good");
    }
    let silent_from = now;
    let dead = loop {
        now = session.next_wake().max(now + 1);
        if let Some(dead) = session.tick(now, 0, 0.5) {
            break dead;
        }
        frames(&mut session, now);
    };
    assert!(matches!(dead, Dead::Silent | Dead::NotReading));
    assert!(
        now - silent_from <= 31 * SECOND,
        "found after {} s",
        (now - silent_from) / SECOND
    );
}

#[test]
fn clock_skew_is_reported_in_steps() {
    let mut session = Agent::default().connected(&World::new().set("pilot", &[1]).at(0));
    let mut skew = |agent: u64, own: i64| {
        session.frame(script::heartbeat(0, agent), 1, own).expect("good");
        session.report().clock_skew_milliseconds
    };
    assert_eq!(skew(1_000_400, 1_000_000), 0, "a slow network is no skew");
    assert_eq!(skew(1_005_000, 1_000_000), 5_000);
    assert_eq!(skew(1_005_300, 1_000_000), 5_000);
    assert_eq!(skew(990_000, 1_000_000), -10_000);
}

#[test]
fn report_names_the_agent_and_what_the_lanes_speak_of() {
    let world = World::new().set("pilot", &[1]).at(0);
    let session = Agent::default().connected(&world);
    let report = session.report();
    let sent = hello(BTreeMap::new(), false);
    let expected = SessionReport {
        epoch: SessionEpoch {
            start: 3,
            connection: 1,
        },
        connected_at: OPENED_AT,
        address: "10.0.0.1:1".to_owned(),
        agent_release: sent.release,
        kubernetes_version: sent.kubernetes_version,
        cluster_uid: sent.cluster_uid,
        claimed: true,
        desired: Some(("uid".to_owned(), 1)),
        lanes: Lane::ALL
            .into_iter()
            .map(|lane| {
                (
                    lane,
                    LaneReport {
                        in_sync: true,
                        pending: 0,
                    },
                )
            })
            .collect(),
        applied: Arc::default(),
        refused: vec![],
        backlog: 0,
        clock_skew_milliseconds: 0,
        certificate: CertificateReport {
            not_before: OPENED_AT - 900,
            not_after: OPENED_AT + 86_400,
        },
        trust_epoch: None,
        trust_failure: String::new(),
        policy: None,
    };
    assert_eq!(report, expected);
}

/// One thing that happens to a pair of session and agent.
#[derive(Clone, Debug)]
enum Step {
    /// Central changes: this service has these addresses.
    Change(u8, BTreeSet<u8>),
    /// An enabled service comes or goes.
    Toggle(u8),
    /// So many frames reach the agent.
    Deliver(usize),
    /// The agent's answers reach the hub.
    Answer,
    /// The connection breaks and a new one opens.
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u8..3, prop::collection::btree_set(1_u8..20, 0..6)).prop_map(|(name, set)| Step::Change(name, set)),
        1 => (0_u8..3).prop_map(Step::Toggle),
        4 => (1_usize..4).prop_map(Step::Deliver),
        3 => Just(Step::Answer),
        1 => Just(Step::Reconnect),
    ]
}

proptest! {
    #[test]
    fn agent_ends_with_the_newest_world_whatever_happens_on_the_way(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new().set("s0", &[1]).service("s0").at(0).released();
        let mut agent = Agent::default();
        let mut session = agent.open(Start::claimed(&world));
        let mut now = 1;
        for step in steps {
            now += MILLISECOND;
            match step {
                Step::Change(name, set) => {
                    let set: Vec<u8> = set.into_iter().collect();
                    world = world.set(&format!("s{name}"), &set).at(now);
                    session.desired(Some(world.desired()));
                }
                Step::Toggle(name) => {
                    world = world.toggle_service(&format!("s{name}")).at(now);
                    session.desired(Some(world.desired()));
                }
                Step::Deliver(count) => {
                    for _ in 0..count {
                        let Some(frame) = session.next_frame(now) else { break };
                        agent.take(frame);
                    }
                }
                Step::Answer => agent.answer(&mut session, now),
                Step::Reconnect => {
                    agent.forget_answers();
                    session = agent.open(Start::claimed(&world).at(now));
                }
            }
            let in_flight = agent.most_unanswered();
            prop_assert!(in_flight <= 1, "{} deltas of one lane in flight", in_flight);
        }
        let sent = frames(&mut session, now);
        agent.take_all(&mut session, sent, now);
        prop_assert_eq!(agent.hashes(), world.hashes());
        prop_assert!(session.report().lanes.values().all(|lane| lane.in_sync));
    }
}
