use super::*;

/// Where the definitions lie in the tree.
const DEPLOYED: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../deploy/charts/remote-istio-hub/files/crds"
);

#[test]
fn deployed_definitions_are_current() {
    for (name, yaml) in crd_files() {
        let deployed = std::fs::read_to_string(format!("{DEPLOYED}/{name}")).expect("a file of the chart");
        assert!(
            deployed == yaml,
            "files/crds/{name} of the hub's chart is not current, run: make docs"
        );
    }
}

#[test]
fn definitions_are_printed_as_one_stream_of_documents() {
    let kinds: Vec<String> = crd_yaml()
        .split("---\n")
        .map(|document| {
            let crd: serde_json::Value = serde_saphyr::from_str(document).expect("YAML");
            crd["spec"]["names"]["kind"].as_str().expect("a kind").to_owned()
        })
        .collect();
    assert_eq!(kinds, ["RemoteIstio", "RemoteIdentity", "JoinToken"]);
}

#[test]
fn resource_of_the_2019_operator_reads_unmodified() {
    let spec: RemoteIstioSpec = serde_json::from_value(serde_json::json!({
        "autoInjectionNamespaces": ["default"],
        "includeIPRanges": "*",
        "excludeIPRanges": "",
        "enabledServices": [
            {"name": "istio-pilot", "labelSelector": "istio=pilot"},
            {"name": "zipkin", "labelSelector": "app=jaeger", "podIPs": ["10.0.0.1"], "ports": [{"port": 9411, "targetPort": "http"}]},
        ],
        "controlPlaneSecurityEnabled": false,
        "citadel": {"replicaCount": 1, "caSecretName": "a field of a later release"},
        "sidecarInjector": {"replicaCount": 1},
    }))
    .expect("the fields of the seed");
    let one_replica = Component {
        replica_count: Some(1),
        ..Component::default()
    };
    let expected = RemoteIstioSpec {
        auto_injection_namespaces: vec!["default".to_owned()],
        include_ip_ranges: Some("*".to_owned()),
        exclude_ip_ranges: Some(String::new()),
        enabled_services: vec![
            EnabledService {
                name: "istio-pilot".to_owned(),
                label_selector: Some("istio=pilot".to_owned()),
                ..EnabledService::default()
            },
            EnabledService {
                name: "zipkin".to_owned(),
                label_selector: Some("app=jaeger".to_owned()),
                pod_ips: vec!["10.0.0.1".to_owned()],
                ports: vec![ServicePort {
                    port: 9411,
                    target_port: Some(TargetPort::Name("http".to_owned())),
                    ..ServicePort::default()
                }],
                ..EnabledService::default()
            },
        ],
        control_plane_security_enabled: Some(false),
        citadel: Some(one_replica.clone()),
        sidecar_injector: Some(one_replica),
        ..RemoteIstioSpec::default()
    };
    assert_eq!(spec, expected);
}

#[test]
fn status_keeps_the_spelling_of_the_2019_operator() {
    let status = RemoteIstioStatus {
        state: Some(State::ReconcileFailed),
        error_message: Some("no".to_owned()),
        observed_generation: Some(3),
        ..RemoteIstioStatus::default()
    };
    assert_eq!(
        serde_json::to_value(status).expect("JSON"),
        serde_json::json!({"Status": "ReconcileFailed", "ErrorMessage": "no", "observedGeneration": 3})
    );
}

#[test]
fn state_of_another_operator_does_not_make_an_object_unreadable() {
    let read: RemoteIstioStatus =
        serde_json::from_value(serde_json::json!({"Status": "Unmanaged", "GatewayAddress": ["10.0.0.1"]}))
            .expect("readable");
    assert_eq!(read, RemoteIstioStatus::default());
}

#[test]
fn only_addresses_that_another_cluster_can_reach_are_static_addresses() {
    let is = |text: &str| is_static_address(text.parse().expect("an address"));
    for text in ["10.1.2.3", "192.168.0.1", "8.8.8.8", "fd00::1", "2001:db8::1"] {
        assert!(is(text), "{text}");
    }
    for text in [
        "127.0.0.1",
        "169.254.1.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "ff02::1",
    ] {
        assert!(!is(text), "{text}");
    }
}

/// Every field there is, in the words of users' files.
fn everything() -> serde_json::Value {
    let terms = serde_json::json!([{
        "labelSelector": {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "Exists"}]},
        "namespaces": ["istio-system"],
        "topologyKey": "kubernetes.io/hostname",
    }]);
    let component = serde_json::json!({
        "image": "istio/citadel:1.0.5",
        "replicaCount": 2,
        "imagePullPolicy": "Always",
        "imagePullSecrets": [{"name": "pull"}],
        "nodeSelector": {"disk": "fast"},
        "affinity": {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]},
            ]}},
            "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms},
        },
        "tolerations": [{"key": "mesh", "operator": "Exists", "effect": "NoSchedule"}],
        "resources": {"requests": {"cpu": 1, "memory": "64Mi"}, "limits": {"cpu": "2500m"}},
    });
    serde_json::json!({
        "enabledServices": [],
        "autoInjectionNamespaces": ["default"],
        "includeIPRanges": "10.0.0.0/8,fd00::/8",
        "excludeIPRanges": "10.1.0.0/16",
        "controlPlaneSecurityEnabled": true,
        "citadel": component,
        "sidecarInjector": component,
        "proxy": {
            "image": "istio/proxyv2:1.0.5", "imagePullPolicy": "Never", "privileged": true,
            "resources": {"requests": {"cpu": "10m"}},
        },
        "proxyInit": {"image": "istio/proxy_init:1.0.5"},
        "deletionPolicy": "Orphan",
        "paused": true,
        "whenHubLost": {"action": "NotReady", "after": "10m"},
    })
}

#[test]
fn every_field_is_read_and_written_back_as_it_was() {
    let spec: RemoteIstioSpec = serde_json::from_value(everything()).expect("readable");
    assert_eq!(serde_json::to_value(&spec).expect("JSON"), everything());
}

#[test]
fn every_field_of_the_sample_of_everything_stands_in_the_definition() {
    let crd: serde_json::Value = serde_json::to_value(RemoteIstio::crd()).expect("JSON");
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let defined = spec["properties"].as_object().expect("properties");
    let sample = everything();
    let named: Vec<&String> = sample.as_object().expect("an object").keys().collect();
    assert_eq!(defined.keys().collect::<Vec<_>>(), named);
    assert!(
        !crd.to_string().contains("Not implemented"),
        "no field is without effect"
    );
}
