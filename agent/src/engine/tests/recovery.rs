//! A restarted agent: what it claims, what it guards, what it heals, with the hub down.

use proptest::prelude::*;

use super::*;

fn slices_of(bench: &Bench) -> Vec<ObjectName> {
    bench
        .remote
        .objects
        .keys()
        .filter(|name| name.kind == Kind::EndpointSlice)
        .cloned()
        .collect()
}

fn hash(key: &Key, object: &Object) -> LaneHash {
    lane_hash([(key, object.version)])
}

fn claimed(bench: &mut Bench, lane: Lane) -> Option<LaneHash> {
    bench.connect("hub-2").lanes[&lane].0
}

fn with_everything(object: &Arc<Object>) -> Bench {
    let mut bench = Bench::connected();
    bench.send(&[(pilot(), Arc::clone(object))], &[]);
    bench.send(
        &[
            (pilot_service(), service(&[1])),
            (
                Key::injection("default"),
                Arc::new(Object::new(1, None, Body::Injection)),
            ),
        ],
        &[],
    );
    bench.pass(60);
    bench
}

#[test]
fn restart_of_an_unchanged_world_claims_everything_and_writes_nothing() {
    let object = numbered(150);
    let mut bench = with_everything(&object).restart(settings());
    let start = bench.remote.log.len();
    let greeting = bench.connect("hub-2");
    assert_eq!(greeting.lanes[&Lane::Endpoints], (Some(hash(&pilot(), &object)), 1));
    assert!(greeting.lanes[&Lane::Config].0.is_some());
    assert_eq!(greeting.lanes[&Lane::Config].1, 2);
    assert!(greeting.settled);
    bench.pass(60);
    assert_eq!(bench.remote.log[start..], []);
    assert_eq!(bench.frames, []);
}

#[test]
fn everything_deleted_while_nobody_looked_is_restored_with_the_hub_down() {
    let object = numbered(150);
    let mut bench = with_everything(&object);
    let ours: Vec<ObjectName> = bench
        .remote
        .objects
        .keys()
        .filter(|name| !matches!(name.kind, Kind::Namespace | Kind::ConfigMap))
        .cloned()
        .collect();
    assert_eq!(ours.len(), 4);
    for name in &ours {
        bench.remote.delete(name);
    }
    let mut bench = bench.restart(settings());
    bench.pass(5);
    assert_eq!(bench.addresses().len(), 150);
    assert_eq!(bench.remote.names(Kind::Service).len(), 1);
    assert_eq!(bench.engine.statistics().drift_repaired, 4);
    assert_eq!(claimed(&mut bench, Lane::Endpoints), Some(hash(&pilot(), &object)));
}

#[test]
fn one_of_two_slices_deleted_or_edited_while_nobody_looked_is_restored() {
    for edit in [false, true] {
        let object = numbered(150);
        let mut bench = with_everything(&object);
        let name = slices_of(&bench)[1].clone();
        if edit {
            let Resource::EndpointSlice(mut slice) = bench.remote.objects[&name].clone() else {
                panic!()
            };
            slice.endpoints.as_mut().unwrap().pop();
            bench.remote.put(Resource::EndpointSlice(slice));
        } else {
            bench.remote.delete(&name);
        }
        let mut bench = bench.restart(settings());
        bench.pass(5);
        assert_eq!(bench.addresses().len(), 150, "{edit}");
        assert_eq!(bench.remote.slices("istio-pilot").len(), 2);
    }
}

#[test]
fn newer_slice_is_never_replaced_by_an_older_record() {
    let mut bench = Bench::connected();
    bench.send(&[(pilot(), endpoints(&["10.0.0.1"]))], &[]);
    bench.pass(60);
    let newer = endpoints(&["10.0.0.2"]);
    bench.send(&[(pilot(), Arc::clone(&newer))], &[]);
    // Killed before the record followed.
    bench.settle();
    let mut bench = bench.restart(settings());
    assert_eq!(claimed(&mut bench, Lane::Endpoints), Some(hash(&pilot(), &newer)));
    bench.pass(60);
    assert_eq!(bench.addresses(), ["10.0.0.2".parse::<IpAddr>().unwrap()]);
}

#[test]
fn newer_slice_that_was_edited_is_guarded_as_it_is_and_not_claimed() {
    let mut bench = Bench::connected();
    bench.send(&[(pilot(), endpoints(&["10.0.0.1"]))], &[]);
    bench.pass(60);
    let newer = endpoints(&["10.0.0.2", "10.0.0.3"]);
    bench.send(&[(pilot(), Arc::clone(&newer))], &[]);
    bench.settle();
    let Resource::EndpointSlice(mut slice) = bench.remote.objects[&slices_of(&bench)[0]].clone() else {
        panic!()
    };
    slice.endpoints.as_mut().unwrap().pop();
    bench.remote.put(Resource::EndpointSlice(slice));
    let mut bench = bench.restart(settings());
    assert_eq!(claimed(&mut bench, Lane::Endpoints), None);
    bench.pass(60);
    assert_eq!(bench.addresses(), ["10.0.0.2".parse::<IpAddr>().unwrap()]);
    // And not after another restart either, although the record has caught up.
    let mut bench = bench.restart(settings());
    assert_eq!(claimed(&mut bench, Lane::Endpoints), None);
    bench.snapshot(Lane::Endpoints, &[(pilot(), Arc::clone(&newer))]);
    bench.pass(60);
    assert_eq!(bench.addresses().len(), 2);
    let mut bench = bench.restart(settings());
    assert_eq!(claimed(&mut bench, Lane::Endpoints), Some(hash(&pilot(), &newer)));
}

#[test]
fn state_kept_by_another_release_is_guarded_and_counts_as_unknown() {
    let object = numbered(150);
    let next = Settings {
        release: "2".to_owned(),
        ..settings()
    };
    let mut bench = with_everything(&object).restart(next.clone());
    let start = bench.remote.log.len();
    let greeting = bench.connect("hub-2");
    assert_eq!(greeting.lanes[&Lane::Endpoints], (None, 1));
    assert_eq!(greeting.lanes[&Lane::Config], (None, 2));
    bench.pass(60);
    assert_eq!(bench.remote.log[start..], []);
    let victim = slices_of(&bench)[0].clone();
    bench.remote.delete(&victim);
    bench.pass(5);
    assert_eq!(bench.addresses().len(), 150);
    bench.snapshot(Lane::Endpoints, &[(pilot(), Arc::clone(&object))]);
    bench.pass(60);
    let mut bench = bench.restart(next);
    assert_eq!(claimed(&mut bench, Lane::Endpoints), Some(hash(&pilot(), &object)));
}

#[test]
fn unreadable_record_is_reported_left_alone_and_makes_its_lane_unknown() {
    let object = numbered(1);
    let mut bench = with_everything(&object);
    let name = names::record(&settings(), &pilot_service());
    let Resource::ConfigMap(mut map) = bench.remote.objects[&name].clone() else {
        panic!()
    };
    map.data
        .as_mut()
        .unwrap()
        .insert("sequence".to_owned(), "many".to_owned());
    let damaged = bench.remote.put(Resource::ConfigMap(map));
    let mut bench = bench.restart(settings());
    assert_eq!(claimed(&mut bench, Lane::Config), None);
    assert!(bench.engine.statistics().unreadable_records.contains_key(&name));
    bench.pass(60);
    assert_eq!(bench.remote.objects[&name], damaged);
    assert_eq!(bench.remote.names(Kind::Service).len(), 1);
    assert_eq!(bench.engine.statistics().held[&Lane::Endpoints], 1);
    // Once somebody took it away, the key can be kept again.
    bench.remote.delete(&name);
    bench.watch();
    bench.snapshot(
        Lane::Config,
        &[
            (pilot_service(), service(&[2])),
            (
                Key::injection("default"),
                Arc::new(Object::new(1, None, Body::Injection)),
            ),
        ],
    );
    bench.pass(60);
    assert_eq!(bench.told_state(&pilot_service()), Some(ApplyState::Applied));
}

#[test]
fn record_deleted_while_nobody_looked_is_written_anew_from_the_slices() {
    let object = numbered(150);
    let mut bench = with_everything(&object);
    bench.remote.delete(&names::record(&settings(), &pilot()));
    let mut bench = bench.restart(settings());
    bench.pass(60);
    assert_eq!(claimed(&mut bench, Lane::Endpoints), Some(hash(&pilot(), &object)));
    bench.send(&[], &[pilot()]);
    bench.pass(60);
    assert_eq!(slices_of(&bench), []);
}

#[test]
fn removal_that_a_restart_interrupted_goes_on() {
    let object = numbered(150);
    let mut bench = with_everything(&object);
    bench.send(&[], &[pilot()]);
    assert!(bench.answer() && bench.answer());
    assert_eq!(bench.acks().len(), 3);
    let mut bench = bench.restart(settings());
    let greeting = bench.connect("hub-2");
    assert_eq!(greeting.lanes[&Lane::Endpoints], (Some(lane_hash([])), 0));
    assert!(!greeting.settled);
    bench.pass(60);
    assert_eq!(slices_of(&bench), []);
    assert_eq!(bench.told_state(&pilot()), Some(ApplyState::Removed));
}

#[test]
fn reconnect_tells_anew_what_is_not_applied() {
    let mut bench = Bench::connected();
    bench
        .remote
        .failing
        .insert(Kind::Service, Failure::Rejected("no".to_owned()));
    bench.send(&[(pilot_service(), service(&[]))], &[]);
    bench.pass(5);
    bench.engine.disconnected(bench.now);
    bench.frames.clear();
    bench.pass(5);
    assert_eq!(bench.frames, []);
    bench.connect("hub-1");
    bench.settle();
    assert_eq!(bench.told_state(&pilot_service()), Some(ApplyState::Rejected));
}

#[test]
fn delta_of_the_next_session_waits_for_the_one_being_kept() {
    let mut bench = Bench::connected();
    bench.send(&[(pilot(), endpoints(&["10.0.0.1"]))], &[]);
    bench.collect();
    bench.engine.disconnected(bench.now);
    assert_eq!(bench.connect("hub-1").lanes[&Lane::Endpoints].0, None);
    let next = endpoints(&["10.0.0.2"]);
    bench.snapshot(Lane::Endpoints, &[(pilot(), Arc::clone(&next))]);
    bench.settle();
    assert_eq!(bench.acks(), [(2, vec![])]);
    assert_eq!(bench.addresses(), ["10.0.0.2".parse::<IpAddr>().unwrap()]);
}

#[test]
fn answers_of_an_ended_stream_are_never_sent_on_the_next() {
    let mut bench = Bench::connected();
    bench.send(
        &[(pilot(), endpoints(&[]))],
        &[Key::endpoints("istio-system", "never-held")],
    );
    assert!(bench.answer());
    bench.collect();
    bench.frames.clear();
    // Kept and answered, but the stream ends before the answer is sent.
    let again = [(pilot(), endpoints(&[]))];
    bench.send(&again, &[]);
    bench.connect("hub-1");
    bench.settle();
    assert_eq!(bench.acks(), []);
}

#[test]
fn key_whose_namespace_is_no_longer_served_is_left_as_it_is_and_can_be_let_go() {
    let both = Settings {
        service_namespaces: ["istio-system".to_owned(), "default".to_owned()].into(),
        ..settings()
    };
    let mut bench = Bench::on(Remote::new(), both);
    bench.connect("hub-1");
    let key = Key::endpoints("default", "a");
    bench.send(&[(key.clone(), endpoints(&["10.0.0.1"]))], &[]);
    bench.pass(60);
    let mut bench = bench.restart(settings());
    bench.connect("hub-1");
    bench.pass(60);
    assert_eq!(bench.told_state(&key), Some(ApplyState::Forbidden));
    bench.send(&[], std::slice::from_ref(&key));
    bench.pass(60);
    assert_eq!(bench.acks().len(), 1);
    assert_eq!(bench.remote.addresses("a").len(), 1);
}

/// Sets that differ in many ways, in the order they are sent.
fn sets() -> impl Strategy<Value = Vec<Arc<Object>>> {
    proptest::collection::vec((0_u32..260, 0_u32..40, any::<bool>()), 1..5).prop_map(|sets| {
        let object = |(count, skip, two_ports): (u32, u32, bool)| {
            let address = |index: u32| {
                IpAddr::from([
                    10,
                    0,
                    u8::try_from(index / 200).unwrap(),
                    u8::try_from(index % 200 + 1).unwrap(),
                ])
            };
            let endpoint = |index: u32| Endpoint {
                port_set: u32::from(two_ports && index.is_multiple_of(2)),
                ..Endpoint::ready()
            };
            let endpoints = (skip..skip + count)
                .map(|index| (address(index), endpoint(index)))
                .collect();
            let port_sets = if two_ports {
                vec![vec![port(2)], vec![port(1)]]
            } else {
                vec![vec![port(1)]]
            };
            Arc::new(Object::new(
                1,
                None,
                Body::Endpoints(EndpointSet { endpoints, port_sets }),
            ))
        };
        sets.into_iter().map(object).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Killed after any number of writes, with or without the last answer and with or without the watch keeping up: a
    /// restarted agent claims a version only if it stands there or is in its record, and ends up with what the hub wants.
    #[test]
    fn crash_after_any_write_never_claims_what_is_not_held(sets in sets(), writes in 0_usize..30, seconds in 0_u64..4) {
        let mut bench = Bench::connected();
        let mut left = writes;
        'sending: for object in &sets {
            bench.send(&[(pilot(), Arc::clone(object))], &[]);
            while left > 0 && bench.answer() {
                left -= 1;
            }
            if left == 0 {
                break 'sending;
            }
            bench.pass(seconds);
        }
        let mut bench = bench.restart(settings());
        let claim = claimed(&mut bench, Lane::Endpoints);
        // With the hub silent, what is claimed comes to stand.
        bench.pass(60);
        if let Some(claim) = claim {
            let found = bench.addresses();
            let of = |object: &&Arc<Object>| hash(&pilot(), object) == claim;
            if let Some(object) = sets.iter().find(of) {
                let wanted: Vec<IpAddr> = object.endpoints().unwrap().endpoints.keys().copied().collect();
                prop_assert_eq!(found, wanted);
            } else {
                prop_assert_eq!(claim, lane_hash([]));
                prop_assert_eq!(found, Vec::<IpAddr>::new());
            }
        }
        let last = sets.last().unwrap();
        bench.snapshot(Lane::Endpoints, &[(pilot(), Arc::clone(last))]);
        bench.pass(60);
        let wanted: Vec<IpAddr> = last.endpoints().unwrap().endpoints.keys().copied().collect();
        prop_assert_eq!(bench.addresses(), wanted);
        prop_assert_eq!(bench.told_state(&pilot()), Some(ApplyState::Applied));
        let mut bench = bench.restart(settings());
        prop_assert_eq!(claimed(&mut bench, Lane::Endpoints), Some(hash(&pilot(), last)));
    }
}
