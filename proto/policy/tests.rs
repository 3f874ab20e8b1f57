use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::model::{Body, Component, Endpoint, EndpointSet, Key, ServiceIntent};
use crate::wire::v1;

const OWN: &str = "istio-system";

fn policy() -> Policy {
    Policy {
        components: Runs::ALL.into(),
        namespaces: BTreeSet::from([OWN.to_owned(), "shop".to_owned()]),
        endpoint_ranges: BTreeSet::new(),
        refused_ranges: ["10.96.0.0/12", "172.18.0.2"].map(|text| text.parse().unwrap()).into(),
        ..Policy::default()
    }
}

fn endpoints(address: &str) -> Body {
    Body::Endpoints(EndpointSet {
        endpoints: BTreeMap::from([(address.parse().unwrap(), Endpoint::ready())]),
        port_sets: vec![],
    })
}

fn service() -> Body {
    Body::Service(ServiceIntent::default())
}

fn citadel(image: &str) -> Body {
    Body::Citadel(Box::new(v1::Citadel {
        workload: Some(v1::Workload {
            image: image.to_owned(),
            ..v1::Workload::default()
        }),
    }))
}

fn injector(proxy: v1::Proxy) -> Body {
    Body::Injector(Box::new(v1::SidecarInjector {
        proxy: Some(proxy),
        ..v1::SidecarInjector::default()
    }))
}

fn component(component: Component) -> Key {
    Key::component(component, OWN)
}

/// The rule that is broken, if any is.
fn rule(policy: &Policy, key: &Key, body: &Body) -> Option<&'static str> {
    policy.judge(OWN, key, body).err().map(|refusal| refusal.rule)
}

#[test]
fn nothing_is_run_and_no_service_written_where_nothing_is_said() {
    let policy = Policy::default();
    for (key, body, expected) in [
        (
            component(Component::Citadel),
            citadel(""),
            Some("component-not-allowed"),
        ),
        (
            component(Component::Injector),
            injector(v1::Proxy::default()),
            Some("component-not-allowed"),
        ),
        (
            component(Component::Mesh),
            Body::Mesh(v1::MeshConfig::default()),
            Some("component-not-allowed"),
        ),
        (
            component(Component::Trust),
            Body::Trust(v1::MeshTrust::default()),
            Some("component-not-allowed"),
        ),
        (component(Component::Rules), Body::Rules(v1::Rules::default()), None),
        (Key::service("shop", "a"), service(), Some("namespace-not-allowed")),
        (Key::injection("shop"), Body::Injection, None),
    ] {
        assert_eq!(rule(&policy, &key, &body), expected, "{key}");
    }
}

#[test]
fn components_are_run_where_they_are_allowed_and_nowhere_but_in_the_agents_namespace() {
    let citadel_only = Policy {
        components: BTreeSet::from([Runs::Citadel]),
        ..policy()
    };
    for (component, body, expected) in [
        (Component::Citadel, citadel(""), None),
        (Component::Trust, Body::Trust(v1::MeshTrust::default()), None),
        (Component::Mesh, Body::Mesh(v1::MeshConfig::default()), None),
        (
            Component::Injector,
            injector(v1::Proxy::default()),
            Some("component-not-allowed"),
        ),
    ] {
        let key = Key::component(component, OWN);
        assert_eq!(rule(&citadel_only, &key, &body), expected, "{key}");
        let elsewhere = Key::component(component, "shop");
        assert_eq!(rule(&policy(), &elsewhere, &body), Some("component-namespace"));
    }
}

#[test]
fn key_and_content_must_be_of_one_kind() {
    for (key, body) in [
        (component(Component::Rules), citadel("")),
        (component(Component::Mesh), injector(v1::Proxy::default())),
        (Key::service("shop", "a"), Body::Injection),
        (Key::endpoints("shop", "a"), service()),
    ] {
        assert_eq!(rule(&policy(), &key, &body), Some("content-mismatch"), "{key}");
    }
}

#[test]
fn images_outside_of_the_registries_are_refused_and_so_is_the_default_where_it_is_not_allowed() {
    let only_ours = Policy {
        image_registries: BTreeSet::from(["registry.example/istio".to_owned()]),
        ..policy()
    };
    let proxy = |image: &str, init_image: &str| {
        injector(v1::Proxy {
            image: image.to_owned(),
            init_image: init_image.to_owned(),
            ..v1::Proxy::default()
        })
    };
    let (citadel_key, injector_key) = (component(Component::Citadel), component(Component::Injector));
    for (policy, key, body, expected) in [
        (policy(), &citadel_key, citadel("istio/citadel:1.0.5"), None),
        (
            policy(),
            &citadel_key,
            citadel("evil/citadel:1"),
            Some("image-registry"),
        ),
        (policy(), &citadel_key, citadel("istio/../evil"), Some("image-name")),
        (policy(), &injector_key, proxy("evil/proxy", ""), Some("image-registry")),
        (policy(), &injector_key, proxy("", "evil/init"), Some("image-registry")),
        (policy(), &injector_key, proxy("", ""), None),
        (only_ours.clone(), &citadel_key, citadel(""), Some("image-registry")),
        (
            only_ours,
            &citadel_key,
            citadel("registry.example/istio/citadel:1"),
            None,
        ),
    ] {
        assert_eq!(rule(&policy, key, &body), expected, "{body:?}");
    }
}

#[test]
fn privileged_sidecars_are_refused_unless_allowed() {
    let privileged = injector(v1::Proxy {
        privileged: true,
        ..v1::Proxy::default()
    });
    let key = component(Component::Injector);
    assert_eq!(rule(&policy(), &key, &privileged), Some("privileged-proxy"));
    let allows = Policy {
        privileged_proxy: true,
        ..policy()
    };
    assert_eq!(rule(&allows, &key, &privileged), None);
}

#[test]
fn addresses_that_are_never_endpoints_are_refused_each_by_its_rule() {
    let key = Key::endpoints("shop", "a");
    for (address, expected) in [
        ("127.0.0.1", "address-loopback"),
        ("::1", "address-loopback"),
        ("0.0.0.0", "address-unspecified"),
        ("0.1.2.3", "address-unspecified"),
        ("::", "address-unspecified"),
        ("169.254.169.254", "address-link-local"),
        ("fe80::1", "address-link-local"),
        ("224.0.0.1", "address-multicast"),
        ("ff02::1", "address-multicast"),
        ("255.255.255.255", "address-broadcast"),
        ("::ffff:127.0.0.1", "address-ipv4-mapped"),
        ("::169.254.169.254", "address-ipv4-mapped"),
        ("::2", "address-ipv4-mapped"),
        ("64:ff9b::a9fe:a9fe", "address-link-local"),
        ("64:ff9b::7f00:1", "address-loopback"),
        ("64:ff9b::6464:64c8", "address-metadata"),
        ("64:ff9b::a60:1", "address-service-range"),
        ("fd00:ec2::254", "address-metadata"),
        ("10.96.0.1", "address-service-range"),
        ("10.111.255.255", "address-service-range"),
        ("172.18.0.2", "address-service-range"),
    ] {
        assert_eq!(rule(&policy(), &key, &endpoints(address)), Some(expected), "{address}");
    }
    for address in [
        "10.0.0.1",
        "192.168.1.1",
        "2001:db8::1",
        "fd00::1",
        "172.18.0.3",
        "64:ff9b::a00:1",
        "1.0.0.1",
    ] {
        assert_eq!(rule(&policy(), &key, &endpoints(address)), None, "{address}");
    }
}

#[test]
fn endpoints_outside_of_named_ranges_are_refused_and_a_range_never_opens_what_is_always_refused() {
    let narrow = Policy {
        endpoint_ranges: ["10.0.0.0/8", "0.0.0.0/5"].map(|text| text.parse().unwrap()).into(),
        ..policy()
    };
    let key = Key::endpoints("shop", "a");
    for (address, expected) in [
        ("10.20.0.1", None),
        ("192.168.1.1", Some("address-not-allowed")),
        ("fd00::1", Some("address-not-allowed")),
        ("0.0.0.0", Some("address-unspecified")),
        ("10.96.0.1", Some("address-service-range")),
    ] {
        assert_eq!(rule(&narrow, &key, &endpoints(address)), expected, "{address}");
    }
}

#[test]
fn one_bad_address_among_good_ones_refuses_the_set() {
    let body = Body::Endpoints(EndpointSet {
        endpoints: ["10.0.0.1", "169.254.169.254", "192.168.0.1"]
            .map(|address| (address.parse().unwrap(), Endpoint::ready()))
            .into(),
        port_sets: vec![],
    });
    let refused = rule(&policy(), &Key::endpoints("shop", "a"), &body);
    assert_eq!(refused, Some("address-link-local"));
}

#[test]
fn namespaces_are_refused_by_name() {
    let some = Policy {
        injection_namespaces: BTreeSet::from(["shop".to_owned()]),
        namespaces: BTreeSet::from(["kube-system".to_owned(), OWN.to_owned()]),
        ..policy()
    };
    for (key, body, expected) in [
        (Key::injection("shop"), Body::Injection, None),
        (Key::injection("other"), Body::Injection, Some("injection-not-allowed")),
        (Key::injection(OWN), Body::Injection, Some("injection-own-namespace")),
        (
            Key::injection("kube-public"),
            Body::Injection,
            Some("namespace-reserved"),
        ),
        (Key::service("kube-system", "a"), service(), Some("namespace-reserved")),
        (Key::service("shop", "a"), service(), Some("namespace-not-allowed")),
        (Key::service(OWN, "istio-pilot"), service(), None),
        (Key::service(OWN, "istio-citadel"), service(), Some("name-reserved")),
        (
            Key::endpoints(OWN, "istio-sidecar-injector"),
            endpoints("10.0.0.1"),
            Some("name-reserved"),
        ),
    ] {
        assert_eq!(rule(&some, &key, &body), expected, "{key}");
    }
}

#[test]
fn names_of_components_are_kept_for_them_where_none_may_be_run_and_are_free_elsewhere() {
    let none = Policy {
        components: BTreeSet::new(),
        ..policy()
    };
    for runs in Runs::ALL {
        let name = runs.workload();
        for (namespace, expected) in [(OWN, Some("name-reserved")), ("shop", None)] {
            let (service_key, endpoints_key) = (Key::service(namespace, name), Key::endpoints(namespace, name));
            assert_eq!(rule(&none, &service_key, &service()), expected, "{service_key}");
            assert_eq!(
                rule(&none, &endpoints_key, &endpoints("10.0.0.1")),
                expected,
                "{endpoints_key}"
            );
        }
    }
}

#[test]
fn refusal_names_what_to_change() {
    let refusal = Policy::default().judge(OWN, &component(Component::Citadel), &citadel(""));
    let text = refusal.unwrap_err().to_string();
    assert_eq!(
        text,
        "component-not-allowed: the remote does not run citadel: add it to components in the remote's policy (the \
         agent's flag --policy)"
    );
}

#[test]
fn policy_reads_back_as_it_travels_and_its_digest_is_of_its_content() {
    let full = Policy {
        endpoint_ranges: ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap()).into(),
        injection_namespaces: BTreeSet::from(["shop".to_owned()]),
        most_removals: Some(3),
        privileged_proxy: true,
        ..policy()
    };
    let wire = full.to_wire();
    assert_eq!(Policy::read(&wire), Ok(full.clone()));
    assert_eq!(wire.digest, full.digest().as_bytes());
    assert_eq!(full.digest(), full.clone().digest());
    for other in [
        policy(),
        Policy {
            most_removals: Some(4),
            ..full.clone()
        },
        Policy {
            privileged_proxy: false,
            ..full.clone()
        },
    ] {
        assert_ne!(other.digest(), full.digest());
    }
}

#[test]
fn policy_over_a_limit_or_with_a_broken_range_is_refused() {
    let long = v1::Policy {
        namespaces: vec!["a".to_owned(); 1_001],
        ..v1::Policy::default()
    };
    assert!(matches!(Policy::read(&long), Err(PolicyError::TooMuch { .. })));
    let large = v1::Policy {
        namespaces: vec!["a".repeat(40_000)],
        ..v1::Policy::default()
    };
    assert!(matches!(Policy::read(&large), Err(PolicyError::TooMuch { .. })));
    let broken = v1::Policy {
        endpoint_ranges: vec!["everywhere".to_owned()],
        ..v1::Policy::default()
    };
    assert!(matches!(Policy::read(&broken), Err(PolicyError::Range { .. })));
}

#[test]
fn component_of_a_later_release_is_left_out() {
    let wire = v1::Policy {
        components: vec!["citadel".to_owned(), "gateway".to_owned()],
        ..v1::Policy::default()
    };
    let read = Policy::read(&wire).unwrap();
    assert_eq!(read.components, BTreeSet::from([Runs::Citadel]));
}
