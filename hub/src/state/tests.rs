use crate::crd::{EnabledService, RemoteIstioSpec};
use crate::index::{PodView, RemoteView, Settings};

use super::*;

const NAMESPACE: &str = "istio-system";

fn name(text: &str) -> RemoteName {
    RemoteName::new(text).expect("a DNS label")
}

fn remote(name: &str) -> RemoteView {
    let spec = RemoteIstioSpec {
        enabled_services: vec![EnabledService {
            name: "istio-pilot".to_owned(),
            label_selector: Some("istio=pilot".to_owned()),
            ..EnabledService::default()
        }],
        ..RemoteIstioSpec::default()
    };
    RemoteView::new(RemoteIstio::new(name, spec)).expect("a DNS label")
}

fn pilot() -> PodView {
    PodView {
        namespace: NAMESPACE.to_owned(),
        name: "pilot".to_owned(),
        labels: [("istio".to_owned(), "pilot".to_owned())].into(),
        ready: true,
        addresses: ["10.0.0.1".parse().expect("an address")].into(),
        ..PodView::default()
    }
}

/// No pods, no Services, one remote of each name.
fn state(names: &[&str]) -> Arc<State> {
    let state = State::new(Index::new(Settings {
        namespace: NAMESPACE.to_owned(),
        service_namespaces: [NAMESPACE.to_owned()].into(),
    }));
    state.update(|index| index.pods_listed(NAMESPACE, vec![], 1, 1));
    state.update(|index| index.services_listed(NAMESPACE, vec![], 1, 1));
    state.update(|index| index.remotes_listed(names.iter().map(|name| remote(name)).collect(), 1));
    state
}

/// A remote and the addresses sent to it.
type Seen = (RemoteName, Option<u32>);

fn sent(desired: Option<&Arc<Desired>>) -> Option<u32> {
    desired.map(|desired| desired.services.iter().map(|service| service.addresses).sum())
}

#[test]
fn follower_sees_what_is_there_and_then_each_change() {
    let state = state(&["r1"]);
    let mut followed = state.subscribe(&name("r1"));
    assert_eq!(sent(followed.borrow_and_update().as_ref()), Some(0));
    state.update(|index| index.pod_applied(pilot(), 2));
    assert!(followed.has_changed().expect("the state lives"));
    assert_eq!(sent(followed.borrow_and_update().as_ref()), Some(1));
    state.update(|index| index.remote_deleted(&name("r1")));
    assert_eq!(sent(followed.borrow_and_update().as_ref()), None);
    state.update(|index| index.remote_applied(remote("r1"), 3));
    assert_eq!(sent(followed.borrow_and_update().as_ref()), Some(1));
}

#[test]
fn follower_of_an_unknown_remote_sees_it_come() {
    let state = state(&[]);
    let mut followed = state.subscribe(&name("r1"));
    assert_eq!(sent(followed.borrow_and_update().as_ref()), None);
    state.update(|index| index.remote_applied(remote("r1"), 2));
    assert_eq!(sent(followed.borrow_and_update().as_ref()), Some(0));
}

#[test]
fn follower_is_not_woken_when_nothing_is_published_anew() {
    let state = state(&["r1"]);
    let mut followed = state.subscribe(&name("r1"));
    followed.mark_unchanged();
    let mut newer = RemoteIstio::clone(&remote("r1").object);
    newer.metadata.resource_version = Some("200".to_owned());
    state.update(|index| index.remote_applied(RemoteView::new(newer).expect("a DNS label"), 2));
    assert!(!followed.has_changed().expect("the state lives"));
    let object = state.remote_object(&name("r1")).expect("watched");
    assert_eq!(object.metadata.resource_version.as_deref(), Some("200"));
}

#[test]
fn hook_is_called_for_each_touched_remote_and_may_read_the_state() {
    let state = state(&["r1", "r2"]);
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let (weak, of_hook) = (Arc::downgrade(&state), Arc::clone(&seen));
    state.on_change(Box::new(move |remote| {
        let desired = weak.upgrade().and_then(|state| state.desired(remote));
        of_hook.lock().push((remote.clone(), sent(desired.as_ref())));
    }));
    state.update(|index| index.pod_applied(pilot(), 2));
    state.update(|index| index.pod_applied(pilot(), 3));
    assert_eq!(*seen.lock(), [(name("r1"), Some(1)), (name("r2"), Some(1))]);
}

#[test]
fn remotes_are_known_once_they_have_been_listed() {
    let state = State::new(Index::new(Settings {
        namespace: NAMESPACE.to_owned(),
        service_namespaces: [].into(),
    }));
    let known = state.remotes_known();
    assert!(!*known.borrow());
    state.update(|index| index.remotes_listed(vec![], 1));
    assert!(*known.borrow());
    assert_eq!(state.remote_names(), []);
}

#[test]
fn channel_of_a_remote_that_nobody_follows_is_forgotten() {
    let state = state(&["r1", "r2"]);
    drop(state.subscribe(&name("r1")));
    let _followed = state.subscribe(&name("r2"));
    let followed: Vec<RemoteName> = state.inner.lock().followed.keys().cloned().collect();
    assert_eq!(followed, [name("r2")]);
}
