use super::*;
use crate::crd::DeletionPolicy;
use crate::lifecycle::{Hold, Tombstone};

fn tombstone(uid: &str, deletion_policy: DeletionPolicy) -> Tombstone {
    Tombstone {
        uid: uid.to_owned(),
        generation: 3,
        deletion_policy,
        cluster_uid: "c1".to_owned(),
        at: String::new(),
        replica: "hub-0".to_owned(),
        keys: Vec::new(),
        further_keys: 0,
    }
}

fn tombstones(uid: &str, policy: DeletionPolicy) -> BTreeMap<RemoteName, Tombstone> {
    [(name("r1"), tombstone(uid, policy))].into()
}

fn pilot_remote() -> RemoteView {
    remote("r1", &[enabled("istio-pilot", "istio=pilot")])
}

fn paused(view: &RemoteView, paused: bool) -> RemoteView {
    edited(view, |object| object.spec.paused = Some(paused))
}

/// Of each lane: how many objects, whether released, whether orphaned.
fn lanes(index: &Index) -> [(usize, bool, bool); 2] {
    Lane::ALL.map(|of| {
        let lane = lane(index, "r1", of);
        (lane.objects().len(), lane.released(), lane.orphaned())
    })
}

#[test]
fn deleted_remote_is_removed_or_orphaned_as_its_spec_says() {
    for (policy, orphaned) in [
        (None, false),
        (Some(DeletionPolicy::Delete), false),
        (Some(DeletionPolicy::Orphan), true),
    ] {
        let view = edited(&pilot_remote(), |object| object.spec.deletion_policy = policy);
        let mut index = index(&[pilot(1)], &[], std::slice::from_ref(&view));
        assert_eq!(
            lanes(&index),
            [(1, false, false), (1, false, false)],
            "orphans nothing while it lives"
        );
        index.remote_applied(deleting(&view), 2);
        withdrawn(&mut index, "r1");
        withdrawn(&mut index, "r1");
        assert_eq!(lanes(&index), [(0, true, orphaned); 2], "{policy:?}");
    }
}

#[test]
fn deleted_remote_goes_on_as_before_until_it_is_ruled_that_it_is_withdrawn() {
    let view = pilot_remote();
    let mut index = index(&[pilot(1)], &[], std::slice::from_ref(&view));
    let before = Lane::ALL.map(|of| lane(&index, "r1", of));
    index.remote_applied(deleting(&view), 2);
    assert_eq!(desired(&index, "r1").deletion, Some(Ruling::Settling));
    let held = Ruling::Held(Hold::DefinitionEnds);
    assert_eq!(index.rulings(ruled("r1", held.clone()), 3), touched(&["r1"]));
    let published = desired(&index, "r1");
    assert_eq!((published.deleting, &published.deletion), (false, &Some(held.clone())));
    for (of, before) in Lane::ALL.into_iter().zip(&before) {
        assert!(Arc::ptr_eq(before, &lane(&index, "r1", of)), "{of}");
    }
    index.pod_applied(pilot(2), 4);
    assert_eq!(
        addresses(&index, "r1", "istio-pilot"),
        ["10.0.0.1", "10.0.0.2"],
        "stale helps nobody"
    );
    assert_eq!(index.rulings(ruled("r1", held), 5), touched(&[]));
    withdrawn(&mut index, "r1");
    assert_eq!(lanes(&index), [(0, true, false); 2]);
}

#[test]
fn ruling_is_for_the_resource_of_one_uid_alone() {
    let view = pilot_remote();
    let mut index = index(&[pilot(1)], &[], std::slice::from_ref(&view));
    index.remote_applied(deleting(&view), 2);
    withdrawn(&mut index, "r1");
    let anew = edited(&view, |object| object.metadata.uid = Some("another".to_owned()));
    index.remote_applied(deleting(&anew), 4);
    assert_eq!(desired(&index, "r1").deletion, Some(Ruling::Settling));
    assert_eq!(lane(&index, "r1", Lane::Config).objects().len(), 1);
}

#[test]
fn kept_remote_is_sent_nothing_that_changes() {
    let view = pilot_remote();
    let mut index = index(&[pilot(1)], &[], std::slice::from_ref(&view));
    index.remote_applied(deleting(&view), 2);
    index.rulings(ruled("r1", Ruling::Kept), 3);
    index.pod_applied(pilot(2), 4);
    assert_eq!(addresses(&index, "r1", "istio-pilot"), ["10.0.0.1"]);
    assert!(!desired(&index, "r1").deleting);
    // A hub that starts now knows of nothing that it was sent.
    let mut index = empty();
    index.rulings(ruled("r1", Ruling::Kept), 1);
    index.remotes_listed(vec![deleting(&view)], 2);
    assert_eq!(desired(&index, "r1").lanes, BTreeMap::new());
}

#[test]
fn change_of_mind_while_it_is_deleted_counts() {
    let view = pilot_remote();
    let mut index = index(&[pilot(1)], &[], std::slice::from_ref(&view));
    index.remote_applied(deleting(&view), 2);
    withdrawn(&mut index, "r1");
    let changed = edited(&deleting(&view), |object| {
        object.spec.deletion_policy = Some(DeletionPolicy::Orphan);
    });
    assert_eq!(index.remote_applied(changed, 3), touched(&["r1"]));
    assert_eq!(lanes(&index), [(0, true, true); 2]);
}

#[test]
fn paused_remote_keeps_what_it_was_sent_whatever_happens_on_central() {
    let view = pilot_remote();
    let mut index = index(&[pilot(1)], &[], std::slice::from_ref(&view));
    let before = Lane::ALL.map(|of| lane(&index, "r1", of));
    let more = edited(&paused(&view, true), |object| {
        object.spec.enabled_services = vec![enabled("zipkin", "app=jaeger")];
        object.spec.auto_injection_namespaces = vec!["default".to_owned()];
    });
    assert_eq!(index.remote_applied(more.clone(), 2), touched(&["r1"]));
    index.pod_applied(pilot(2), 3);
    index.pod_applied(pod("jaeger", "app=jaeger", "10.0.0.9"), 4);
    for (of, before) in Lane::ALL.into_iter().zip(&before) {
        assert!(Arc::ptr_eq(before, &lane(&index, "r1", of)), "{of}");
    }
    assert_eq!(
        desired(&index, "r1").generation,
        more.object.metadata.generation.expect("some")
    );

    index.remote_applied(paused(&more, false), 5);
    let held = lane(&index, "r1", Lane::Endpoints);
    assert_eq!(
        held.objects().keys().collect::<Vec<_>>(),
        [&Key::endpoints(NAMESPACE, "zipkin")]
    );
    assert_eq!(addresses(&index, "r1", "zipkin"), ["10.0.0.9"]);
}

#[test]
fn hub_that_starts_while_a_remote_is_paused_sends_nothing_until_it_goes_on() {
    let view = paused(&pilot_remote(), true);
    let mut index = index(&[pilot(1)], &[], std::slice::from_ref(&view));
    assert_eq!(desired(&index, "r1").lanes, BTreeMap::new());
    index.pod_applied(pilot(2), 2);
    assert_eq!(desired(&index, "r1").lanes, BTreeMap::new());
    index.remote_applied(paused(&view, false), 3);
    assert_eq!(addresses(&index, "r1", "istio-pilot"), ["10.0.0.1", "10.0.0.2"]);
}

#[test]
fn paused_remote_that_is_deleted_is_cleared() {
    let view = paused(&pilot_remote(), true);
    let mut index = index(&[pilot(1)], &[], std::slice::from_ref(&view));
    index.remote_applied(deleting(&view), 2);
    withdrawn(&mut index, "r1");
    assert_eq!(lanes(&index), [(0, true, false); 2]);
}

#[test]
fn paused_remote_that_cannot_be_read_stays_paused() {
    let good = pilot_remote();
    let mut index = index(&[pilot(1)], &[], std::slice::from_ref(&good));
    index.remote_applied(paused(&good, true), 2);
    let mut broken = edited(&good, |object| object.spec = RemoteIstioSpec::default());
    broken.broken = Some("no".to_owned());
    index.remote_applied(broken, 3);
    index.pod_applied(pilot(2), 4);
    assert_eq!(addresses(&index, "r1", "istio-pilot"), ["10.0.0.1"]);
}

#[test]
fn remote_that_was_let_go_is_told_to_let_go_once_it_is_known_that_no_new_one_stands() {
    let mut index = empty();
    for (policy, orphaned) in [(DeletionPolicy::Delete, false), (DeletionPolicy::Orphan, true)] {
        let told = index.tombstones(tombstones("u1", policy));
        assert_eq!(told, touched(&["r1"]));
        if !orphaned {
            assert_eq!(index.desired(&name("r1")), None, "there may be a new one");
            assert_eq!(index.remotes_listed(Vec::new(), 1), touched(&["r1"]));
        }
        let desired = desired(&index, "r1");
        assert_eq!(
            (desired.uid.as_str(), desired.generation, desired.deleting),
            ("u1", 3, true)
        );
        assert_eq!(lanes(&index), [(0, true, orphaned); 2]);
    }
    let before = desired(&index, "r1");
    assert_eq!(index.tombstones(tombstones("u1", DeletionPolicy::Orphan)), touched(&[]));
    assert!(Arc::ptr_eq(&before, &desired(&index, "r1")));
    assert_eq!(index.tombstones(BTreeMap::new()), touched(&["r1"]));
    assert_eq!(
        index.desired(&name("r1")),
        None,
        "whoever takes it away leaves the remote with what it has"
    );
}

#[test]
fn new_remote_of_the_name_is_sent_its_own_state_and_what_the_old_one_had_beside_goes() {
    for (policy, orphaned) in [(DeletionPolicy::Delete, false), (DeletionPolicy::Orphan, true)] {
        let view = pilot_remote();
        let mut index = index(&[pilot(1)], &[], &[]);
        index.tombstones(tombstones("of the old one", policy));
        index.remote_applied(view.clone(), 2);
        assert_eq!(desired(&index, "r1").tombstone, None);
        assert_eq!(lanes(&index), [(1, true, orphaned); 2], "released once");
        assert_eq!(index.tombstones(BTreeMap::new()), touched(&["r1"]));
        assert_eq!(lanes(&index), [(1, false, false); 2], "never again");
        assert_eq!(index.tombstones(tombstones("of the old one", policy)), touched(&["r1"]));
        assert_eq!(
            lanes(&index),
            [(1, true, orphaned); 2],
            "also where the tombstone is seen later"
        );
    }
}

#[test]
fn guard_is_back_once_the_agent_holds_the_new_remote_though_the_tombstone_still_stands() {
    let view = pilot_remote();
    let mut index = index(&[pilot(1)], &[], std::slice::from_ref(&view));
    let tombstones = tombstones("of the old one", DeletionPolicy::Orphan);
    index.tombstones(tombstones.clone());
    let told = desired(&index, "r1").problems.clone();
    assert!(
        matches!(told.as_slice(), [told] if !told.fatal && told.message.starts_with("RemoteIstio of the old one of this name")
            && told.message.ends_with("removals back, and what is removed is let go of, not deleted")),
        "{told:?}"
    );
    assert_eq!(index.replaced(&name("r1"), "of another"), touched(&[]));
    assert_eq!(lanes(&index), [(1, true, true); 2]);
    assert_eq!(index.replaced(&name("r1"), "of the old one"), touched(&["r1"]));
    index.remote_applied(view, 3);
    index.tombstones(tombstones);
    assert_eq!(lanes(&index), [(1, false, false); 2], "also after events of either");
    assert_eq!(desired(&index, "r1").problems, []);
}

#[test]
fn tombstone_of_the_remote_itself_changes_nothing_while_it_stands() {
    let view = pilot_remote();
    let mut index = index(&[pilot(1)], &[], std::slice::from_ref(&view));
    let before = desired(&index, "r1");
    assert_eq!(
        index.tombstones(tombstones("uid-r1", DeletionPolicy::Orphan)),
        touched(&[])
    );
    assert!(Arc::ptr_eq(&before, &desired(&index, "r1")));
    assert_eq!(index.remote_deleted(&name("r1")), touched(&["r1"]));
    assert_eq!(lanes(&index), [(0, true, true); 2]);
}
