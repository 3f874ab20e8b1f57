use super::*;

fn one_remote(pods: &[PodView]) -> Index {
    let pilot = enabled("istio-pilot", "istio=pilot");
    index(pods, &[], &[remote("r1", &[pilot])])
}

fn pilots(index: &Index) -> Vec<String> {
    addresses(index, "r1", "istio-pilot")
}

#[test]
fn ready_pods_that_match_are_sent() {
    let index = one_remote(&[pilot(1), pilot(2), pod("policy", "istio-mixer-type=policy", "10.0.0.9")]);
    assert_eq!(pilots(&index), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(
        desired(&index, "r1").services,
        [ServiceDesired {
            key: Key::endpoints(NAMESPACE, "istio-pilot"),
            addresses: 2
        }]
    );
}

#[test]
fn three_pods_of_which_one_restarts_go_three_two_three() {
    let mut index = one_remote(&[pilot(1), pilot(2), pilot(3)]);
    assert_eq!(pilots(&index).len(), 3);
    let terminating = PodView {
        terminating: true,
        ..pilot(2)
    };
    assert_eq!(index.pod_applied(terminating, 2), touched(&["r1"]));
    assert_eq!(pilots(&index), ["10.0.0.1", "10.0.0.3"]);
    let starting = PodView {
        ready: false,
        ..pilot(4)
    };
    assert_eq!(index.pod_applied(starting, 3), touched(&[]));
    assert_eq!(index.pod_deleted(NAMESPACE, "pilot-2", 110, 4), touched(&[]));
    assert_eq!(pilots(&index), ["10.0.0.1", "10.0.0.3"]);
    assert_eq!(index.pod_applied(pilot(4), 5), touched(&["r1"]));
    assert_eq!(pilots(&index), ["10.0.0.1", "10.0.0.3", "10.0.0.4"]);
}

#[test]
fn pod_that_is_not_ready_or_terminates_or_has_no_address_does_not_count() {
    let unready = PodView {
        ready: false,
        ..pilot(1)
    };
    let terminating = PodView {
        terminating: true,
        ..pilot(2)
    };
    let without_address = PodView {
        addresses: BTreeSet::new(),
        ..pilot(3)
    };
    let index = one_remote(&[unready, terminating, without_address]);
    assert_eq!(pilots(&index), [""; 0]);
}

#[test]
fn unready_then_deleted_pod_is_gone_after_the_first_event() {
    let mut index = one_remote(&[pilot(1), pilot(2)]);
    let unready = PodView {
        ready: false,
        ..pilot(2)
    };
    assert_eq!(index.pod_applied(unready, 2), touched(&["r1"]));
    assert_eq!(pilots(&index), ["10.0.0.1"]);
    assert_eq!(index.pod_deleted(NAMESPACE, "pilot-2", 120, 3), touched(&[]));
    assert_eq!(pilots(&index), ["10.0.0.1"]);
}

#[test]
fn deleted_pod_is_gone_without_any_other_event() {
    let mut index = one_remote(&[pilot(1), pilot(2)]);
    assert_eq!(index.pod_deleted(NAMESPACE, "pilot-1", 120, 3), touched(&["r1"]));
    assert_eq!(pilots(&index), ["10.0.0.2"]);
}

#[test]
fn service_without_ready_pods_is_sent_empty() {
    let mut index = one_remote(&[pilot(1)]);
    index.pod_deleted(NAMESPACE, "pilot-1", 120, 3);
    assert_eq!(pilots(&index), [""; 0]);
    assert_eq!(problems(&index, "r1"), []);
}

#[test]
fn labelled_pod_of_a_foreign_namespace_never_counts() {
    let mut index = one_remote(&[pilot(1)]);
    for namespace in ["other", "default"] {
        let foreign = PodView {
            namespace: namespace.to_owned(),
            ..pilot(66)
        };
        assert_eq!(index.pod_applied(foreign.clone(), 2), touched(&[]));
        assert_eq!(index.pods_listed(namespace, vec![foreign], 120, 3), touched(&[]));
    }
    let foreign = PodView {
        namespace: "other".to_owned(),
        ..pilot(66)
    };
    index.pods_listed(NAMESPACE, vec![pilot(1), foreign], 130, 4);
    assert_eq!(pilots(&index), ["10.0.0.1"]);
}

#[test]
fn all_address_families_of_a_pod_are_sent() {
    let both = PodView {
        addresses: ["10.0.0.1", "fd00::1"]
            .map(|text| text.parse().expect("an address"))
            .into(),
        ..pilot(1)
    };
    assert_eq!(pilots(&one_remote(&[both])), ["10.0.0.1", "fd00::1"]);
}

#[test]
fn relist_that_lost_pods_removes_them_and_touches_only_who_holds_them() {
    let remotes = [
        remote("r1", &[enabled("istio-pilot", "istio=pilot")]),
        remote("r2", &[enabled("zipkin", "app=jaeger")]),
    ];
    let mut index = index(
        &[pilot(1), pilot(2), pod("jaeger", "app=jaeger", "10.0.0.9")],
        &[],
        &remotes,
    );
    let listed = vec![pilot(2), pod("jaeger", "app=jaeger", "10.0.0.9")];
    assert_eq!(index.pods_listed(NAMESPACE, listed, 150, 2), touched(&["r1"]));
    assert_eq!(pilots(&index), ["10.0.0.2"]);
    assert_eq!(addresses(&index, "r2", "zipkin"), ["10.0.0.9"]);
}

#[test]
fn pod_whose_labels_change_leaves_one_service_for_another() {
    let services = [enabled("istio-pilot", "istio=pilot"), enabled("zipkin", "app=jaeger")];
    let mut index = index(&[pilot(1)], &[], &[remote("r1", &services)]);
    index.pod_applied(pod("pilot-1", "app=jaeger", "10.0.0.1"), 2);
    assert_eq!(pilots(&index), [""; 0]);
    assert_eq!(addresses(&index, "r1", "zipkin"), ["10.0.0.1"]);
}

#[test]
fn event_that_changes_nothing_touches_nobody_and_keeps_what_is_published() {
    let mut index = one_remote(&[pilot(1)]);
    let before = desired(&index, "r1");
    let newer = PodView {
        position: 170,
        ..pilot(1)
    };
    assert_eq!(index.pod_applied(newer, 2), touched(&[]));
    assert_eq!(index.pods_listed(NAMESPACE, vec![pilot(1)], 180, 3), touched(&[]));
    assert!(Arc::ptr_eq(&before, &desired(&index, "r1")));
}

#[test]
fn changed_set_carries_the_position_of_its_event_and_when_it_was_seen() {
    let mut index = one_remote(&[pilot(1)]);
    let key = Key::endpoints(NAMESPACE, "istio-pilot");
    let stamp = |index: &Index| object(index, "r1", &key).map(|object| (object.position, object.caused_at));
    assert_eq!(stamp(&index), Some((100, Some(1))));
    let second = PodView {
        position: 170,
        ..pilot(2)
    };
    index.pod_applied(second, 7);
    assert_eq!(stamp(&index), Some((170, Some(7))));
    index.pod_deleted(NAMESPACE, "pilot-2", 190, 8);
    assert_eq!(stamp(&index), Some((190, Some(8))));
    index.pods_reached(NAMESPACE, 300);
    assert_eq!(stamp(&index), Some((190, Some(8))));
    index.pod_deleted(NAMESPACE, "pilot-1", 250, 9);
    assert_eq!(stamp(&index), Some((300, Some(9))));
}

#[test]
fn equal_services_of_many_remotes_are_one_object() {
    let remotes = ["r1", "r2"].map(|name| remote(name, &[enabled("istio-pilot", "istio=pilot")]));
    let mut index = index(&[pilot(1)], &[], &remotes);
    assert_eq!(index.pod_applied(pilot(2), 2), touched(&["r1", "r2"]));
    let key = Key::endpoints(NAMESPACE, "istio-pilot");
    let objects = ["r1", "r2"].map(|remote| object(&index, remote, &key).expect("sent"));
    assert!(Arc::ptr_eq(&objects[0], &objects[1]));
}

#[test]
fn two_pods_on_one_address_are_one_endpoint() {
    let shared = pod("pilot-2", "istio=pilot", "10.0.0.1");
    let mut index = one_remote(&[pilot(1), shared]);
    assert_eq!(pilots(&index), ["10.0.0.1"]);
    assert_eq!(index.pod_deleted(NAMESPACE, "pilot-1", 120, 2), touched(&[]));
    assert_eq!(pilots(&index), ["10.0.0.1"]);
}
