use super::*;
use crate::crd::RELEASE_GUARD_ANNOTATION;

fn keys(index: &Index, remote: &str, of: Lane) -> Vec<String> {
    lane(index, remote, of).objects().keys().map(Key::to_string).collect()
}

fn fatal(reason: &'static str, field: &str) -> (&'static str, String, bool) {
    (reason, field.to_owned(), true)
}

#[test]
fn no_lane_is_published_before_every_watch_behind_it_has_listed_once() {
    let view = remote("r1", &[enabled("istio-pilot", "istio=pilot")]);
    let steps: [fn(&mut Index); 3] = [
        |index| {
            index.pods_listed(NAMESPACE, vec![], 100, 1);
        },
        |index| {
            index.services_listed(NAMESPACE, vec![], 100, 1);
        },
        |index| {
            index.remotes_listed(vec![remote("r1", &[enabled("istio-pilot", "istio=pilot")])], 1);
        },
    ];
    for last in 0..3 {
        let mut index = empty();
        index.remote_applied(view.clone(), 1);
        for step in (0..3).filter(|step| *step != last) {
            steps[step](&mut index);
        }
        assert_eq!(desired(&index, "r1").lanes, BTreeMap::new(), "without {last}");
        steps[last](&mut index);
        assert_eq!(
            keys(&index, "r1", Lane::Endpoints),
            ["endpoints/istio-system/istio-pilot"]
        );
        assert_eq!(keys(&index, "r1", Lane::Config), ["service/istio-system/istio-pilot"]);
    }
}

#[test]
fn list_that_a_lane_waited_for_touches_its_remotes() {
    let mut index = empty();
    index.remotes_listed(vec![remote("r1", &[enabled("istio-pilot", "istio=pilot")])], 1);
    index.services_listed(NAMESPACE, vec![], 100, 2);
    assert_eq!(index.pods_listed(NAMESPACE, vec![pilot(1)], 100, 3), touched(&["r1"]));
    assert_eq!(addresses(&index, "r1", "istio-pilot"), ["10.0.0.1"]);
}

#[test]
fn remote_waits_only_for_the_namespaces_it_uses() {
    let other = EnabledService {
        namespace: Some("other".to_owned()),
        ..enabled("zipkin", "app=jaeger")
    };
    let remotes = [
        remote("r1", &[enabled("istio-pilot", "istio=pilot")]),
        remote("r2", &[enabled("istio-pilot", "istio=pilot"), other]),
    ];
    let mut index = index(&[], &[], &remotes);
    assert!(desired(&index, "r1").lanes.contains_key(&Lane::Endpoints));
    assert_eq!(desired(&index, "r2").lanes, BTreeMap::new());
    index.pods_listed("other", vec![], 100, 2);
    assert_eq!(index.services_listed("other", vec![], 100, 2), touched(&["r2"]));
    assert_eq!(
        keys(&index, "r2", Lane::Endpoints),
        ["endpoints/istio-system/istio-pilot", "endpoints/other/zipkin"]
    );
}

#[test]
fn namespaces_to_inject_are_sent_on_the_config_lane() {
    let view = edited(&remote("r1", &[]), |object| {
        object.spec.auto_injection_namespaces = ["default", "kube-system", "A", "shop"].map(str::to_owned).into();
    });
    let index = index(&[], &[], &[view]);
    assert_eq!(
        keys(&index, "r1", Lane::Config),
        ["injection/default", "injection/shop"]
    );
    assert_eq!(keys(&index, "r1", Lane::Endpoints), [""; 0]);
    assert_eq!(
        problems(&index, "r1"),
        [
            fatal("NamespaceForbidden", "spec.autoInjectionNamespaces[1]"),
            fatal("InvalidName", "spec.autoInjectionNamespaces[2]")
        ]
    );
}

#[test]
fn invalid_selector_of_a_stored_object_is_its_own_problem_and_the_others_go_on() {
    let services = [enabled("istio-pilot", "istio pilot"), enabled("zipkin", "app=jaeger")];
    let good = remote("r2", &[enabled("istio-pilot", "istio=pilot")]);
    let mut index = index(&[pilot(1)], &[], &[remote("r1", &services), good]);
    assert_eq!(
        problems(&index, "r1"),
        [fatal("InvalidSelector", "spec.enabledServices[0].labelSelector")]
    );
    assert_eq!(keys(&index, "r1", Lane::Endpoints), ["endpoints/istio-system/zipkin"]);
    assert_eq!(
        index.pod_applied(pod("jaeger", "app=jaeger", "10.0.0.9"), 2),
        touched(&["r1"])
    );
    assert_eq!(addresses(&index, "r1", "zipkin"), ["10.0.0.9"]);
    assert_eq!(addresses(&index, "r2", "istio-pilot"), ["10.0.0.1"]);
}

#[test]
fn selector_that_becomes_invalid_leaves_the_service_as_it_was_read_last() {
    let good = remote("r1", &[enabled("istio-pilot", "istio=pilot")]);
    let mut index = index(&[pilot(1)], &[], std::slice::from_ref(&good));
    let before = lane(&index, "r1", Lane::Endpoints);
    let bad = edited(&good, |object| {
        object.spec.enabled_services[0].label_selector = Some("istio in".to_owned());
    });
    assert_eq!(index.remote_applied(bad.clone(), 2), touched(&["r1"]));
    assert!(Arc::ptr_eq(&before, &lane(&index, "r1", Lane::Endpoints)));
    index.pod_applied(pilot(2), 3);
    assert_eq!(addresses(&index, "r1", "istio-pilot"), ["10.0.0.1", "10.0.0.2"]);
    let gone = edited(&bad, |object| object.spec.enabled_services.clear());
    index.remote_applied(gone, 4);
    assert_eq!(keys(&index, "r1", Lane::Endpoints), [""; 0]);
    assert_eq!(problems(&index, "r1"), []);
}

#[test]
fn object_that_cannot_be_read_goes_on_as_it_was_read_last() {
    let good = remote("r1", &[enabled("istio-pilot", "istio=pilot")]);
    let mut index = index(&[pilot(1)], &[], std::slice::from_ref(&good));
    let mut broken = edited(&good, |object| object.spec = RemoteIstioSpec::default());
    broken.broken = Some("missing field `enabledServices`".to_owned());
    assert_eq!(index.remote_applied(broken, 2), touched(&["r1"]));
    assert_eq!(problems(&index, "r1"), [fatal("InvalidSpec", "spec")]);
    index.pod_applied(pilot(2), 3);
    assert_eq!(addresses(&index, "r1", "istio-pilot"), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(index.remote_applied(good, 4), touched(&["r1"]));
    assert_eq!(problems(&index, "r1"), []);
}

#[test]
fn object_that_never_could_be_read_is_sent_nothing_and_holds_nobody_up() {
    let broken = RemoteView {
        broken: Some("missing field `enabledServices`".to_owned()),
        ..remote("r1", &[])
    };
    let good = remote("r2", &[enabled("istio-pilot", "istio=pilot")]);
    let index = index(&[pilot(1)], &[], &[broken, good]);
    assert_eq!(desired(&index, "r1").lanes, BTreeMap::new());
    assert_eq!(problems(&index, "r1"), [fatal("InvalidSpec", "spec")]);
    assert_eq!(addresses(&index, "r2", "istio-pilot"), ["10.0.0.1"]);
}

#[test]
fn remote_being_deleted_is_sent_explicit_emptiness_that_passes_the_guard() {
    let view = remote("r1", &[enabled("istio-pilot", "istio=pilot")]);
    let mut index = index(&[pilot(1)], &[], std::slice::from_ref(&view));
    assert_eq!(index.remote_applied(deleting(&view), 2), touched(&["r1"]));
    assert_eq!(withdrawn(&mut index, "r1"), touched(&["r1"]));
    let published = desired(&index, "r1");
    assert!(published.deleting);
    for lane in published.lanes.values() {
        assert_eq!((lane.objects().len(), lane.released()), (0, true));
    }
    assert_eq!(published.lanes.len(), 2);
    assert_eq!(index.pod_applied(pilot(2), 3), touched(&[]));
    assert_eq!(index.remote_deleted(&view.remote), touched(&["r1"]));
    assert_eq!(index.desired(&view.remote), None);
}

#[test]
fn remote_created_anew_under_the_same_name_inherits_nothing() {
    let view = remote("r1", &[enabled("istio-pilot", "istio=pilot")]);
    let mut index = index(&[pilot(1)], &[], std::slice::from_ref(&view));
    let anew = edited(&view, |object| {
        object.metadata.uid = Some("another".to_owned());
        object.spec.enabled_services[0].label_selector = Some("istio in".to_owned());
    });
    assert_eq!(index.remotes_listed(vec![anew], 2), touched(&["r1"]));
    assert_eq!(desired(&index, "r1").uid, "another");
    assert_eq!(keys(&index, "r1", Lane::Endpoints), [""; 0]);
}

#[test]
fn relist_that_lost_a_remote_forgets_it() {
    let remotes = ["r1", "r2"].map(|name| remote(name, &[enabled("istio-pilot", "istio=pilot")]));
    let mut index = index(&[pilot(1)], &[], &remotes);
    assert_eq!(index.remotes_listed(vec![remotes[1].clone()], 2), touched(&["r1"]));
    assert_eq!(index.remote_names().collect::<Vec<_>>(), [&name("r2")]);
    assert_eq!(index.pod_applied(pilot(2), 3), touched(&["r2"]));
}

#[test]
fn release_of_this_generation_lets_removals_through_the_guard() {
    let view = remote("r1", &[enabled("istio-pilot", "istio=pilot")]);
    let mut index = index(&[], &[], std::slice::from_ref(&view));
    assert!(!lane(&index, "r1", Lane::Endpoints).released());
    let annotated = |generation: i64, text: &str| {
        edited(&view, |object| {
            object.metadata.generation = Some(generation);
            object.metadata.annotations = Some([(RELEASE_GUARD_ANNOTATION.to_owned(), text.to_owned())].into());
        })
    };
    for (generation, text, released) in [(1, "1", true), (2, "1", false), (2, "2", true), (2, "yes", false)] {
        index.remote_applied(annotated(generation, text), 2);
        assert_eq!(
            lane(&index, "r1", Lane::Endpoints).released(),
            released,
            "{generation} {text}"
        );
        assert_eq!(
            lane(&index, "r1", Lane::Config).released(),
            released,
            "{generation} {text}"
        );
    }
}

#[test]
fn entries_that_cannot_be_carried_out_are_named_and_left_out() {
    let with = |edit: fn(&mut EnabledService)| {
        let mut service = enabled("a", "a=b");
        edit(&mut service);
        service
    };
    let services = [
        enabled("a", "a=b"),
        enabled("a", "a=c"),
        with(|service| service.name = "A.b".to_owned()),
        with(|service| service.namespace = Some("foreign".to_owned())),
        with(|service| {
            service.name = "p".to_owned();
            service.ports = vec![ServicePort::default()];
        }),
    ];
    let index = index(&[], &[], &[remote("r1", &services)]);
    assert_eq!(
        problems(&index, "r1"),
        [
            fatal("DuplicateService", "spec.enabledServices[1]"),
            fatal("InvalidName", "spec.enabledServices[2].name"),
            fatal("NamespaceNotServed", "spec.enabledServices[3].namespace"),
            fatal("InvalidPort", "spec.enabledServices[4].ports[0]"),
        ]
    );
    assert_eq!(keys(&index, "r1", Lane::Endpoints), ["endpoints/istio-system/a"]);
}

#[test]
fn edit_of_one_remote_stamps_what_changes_for_it_and_leaves_the_others_alone() {
    let services = [enabled("istio-pilot", "istio=pilot"), enabled("zipkin", "app=jaeger")];
    let remotes = [remote("r1", &services[..1]), remote("r2", &services)];
    let mut index = index(&[pilot(1)], &[], &remotes);
    let caused_at = |index: &Index, remote: &str, service: &str| {
        object(index, remote, &Key::endpoints(NAMESPACE, service)).and_then(|object| object.caused_at)
    };
    let more = edited(&remotes[0], |object| object.spec.enabled_services = services.to_vec());
    assert_eq!(index.remote_applied(more, 9), touched(&["r1"]));
    assert_eq!(caused_at(&index, "r1", "zipkin"), Some(9));
    assert_eq!(caused_at(&index, "r1", "istio-pilot"), Some(1));
    assert_eq!(caused_at(&index, "r2", "zipkin"), Some(1));
}

#[test]
fn change_of_status_alone_touches_the_remote_and_keeps_what_is_published() {
    let view = remote("r1", &[enabled("istio-pilot", "istio=pilot")]);
    let mut index = index(&[pilot(1)], &[], std::slice::from_ref(&view));
    let before = desired(&index, "r1");
    assert_eq!(index.remote_applied(view.clone(), 2), touched(&[]));
    let mut object = RemoteIstio::clone(&view.object);
    object.metadata.resource_version = Some("200".to_owned());
    let newer = RemoteView {
        object: Arc::new(object),
        ..view
    };
    assert_eq!(index.remote_applied(newer, 3), touched(&["r1"]));
    assert!(Arc::ptr_eq(&before, &desired(&index, "r1")));
    let object = index.remote_object(&name("r1")).expect("as watched");
    assert_eq!(object.metadata.resource_version.as_deref(), Some("200"));
}
