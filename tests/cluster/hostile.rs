//! A hub that has been taken over: it has a valid certificate and sends everything it should not. The remote's API server
//! and its audit log are read, never what the agent says of itself alone.

use std::collections::BTreeMap;

use remote_istio::model::{Body, Component, Key, Lane, Object};
use remote_istio::wire::v1;
use serde_json::{Value, json};
use support::ca::{Pair, TRUST_DOMAIN};
use support::peer::{HubSession, ScriptedHub};

use crate::frames::{self, service};
use crate::mesh::{CITADEL, Clusters, INJECTOR, Mesh, Setup, run};

/// An agent with a policy on a real API server, and a hub that says what the test wants.
async fn taken_over(name: &str, policy: Value) -> (Mesh<'static>, HubSession, ScriptedHub) {
    let setup = Setup::components().with_policy(policy);
    let clusters = Box::pin(Clusters::with_pods()).await;
    let mut mesh = Box::pin(Mesh::prepare(clusters, name, 1, setup)).await;
    let hub = ScriptedHub::start(mesh.hub_certificate(), TRUST_DOMAIN)
        .await
        .expect("a hub");
    mesh.launch_agent_to(0, hub.address()).await;
    let session = hub.welcomed("taken-over").await.expect("a session");
    (mesh, session, hub)
}

fn endpoints(addresses: &[&str]) -> Object {
    frames::endpoints(addresses.iter().map(ToString::to_string))
}

fn workload(image: &str) -> v1::Workload {
    v1::Workload {
        image: image.to_owned(),
        ..v1::Workload::default()
    }
}

fn citadel(image: &str) -> Object {
    let citadel = v1::Citadel {
        workload: Some(workload(image)),
    };
    Object::new(1, None, Body::Citadel(Box::new(citadel)))
}

fn injector(image: &str, proxy: v1::Proxy) -> Object {
    let injector = v1::SidecarInjector {
        workload: Some(workload(image)),
        proxy: Some(proxy),
        ..v1::SidecarInjector::default()
    };
    Object::new(1, None, Body::Injector(Box::new(injector)))
}

/// A trust with a root, as a granted one has.
fn trust(mesh: &Mesh<'_>) -> v1::MeshTrust {
    let root = Pair {
        certificate: mesh.authority().bundle(),
        key: String::new(),
    };
    v1::MeshTrust {
        signer: vec![1; 32],
        roots: vec![root.der().expect("a certificate")],
    }
}

/// Sends objects on one lane and gives the refusals by key.
async fn refusals(session: &mut HubSession, lane: Lane, objects: Vec<(Key, Object)>) -> BTreeMap<String, v1::Nack> {
    let nonce = session.snapshot(lane, objects, false).await.expect("sent");
    let ack = session.ack(nonce).await.expect("answered");
    ack.nacks.into_iter().map(|nack| (nack.key.clone(), nack)).collect()
}

/// Each of these is refused by this rule, and nothing else is.
async fn refused_by(session: &mut HubSession, lane: Lane, cases: Vec<(Key, Object, &str)>) {
    let objects = cases
        .iter()
        .map(|(key, object, _)| (key.clone(), object.clone()))
        .collect();
    let mut refused = refusals(session, lane, objects).await;
    for (key, _, rule) in cases {
        let nack = refused.remove(&key.to_string());
        let nack = nack.unwrap_or_else(|| panic!("{key} was let in, {rule} should have refused it"));
        assert_eq!(nack.reason(), v1::NackReason::Policy, "{nack:?}");
        assert!(nack.detail.contains(rule), "{key} by {rule}: {nack:?}");
    }
    assert!(refused.is_empty(), "{refused:?}");
}

// Turns red when: one rule of the policy is not asked.
#[test]
fn remote_refuses_by_name_what_a_hub_taken_over_asks_for() {
    run(async {
        let name = "hostile";
        let policy = json!({"components": [], "endpointRanges": ["10.0.0.0/8"]});
        let (mesh, mut session, _hub) = taken_over(name, policy).await;
        let remote = mesh.remote(0);
        remote.until_quiet().await;
        let audit = remote.audit().await;
        let component = |which| Key::component(which, name);
        refused_by(
            &mut session,
            Lane::Config,
            vec![
                (Key::service("kube-system", "kube-dns"), service(), "namespace-reserved"),
                (
                    Key::service("default", "kubernetes"),
                    service(),
                    "namespace-not-allowed",
                ),
                (
                    Key::injection("kube-system"),
                    Object::new(1, None, Body::Injection),
                    "namespace-reserved",
                ),
                (
                    Key::injection("kube-public"),
                    Object::new(1, None, Body::Injection),
                    "namespace-reserved",
                ),
                (
                    Key::injection(name),
                    Object::new(1, None, Body::Injection),
                    "injection-own-namespace",
                ),
                (component(Component::Citadel), citadel(""), "component-not-allowed"),
                (
                    component(Component::Injector),
                    injector("", v1::Proxy::default()),
                    "component-not-allowed",
                ),
                (
                    component(Component::Trust),
                    Object::new(1, None, Body::Trust(trust(&mesh))),
                    "component-not-allowed",
                ),
            ],
        )
        .await;
        let at = |service: &str| Key::endpoints(name, service);
        refused_by(
            &mut session,
            Lane::Endpoints,
            vec![
                (
                    Key::endpoints("kube-system", "kube-dns"),
                    endpoints(&["10.5.0.1"]),
                    "namespace-reserved",
                ),
                (at("metadata"), endpoints(&["169.254.169.254"]), "address-link-local"),
                (at("six"), endpoints(&["fe80::1"]), "address-link-local"),
                (at("loopback"), endpoints(&["127.0.0.1"]), "address-loopback"),
                (at("loopback-six"), endpoints(&["::1"]), "address-loopback"),
                (at("mapped"), endpoints(&["::ffff:169.254.169.254"]), "address"),
                (at("group"), endpoints(&["224.0.0.1"]), "address-multicast"),
                (at("none"), endpoints(&["0.0.0.0"]), "address-unspecified"),
                (at("everyone"), endpoints(&["255.255.255.255"]), "address-broadcast"),
                (at("outside"), endpoints(&["192.168.7.1"]), "address-not-allowed"),
                // The remote's own service range: 10.96.0.1 is its API server.
                (at("api"), endpoints(&["10.96.0.1"]), "address-service-range"),
                (
                    at("one-of-two"),
                    endpoints(&["10.5.0.1", "10.96.0.1"]),
                    "address-service-range",
                ),
            ],
        )
        .await;
        remote.until_quiet().await;
        let writes = audit.since(|event| event.is_ours && event.resource != "leases").await;
        assert_eq!(format!("{writes:?}"), "[]", "not one write came of it");
        for kind in ["Deployment", "Service"] {
            assert_eq!(remote.object(kind, CITADEL).await, None);
            assert_eq!(remote.object(kind, INJECTOR).await, None);
        }
    });
}

// Turns red when: an image is compared as a text, or the proxy's images are not looked at.
#[test]
fn remote_runs_no_image_from_elsewhere_and_no_privileged_proxy() {
    run(async {
        let name = "hostile-images";
        let both = json!({"components": ["citadel", "sidecarInjector"], "imageRegistries": ["docker.io/istio"]});
        let (mesh, mut session, _hub) = taken_over(name, both).await;
        let proxy = |image: &str, init_image: &str, privileged: bool| v1::Proxy {
            image: image.to_owned(),
            init_image: init_image.to_owned(),
            privileged,
            ..v1::Proxy::default()
        };
        let citadel_key = Key::component(Component::Citadel, name);
        let injector_key = Key::component(Component::Injector, name);
        for image in [
            "evil.test/istio/citadel:1.0.5",
            "docker.io/istio-evil/citadel:1.0.5",
            "docker.io.evil.test/istio/citadel:1.0.5",
            "evil.test/docker.io/istio/citadel",
            "citadel:1.0.5",
        ] {
            refused_by(
                &mut session,
                Lane::Config,
                vec![
                    (citadel_key.clone(), citadel(image), "image-registry"),
                    (
                        injector_key.clone(),
                        injector(image, v1::Proxy::default()),
                        "image-registry",
                    ),
                ],
            )
            .await;
            for proxy in [proxy(image, "", false), proxy("", image, false)] {
                let case = vec![(injector_key.clone(), injector("", proxy), "image-registry")];
                refused_by(&mut session, Lane::Config, case).await;
            }
        }
        let case = vec![(
            injector_key.clone(),
            injector("", proxy("", "", true)),
            "privileged-proxy",
        )];
        refused_by(&mut session, Lane::Config, case).await;
        // In another namespace than the agent's own there are no components at all.
        let elsewhere = Key::component(Component::Citadel, "default");
        let refused = refusals(&mut session, Lane::Config, vec![(elsewhere.clone(), citadel(""))]).await;
        assert!(refused.contains_key(&elsewhere.to_string()), "{refused:?}");
        assert_eq!(mesh.remote(0).object("Deployment", CITADEL).await, None);
    });
}

// Turns red when: a text of the hub gets into a template as it is.
#[test]
fn texts_that_would_break_out_of_a_template_are_invalid() {
    run(async {
        let name = "hostile-texts";
        let everything = json!({
            "components": ["citadel", "sidecarInjector"],
            "imageRegistries": ["docker.io/istio"],
            "privilegedProxy": true,
        });
        let (mesh, mut session, _hub) = taken_over(name, everything).await;
        let key = Key::component(Component::Injector, name);
        let with = |change: &dyn Fn(&mut v1::SidecarInjector)| {
            let mut injector = v1::SidecarInjector::default();
            change(&mut injector);
            Object::new(1, None, Body::Injector(Box::new(injector)))
        };
        let cases = [
            with(&|injector| injector.include_ip_ranges = "*\"\n      privileged: true".to_owned()),
            with(&|injector| injector.exclude_ip_ranges = "10.0.0.0/8 ]] [[ .Secret".to_owned()),
            with(&|injector| {
                injector.proxy = Some(v1::Proxy {
                    image: "docker.io/istio/proxyv2:1\"\n    command: [sh]".to_owned(),
                    ..v1::Proxy::default()
                });
            }),
            with(&|injector| {
                injector.proxy = Some(v1::Proxy {
                    image_pull_policy: "Always\n    stdin: true".to_owned(),
                    ..v1::Proxy::default()
                });
            }),
        ];
        for case in cases {
            let refused = refusals(&mut session, Lane::Config, vec![(key.clone(), case.clone())]).await;
            let nack = refused.get(&key.to_string());
            assert!(nack.is_some(), "it was let in: {case:?}");
        }
        assert_eq!(mesh.remote(0).object("ConfigMap", INJECTOR).await, None);
    });
}

// Turns red when: the guard counts per delta only what the hub names, or releases by itself.
#[test]
fn hub_that_asks_to_delete_everything_gets_nothing_deleted() {
    run(async {
        let name = "hostile-delete";
        let (mesh, mut session, _hub) = taken_over(name, json!({"mostRemovals": 2})).await;
        let services: Vec<_> = (0..6).map(|number| format!("svc-{number}")).collect();
        let all = |count: usize| -> Vec<_> {
            services[..count]
                .iter()
                .map(|service| (Key::service(name, service), self::service()))
                .collect()
        };
        assert_eq!(refusals(&mut session, Lane::Config, all(6)).await, BTreeMap::new());
        let remote = mesh.remote(0);
        for service in &services {
            remote.until_object("Service", service, |_| true).await;
        }
        remote.until_quiet().await;
        let audit = remote.audit().await;
        for left in [0, 3] {
            let refused = refusals(&mut session, Lane::Config, all(left)).await;
            assert_eq!(refused.len(), 6 - left, "{refused:?}");
            assert!(
                refused.values().all(|nack| nack.reason() == v1::NackReason::GuardHeld),
                "{refused:?}"
            );
        }
        // Two at a time are what the remote's operator allows.
        assert_eq!(refusals(&mut session, Lane::Config, all(4)).await, BTreeMap::new());
        remote.until_absent("Service", "svc-5").await;
        remote.until_quiet().await;
        let deletes = |event: &crate::audit::Event| {
            event.is_ours && event.verb == "delete" && event.resource == "services" && event.succeeded
        };
        let mut gone: Vec<String> = audit.since(deletes).await.into_iter().map(|event| event.name).collect();
        gone.sort();
        assert_eq!(gone, ["svc-4", "svc-5"]);
    });
}

// Turns red when: what a message asks for names another object than its key says.
#[test]
fn foreign_names_are_left_alone_whatever_the_hub_says() {
    run(async {
        let name = "hostile-foreign";
        let (mesh, mut session, _hub) = taken_over(name, json!({"components": ["citadel"]})).await;
        let remote = mesh.remote(0);
        for kind in ["ConfigMap", "Secret"] {
            remote.create(kind, "theirs", json!({})).await;
        }
        remote
            .create(
                "Service",
                "theirs",
                json!({"spec": {"clusterIP": "None", "selector": {"a": "b"}, "ports": [{"port": 1}]}}),
            )
            .await;
        let before = remote.object("Service", "theirs").await;
        let config = vec![(Key::service(name, "theirs"), service())];
        assert_eq!(refusals(&mut session, Lane::Config, config).await, BTreeMap::new());
        let said = session
            .applied(&Key::service(name, "theirs"), v1::ApplyState::Foreign)
            .await
            .expect("said");
        assert!(said.detail.contains("kubectl"), "it says how to adopt it: {said:?}");
        // Taken back, it is not deleted either.
        assert_eq!(refusals(&mut session, Lane::Config, vec![]).await, BTreeMap::new());
        session
            .applied(&Key::service(name, "theirs"), v1::ApplyState::Removed)
            .await
            .expect("said");
        assert_eq!(
            remote.object("Service", "theirs").await,
            before,
            "not a byte of it was touched"
        );
    });
}
