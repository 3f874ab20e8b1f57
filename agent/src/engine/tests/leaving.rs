//! An agent that leaves without a hub.

use super::*;

fn with_service() -> Bench {
    let mut bench = Bench::connected();
    bench.send(&[(pilot(), endpoints(&["10.0.0.1"]))], &[]);
    bench.send(&[(pilot_service(), service(&[15_010]))], &[]);
    bench.pass(10);
    assert_eq!(bench.told_state(&pilot_service()), Some(ApplyState::Applied));
    bench
}

/// Another process that does nothing but leave.
fn leaving(bench: Bench) -> Bench {
    let mut bench = bench.restart(settings());
    bench.engine.leave(bench.now);
    bench
}

#[test]
fn everything_goes_without_a_hub_and_nothing_is_written_anew_before() {
    let bench = with_service();
    let written = bench.remote.log.len();
    let mut bench = leaving(bench);
    assert_eq!(bench.engine.left().len(), 2);
    bench.pass(5);
    assert_eq!(bench.engine.left(), []);
    for kind in [Kind::Service, Kind::EndpointSlice, Kind::Endpoints, Kind::ConfigMap] {
        assert_eq!(bench.remote.names(kind), Vec::<String>::new(), "{kind:?}");
    }
    let writes = bench.remote.writes_since(written);
    assert!(writes.iter().all(|(_, verb)| *verb != "create"), "{writes:?}");
}

#[test]
fn objects_of_others_stay_and_are_not_told() {
    let mut bench = with_service();
    let theirs = names::of_service(Kind::Service, &Key::service("istio-system", "theirs"));
    bench.remote.put(super::faults::foreign(&theirs));
    let mut bench = leaving(bench);
    bench.pass(5);
    assert_eq!(bench.engine.left(), []);
    assert_eq!(bench.remote.names(Kind::Service), ["theirs"]);
}

#[test]
fn leaving_again_or_where_nothing_is_does_nothing() {
    let mut bench = leaving(with_service());
    bench.pass(5);
    let written = bench.remote.log.len();
    let mut bench = leaving(bench);
    bench.pass(60);
    assert_eq!(bench.engine.left(), []);
    assert_eq!(bench.remote.log.len(), written);
}

#[test]
fn what_was_to_stay_stays_although_the_agent_leaves_before_it_was_let_go() {
    let mut bench = with_service();
    bench.orphan(&[pilot_service()]);
    // Only the record is written.
    while !bench.remote.names(Kind::Service).is_empty() && bench.pending.is_empty() {
        bench.collect();
    }
    assert!(bench.answer(), "the record says that it is to stay");
    let mut bench = leaving(bench);
    bench.pass(5);
    assert_eq!(bench.engine.left(), []);
    assert_eq!(bench.remote.names(Kind::Service), ["istio-pilot"]);
}

#[test]
fn object_without_a_record_is_told_and_left_alone() {
    let mut bench = with_service();
    let record = names::record(&settings(), &pilot_service());
    bench.remote.delete(&record);
    bench.remote.events.clear();
    let mut bench = leaving(bench);
    bench.pass(5);
    let left = bench.engine.left();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0].what, "service istio-system/istio-pilot");
    assert_eq!(bench.remote.names(Kind::Service), ["istio-pilot"]);
}
