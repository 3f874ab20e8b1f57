use k8s_openapi::api::rbac::v1::{RoleRef, Subject};

use super::*;

fn binding(kind: &str, namespace: &str, role: &str) -> ClusterRoleBinding {
    let subject = Subject {
        kind: kind.to_owned(),
        name: "istio-citadel-service-account".to_owned(),
        namespace: Some(namespace.to_owned()),
        ..Subject::default()
    };
    ClusterRoleBinding {
        subjects: Some(vec![subject]),
        role_ref: RoleRef {
            kind: "ClusterRole".to_owned(),
            name: role.to_owned(),
            ..RoleRef::default()
        },
        ..ClusterRoleBinding::default()
    }
}

#[test]
fn binding_counts_only_for_the_account_of_this_namespace_and_the_role() {
    let names = names(Component::Citadel).expect("it runs pods");
    let role = "istio-citadel-cluster-role";
    for (binding, expected) in [
        (binding("ServiceAccount", "istio-system", role), true),
        (binding("ServiceAccount", "other", role), false),
        (binding("User", "istio-system", role), false),
        (binding("ServiceAccount", "istio-system", "view"), false),
        (ClusterRoleBinding::default(), false),
    ] {
        assert_eq!(binds(&binding, "istio-system", &names), expected, "{binding:?}");
    }
}

#[test]
fn binding_of_another_namespace_is_to_the_role_of_that_namespace() {
    let names = names(Component::Citadel).expect("it runs pods");
    let to = |role| binds(&binding("ServiceAccount", "other", role), "other", &names);
    assert!(to("istio-citadel-cluster-role-other"));
    assert!(!to("istio-citadel-cluster-role"));
}

#[test]
fn roles_and_bindings_of_two_namespaces_do_not_collide() {
    let names = names(Component::Citadel).expect("it runs pods");
    assert_eq!(names.role("istio-system"), "istio-citadel-cluster-role");
    assert_eq!(names.role("other"), "istio-citadel-cluster-role-other");
    assert_eq!(names.binding("istio-system"), "istio-citadel-cluster-role-binding");
    assert_eq!(names.binding("other"), "istio-citadel-cluster-role-binding-other");
}

#[test]
fn only_components_with_pods_have_roles() {
    let with_roles = Component::ALL
        .into_iter()
        .filter(|component| names(*component).is_some());
    assert_eq!(
        with_roles.collect::<Vec<_>>(),
        [Component::Citadel, Component::Injector]
    );
}

/// What the manifest makes is what is looked for.
#[test]
fn names_are_those_of_the_manifest() {
    let manifest = include_str!("../../../deploy/roles/components.yaml");
    for component in [Component::Citadel, Component::Injector] {
        let names = names(component).expect("it runs pods");
        for name in [names.account, names.role, names.binding] {
            assert!(
                manifest.contains(&format!("  name: {name}\n")),
                "{name} is not in the manifest"
            );
        }
    }
}
