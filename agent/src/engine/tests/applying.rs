//! What is written for what is accepted, in which order, and how little.

use k8s_openapi::api::core::v1::{Endpoints, Service};
use proptest::prelude::*;
use remote_istio::lane::NackReason;

use super::*;

fn parse(addresses: &[&str]) -> Vec<IpAddr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

fn the_service(bench: &Bench) -> Service {
    match &bench.remote.objects[&names::of_service(Kind::Service, &pilot())] {
        Resource::Service(service) => (**service).clone(),
        other => panic!("{other:?}"),
    }
}

fn the_endpoints(bench: &Bench) -> Endpoints {
    match &bench.remote.objects[&names::of_service(Kind::Endpoints, &pilot())] {
        Resource::Endpoints(endpoints) => (**endpoints).clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn accepted_set_stands_in_a_slice_and_an_endpoints_object() {
    let mut bench = Bench::connected();
    let object = endpoints(&["10.0.0.1", "10.0.0.2"]);
    bench.send(&[(pilot(), Arc::clone(&object))], &[]);
    bench.settle();
    assert_eq!(bench.addresses(), parse(&["10.0.0.1", "10.0.0.2"]));
    let slice = &bench.remote.slices("istio-pilot")[0];
    let labels = slice.metadata.labels.as_ref().unwrap();
    assert_eq!(labels[names::SLICE_MANAGED_BY], "remote-istio-agent");
    assert_eq!(labels[names::MANAGED_BY], "remote-istio-agent");
    let endpoints = the_endpoints(&bench);
    assert_eq!(endpoints.metadata.labels.unwrap()[names::SKIP_MIRROR], "true");
    assert_eq!(endpoints.subsets.unwrap()[0].addresses.as_ref().unwrap().len(), 2);
    assert_eq!(bench.acks(), [(1, vec![])]);
    let applied = Applied {
        version: Some(object.version),
        state: ApplyState::Applied,
        detail: String::new(),
        addresses: 2,
        replicas: None,
    };
    assert_eq!(bench.told(&pilot()), Some(applied));
    assert_eq!(bench.engine.backlog(), 0);
}

#[test]
fn a_known_set_changes_with_one_write_before_the_ack() {
    let mut bench = Bench::connected();
    bench.send(&[(pilot(), endpoints(&["10.0.0.1"]))], &[]);
    bench.pass(5);
    let start = bench.remote.log.len();
    bench.send(&[(pilot(), endpoints(&["10.0.0.2"]))], &[]);
    assert!(bench.answer());
    bench.collect();
    assert_eq!(bench.remote.writes_since(start), [(Kind::EndpointSlice, "apply")]);
    assert_eq!(bench.acks().last(), Some(&(2, vec![])));
    bench.settle();
    assert_eq!(
        bench.remote.writes_since(start),
        [(Kind::EndpointSlice, "apply"), (Kind::Endpoints, "apply")],
    );
}

#[test]
fn nothing_is_acknowledged_before_it_is_kept() {
    let mut bench = Bench::connected();
    bench.send(&[(pilot(), endpoints(&["10.0.0.1"]))], &[]);
    bench.send(&[(pilot_service(), service(&[]))], &[]);
    bench.collect();
    assert_eq!(bench.acks(), []);
    assert_eq!(bench.pending.len(), 2);
    bench.settle();
    assert_eq!(bench.acks().len(), 2);
}

#[test]
fn service_without_ready_pods_is_sent_empty() {
    let mut bench = Bench::connected();
    bench.send(&[(pilot(), endpoints(&[]))], &[]);
    bench.settle();
    let slices = bench.remote.slices("istio-pilot");
    assert_eq!(slices.len(), 1);
    assert_eq!(slices[0].address_type, "IPv4");
    assert_eq!(slices[0].endpoints.as_ref().map_or(0, Vec::len), 0);
    assert_eq!(
        bench.told(&pilot()).map(|applied| (applied.state, applied.addresses)),
        Some((ApplyState::Applied, 0))
    );
}

#[test]
fn service_is_headless_and_without_selector() {
    let mut bench = Bench::connected();
    bench.send(&[(pilot_service(), service(&[15_010, 8_080]))], &[]);
    bench.settle();
    let spec = the_service(&bench).spec.unwrap();
    assert_eq!(spec.cluster_ip.as_deref(), Some("None"));
    assert_eq!(spec.selector, None);
    assert_eq!(
        spec.ports.unwrap().iter().map(|port| port.port).collect::<Vec<_>>(),
        [15_010, 8_080]
    );
    assert_eq!(bench.told_state(&pilot_service()), Some(ApplyState::Applied));
}

#[test]
fn endpoints_object_without_known_port_bears_the_placeholder() {
    let mut bench = Bench::connected();
    let set = EndpointSet {
        port_sets: vec![],
        ..set(&["10.0.0.1"])
    };
    bench.send(&[(pilot(), Arc::new(Object::new(1, None, Body::Endpoints(set))))], &[]);
    bench.settle();
    let subsets = the_endpoints(&bench).subsets.unwrap();
    assert_eq!(
        subsets[0]
            .ports
            .as_ref()
            .unwrap()
            .iter()
            .map(|port| port.port)
            .collect::<Vec<_>>(),
        [65_000]
    );
}

#[test]
fn endpoints_object_over_capacity_says_so_until_it_is_not() {
    let mut bench = Bench::connected();
    bench.send(&[(pilot(), numbered(1_001))], &[]);
    bench.pass(5);
    let endpoints = the_endpoints(&bench);
    let count: usize = endpoints
        .subsets
        .unwrap()
        .iter()
        .map(|subset| subset.addresses.as_ref().unwrap().len())
        .sum();
    assert_eq!(count, 1_000);
    assert_eq!(
        endpoints.metadata.annotations.unwrap()[names::OVER_CAPACITY],
        "truncated"
    );
    bench.send(&[(pilot(), numbered(3))], &[]);
    bench.pass(5);
    assert_eq!(bench.told_state(&pilot()), Some(ApplyState::Applied));
    assert_eq!(the_endpoints(&bench).metadata.annotations, None);
}

#[test]
fn switched_off_endpoints_objects_are_deleted() {
    let mut bench = Bench::connected();
    bench.send(&[(pilot(), endpoints(&["10.0.0.1"]))], &[]);
    bench.pass(5);
    let mut bench = bench.restart(Settings {
        endpoints_objects: false,
        ..settings()
    });
    bench.pass(5);
    assert_eq!(bench.remote.names(Kind::Endpoints), Vec::<String>::new());
    assert_eq!(bench.addresses(), parse(&["10.0.0.1"]));
}

#[test]
fn slices_left_without_addresses_are_deleted() {
    let mut bench = Bench::connected();
    bench.send(&[(pilot(), numbered(250))], &[]);
    bench.pass(5);
    assert_eq!(bench.remote.slices("istio-pilot").len(), 3);
    bench.send(&[(pilot(), numbered(50))], &[]);
    bench.pass(5);
    assert_eq!(bench.remote.slices("istio-pilot").len(), 1);
    assert_eq!(bench.addresses().len(), 50);
}

#[test]
fn removal_takes_the_objects_and_then_the_record() {
    let mut bench = Bench::connected();
    bench.send(&[(pilot(), endpoints(&["10.0.0.1"]))], &[]);
    bench.send(&[(pilot_service(), service(&[]))], &[]);
    bench.pass(5);
    bench.send(&[], &[pilot()]);
    bench.send(&[], &[pilot_service()]);
    bench.pass(5);
    for kind in [Kind::EndpointSlice, Kind::Endpoints, Kind::Service, Kind::ConfigMap] {
        assert_eq!(bench.remote.names(kind), Vec::<String>::new(), "{kind:?}");
    }
    assert_eq!(bench.acks().len(), 4);
    for key in [pilot(), pilot_service()] {
        let told = bench.told(&key).unwrap();
        assert_eq!((told.state, told.version), (ApplyState::Removed, None));
    }
    assert_eq!(bench.engine.statistics().held[&Lane::Endpoints], 0);
}

#[test]
fn key_accepted_again_while_it_is_being_removed_stays() {
    let mut bench = Bench::connected();
    let object = endpoints(&["10.0.0.1"]);
    bench.send(&[(pilot(), Arc::clone(&object))], &[]);
    bench.pass(5);
    bench.send(&[], &[pilot()]);
    // The record says removed and the first object is gone.
    assert!(bench.answer() && bench.answer());
    bench.send(&[(pilot(), object)], &[]);
    bench.pass(5);
    assert_eq!(bench.addresses(), parse(&["10.0.0.1"]));
    assert_eq!(bench.told_state(&pilot()), Some(ApplyState::Applied));
}

#[test]
fn too_many_removals_at_once_are_held_back() {
    let mut bench = Bench::connected();
    let keys: Vec<Key> = (0..3)
        .map(|index| Key::endpoints("istio-system", &format!("s{index}")))
        .collect();
    let upserts: Vec<_> = keys.iter().map(|key| (key.clone(), endpoints(&["10.0.0.1"]))).collect();
    bench.send(&upserts, &[]);
    bench.pass(5);
    bench.send(&[], &keys);
    bench.pass(5);
    assert_eq!(bench.remote.names(Kind::EndpointSlice).len(), 3);
    let (_, nacks) = bench.acks().pop().unwrap();
    assert_eq!(
        nacks.iter().map(|nack| nack.reason).collect::<Vec<_>>(),
        [NackReason::GuardHeld; 3]
    );
    assert_eq!(bench.engine.statistics().nacks[&NackReason::GuardHeld], 3);
}

#[test]
fn idle_agent_writes_nothing() {
    let mut bench = Bench::connected();
    bench.send(&[(pilot(), numbered(150))], &[]);
    bench.send(
        &[
            (pilot_service(), service(&[1, 2])),
            (Key::injection("default"), injection()),
        ],
        &[],
    );
    bench.pass(60);
    let start = bench.remote.log.len();
    bench.pass(3_600);
    assert_eq!(bench.remote.log[start..], []);
    assert_eq!(bench.engine.next_wake(), None);
}

fn injection() -> Arc<Object> {
    Arc::new(Object::new(1, None, Body::Injection))
}

#[test]
fn same_content_again_writes_nothing() {
    let mut bench = Bench::connected();
    let objects = [(pilot(), endpoints(&["10.0.0.1"]))];
    bench.send(&objects, &[]);
    bench.pass(60);
    let start = bench.remote.log.len();
    bench.snapshot(Lane::Endpoints, &objects);
    bench.pass(60);
    assert_eq!(bench.remote.log[start..], []);
    assert_eq!(bench.acks().len(), 2);
}

#[test]
fn record_follows_a_change_off_the_hot_path() {
    let mut bench = Bench::connected();
    bench.send(&[(pilot(), endpoints(&["10.0.0.1"]))], &[]);
    bench.pass(60);
    bench.send(&[(pilot(), endpoints(&["10.0.0.2"]))], &[]);
    let start = bench.remote.log.len();
    bench.settle();
    let records = |bench: &Bench| {
        bench.remote.log[start..]
            .iter()
            .filter(|(name, _)| name.kind == Kind::ConfigMap)
            .count()
    };
    assert_eq!(records(&bench), 0);
    bench.pass(3);
    assert_eq!(records(&bench), 1);
}

#[test]
fn endpoints_are_written_before_services() {
    let mut bench = Bench::connected();
    bench.send(&[(pilot_service(), service(&[]))], &[]);
    bench.send(&[(pilot(), endpoints(&["10.0.0.1"]))], &[]);
    bench.collect();
    let Write::Create(first) = &bench.pending[0].1 else {
        panic!("{:?}", bench.pending)
    };
    assert!(first.name().name.starts_with("remote-istio-endpoints-"), "{first:?}");
}

#[test]
fn writes_in_flight_are_bounded() {
    let mut bench = Bench::connected();
    let upserts: Vec<_> = (0..40)
        .map(|index| {
            (
                Key::endpoints("istio-system", &format!("s{index}")),
                endpoints(&["10.0.0.1"]),
            )
        })
        .collect();
    bench.send(&upserts, &[]);
    bench.collect();
    assert_eq!(bench.pending.len(), 16);
    bench.settle();
    assert_eq!(bench.remote.names(Kind::EndpointSlice).len(), 40);
}

fn some_set() -> impl Strategy<Value = EndpointSet> {
    let endpoint = (
        any::<bool>(),
        0_u32..2,
        prop_oneof![Just(""), Just("net")],
        prop_oneof![Just(""), Just("z")],
        0_u32..2,
    );
    let address = prop_oneof![
        (0_u8..3, 1_u8..200).prop_map(|(third, last)| IpAddr::from([10, 0, third, last])),
        (1_u16..50).prop_map(|last| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last])),
    ];
    let entry = (address, endpoint).prop_map(|(address, (ready, port_set, network, zone, weight))| {
        let (network, zone) = (network.to_owned(), zone.to_owned());
        (
            address,
            Endpoint {
                ready,
                port_set,
                network,
                zone,
                weight,
            },
        )
    });
    (proptest::collection::btree_map(any::<u8>(), entry, 0..150), 1_u16..4).prop_map(|(entries, first)| EndpointSet {
        endpoints: entries.into_values().collect(),
        port_sets: vec![vec![port(first)], vec![port(first + 1)]],
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_sets_ends_with_slices_that_hold_the_last(sets in proptest::collection::vec(some_set(), 1..5)) {
        let mut bench = Bench::connected();
        for set in &sets {
            bench.send(&[(pilot(), Arc::new(Object::new(1, None, Body::Endpoints(set.clone()))))], &[]);
            bench.pass(3);
        }
        let last = sets.last().unwrap();
        prop_assert_eq!(bench.addresses(), last.endpoints.keys().copied().collect::<Vec<_>>());
        prop_assert_eq!(bench.told_state(&pilot()), Some(ApplyState::Applied));
        for slice in bench.remote.slices("istio-pilot") {
            prop_assert!(slice.endpoints.unwrap_or_default().len() <= 100);
        }
        let mut bench = bench.restart(settings());
        let start = bench.remote.log.len();
        let greeting = bench.connect("hub-2");
        let version = last.version();
        prop_assert_eq!(greeting.lanes[&Lane::Endpoints], (Some(lane_hash([(&pilot(), version)])), 1));
        bench.pass(60);
        prop_assert_eq!(&bench.remote.log[start..], &[]);
    }
}
