//! What stands in the way of one object holds back no other, and is tried again by its own rule.

use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use remote_istio::lane::NackReason;

use super::*;

fn other() -> Key {
    Key::endpoints("istio-system", "istio-policy")
}

pub(super) fn foreign(name: &ObjectName) -> Resource {
    let metadata = ObjectMeta {
        namespace: Some(name.namespace.clone()),
        name: Some(name.name.clone()),
        ..ObjectMeta::default()
    };
    match name.kind {
        Kind::Service => Resource::Service(Box::new(Service {
            metadata,
            ..Service::default()
        })),
        Kind::EndpointSlice => Resource::EndpointSlice(Box::new(k8s_openapi::api::discovery::v1::EndpointSlice {
            metadata,
            ..Default::default()
        })),
        Kind::ConfigMap => Resource::ConfigMap(Box::new(ConfigMap {
            metadata,
            ..ConfigMap::default()
        })),
        Kind::MutatingWebhook | Kind::Deployment | Kind::Endpoints | Kind::Namespace => panic!("not used"),
    }
}

fn slice_name(key: &Key) -> ObjectName {
    let name = format!("{}0", names::slice_prefix(key, false));
    ObjectName {
        kind: Kind::EndpointSlice,
        namespace: key.namespace().to_owned(),
        name,
    }
}

fn unavailable() -> Failure {
    Failure::Unavailable {
        message: "no answer".to_owned(),
        retry_after_milliseconds: None,
    }
}

#[test]
fn foreign_slice_is_left_alone_and_holds_back_no_other_key() {
    let mut bench = Bench::connected();
    let name = slice_name(&pilot());
    let stranger = bench.remote.put(foreign(&name));
    bench.send(
        &[(pilot(), endpoints(&["10.0.0.1"])), (other(), endpoints(&["10.0.0.2"]))],
        &[],
    );
    bench.pass(120);
    assert_eq!(bench.remote.objects[&name], stranger);
    assert!(!bench.remote.log.iter().any(|(written, _)| *written == name));
    assert_eq!(bench.told_state(&pilot()), Some(ApplyState::Foreign));
    assert_eq!(bench.told_state(&other()), Some(ApplyState::Applied));
    assert_eq!(bench.acks(), [(1, vec![])]);
    bench.remote.delete(&name);
    bench.settle();
    assert_eq!(bench.addresses(), ["10.0.0.1".parse::<IpAddr>().unwrap()]);
    assert_eq!(bench.told_state(&pilot()), Some(ApplyState::Applied));
}

#[test]
fn slices_are_never_merged_into_a_foreign_service() {
    let mut bench = Bench::connected();
    let name = names::of_service(Kind::Service, &pilot());
    let stranger = bench.remote.put(foreign(&name));
    bench.send(&[(pilot(), endpoints(&["10.0.0.1"]))], &[]);
    bench.send(&[(pilot_service(), service(&[]))], &[]);
    bench.pass(120);
    assert_eq!(bench.remote.objects[&name], stranger);
    assert_eq!(bench.addresses(), Vec::<IpAddr>::new());
    for key in [pilot(), pilot_service()] {
        let told = bench.told(&key).unwrap();
        assert_eq!(told.state, ApplyState::Foreign);
        assert!(
            told.detail.contains("istio-pilot") && told.detail.contains("elete"),
            "{}",
            told.detail
        );
    }
    assert_eq!(bench.acks().len(), 2);
    bench.remote.delete(&name);
    bench.settle();
    assert_eq!(bench.addresses().len(), 1);
    assert_eq!(bench.remote.names(Kind::Service), ["istio-pilot"]);
}

#[test]
fn object_of_another_mesh_is_foreign() {
    let mut theirs = Bench::on(
        Remote::new(),
        Settings {
            owner: owner_of("other.example", &RemoteName::new("remote-1").unwrap()),
            ..settings()
        },
    );
    theirs.connect("hub-1");
    theirs.send(&[(pilot_service(), service(&[]))], &[]);
    theirs.pass(5);
    let mut bench = Bench::on(theirs.remote, settings());
    bench.connect("hub-1");
    bench.send(&[(pilot_service(), service(&[1]))], &[]);
    bench.pass(5);
    assert_eq!(bench.told_state(&pilot_service()), Some(ApplyState::Foreign));
}

#[test]
fn foreign_object_that_no_watch_has_shown_is_not_merged_into() {
    let mut bench = Bench::connected();
    let name = names::of_service(Kind::Service, &pilot());
    bench.remote.put(foreign(&name));
    bench.remote.events.clear();
    bench.send(&[(pilot_service(), service(&[]))], &[]);
    bench.pass(5);
    assert_eq!(bench.told_state(&pilot_service()), Some(ApplyState::Foreign));
    assert!(
        bench
            .remote
            .log
            .iter()
            .filter(|(written, _)| *written == name)
            .all(|(_, verb)| *verb == "create")
    );
    bench.remote.delete(&name);
    bench.remote.events.clear();
    bench.pass(31);
    assert_eq!(bench.told_state(&pilot_service()), Some(ApplyState::Applied));
}

#[test]
fn set_whose_slices_are_forbidden_is_kept_in_its_record() {
    let mut bench = Bench::connected();
    bench.send(&[(pilot(), endpoints(&["10.0.0.1"]))], &[]);
    bench.pass(5);
    bench.remote.failing.insert(
        Kind::EndpointSlice,
        Failure::Forbidden("may not patch slices".to_owned()),
    );
    let next = endpoints(&["10.0.0.2"]);
    bench.send(&[(pilot(), Arc::clone(&next))], &[]);
    bench.settle();
    assert_eq!(bench.acks().len(), 2);
    assert_eq!(bench.told_state(&pilot()), Some(ApplyState::Forbidden));
    let mut bench = bench.restart(settings());
    let greeting = bench.connect("hub-2");
    assert_eq!(
        greeting.lanes[&Lane::Endpoints].0,
        Some(lane_hash([(&pilot(), next.version)]))
    );
    assert!(!greeting.settled);
    bench.remote.failing.clear();
    bench.pass(31);
    assert_eq!(bench.addresses(), ["10.0.0.2".parse::<IpAddr>().unwrap()]);
    assert_eq!(bench.told_state(&pilot()), Some(ApplyState::Applied));
}

#[test]
fn unanswered_write_is_tried_again_and_the_ack_waits() {
    let mut bench = Bench::connected();
    bench.send(&[(pilot(), endpoints(&["10.0.0.1"]))], &[]);
    bench.pass(5);
    for kind in [Kind::EndpointSlice, Kind::ConfigMap, Kind::Endpoints] {
        bench.remote.failing.insert(kind, unavailable());
    }
    bench.send(&[(pilot(), endpoints(&["10.0.0.2"]))], &[]);
    let start = bench.remote.log.len();
    bench.pass(30);
    assert_eq!(bench.acks().len(), 1);
    assert_eq!(bench.told_state(&pilot()), Some(ApplyState::Unavailable));
    let tries = bench.remote.log.len() - start;
    assert!((4..60).contains(&tries), "{tries}");
    bench.remote.failing.clear();
    bench.pass(31);
    assert_eq!(bench.acks().len(), 2);
    assert_eq!(bench.told_state(&pilot()), Some(ApplyState::Applied));
}

#[test]
fn rejected_object_is_tried_again_when_its_content_changes() {
    let mut bench = Bench::connected();
    bench
        .remote
        .failing
        .insert(Kind::Service, Failure::Rejected("port name is too long".to_owned()));
    bench.send(&[(pilot_service(), service(&[1]))], &[]);
    bench.settle();
    let told = bench.told(&pilot_service()).unwrap();
    assert_eq!(
        (told.state, told.detail.as_str()),
        (ApplyState::Rejected, "port name is too long")
    );
    assert_eq!(bench.acks().len(), 1);
    bench.remote.failing.clear();
    bench.send(&[(pilot_service(), service(&[2]))], &[]);
    bench.settle();
    assert_eq!(bench.told_state(&pilot_service()), Some(ApplyState::Applied));
}

#[test]
fn missing_namespace_is_waited_for() {
    let mut bench = Bench::on(
        Remote::new(),
        Settings {
            service_namespaces: ["istio-system".to_owned(), "later".to_owned()].into(),
            ..settings()
        },
    );
    bench.connect("hub-1");
    let key = Key::endpoints("later", "a");
    bench.send(&[(key.clone(), endpoints(&["10.0.0.1"]))], &[]);
    bench.pass(5);
    assert_eq!(bench.acks(), [(1, vec![])]);
    assert_eq!(bench.told_state(&key), Some(ApplyState::NamespaceMissing));
    bench.remote.add_namespace("later", &[]);
    bench.settle();
    assert_eq!(bench.remote.addresses("a").len(), 1);
    assert_eq!(bench.told_state(&key), Some(ApplyState::Applied));
}

#[test]
fn namespace_that_is_not_served_is_refused_alone() {
    let mut bench = Bench::connected();
    let key = Key::endpoints("default", "a");
    bench.send(
        &[
            (key.clone(), endpoints(&["10.0.0.1"])),
            (pilot(), endpoints(&["10.0.0.2"])),
        ],
        &[],
    );
    bench.settle();
    let (_, nacks) = bench.acks().pop().unwrap();
    assert_eq!(
        nacks.iter().map(|nack| (&nack.key, nack.reason)).collect::<Vec<_>>(),
        [(&key, NackReason::Policy)]
    );
    assert_eq!(bench.addresses().len(), 1);
}

#[test]
fn deleted_and_edited_objects_are_restored_at_once_and_counted() {
    let mut bench = Bench::connected();
    bench.send(&[(pilot(), endpoints(&["10.0.0.1"]))], &[]);
    bench.send(&[(pilot_service(), service(&[1]))], &[]);
    bench.pass(5);
    bench.engine.disconnected(bench.now);
    for name in [
        slice_name(&pilot()),
        names::of_service(Kind::Service, &pilot()),
        names::of_service(Kind::Endpoints, &pilot()),
    ] {
        bench.remote.delete(&name);
    }
    bench.settle();
    assert_eq!(bench.addresses().len(), 1);
    assert_eq!(
        bench.remote.names(Kind::Service).len() + bench.remote.names(Kind::Endpoints).len(),
        2
    );
    assert_eq!(bench.engine.statistics().drift_repaired, 3);
    let Resource::EndpointSlice(mut slice) = bench.remote.objects[&slice_name(&pilot())].clone() else {
        panic!()
    };
    slice.endpoints = None;
    bench.remote.put(Resource::EndpointSlice(slice));
    bench.settle();
    assert_eq!(bench.addresses().len(), 1);
    assert_eq!(bench.engine.statistics().drift_repaired, 4);
}

#[test]
fn echo_of_an_older_write_is_no_drift() {
    let mut bench = Bench::connected();
    bench.send(&[(pilot(), endpoints(&["10.0.0.1"]))], &[]);
    bench.pass(5);
    let old = bench.remote.objects[&slice_name(&pilot())].clone();
    bench.send(&[(pilot(), endpoints(&["10.0.0.2"]))], &[]);
    bench.pass(5);
    let start = bench.remote.log.len();
    bench.engine.seen(Seen::Present(old), bench.now);
    bench.pass(5);
    assert_eq!(bench.remote.log[start..], []);
    assert_eq!(bench.engine.statistics().drift_repaired, 0);
}

#[test]
fn selector_that_a_user_added_is_got_rid_of() {
    let mut bench = Bench::connected();
    bench.send(&[(pilot_service(), service(&[1]))], &[]);
    bench.pass(5);
    let name = names::of_service(Kind::Service, &pilot());
    let Resource::Service(mut service) = bench.remote.objects[&name].clone() else {
        panic!()
    };
    service.spec.as_mut().unwrap().selector = Some([("app".to_owned(), "x".to_owned())].into());
    bench.remote.put(Resource::Service(service));
    bench.settle();
    let Resource::Service(service) = &bench.remote.objects[&name] else {
        panic!()
    };
    assert_eq!(service.spec.as_ref().unwrap().selector, None);
    assert_eq!(bench.told_state(&pilot_service()), Some(ApplyState::Applied));
}

#[test]
fn tug_of_war_slows_down_and_is_reported_until_it_ends() {
    let mut bench = Bench::connected();
    bench.send(&[(pilot(), endpoints(&["10.0.0.1"]))], &[]);
    bench.pass(5);
    let start = bench.remote.log.len();
    for _ in 0..120 {
        bench.remote.delete(&slice_name(&pilot()));
        bench.pass(1);
    }
    assert_eq!(bench.told_state(&pilot()), Some(ApplyState::Contended));
    assert_eq!(bench.engine.statistics().contended, 1);
    let creations = bench.remote.writes_since(start).len();
    assert!((6..20).contains(&creations), "{creations}");
    bench.pass(180);
    assert_eq!(bench.addresses().len(), 1);
    assert_eq!(bench.told_state(&pilot()), Some(ApplyState::Applied));
    assert_eq!(bench.engine.statistics().contended, 0);
}

#[test]
fn opponent_that_strikes_before_our_write_is_answered_is_slowed_down_too() {
    let mut bench = Bench::connected();
    bench.send(&[(pilot(), endpoints(&["10.0.0.1"]))], &[]);
    bench.pass(5);
    let start = bench.remote.log.len();
    bench.remote.delete(&slice_name(&pilot()));
    bench.watch();
    for _ in 0..50 {
        bench.collect();
        if bench.pending.is_empty() {
            break;
        }
        let (id, write) = bench.pending.remove(0);
        let outcome = bench.remote.write(&write);
        bench.remote.delete(&slice_name(&pilot()));
        bench.watch();
        bench.engine.written(id, outcome, bench.now);
    }
    let creations = bench.remote.writes_since(start).len();
    assert!(creations < 20, "{creations} writes at one moment");
    assert_eq!(bench.told_state(&pilot()), Some(ApplyState::Contended));
    bench.pass(180);
    assert_eq!(bench.addresses().len(), 1);
}

#[test]
fn record_that_is_not_ours_refuses_its_key_alone() {
    let mut bench = Bench::connected();
    bench.remote.put(foreign(&names::record(&settings(), &pilot_service())));
    bench.send(
        &[
            (pilot_service(), service(&[])),
            (
                Key::injection("default"),
                Arc::new(Object::new(1, None, Body::Injection)),
            ),
        ],
        &[],
    );
    bench.pass(5);
    let (_, nacks) = bench.acks().pop().unwrap();
    assert_eq!(
        nacks.iter().map(|nack| (&nack.key, nack.reason)).collect::<Vec<_>>(),
        [(&pilot_service(), NackReason::Policy)]
    );
    assert_eq!(bench.told_state(&Key::injection("default")), Some(ApplyState::Applied));
    assert_eq!(bench.remote.names(Kind::Service), Vec::<String>::new());
}

#[test]
fn rights_taken_away_and_given_back_end_in_everything_applied() {
    let mut bench = Bench::connected();
    let kinds = [Kind::EndpointSlice, Kind::Service, Kind::Endpoints, Kind::ConfigMap];
    for kind in kinds {
        bench.remote.failing.insert(kind, Failure::Forbidden("no".to_owned()));
    }
    bench.send(&[(pilot(), endpoints(&["10.0.0.1"]))], &[]);
    bench.send(&[(pilot_service(), service(&[]))], &[]);
    bench.pass(65);
    assert_eq!(bench.acks(), []);
    assert_eq!(bench.told_state(&pilot()), Some(ApplyState::Forbidden));
    assert_eq!(bench.told_state(&pilot_service()), Some(ApplyState::Forbidden));
    bench.remote.failing.clear();
    bench.pass(65);
    assert_eq!(bench.acks().len(), 2);
    assert_eq!(bench.told_state(&pilot()), Some(ApplyState::Applied));
    assert_eq!(bench.told_state(&pilot_service()), Some(ApplyState::Applied));
}

#[test]
fn answer_that_got_lost_does_not_make_an_object_foreign() {
    let mut bench = Bench::connected();
    bench.send(&[(pilot_service(), service(&[]))], &[]);
    assert!(bench.answer());
    bench.collect();
    let (id, write) = bench.pending.remove(0);
    assert!(matches!(bench.remote.write(&write), Outcome::Done(_)));
    bench.remote.events.clear();
    bench.engine.written(id, Outcome::Failed(unavailable()), bench.now);
    bench.pass(1);
    bench.engine.seen(
        Seen::Present(bench.remote.objects[&names::of_service(Kind::Service, &pilot())].clone()),
        bench.now,
    );
    bench.settle();
    assert_eq!(bench.told_state(&pilot_service()), Some(ApplyState::Applied));
    bench.send(&[], &[pilot_service()]);
    bench.pass(20);
    assert_eq!(bench.remote.names(Kind::Service), Vec::<String>::new());
}

fn another_owner() -> BTreeMap<String, String> {
    [(names::OWNER.to_owned(), "another".to_owned())].into()
}

/// A service that stands as accepted, its name, and how it would look with these labels.
fn applied_service_with_labels(labels: Option<BTreeMap<String, String>>) -> (Bench, ObjectName, Resource) {
    let mut bench = Bench::connected();
    bench.send(&[(pilot_service(), service(&[80]))], &[]);
    bench.settle();
    let name = names::of_service(Kind::Service, &pilot_service());
    let mut relabelled = bench.remote.objects[&name].clone();
    let Resource::Service(object) = &mut relabelled else {
        panic!()
    };
    object.metadata.labels = labels;
    (bench, name, relabelled)
}

#[test]
fn our_own_object_without_our_labels_is_labelled_again() {
    let (mut bench, name, unlabelled) = applied_service_with_labels(None);
    bench.remote.put(unlabelled.clone());
    bench.settle();
    let labels = bench.remote.objects[&name].metadata().unwrap().labels.clone();
    assert_eq!(labels, Some(names::owner_labels(&settings())));
    assert_eq!(bench.told_state(&pilot_service()), Some(ApplyState::Applied));
}

#[test]
fn our_own_object_with_another_agents_label_is_that_agents() {
    let (mut bench, name, handed_over) = applied_service_with_labels(Some(another_owner()));
    bench.remote.put(handed_over.clone());
    bench.pass(60);
    assert_eq!(bench.told_state(&pilot_service()), Some(ApplyState::Foreign));
    let labels = bench.remote.objects[&name].metadata().unwrap().labels.clone();
    assert_eq!(labels, Some(another_owner()));
}

#[test]
fn our_own_object_that_a_watch_by_label_lost_is_found_by_its_uid() {
    let (mut bench, name, unlabelled) = applied_service_with_labels(None);
    let uid = bench.remote.put(unlabelled).uid().to_owned();
    bench.remote.events = vec![Seen::Gone(name.clone())];
    bench.pass(5);
    let found = &bench.remote.objects[&name];
    assert_eq!(found.uid(), uid);
    assert_eq!(found.metadata().unwrap().labels, Some(names::owner_labels(&settings())));
    assert_eq!(bench.told_state(&pilot_service()), Some(ApplyState::Applied));
}
