use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use proptest::prelude::*;

use super::{Acked, Assembly, Change, Inbox, Judged, Nack, NackReason, Outbox, Payload, ProtocolError};
use crate::limits;
use crate::model::{Body, Endpoint, EndpointSet, Key, LaneHash, Object, ServiceIntent, Snapshot};

const HUB: &str = "hub-1";
const OTHER_HUB: &str = "hub-2";

fn key(name: &str) -> Key {
    Key::endpoints("istio-system", name)
}

fn set(addresses: &[u8]) -> EndpointSet {
    let endpoint = |last: &u8| (IpAddr::V4(Ipv4Addr::new(10, 0, 0, *last)), Endpoint::ready());
    EndpointSet {
        endpoints: addresses.iter().map(endpoint).collect(),
        port_sets: vec![],
    }
}

fn object(position: u64, addresses: &[u8]) -> Arc<Object> {
    Arc::new(Object::new(position, None, Body::Endpoints(set(addresses))))
}

fn snapshot_of(objects: &[(&str, Arc<Object>)]) -> Arc<Snapshot> {
    snapshot(objects, false)
}

fn snapshot(objects: &[(&str, Arc<Object>)], released: bool) -> Arc<Snapshot> {
    let objects = objects
        .iter()
        .map(|(name, object)| (key(name), Arc::clone(object)))
        .collect();
    Arc::new(Snapshot::new(objects, released))
}

/// Services `s0` to `s{count-1}`, each with one address.
fn services(count: usize) -> Vec<(String, Arc<Object>)> {
    (0..count)
        .map(|number| (format!("s{number}"), object(1, &[1])))
        .collect()
}

fn borrowed(services: &[(String, Arc<Object>)]) -> Vec<(&str, Arc<Object>)> {
    services
        .iter()
        .map(|(name, object)| (name.as_str(), Arc::clone(object)))
        .collect()
}

/// Both ends of one lane.
struct Lane {
    outbox: Outbox,
    inbox: Inbox,
    source: &'static str,
}

impl Lane {
    fn fresh(desired: &Arc<Snapshot>) -> Self {
        let mut outbox = Outbox::new();
        outbox.set(Arc::clone(desired));
        Self {
            outbox,
            inbox: Inbox::default(),
            source: HUB,
        }
    }

    fn synced(desired: &Arc<Snapshot>) -> Self {
        let mut lane = Self::fresh(desired);
        lane.settle();
        assert!(lane.outbox.in_sync());
        lane
    }

    fn deliver(&mut self, change: &Change) -> Judged {
        let judged = self
            .inbox
            .judge(change, vec![], self.source, |_, _| Ok(()))
            .expect("a sound delta");
        self.inbox.commit(&judged, self.source);
        judged
    }

    fn answer(&mut self, judged: Judged) -> Acked {
        self.outbox
            .ack(judged.nonce, self.inbox.hash(), judged.nacks)
            .expect("the nonce in flight")
    }

    /// One exchange, if there is something to send.
    fn step(&mut self) -> Option<Change> {
        let change = self.outbox.next_change()?;
        let judged = self.deliver(&change);
        self.answer(judged);
        Some(change)
    }

    /// Exchanges until there is nothing more to send; a lane that never settles fails the test.
    fn settle(&mut self) -> Vec<Change> {
        let changes: Vec<Change> = std::iter::from_fn(|| self.step()).take(10).collect();
        assert!(changes.len() < 10, "the lane never settles");
        changes
    }

    /// A new stream, perhaps to another replica of the hub.
    fn reconnect(&mut self, desired: &Arc<Snapshot>, source: &'static str) {
        self.outbox = Outbox::new();
        self.outbox.set(Arc::clone(desired));
        self.outbox.peer_holds(self.inbox.hash_to_greet());
        self.source = source;
    }
}

#[test]
fn reconnect_of_an_unchanged_world_sends_nothing() {
    let desired = snapshot_of(&[("a", object(1, &[1])), ("b", object(1, &[2]))]);
    let mut lane = Lane::synced(&desired);
    lane.reconnect(&desired, OTHER_HUB);
    assert_eq!(lane.outbox.next_change(), None);
    assert!(lane.outbox.in_sync());
}

#[test]
fn receiver_that_does_not_know_what_it_holds_gets_a_snapshot() {
    let desired = snapshot_of(&[("a", object(1, &[1]))]);
    let kept = BTreeMap::from([(key("a"), (object(1, &[1]), HUB.to_owned()))]);
    let mut lane = Lane::fresh(&desired);
    lane.inbox = Inbox::new(kept, false);
    lane.reconnect(&desired, HUB);
    let change = lane.step().expect("a snapshot");
    assert!(change.complete);
    assert_eq!(lane.inbox.hash_to_greet(), Some(desired.hash()));
}

#[test]
fn only_one_delta_is_in_flight_and_what_comes_meanwhile_merges() {
    let mut lane = Lane::synced(&snapshot_of(&[("a", object(1, &[1]))]));
    lane.outbox.set(snapshot_of(&[("a", object(2, &[2]))]));
    let first = lane.outbox.next_change().expect("a change");
    for last in 3..=9 {
        lane.outbox.set(snapshot_of(&[("a", object(u64::from(last), &[last]))]));
        assert_eq!(lane.outbox.next_change(), None, "one is in flight");
    }
    let judged = lane.deliver(&first);
    lane.answer(judged);
    let second = lane.step().expect("the latest");
    assert_eq!(second.upserts.len(), 1);
    assert_eq!(lane.inbox.hash(), snapshot_of(&[("a", object(9, &[9]))]).hash());
    assert_eq!(lane.outbox.take_merged(), 6, "3 to 8 were never sent");
}

#[test]
fn change_that_is_taken_back_before_it_was_sent_is_not_sent() {
    let before = snapshot_of(&[("a", object(1, &[1]))]);
    let mut lane = Lane::synced(&before);
    lane.outbox.set(snapshot_of(&[("a", object(2, &[2]))]));
    lane.outbox.set(before);
    assert_eq!(lane.outbox.next_change(), None);
}

#[test]
fn one_address_of_many_travels_as_a_patch() {
    let many: Vec<u8> = (1..=100).collect();
    let mut lane = Lane::synced(&snapshot_of(&[("a", object(1, &many))]));
    let after: Vec<u8> = (2..=101).collect();
    let desired = snapshot_of(&[("a", object(2, &after))]);
    lane.outbox.set(Arc::clone(&desired));
    let change = lane.step().expect("a change");
    let [(_, Payload::Patch { patch, .. })] = change.upserts.as_slice() else {
        panic!("{change:?}")
    };
    assert_eq!((patch.upserts.len(), patch.removals.len()), (1, 1));
    assert_eq!(lane.inbox.hash(), desired.hash());
}

#[test]
fn patch_of_another_base_is_refused_and_repaired_by_a_snapshot() {
    let many: Vec<u8> = (1..=10).collect();
    let mut lane = Lane::synced(&snapshot_of(&[("a", object(1, &many))]));
    lane.inbox = Inbox::new(BTreeMap::from([(key("a"), (object(1, &[77]), HUB.to_owned()))]), true);
    let desired = snapshot_of(&[("a", object(2, &many[1..]))]);
    lane.outbox.set(Arc::clone(&desired));
    let change = lane.outbox.next_change().expect("a patch");
    let judged = lane.deliver(&change);
    assert_eq!(judged.nacks[0].reason, NackReason::BaseMismatch);
    assert!(lane.answer(judged).resync);
    lane.settle();
    assert_eq!(lane.inbox.hash(), desired.hash());
    assert_eq!(lane.outbox.take_resyncs(), 1);
}

#[test]
fn refused_object_waits_for_another_version_and_holds_nothing_back() {
    let mut lane = Lane::fresh(&snapshot_of(&[("a", object(1, &[1])), ("b", object(1, &[2]))]));
    let change = lane.outbox.next_change().expect("a snapshot");
    let admit = |key: &Key, _: &Object| match key.name() {
        Some("a") => Err((NackReason::Policy, "not here".to_owned())),
        _ => Ok(()),
    };
    let judged = lane.inbox.judge(&change, vec![], HUB, admit).expect("sound");
    lane.inbox.commit(&judged, HUB);
    let acked = lane.answer(judged);
    assert_eq!(
        acked.accepted.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(),
        [key("b")]
    );
    assert_eq!(lane.outbox.next_change(), None, "the same version is not tried again");
    assert!(lane.outbox.in_sync(), "a refusal is an answer");
    assert_eq!(lane.outbox.refused()[&key("a")].reason, NackReason::Policy);
    lane.outbox
        .set(snapshot_of(&[("a", object(2, &[3])), ("b", object(1, &[2]))]));
    assert_eq!(lane.step().expect("another version").upserts.len(), 1);
    assert!(lane.outbox.refused().is_empty());
}

#[test]
fn refusal_is_forgotten_once_what_the_peer_still_holds_is_wanted_again() {
    let good = object(1, &[1]);
    let before = snapshot_of(&[("a", Arc::clone(&good))]);
    let mut lane = Lane::synced(&before);
    for taken_back_in_flight in [false, true] {
        let refused = object(2, &[66]);
        lane.outbox.set(snapshot_of(&[("a", refused)]));
        let change = lane.outbox.next_change().expect("a change");
        let nack = Nack {
            key: key("a"),
            reason: NackReason::Policy,
            detail: "no".to_owned(),
        };
        if taken_back_in_flight {
            lane.outbox.set(Arc::clone(&before));
        }
        lane.outbox
            .ack(change.nonce, before.hash(), vec![nack])
            .expect("in flight");
        if !taken_back_in_flight {
            assert_eq!(lane.outbox.refused().len(), 1);
            lane.outbox.set(Arc::clone(&before));
        }
        assert!(lane.outbox.refused().is_empty() && lane.outbox.in_sync());
        assert!(lane.outbox.next_change().is_none(), "nothing is to be said");
    }
}

#[test]
fn older_position_from_another_replica_is_refused_until_its_watch_has_moved() {
    let mut lane = Lane::synced(&snapshot_of(&[("a", object(100, &[1]))]));
    lane.reconnect(&snapshot_of(&[("a", object(90, &[2]))]), OTHER_HUB);
    let change = lane.outbox.next_change().expect("a snapshot");
    let judged = lane.deliver(&change);
    assert_eq!(judged.nacks[0].reason, NackReason::Stale);
    lane.answer(judged);
    assert_eq!(lane.outbox.next_change(), None);
    lane.outbox.set(snapshot_of(&[("a", object(110, &[2]))]));
    lane.settle();
    assert_eq!(lane.inbox.hash(), snapshot_of(&[("a", object(110, &[2]))]).hash());
}

#[test]
fn same_replica_may_move_back_because_its_stream_is_ordered() {
    let mut lane = Lane::synced(&snapshot_of(&[("a", object(100, &[1]))]));
    lane.outbox.set(snapshot_of(&[("a", object(90, &[2]))]));
    assert_eq!(lane.step().map(|_| lane.outbox.refused().len()), Some(0));
}

#[test]
fn absence_from_a_delta_removes_nothing() {
    let mut lane = Lane::synced(&snapshot_of(&[("a", object(1, &[1])), ("b", object(1, &[2]))]));
    let change = Change {
        nonce: 99,
        complete: false,
        released: false,
        orphaned: false,
        upserts: vec![(key("a"), Payload::Full(object(2, &[9])))],
        removals: vec![],
        next_hash: lane.inbox.hash(),
    };
    assert_eq!(lane.deliver(&change).removals, []);
    assert_eq!(lane.inbox.len(), 2);
}

#[test]
fn snapshot_whose_hash_disagrees_is_refused_whole() {
    let lane = Lane::synced(&snapshot_of(&[("a", object(1, &[1])), ("b", object(1, &[2]))]));
    let wrong = LaneHash::from_bytes(&[7; 16]).expect("16 bytes");
    let change = Change {
        nonce: 99,
        complete: true,
        released: true,
        orphaned: false,
        upserts: vec![(key("a"), Payload::Full(object(1, &[1])))],
        removals: vec![],
        next_hash: wrong,
    };
    let judged = lane.inbox.judge(&change, vec![], HUB, |_, _| Ok(()));
    assert!(matches!(judged, Err(ProtocolError::Hash { .. })), "{judged:?}");
    assert_eq!(lane.inbox.len(), 2);
}

#[test]
fn guard_holds_large_removals_until_they_are_released() {
    let all = services(30);
    let mut lane = Lane::synced(&snapshot(&borrowed(&all), false));
    let few = borrowed(&all[..15]);
    lane.outbox.set(snapshot(&few, false));
    let change = lane.outbox.next_change().expect("removals");
    assert_eq!(change.removals.len(), 15);
    let judged = lane.deliver(&change);
    assert!(judged.nacks.iter().all(|nack| nack.reason == NackReason::GuardHeld));
    lane.answer(judged);
    assert_eq!(lane.inbox.len(), 30);
    assert_eq!(
        lane.outbox.next_change(),
        None,
        "what the guard holds is not asked for again"
    );
    lane.outbox.set(snapshot(&few, true));
    lane.settle();
    assert_eq!(lane.inbox.len(), 15);
}

#[test]
fn guard_lets_single_removals_pass_but_not_the_whole_of_a_kind() {
    let all = services(5);
    let mut lane = Lane::synced(&snapshot(&borrowed(&all), false));
    lane.outbox.set(snapshot(&borrowed(&all[1..]), false));
    lane.settle();
    assert_eq!(lane.inbox.len(), 4);
    lane.outbox.set(snapshot(&[], false));
    lane.settle();
    assert_eq!(lane.inbox.len(), 4, "the last objects of a kind need a release");
}

#[test]
fn what_a_person_orphans_is_let_go_of_by_snapshot_and_by_removal_and_passes_the_guard() {
    let all = snapshot(&borrowed(&services(30)), false);
    for reconnects in [false, true] {
        let mut lane = Lane::synced(&all);
        let cleared = Arc::new(Snapshot::cleared(true));
        if reconnects {
            lane.reconnect(&cleared, OTHER_HUB);
        } else {
            lane.outbox.set(cleared);
        }
        let change = lane.outbox.next_change().expect("removals");
        assert_eq!(
            (change.complete, change.released, change.orphaned),
            (reconnects, true, true)
        );
        let judged = lane.deliver(&change);
        assert_eq!(
            (judged.removals.len(), judged.nacks.len(), judged.orphaned),
            (30, 0, true)
        );
        lane.answer(judged);
        assert!(lane.inbox.is_empty() && lane.outbox.in_sync());
    }
    let mut lane = Lane::synced(&all);
    lane.outbox.set(Arc::new(Snapshot::cleared(false)));
    let change = lane.outbox.next_change().expect("removals");
    assert!(!lane.deliver(&change).orphaned, "a person who deletes does not orphan");
}

#[test]
fn acknowledgement_of_another_nonce_changes_nothing() {
    let mut lane = Lane::fresh(&snapshot_of(&[("a", object(1, &[1]))]));
    let change = lane.outbox.next_change().expect("a snapshot");
    assert_eq!(lane.outbox.ack(change.nonce + 1, change.next_hash, vec![]), None);
    assert_eq!(lane.outbox.waiting_for(), Some(change.nonce));
}

#[test]
fn receiver_that_disagrees_with_a_snapshot_is_not_sent_one_after_another() {
    let mut lane = Lane::fresh(&snapshot_of(&[("a", object(1, &[1]))]));
    let change = lane.outbox.next_change().expect("a snapshot");
    let wrong = LaneHash::from_bytes(&[7; 16]).expect("16 bytes");
    lane.outbox.ack(change.nonce, wrong, vec![]).expect("in flight");
    assert_eq!(lane.outbox.next_change(), None);
}

#[test]
fn parts_out_of_order_end_the_stream() {
    let mut assembly = Assembly::default();
    assembly.add(1, 0, vec![], vec![], vec![]).expect("the first part");
    for (nonce, part) in [(1, 0), (1, 2), (2, 1)] {
        let result = assembly.add(nonce, part, vec![], vec![], vec![]);
        assert!(matches!(result, Err(ProtocolError::Part { .. })), "{nonce}/{part}");
    }
    assembly
        .add(1, 1, vec![], vec![], vec![])
        .expect("the part that was due");
}

#[test]
fn assembly_is_bounded_in_objects_and_in_endpoints_of_a_set() {
    let mut assembly = Assembly::default();
    let removals: Vec<Key> = (0..=limits::OBJECTS_PER_LANE)
        .map(|number| key(&format!("s{number}")))
        .collect();
    let result = assembly.add(1, 0, vec![], removals, vec![]);
    assert!(matches!(result, Err(ProtocolError::TooLarge { what: "objects", .. })));

    let version = object(1, &[1]).version;
    let chunk = |chunk: usize| {
        let endpoints = (0..5_000_usize)
            .map(|number| {
                (
                    IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(chunk * 5_000 + number).expect("few"))),
                    Endpoint::ready(),
                )
            })
            .collect();
        let body = Body::Endpoints(EndpointSet {
            endpoints,
            port_sets: vec![],
        });
        vec![(key("a"), Payload::Full(Arc::new(Object::received(version, 1, body))))]
    };
    let mut assembly = Assembly::default();
    let part = |number: usize| u32::try_from(number).expect("few");
    for number in 0..limits::ENDPOINTS_PER_SET / 5_000 {
        assembly
            .add(1, part(number), chunk(number), vec![], vec![])
            .expect("within the limit");
    }
    let beyond = limits::ENDPOINTS_PER_SET / 5_000;
    let result = assembly.add(1, part(beyond), chunk(beyond), vec![], vec![]);
    assert!(matches!(
        result,
        Err(ProtocolError::TooLarge {
            what: "endpoints of one set",
            ..
        })
    ));
}

#[test]
fn what_does_not_read_is_refused_and_the_rest_is_held() {
    let mut lane = Lane::fresh(&snapshot_of(&[("a", object(1, &[1])), ("b", object(1, &[2]))]));
    let mut change = lane.outbox.next_change().expect("a snapshot");
    change.upserts.retain(|(changed, _)| *changed != key("b"));
    let unread = Nack {
        key: key("b"),
        reason: NackReason::UnknownKind,
        detail: "what is this".to_owned(),
    };
    let judged = lane
        .inbox
        .judge(&change, vec![unread], HUB, |_, _| Ok(()))
        .expect("sound");
    lane.inbox.commit(&judged, HUB);
    lane.answer(judged);
    assert_eq!(lane.inbox.keys().collect::<Vec<_>>(), [&key("a")]);
    assert_eq!(lane.outbox.next_change(), None);
}

/// What can happen to a lane.
#[derive(Clone, Debug)]
enum Event {
    /// The owner wants this: per service the last bytes of its addresses.
    Want(BTreeMap<u8, Vec<u8>>),
    /// One exchange.
    Step,
    /// A delta is sent and its answer lost with the stream; it may have been kept or not.
    Cut { kept: bool },
    /// The receiver restarts and may have lost track of what it holds.
    Restart { known: bool },
    /// A person wants everything let go of.
    Clear { orphaned: bool },
}

fn event() -> impl Strategy<Value = Event> {
    let addresses = proptest::collection::vec(1_u8..40, 0..12);
    prop_oneof![
        4 => proptest::collection::btree_map(0_u8..5, addresses, 0..5).prop_map(Event::Want),
        4 => Just(Event::Step),
        1 => any::<bool>().prop_map(|kept| Event::Cut { kept }),
        1 => any::<bool>().prop_map(|known| Event::Restart { known }),
        1 => any::<bool>().prop_map(|orphaned| Event::Clear { orphaned }),
    ]
}

fn wanted(services: &BTreeMap<u8, Vec<u8>>, position: u64) -> Arc<Snapshot> {
    let objects = services
        .iter()
        .map(|(name, addresses)| (key(&format!("s{name}")), object(position, addresses)));
    // Released: the guard has tests of its own.
    Arc::new(Snapshot::new(objects.collect(), true))
}

proptest! {
    #[test]
    fn whatever_happens_the_receiver_ends_with_what_is_wanted(events in proptest::collection::vec(event(), 1..60)) {
        let mut desired = wanted(&BTreeMap::new(), 0);
        let mut lane = Lane::fresh(&desired);
        for (position, event) in (1..).zip(events) {
            match event {
                Event::Want(services) => {
                    desired = wanted(&services, position);
                    lane.outbox.set(Arc::clone(&desired));
                }
                Event::Step => {
                    let orphaned = desired.orphaned();
                    let sent = lane.step();
                    prop_assert!(sent.is_none_or(|change| change.orphaned == orphaned), "the newest wish alone decides");
                }
                Event::Clear { orphaned } => {
                    desired = Arc::new(Snapshot::cleared(orphaned));
                    lane.outbox.set(Arc::clone(&desired));
                }
                Event::Cut { kept } => {
                    if let Some(change) = lane.outbox.next_change().filter(|_| kept) {
                        lane.deliver(&change);
                    }
                    lane.reconnect(&desired, HUB);
                }
                Event::Restart { known } => {
                    let held = lane.inbox.clone_kept();
                    lane.inbox = Inbox::new(held, known);
                    lane.reconnect(&desired, HUB);
                }
            }
        }
        lane.settle();
        prop_assert!(lane.outbox.in_sync());
        prop_assert_eq!(lane.inbox.hash(), desired.hash());
    }
}

#[test]
fn kinds_of_one_lane_have_hashes_of_their_own() {
    let of = |body: Body| Object::new(1, None, body).version;
    let empty_set = of(Body::Endpoints(EndpointSet::default()));
    let service = of(Body::Service(ServiceIntent::default()));
    assert!(empty_set != service && service != of(Body::Injection) && empty_set != of(Body::Injection));
}
