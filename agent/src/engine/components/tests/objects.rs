//! Whole objects, as the seed made them where today's clusters allow it.

use super::*;

fn owned(labels: &[(&str, &str)]) -> Value {
    let mut all = serde_json::to_value(names::owner_labels(&settings())).unwrap();
    for (name, value) in labels {
        all[*name] = json!(value);
    }
    all
}

/// Without the annotation that holds the hash of the object, which must be there.
fn unstamped(mut object: Value) -> Value {
    let annotations = object["metadata"]["annotations"].as_object_mut().unwrap();
    annotations.remove(TEMPLATE).expect("the object is stamped");
    assert_eq!(annotations.len(), 0);
    object["metadata"].as_object_mut().unwrap().remove("annotations");
    object
}

#[test]
fn mesh_configuration_has_every_key_of_the_seed() {
    let settings = settings();
    for (secure, mixer, pilot, policy) in [(false, 9091, 15007, "NONE"), (true, 15004, 15005, "MUTUAL_TLS")] {
        let mesh = v1::MeshConfig {
            control_plane_security: secure,
        };
        let templates = Templates {
            settings: &settings,
            facts: &Facts::default(),
            mesh: None,
        };
        let config_map = templates.mesh(mesh);
        let object = serde_json::to_value(&config_map).unwrap();
        assert_eq!(
            object["metadata"],
            json!({"name": "istio", "namespace": "istio-system", "labels": owned(&[("app", "istio")])})
        );
        let data = config_map.data.unwrap();
        assert_eq!(data.keys().collect::<Vec<_>>(), ["mesh"]);
        let read: Value = serde_saphyr::from_str(&data["mesh"]).unwrap();
        let expected = json!({
            "disablePolicyChecks": false,
            "enableTracing": true,
            "accessLogFile": "/dev/stdout",
            "mixerCheckServer": format!("istio-policy.istio-system.svc.cluster.local:{mixer}"),
            "mixerReportServer": format!("istio-telemetry.istio-system.svc.cluster.local:{mixer}"),
            "policyCheckFailOpen": false,
            "sdsUdsPath": "",
            "sdsRefreshDelay": "15s",
            "defaultConfig": {
                "connectTimeout": "10s",
                "configPath": "/etc/istio/proxy",
                "binaryPath": "/usr/local/bin/envoy",
                "serviceCluster": "istio-proxy",
                "drainDuration": "45s",
                "parentShutdownDuration": "1m0s",
                "proxyAdminPort": 15000,
                "concurrency": 0,
                "zipkinAddress": "zipkin.istio-system:9411",
                "controlPlaneAuthPolicy": policy,
                "discoveryAddress": format!("istio-pilot.istio-system:{pilot}"),
            },
        });
        assert_eq!(read, expected);
    }
}

#[test]
fn citadel_is_the_seeds_with_probes_and_without_rights() {
    let probe = |delay: i32, period: i32| {
        json!({
            "tcpSocket": {"port": 8060}, "initialDelaySeconds": delay, "periodSeconds": period,
            "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3,
        })
    };
    let expected = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "istio-citadel",
            "namespace": "istio-system",
            "labels": owned(&[("app", "security"), ("istio", "citadel")]),
        },
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"istio": "citadel"}},
            "template": {
                "metadata": {
                    "labels": {"istio": "citadel"},
                    "annotations": {
                        "sidecar.istio.io/inject": "false",
                        "istio.banzaicloud.io/cacerts-hash": "abc",
                    },
                },
                "spec": {
                    "serviceAccountName": "istio-citadel-service-account",
                    "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [{
                        "name": "citadel",
                        "image": "docker.io/istio/citadel:1.0.5",
                        "imagePullPolicy": "IfNotPresent",
                        "args": [
                            "--append-dns-names=true",
                            "--grpc-port=8060",
                            "--grpc-hostname=citadel",
                            "--citadel-storage-namespace=istio-system",
                            "--custom-dns-names=istio-pilot-service-account.istio-system:istio-pilot.istio-system,\
                             istio-ingressgateway-service-account.istio-system:istio-ingressgateway.istio-system",
                            "--self-signed-ca=false",
                            "--signing-cert=/etc/cacerts/ca-cert.pem",
                            "--signing-key=/etc/cacerts/ca-key.pem",
                            "--root-cert=/etc/cacerts/root-cert.pem",
                            "--cert-chain=/etc/cacerts/cert-chain.pem",
                        ],
                        "ports": [
                            {"name": "grpc-citadel", "containerPort": 8060, "protocol": "TCP"},
                            {"name": "http-monitoring", "containerPort": 9093, "protocol": "TCP"},
                        ],
                        "resources": {"requests": {"cpu": "10m"}},
                        "readinessProbe": probe(2, 5),
                        "livenessProbe": probe(15, 10),
                        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                        "volumeMounts": [{"name": "cacerts", "mountPath": "/etc/cacerts", "readOnly": true}],
                    }],
                    "volumes": [{
                        "name": "cacerts",
                        "secret": {"secretName": "cacerts", "defaultMode": 420, "optional": true},
                    }],
                },
            },
        },
    });
    assert_eq!(unstamped(citadel(v1::Workload::default())), expected);
}

#[test]
fn services_select_the_pods_of_their_component() {
    let settings = settings();
    let citadel = serde_json::to_value(citadel::service(&settings)).unwrap();
    let expected = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "istio-citadel",
            "namespace": "istio-system",
            "labels": owned(&[("app", "istio-citadel")]),
        },
        "spec": {
            "selector": {"istio": "citadel"},
            "ports": [
                {"name": "grpc-citadel", "port": 8060, "targetPort": 8060, "protocol": "TCP"},
                {"name": "http-monitoring", "port": 9093, "targetPort": 9093, "protocol": "TCP"},
            ],
        },
    });
    assert_eq!(citadel, expected);
    let injector = serde_json::to_value(injector::service(&settings)).unwrap();
    let expected = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "istio-sidecar-injector",
            "namespace": "istio-system",
            "labels": owned(&[("istio", "sidecar-injector")]),
        },
        "spec": {
            "selector": {"istio": "sidecar-injector"},
            "ports": [{"port": 443, "targetPort": 443, "protocol": "TCP"}],
        },
    });
    assert_eq!(injector, expected);
}

#[test]
fn injector_is_the_seeds_without_rights_but_its_port() {
    let labels = owned(&[("app", "istio-sidecar-injector"), ("istio", "sidecar-injector")]);
    let objects = injector(&v1::SidecarInjector::default(), v1::MeshConfig::default());
    let metadata = json!({"name": "istio-sidecar-injector", "namespace": "istio-system", "labels": labels});
    assert_eq!(objects[0]["metadata"], metadata);
    let config = template::config(&v1::SidecarInjector::default());
    assert_eq!(objects[0]["data"], json!({"config": config}));
    assert_eq!(objects[2]["kind"], "Service");

    let mut deployment = unstamped(objects[1].clone());
    let annotations = deployment["spec"]["template"]["metadata"]["annotations"].take();
    assert_eq!(annotations["sidecar.istio.io/inject"], "false");
    assert!(annotations[CONFIGURATION_HASH].is_string());
    assert_eq!(annotations.as_object().unwrap().len(), 2);
    let probe = json!({
        "exec": {"command": [
            "/usr/local/bin/sidecar-injector", "probe", "--probe-path=/health", "--interval=4s",
        ]},
        "initialDelaySeconds": 4, "periodSeconds": 4, "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3,
    });
    let mount = |name: &str, path: &str| json!({"name": name, "mountPath": path, "readOnly": true});
    let container = json!({
        "name": "sidecar-injector-webhook",
        "image": "docker.io/istio/sidecar_injector:1.0.5",
        "imagePullPolicy": "IfNotPresent",
        "args": [
            "--caCertFile=/etc/istio/certs/root-cert.pem",
            "--tlsCertFile=/etc/istio/certs/cert-chain.pem",
            "--tlsKeyFile=/etc/istio/certs/key.pem",
            "--injectConfig=/etc/istio/inject/config",
            "--meshConfig=/etc/istio/config/mesh",
            "--healthCheckInterval=2s",
            "--healthCheckFile=/health",
        ],
        "ports": [{"containerPort": 443, "protocol": "TCP"}],
        "resources": {"requests": {"cpu": "10m"}},
        "livenessProbe": probe,
        "readinessProbe": probe,
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
        },
        "volumeMounts": [
            mount("certs", "/etc/istio/certs"),
            mount("config-volume", "/etc/istio/config"),
            mount("inject-config", "/etc/istio/inject"),
        ],
    });
    let volumes = json!([
        {
            "name": "certs",
            "secret": {"secretName": "istio.istio-sidecar-injector-service-account", "defaultMode": 420},
        },
        {"name": "config-volume", "configMap": {"name": "istio", "defaultMode": 420}},
        {
            "name": "inject-config",
            "configMap": {
                "name": "istio-sidecar-injector",
                "defaultMode": 420,
                "items": [{"key": "config", "path": "config"}],
            },
        },
    ]);
    let expected = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"istio": "sidecar-injector"}},
            "template": {
                "metadata": {"labels": {"istio": "sidecar-injector"}, "annotations": null},
                "spec": {
                    "serviceAccountName": "istio-sidecar-injector-service-account",
                    "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [container],
                    "volumes": volumes,
                },
            },
        },
    });
    assert_eq!(deployment, expected);
}

#[test]
fn webhook_fails_closed_but_never_for_kubernetes_itself() {
    let expected = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {
            "name": "istio-sidecar-injector",
            "labels": owned(&[("app", "istio-sidecar-injector")]),
        },
        "webhooks": [{
            "name": "sidecar-injector.istio.io",
            "admissionReviewVersions": ["v1beta1"],
            "clientConfig": {
                "caBundle": "UEVN",
                "service": {
                    "name": "istio-sidecar-injector", "namespace": "istio-system", "path": "/inject", "port": 443,
                },
            },
            "failurePolicy": "Fail",
            "matchPolicy": "Equivalent",
            "reinvocationPolicy": "Never",
            "sideEffects": "None",
            "timeoutSeconds": 10,
            "namespaceSelector": {
                "matchLabels": {"istio-injection": "enabled"},
                "matchExpressions": [{
                    "key": "kubernetes.io/metadata.name",
                    "operator": "NotIn",
                    "values": ["kube-node-lease", "kube-public", "kube-system", "istio-system"],
                }],
            },
            "rules": [{
                "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["*"], "resources": ["pods"], "scope": "*",
            }],
        }],
    });
    let webhook = serde_json::to_value(webhook(&settings(), None, b"PEM")).unwrap();
    assert_eq!(unstamped(webhook), expected);
}

#[test]
fn webhook_of_another_namespace_has_another_name_and_its_injector_knows_it() {
    let mut settings = settings();
    settings.namespace = "mesh-b".to_owned();
    assert_eq!(webhook_name(&settings), "istio-sidecar-injector-mesh-b");
    let webhook = serde_json::to_value(webhook(&settings, Some("uid-1"), b"PEM")).unwrap();
    assert_eq!(webhook["metadata"]["name"], "istio-sidecar-injector-mesh-b");
    assert_eq!(webhook["webhooks"][0]["clientConfig"]["service"]["namespace"], "mesh-b");
    let owner = json!([{"apiVersion": "v1", "kind": "Namespace", "name": "mesh-b", "uid": "uid-1"}]);
    assert_eq!(webhook["metadata"]["ownerReferences"], owner);
    let deployment = injector::deployment(&settings, &v1::SidecarInjector::default(), String::new());
    let arguments = deployment.spec.template.spec.unwrap().containers[0]
        .args
        .clone()
        .unwrap();
    assert!(arguments.contains(&"--webhookConfigName=istio-sidecar-injector-mesh-b".to_owned()));
}
