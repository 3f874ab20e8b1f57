//! A `RemoteIstio` that cannot be carried out: at the door, or as a condition on it alone.

use serde_json::{Value, json};

use crate::mesh::{Mesh, run};

/// The 2019 sample, as users have it in their files.
const SEED: &str = include_str!("seed.yaml");

fn service(fields: &Value) -> Value {
    let mut service = json!({"name": "istio-pilot", "labelSelector": "istio=pilot"});
    for (field, value) in fields.as_object().expect("an object") {
        service[field] = value.clone();
    }
    json!({"enabledServices": [service]})
}

#[test]
fn each_rule_is_enforced_at_the_door_with_words() {
    run(async {
        let mesh = Mesh::without_hub("door").await;
        let table = [
            (json!({}), "enabledServices"),
            (service(&json!({"name": "Pilot"})), "name"),
            (service(&json!({"name": ""})), "name"),
            (service(&json!({"name": "a".repeat(64)})), "name"),
            (service(&json!({"labelSelector": "istio in (pilot"})), "labelSelector"),
            (service(&json!({"labelSelector": "=pilot"})), "labelSelector"),
            (service(&json!({"podIPs": ["10.0.0.300"]})), "podIPs"),
            (service(&json!({"podIPs": ["127.0.0.1"]})), "podIPs"),
            (service(&json!({"podIPs": ["::1"]})), "podIPs"),
            (service(&json!({"podIPs": ["169.254.1.1"]})), "podIPs"),
            (service(&json!({"podIPs": ["224.0.0.1"]})), "podIPs"),
            (service(&json!({"podIPs": ["0.0.0.0"]})), "podIPs"),
            (service(&json!({"ports": [{"port": 0}]})), "port"),
            (service(&json!({"ports": [{"port": 65536}]})), "port"),
            (service(&json!({"ports": [{"port": 1}, {"port": 2}]})), "name"),
            (
                service(&json!({"ports": [{"name": "a", "port": 1}, {"name": "a", "port": 2}]})),
                "port",
            ),
            (
                service(&json!({"ports": [{"port": 1, "protocol": "HTTP"}]})),
                "protocol",
            ),
            (
                json!({"enabledServices": [
                    {"name": "a", "labelSelector": "a=b"}, {"name": "a", "labelSelector": "c=d"},
                ]}),
                "enabledServices",
            ),
            (
                json!({"enabledServices": [], "autoInjectionNamespaces": ["Default"]}),
                "autoInjectionNamespaces",
            ),
            (
                json!({"enabledServices": [], "autoInjectionNamespaces": ["a", "a"]}),
                "autoInjectionNamespaces",
            ),
            (
                json!({"enabledServices": [], "autoInjectionNamespaces": ["kube-system"]}),
                "autoInjectionNamespaces",
            ),
        ];
        for (spec, field) in table {
            let refused = mesh.try_create_remote_istio("door-0", &spec).await;
            let Err(message) = refused else {
                panic!("{spec} was let in");
            };
            assert!(message.contains(field), "{spec}: {message}");
        }
        let long = "a".repeat(64);
        for name in [long.as_str(), "has.dots"] {
            let spec = json!({"enabledServices": []});
            let refused = mesh.try_create_remote_istio(name, &spec).await;
            let message = refused.err().unwrap_or_else(|| panic!("{name} was let in"));
            assert!(message.contains("name"), "{name}: {message}");
        }
    });
}

#[test]
fn seed_yaml_applies_unmodified_and_every_field_is_kept() {
    run(async {
        let mesh = Mesh::start("seed").await;
        let sent: Value = serde_saphyr::from_str(SEED).expect("YAML");
        let kept = mesh.apply_strictly(SEED).await;
        for (field, value) in sent["spec"].as_object().expect("a spec") {
            assert_eq!(&kept["spec"][field], value, "{field}");
        }
        assert_eq!(kept["metadata"]["labels"], sent["metadata"]["labels"]);
        let status = mesh.until_status_of("remoteistio-sample", "Created", |status| status["Status"] == "Created");
        let status = status.await;
        let conditions = status["conditions"].to_string();
        for field in ["citadel", "sidecarInjector"] {
            assert!(
                conditions.contains(field),
                "{field} is named as not implemented: {conditions}"
            );
        }
    });
}

#[test]
fn stored_object_that_breaks_a_rule_is_told_so_and_the_others_go_on() {
    run(async {
        let mesh = Mesh::start("stored").await;
        mesh.enable(&[("istio-pilot", "istio=pilot")]).await;
        // Written past the API server, as one from before the rule would be.
        let spec = json!({"enabledServices": [
            {"name": "istio-policy", "labelSelector": "istio in (policy"},
            {"name": "istio-pilot", "labelSelector": "istio=pilot"},
        ]});
        mesh.store_remote_istio("broken", &spec).await;
        let status = mesh
            .until_status_of("broken", "the selector is named", |status| {
                status.to_string().contains("labelSelector")
            })
            .await;
        assert_eq!(status["Status"], "ReconcileFailed", "{status}");
        assert!(
            status["ErrorMessage"]
                .as_str()
                .unwrap_or_default()
                .contains("labelSelector"),
            "{status}"
        );
        // One that does not even read as a RemoteIstio.
        mesh.store_remote_istio("unreadable", &json!({"enabledServices": "none"}))
            .await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.remote(0).until_addresses("istio-pilot", &["10.1.0.1"]).await;
        mesh.until_ready(0).await;
        // Also for a hub that starts with them there.
        let mut mesh = mesh;
        mesh.kill_hub().await;
        mesh.start_hub().await;
        mesh.pod("pilot-b", "istio=pilot", "10.1.0.2").ready().await;
        mesh.remote(0)
            .until_addresses("istio-pilot", &["10.1.0.1", "10.1.0.2"])
            .await;
    });
}
