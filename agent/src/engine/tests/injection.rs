//! Labels of namespaces.

use super::*;

fn key() -> Key {
    Key::injection("default")
}

fn injected() -> Bench {
    let mut bench = Bench::connected();
    inject(&mut bench);
    bench
}

fn inject(bench: &mut Bench) {
    bench.send(&[(key(), Arc::new(Object::new(1, None, Body::Injection)))], &[]);
    bench.pass(5);
}

fn labels(bench: &Bench) -> BTreeMap<String, String> {
    match &bench.remote.objects[&names::namespace("default")] {
        Resource::Namespace(namespace) => namespace.labels.clone(),
        other => panic!("{other:?}"),
    }
}

fn set_label(bench: &mut Bench, label: &str, value: Option<&str>, owned: bool) {
    let Resource::Namespace(mut namespace) = bench.remote.objects[&names::namespace("default")].clone() else {
        panic!()
    };
    match value {
        Some(value) => drop(namespace.labels.insert(label.to_owned(), value.to_owned())),
        None => drop(namespace.labels.remove(label)),
    }
    if !owned {
        namespace.owned_labels.remove(label);
    }
    bench.remote.put(Resource::Namespace(namespace));
}

#[test]
fn namespace_gets_both_labels_and_loses_them_again() {
    let mut bench = injected();
    let expected = [(names::INJECTION, "enabled"), (names::MANAGED_INJECTION, "enabled")];
    assert_eq!(
        labels(&bench),
        expected
            .map(|(label, value)| (label.to_owned(), value.to_owned()))
            .into()
    );
    assert_eq!(bench.told_state(&key()), Some(ApplyState::Applied));
    bench.send(&[], &[key()]);
    bench.pass(5);
    assert_eq!(labels(&bench), BTreeMap::new());
    assert_eq!(bench.told_state(&key()), Some(ApplyState::Removed));
    assert_eq!(bench.remote.names(Kind::ConfigMap), Vec::<String>::new());
}

#[test]
fn label_that_the_user_set_himself_stays_when_the_namespace_leaves_the_list() {
    let mut bench = Bench::connected();
    set_label(&mut bench, names::INJECTION, Some("enabled"), false);
    set_label(
        &mut bench,
        &format!("user-set-{}", names::INJECTION),
        Some("yes"),
        false,
    );
    inject(&mut bench);
    assert_eq!(bench.told_state(&key()), Some(ApplyState::Applied));
    bench.send(&[], &[key()]);
    bench.pass(5);
    assert_eq!(
        labels(&bench).get(names::INJECTION).map(String::as_str),
        Some("enabled")
    );
    assert_eq!(labels(&bench).get(names::MANAGED_INJECTION), None);
}

#[test]
fn a_users_other_word_wins_and_our_labels_are_given_up() {
    let mut bench = injected();
    set_label(&mut bench, names::INJECTION, Some("disabled"), false);
    bench.pass(60);
    assert_eq!(
        labels(&bench),
        [(names::INJECTION.to_owned(), "disabled".to_owned())].into()
    );
    let told = bench.told(&key()).unwrap();
    assert_eq!(told.state, ApplyState::UserDecided);
    assert!(told.detail.contains("disabled"), "{}", told.detail);
    set_label(&mut bench, names::INJECTION, None, false);
    bench.pass(5);
    assert_eq!(labels(&bench).len(), 2);
    assert_eq!(bench.told_state(&key()), Some(ApplyState::Applied));
}

#[test]
fn another_managers_label_is_not_forced() {
    let mut bench = Bench::connected();
    set_label(&mut bench, names::MANAGED_INJECTION, Some("other"), false);
    inject(&mut bench);
    assert_eq!(bench.told_state(&key()), Some(ApplyState::UserDecided));
    assert_eq!(
        labels(&bench),
        [(names::MANAGED_INJECTION.to_owned(), "other".to_owned())].into()
    );
    set_label(&mut bench, names::MANAGED_INJECTION, None, false);
    bench.settle();
    assert_eq!(bench.told_state(&key()), Some(ApplyState::Applied));
}

#[test]
fn removed_label_is_restored() {
    let mut bench = injected();
    set_label(&mut bench, names::INJECTION, None, false);
    bench.settle();
    assert_eq!(labels(&bench).len(), 2);
    assert_eq!(bench.engine.statistics().drift_repaired, 1);
}

#[test]
fn missing_namespace_is_never_created_and_labelled_once_it_is_there() {
    let mut bench = Bench::connected();
    bench.remote.delete(&names::namespace("default"));
    inject(&mut bench);
    assert_eq!(bench.told_state(&key()), Some(ApplyState::NamespaceMissing));
    assert!(!bench.remote.objects.contains_key(&names::namespace("default")));
    bench.remote.add_namespace("default", &[]);
    bench.settle();
    assert_eq!(labels(&bench).len(), 2);
    assert_eq!(bench.told_state(&key()), Some(ApplyState::Applied));
}
