use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use proptest::prelude::*;
use prost::Message as _;

use super::{
    FrameError, ack_frames, delta_parts, read_ack, read_delta, read_hello, read_status, read_upsert, status_frames,
    write_upsert,
};
use crate::lane::{Assembly, Change, Inbox, Nack, NackReason, Outbox, Payload};
use crate::limits;
use crate::model::{
    Applied, ApplyState, Body, Endpoint, EndpointSet, Key, Lane, Object, Port, Protocol, ServiceIntent, Snapshot,
};
use crate::wire::v1;

fn key(name: &str) -> Key {
    Key::endpoints("istio-system", name)
}

fn full(payload: Payload) -> Arc<Object> {
    match payload {
        Payload::Full(object) => object,
        Payload::Patch { .. } => panic!("a patch where the whole object was due"),
    }
}

fn addresses(count: u32) -> EndpointSet {
    let endpoint = |number| {
        (
            IpAddr::V6(Ipv6Addr::from_bits((0xfd00 << 112) + u128::from(number))),
            Endpoint::ready(),
        )
    };
    EndpointSet {
        endpoints: (0..count).map(endpoint).collect(),
        port_sets: vec![],
    }
}

/// What the receiver makes of a change after all its parts have crossed the wire.
fn cross(lane: Lane, change: &Change) -> (Change, Vec<Nack>) {
    let mut assembly = Assembly::default();
    for part in delta_parts(lane, change) {
        let bytes = part.encode_to_vec();
        assert!(
            bytes.len() <= limits::FRAME_MAX_BYTES,
            "a part of {} bytes",
            bytes.len()
        );
        let part = read_delta(v1::Delta::decode(bytes.as_slice()).expect("just written")).expect("in the limits");
        assembly
            .add(part.nonce, part.part, part.upserts, part.removals, part.unread)
            .expect("in order");
        if let Some(end) = part.end {
            return assembly.finish(end);
        }
    }
    panic!("no part was the last");
}

fn port() -> impl Strategy<Value = Port> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)];
    ("[a-z]{0,8}", 1..=u16::MAX, protocol, "[a-z]{0,8}").prop_map(|(name, number, protocol, app_protocol)| Port {
        name,
        number,
        protocol,
        app_protocol,
    })
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
    ]
}

prop_compose! {
    fn endpoint_set()(port_sets in proptest::collection::vec(proptest::collection::vec(port(), 0..3), 0..3))(
        endpoints in proptest::collection::btree_map(
            address(),
            (any::<bool>(), 0..u32::try_from(port_sets.len().max(1)).expect("few"), "[a-z0-9]{0,5}", "[a-z]{0,5}", any::<u32>()),
            0..40,
        ),
        port_sets in Just(port_sets),
    ) -> EndpointSet {
        let endpoint = |(address, (ready, port_set, network, zone, weight))| {
            (address, Endpoint { ready, port_set, network, zone, weight })
        };
        EndpointSet { endpoints: endpoints.into_iter().map(endpoint).collect(), port_sets }
    }
}

proptest! {
    #[test]
    fn object_survives_the_wire(set in endpoint_set(), ports in proptest::collection::vec(port(), 0..4), position: u64) {
        let objects = [
            (key("a"), Object::new(position, None, Body::Endpoints(set))),
            (Key::service("x", "y"), Object::new(position, None, Body::Service(ServiceIntent { ports }))),
            (Key::injection("default"), Object::new(position, None, Body::Injection)),
        ];
        for (key, object) in objects {
            let read = read_upsert(key.lane(), &key, write_upsert(&key, &object)).expect("just written");
            let read = full(read);
            prop_assert_eq!(&*read, &object);
        }
    }

    #[test]
    fn version_does_not_depend_on_the_order_in_which_content_came(set in endpoint_set(), seed: u64) {
        let mut endpoints: Vec<_> = set.endpoints.clone().into_iter().collect();
        let places = endpoints.len().max(1);
        endpoints.rotate_left(usize::try_from(seed % 64).expect("small") % places);
        endpoints.reverse();
        let again = EndpointSet { endpoints: endpoints.into_iter().collect(), port_sets: set.port_sets.clone() };
        prop_assert_eq!(again.version(), set.version());
    }

    #[test]
    fn any_difference_of_content_is_another_version(one in endpoint_set(), other in endpoint_set()) {
        prop_assert_eq!(one == other, one.version() == other.version());
    }

    #[test]
    fn patched_set_equals_the_full_one(before in endpoint_set(), mut after in endpoint_set()) {
        for endpoint in after.endpoints.values_mut() {
            endpoint.port_set = 0;
        }
        after.port_sets.clone_from(&before.port_sets);
        let patch = before.patch_to(&after).expect("the ports are equal");
        let patched = before.patched(&patch).expect("made for this set");
        prop_assert_eq!(patched.version(), after.version());
        prop_assert_eq!(patched, after);
    }

    #[test]
    fn delta_of_any_objects_crosses_the_wire_whole(sets in proptest::collection::vec(endpoint_set(), 1..6)) {
        let object = |(number, set)| (key(&format!("s{number}")), Arc::new(Object::new(1, None, Body::Endpoints(set))));
        let desired = Arc::new(Snapshot::new(sets.into_iter().enumerate().map(object).collect(), false));
        let mut outbox = Outbox::new();
        outbox.set(desired);
        let change = outbox.next_change().expect("a snapshot");
        prop_assert_eq!(cross(Lane::Endpoints, &change), (change, vec![]));
    }

    #[test]
    fn bytes_that_are_nothing_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(delta) = v1::Delta::decode(bytes.as_slice()) {
            // Whatever it is, it either reads or says why not.
            let _ = read_delta(delta);
        }
        if let Ok(hello) = v1::Hello::decode(bytes.as_slice()) {
            let _ = read_hello(hello);
        }
        if let Ok(ack) = v1::Ack::decode(bytes.as_slice()) {
            let _ = read_ack(ack);
        }
        if let Ok(status) = v1::Status::decode(bytes.as_slice()) {
            let _ = read_status(status);
        }
    }
}

#[test]
fn set_larger_than_a_message_is_split_and_put_together_again() {
    let limit = u32::try_from(limits::ENDPOINTS_PER_SET).expect("small");
    let objects = BTreeMap::from([
        (
            key("large"),
            Arc::new(Object::new(1, None, Body::Endpoints(addresses(limit)))),
        ),
        (
            key("small"),
            Arc::new(Object::new(1, None, Body::Endpoints(addresses(1)))),
        ),
    ]);
    let desired = Arc::new(Snapshot::new(objects, false));
    let mut outbox = Outbox::new();
    outbox.set(Arc::clone(&desired));
    let change = outbox.next_change().expect("a snapshot");
    assert!(delta_parts(Lane::Endpoints, &change).len() > 5);
    let (crossed, unread) = cross(Lane::Endpoints, &change);
    let mut inbox = Inbox::default();
    let judged = inbox.judge(&crossed, unread, "hub", |_, _| Ok(())).expect("sound");
    inbox.commit(&judged, "hub");
    assert_eq!(inbox.hash(), desired.hash());
}

#[test]
fn many_removals_are_split_by_size() {
    let removals = (0..5_000)
        .map(|number| key(&format!("{number}-{}", "x".repeat(50))))
        .collect();
    let hash = Snapshot::new(BTreeMap::new(), false).hash();
    let change = Change {
        nonce: 1,
        complete: false,
        released: false,
        orphaned: true,
        upserts: vec![],
        removals,
        next_hash: hash,
    };
    assert!(delta_parts(Lane::Endpoints, &change).len() > 3);
    assert_eq!(cross(Lane::Endpoints, &change).0, change);
}

fn upsert_of(endpoints: Vec<v1::Endpoint>) -> v1::Upsert {
    v1::Upsert {
        key: key("a").to_string(),
        version: vec![0; 16],
        position: 1,
        object: Some(v1::upsert::Object::Endpoints(v1::EndpointSet {
            endpoints,
            port_sets: vec![],
            continues: false,
        })),
    }
}

fn endpoint(address: &str) -> v1::Endpoint {
    v1::Endpoint {
        address: address.to_owned(),
        ready: true,
        ..v1::Endpoint::default()
    }
}

#[test]
fn object_that_breaks_a_rule_is_refused_with_the_rule() {
    let service = |port: v1::Port| v1::Upsert {
        key: "service/a/b".to_owned(),
        version: vec![0; 16],
        position: 1,
        object: Some(v1::upsert::Object::Service(v1::Service { ports: vec![port] })),
    };
    let port = |number, protocol: &str| v1::Port {
        number,
        protocol: protocol.to_owned(),
        ..v1::Port::default()
    };
    let with_ports = v1::Endpoint {
        port_set: 3,
        ..endpoint("10.0.0.1")
    };
    let many = (0..=limits::ENDPOINTS_PER_SET).map(|_| endpoint("10.0.0.1")).collect();
    let long = v1::Endpoint {
        zone: "z".repeat(limits::NAME_MAX_BYTES + 1),
        ..endpoint("10.0.0.1")
    };
    for (key, upsert, reason, words) in [
        (
            key("a"),
            upsert_of(vec![endpoint("10.0.0.256")]),
            NackReason::Invalid,
            "not an IP address",
        ),
        (
            key("a"),
            upsert_of(vec![endpoint("10.0.0.1"), endpoint("10.0.0.1")]),
            NackReason::Invalid,
            "stands twice",
        ),
        (
            key("a"),
            upsert_of(vec![with_ports]),
            NackReason::Invalid,
            "ports that the set does not have",
        ),
        (key("a"), upsert_of(vec![long]), NackReason::TooLarge, "at most"),
        (key("a"), upsert_of(many), NackReason::TooLarge, "20000 are allowed"),
        (
            key("a"),
            v1::Upsert {
                version: vec![0; 15],
                ..upsert_of(vec![])
            },
            NackReason::Invalid,
            "16 bytes",
        ),
        (
            key("a"),
            v1::Upsert {
                object: None,
                ..upsert_of(vec![])
            },
            NackReason::UnknownKind,
            "does not know",
        ),
        (
            Key::service("a", "b"),
            service(port(0, "TCP")),
            NackReason::Invalid,
            "not a port number",
        ),
        (
            Key::service("a", "b"),
            service(port(65_536, "TCP")),
            NackReason::Invalid,
            "not a port number",
        ),
        (
            Key::service("a", "b"),
            service(port(1, "HTTP")),
            NackReason::Invalid,
            "TCP, UDP or SCTP",
        ),
        (
            Key::injection("a"),
            upsert_of(vec![]),
            NackReason::Invalid,
            "not of the kind",
        ),
    ] {
        let (found, detail) = read_upsert(key.lane(), &key, upsert).expect_err(words);
        assert_eq!(found, reason, "{detail}");
        assert!(detail.contains(words), "{detail}");
    }
}

#[test]
fn object_on_the_wrong_lane_is_refused_alone() {
    let delta = v1::Delta {
        lane: v1::Lane::Endpoints.into(),
        nonce: 1,
        upserts: vec![
            upsert_of(vec![endpoint("10.0.0.1")]),
            v1::Upsert {
                key: "injection/default".to_owned(),
                ..upsert_of(vec![])
            },
            v1::Upsert {
                key: "secret/kube-system/x".to_owned(),
                ..upsert_of(vec![])
            },
        ],
        ..v1::Delta::default()
    };
    let read = read_delta(delta).expect("a sound part");
    assert_eq!(read.upserts.len(), 1);
    assert_eq!(read.unread[0].key, Key::injection("default"));
    assert_eq!(read.nameless, 1);
}

#[test]
fn frame_that_breaks_the_contract_is_an_error() {
    let lane: i32 = v1::Lane::Endpoints.into();
    let error = |delta| read_delta(delta).expect_err("broken");
    assert_eq!(
        error(v1::Delta {
            lane: 9,
            ..v1::Delta::default()
        }),
        FrameError::Lane(9)
    );
    assert_eq!(
        error(v1::Delta {
            lane,
            last: true,
            ..v1::Delta::default()
        }),
        FrameError::Hash(0)
    );
    let upserts = vec![v1::Upsert::default(); limits::CHANGES_PER_PART + 1];
    assert!(matches!(
        error(v1::Delta {
            lane,
            upserts,
            ..v1::Delta::default()
        }),
        FrameError::TooMany { .. }
    ));
    let hello = v1::Hello {
        protocol_min: 7,
        protocol_max: 9,
        ..v1::Hello::default()
    };
    let words = read_hello(hello).expect_err("no common version").to_string();
    assert!(words.contains("speaks protocol 7 to 9"), "{words}");
    let hello = v1::Hello {
        protocol_min: 1,
        protocol_max: 1,
        release: "r".repeat(limits::NAME_MAX_BYTES + 1),
        ..v1::Hello::default()
    };
    assert!(matches!(read_hello(hello), Err(FrameError::TooLong { .. })));
}

#[test]
fn acknowledgement_with_many_refusals_crosses_in_several_frames() {
    let nacks: Vec<Nack> = (0..1_000)
        .map(|number| Nack {
            key: key(&format!("s{number}")),
            reason: NackReason::ALL[number % NackReason::ALL.len()],
            detail: "d".repeat(limits::DETAIL_MAX_BYTES),
        })
        .collect();
    let hash = Snapshot::new(BTreeMap::new(), false).hash();
    let frames = ack_frames(Lane::Config, 7, hash, &nacks);
    let mut read = Vec::new();
    for (number, frame) in frames.iter().enumerate() {
        assert!(frame.encoded_len() <= limits::FRAME_MAX_BYTES);
        let (_, nonce, _, nacks, more) = read_ack(frame.clone()).expect("in the limits");
        assert_eq!((nonce, more), (7, number + 1 < frames.len()));
        read.extend(nacks);
    }
    // The keys are of lane endpoints, the ack is of lane config: none of them may be taken over.
    assert_eq!(read, []);
    let read: Vec<Nack> = ack_frames(Lane::Endpoints, 7, hash, &nacks)
        .into_iter()
        .flat_map(|frame| read_ack(frame).expect("in the limits").3)
        .collect();
    assert_eq!(read, nacks);
}

#[test]
fn status_of_many_objects_crosses_in_several_frames() {
    let applied = |number: u32| {
        let version = Some(Body::Injection.version());
        let detail = "d".repeat(limits::DETAIL_MAX_BYTES);
        (
            key(&format!("s{number}")),
            Applied {
                version,
                state: ApplyState::Rejected,
                detail,
                addresses: number,
                replicas: None,
            },
        )
    };
    let entries: BTreeMap<Key, Applied> = (0..500).map(applied).collect();
    let frames = status_frames(&entries);
    assert!(
        frames
            .iter()
            .all(|frame| frame.encoded_len() <= limits::FRAME_MAX_BYTES)
    );
    let read: BTreeMap<Key, Applied> = frames
        .into_iter()
        .flat_map(|frame| read_status(frame).expect("in the limits"))
        .collect();
    assert_eq!(read, entries);
}

#[test]
fn entries_of_a_later_release_are_left_out() {
    let entry = |key: &str, state| v1::Applied {
        key: key.to_owned(),
        state,
        ..v1::Applied::default()
    };
    let applied = v1::ApplyState::Applied.into();
    let entries = vec![
        entry("endpoints/a/b", applied),
        entry("endpoints/a/c", 99),
        entry("istiod/a", applied),
    ];
    let read = read_status(v1::Status { entries }).expect("in the limits");
    assert_eq!(read.len(), 1);
}
