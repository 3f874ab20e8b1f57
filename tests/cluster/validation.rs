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

/// A component with these fields.
fn citadel(fields: &Value) -> Value {
    json!({"enabledServices": [], "citadel": fields})
}

/// Specs that the door refuses, and the field it names.
fn component_rules() -> Vec<(Value, &'static str)> {
    let beside = |field: &str, value: Value| json!({"enabledServices": [], "sidecarInjector": {}, field: value});
    let resources = |fields: Value| citadel(&json!({"resources": fields}));
    vec![
        (citadel(&json!({"image": "a b"})), "image"),
        (citadel(&json!({"image": "-x"})), "image"),
        (citadel(&json!({"replicaCount": -1})), "replicaCount"),
        (citadel(&json!({"replicaCount": 101})), "replicaCount"),
        (citadel(&json!({"imagePullPolicy": "Sometimes"})), "imagePullPolicy"),
        (
            citadel(&json!({"imagePullSecrets": [{"name": "A"}]})),
            "imagePullSecrets",
        ),
        (citadel(&json!({"tolerations": "all"})), "tolerations"),
        (citadel(&json!({"affinity": {"nodeAffinity": 1}})), "affinity"),
        (resources(json!({"limits": {"cpu": "much"}})), "cpu"),
        (resources(json!({"limits": {"cpu": -1}})), "cpu"),
        (resources(json!({"requests": {"nvidia.com/gpu": 1}})), "requests"),
        (resources(json!({"claims": [{"name": "a"}]})), "claims"),
        (beside("includeIPRanges", json!("10.0.0.0")), "includeIPRanges"),
        (beside("includeIPRanges", json!("10.0.0.300/8")), "includeIPRanges"),
        (beside("includeIPRanges", json!("*,10.0.0.0/8")), "includeIPRanges"),
        (beside("excludeIPRanges", json!("*")), "excludeIPRanges"),
        (beside("excludeIPRanges", json!("10.0.0.0/33")), "excludeIPRanges"),
        (beside("proxy", json!({"privileged": "yes"})), "privileged"),
        (beside("proxyInit", json!({"image": "\n"})), "image"),
        (beside("deletionPolicy", json!("Forget")), "deletionPolicy"),
        (beside("whenHubLost", json!({"action": "Panic"})), "action"),
        (
            beside("whenHubLost", json!({"action": "Withdraw", "after": "59s"})),
            "after",
        ),
        (
            beside("whenHubLost", json!({"action": "Withdraw", "after": "31d"})),
            "after",
        ),
        (
            beside("whenHubLost", json!({"action": "Withdraw", "after": "1h30m"})),
            "after",
        ),
    ]
}

#[test]
fn spec_with_every_field_is_let_in_and_kept_as_it_is() {
    run(async {
        let mesh = Mesh::without_hub("every").await;
        let terms = json!([{
            "labelSelector": {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "Exists"}]},
            "namespaces": ["istio-system"],
            "topologyKey": "kubernetes.io/hostname",
        }]);
        let weighted = json!([{"weight": 1, "podAffinityTerm": terms[0]}]);
        let node = json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]});
        let component = json!({
            "image": "docker.io/istio/citadel:1.0.5",
            "replicaCount": 0,
            "imagePullPolicy": "IfNotPresent",
            "imagePullSecrets": [{"name": "pull"}],
            "nodeSelector": {"disk": "fast"},
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [node]},
                    "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": node}],
                },
                "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": weighted},
                "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms},
            },
            "tolerations": [{"key": "mesh", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}],
            "resources": {"requests": {"cpu": 1, "memory": "64Mi"}, "limits": {"cpu": "2500m"}},
        });
        let spec = json!({
            "enabledServices": [],
            "autoInjectionNamespaces": ["default"],
            "includeIPRanges": "10.0.0.0/8, fd00::/8",
            "excludeIPRanges": "10.1.0.0/16",
            "controlPlaneSecurityEnabled": true,
            "citadel": component,
            "sidecarInjector": component,
            "proxy": {"image": "istio/proxyv2:1.0.5", "imagePullPolicy": "Never", "privileged": true,
                      "resources": {"requests": {"cpu": "10m"}}},
            "proxyInit": {"image": "istio/proxy_init:1.0.5"},
            "deletionPolicy": "Orphan",
            "paused": true,
            "whenHubLost": {"action": "NotReady", "after": "30d"},
        });
        let text = json!({
            "apiVersion": "istio.banzaicloud.io/v1beta1",
            "kind": "RemoteIstio",
            "metadata": {"name": "every-field"},
            "spec": spec,
        });
        let kept = mesh.apply_strictly(&text.to_string()).await;
        assert_eq!(kept["spec"], spec);
    });
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
        let table = table.into_iter().chain(component_rules());
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
        assert_eq!(
            status["ErrorMessage"],
            Value::Null,
            "every field of it is carried out: {status}"
        );
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
