//! Mesh configuration, Citadel and injector in a remote whose Deployments become pods: every object field by field, and
//! what happens to it. No image of the 1.0 line runs here: pods only say that they are ready.

use serde_json::{Value, json};
use support::eventually::{eventually, seen};
use support::mesh_ca::MeshCa;

use crate::mesh::{CITADEL, INJECTOR, Mesh, Remote, Setup, condition, run, seed_spec};

/// Where Citadel keeps its own CA on central.
const CENTRAL_CA: &str = "istio-ca-secret";

/// The seed's `RemoteIstio` on a remote with pods, until both Deployments are available.
async fn seeded(name: &str) -> Mesh<'static> {
    let mesh = Mesh::with_pods(name, Setup::components()).await;
    mesh.put_mesh_ca(CENTRAL_CA, &MeshCa::self_signed("central").expect("a CA"))
        .await;
    let injected = format!("{name}-app");
    mesh.remote(0).create_namespace(&injected, json!({})).await;
    mesh.create_remote_istio(0, seed_spec(&injected)).await;
    for deployment in [CITADEL, INJECTOR] {
        until_available(mesh.remote(0), deployment).await;
    }
    mesh
}

async fn until_available(remote: &Remote, deployment: &str) {
    remote
        .until_object("Deployment", deployment, |deployment| {
            deployment["status"]["availableReplicas"] == 1
        })
        .await;
}

/// The Deployment, the pods' spec, its one container.
const SPEC: &str = "/spec/template/spec";

/// Kind, name, JSON pointer, and what must be there; `null`: nothing.
type Row = (&'static str, &'static str, String, Value);

fn row(kind: &'static str, name: &'static str, pointer: &str, expected: Value) -> Row {
    (kind, name, pointer.to_owned(), expected)
}

/// What both Deployments have alike.
fn workload(
    name: &'static str,
    container: &str,
    image: &str,
    app: (&str, &str),
    istio: &str,
    account: &str,
) -> Vec<Row> {
    let of = |pointer: &str, expected: Value| row("Deployment", name, pointer, expected);
    let pods = |pointer: &str, expected: Value| of(&format!("{SPEC}{pointer}"), expected);
    vec![
        of(&format!("/metadata/labels/{}", app.0), json!(app.1)),
        of("/metadata/labels/istio", json!(istio)),
        of(
            "/metadata/labels/app.kubernetes.io~1managed-by",
            json!("remote-istio-agent"),
        ),
        of("/spec/replicas", json!(1)),
        of("/spec/selector/matchLabels", json!({"istio": istio})),
        of("/spec/template/metadata/labels/istio", json!(istio)),
        of(
            "/spec/template/metadata/annotations/sidecar.istio.io~1inject",
            json!("false"),
        ),
        // D36: Kubernetes has forgotten this one.
        of(
            "/spec/template/metadata/annotations/scheduler.alpha.kubernetes.io~1critical-pod",
            Value::Null,
        ),
        pods("/serviceAccountName", json!(account)),
        pods("/restartPolicy", json!("Always")),
        pods("/dnsPolicy", json!("ClusterFirst")),
        pods("/terminationGracePeriodSeconds", json!(30)),
        pods("/schedulerName", json!("default-scheduler")),
        pods("/containers/1", Value::Null),
        pods("/containers/0/name", json!(container)),
        pods("/containers/0/image", json!(image)),
        pods("/containers/0/imagePullPolicy", json!("IfNotPresent")),
        pods("/containers/0/resources/requests/cpu", json!("10m")),
        pods("/containers/0/resources/limits", Value::Null),
        pods("/containers/0/securityContext/allowPrivilegeEscalation", json!(false)),
    ]
}

fn citadel(namespace: &str) -> Vec<Row> {
    let of = |pointer: &str, expected: Value| row("Deployment", CITADEL, pointer, expected);
    let service = |pointer: &str, expected: Value| row("Service", CITADEL, pointer, expected);
    let container = |pointer: &str, expected: Value| of(&format!("{SPEC}/containers/0{pointer}"), expected);
    let mut rows = workload(
        CITADEL,
        "citadel",
        "docker.io/istio/citadel:1.0.5",
        ("app", "security"),
        "citadel",
        "istio-citadel-service-account",
    );
    rows.extend([
        container(
            "/args",
            json!([
                "--append-dns-names=true",
                "--grpc-port=8060",
                "--grpc-hostname=citadel",
                format!("--citadel-storage-namespace={namespace}"),
                format!(
                    "--custom-dns-names=istio-pilot-service-account.{namespace}:istio-pilot.{namespace},\
                     istio-ingressgateway-service-account.{namespace}:istio-ingressgateway.{namespace}"
                ),
                "--self-signed-ca=false",
                "--signing-cert=/etc/cacerts/ca-cert.pem",
                "--signing-key=/etc/cacerts/ca-key.pem",
                "--root-cert=/etc/cacerts/root-cert.pem",
                "--cert-chain=/etc/cacerts/cert-chain.pem",
            ]),
        ),
        container("/readinessProbe/tcpSocket/port", json!(8060)),
        container("/livenessProbe/tcpSocket/port", json!(8060)),
        container(
            "/volumeMounts",
            json!([{"mountPath": "/etc/cacerts", "name": "cacerts", "readOnly": true}]),
        ),
        of(
            &format!("{SPEC}/volumes"),
            json!([{"name": "cacerts", "secret": {"defaultMode": 420, "optional": true, "secretName": "cacerts"}}]),
        ),
        service("/metadata/labels/app", json!(CITADEL)),
        service("/spec/selector", json!({"istio": "citadel"})),
        service(
            "/spec/ports",
            json!([
                {"name": "grpc-citadel", "port": 8060, "protocol": "TCP", "targetPort": 8060},
                {"name": "http-monitoring", "port": 9093, "protocol": "TCP", "targetPort": 9093},
            ]),
        ),
        row("Secret", "cacerts", "/type", json!("Opaque")),
        row(
            "ServiceAccount",
            "istio-citadel-service-account",
            "/metadata/labels/app",
            json!("security"),
        ),
    ]);
    rows
}

fn injector(namespace: &str) -> Vec<Row> {
    let of = |pointer: &str, expected: Value| row("Deployment", INJECTOR, pointer, expected);
    let service = |pointer: &str, expected: Value| row("Service", INJECTOR, pointer, expected);
    let container = |pointer: &str, expected: Value| of(&format!("{SPEC}/containers/0{pointer}"), expected);
    let mut rows = workload(
        INJECTOR,
        "sidecar-injector-webhook",
        "docker.io/istio/sidecar_injector:1.0.5",
        ("app", INJECTOR),
        "sidecar-injector",
        "istio-sidecar-injector-service-account",
    );
    rows.push(container(
        "/args",
        json!([
            "--caCertFile=/etc/istio/certs/root-cert.pem",
            "--tlsCertFile=/etc/istio/certs/cert-chain.pem",
            "--tlsKeyFile=/etc/istio/certs/key.pem",
            "--injectConfig=/etc/istio/inject/config",
            "--meshConfig=/etc/istio/config/mesh",
            "--healthCheckInterval=2s",
            "--healthCheckFile=/health",
            // Only outside istio-system.
            format!("--webhookConfigName=istio-sidecar-injector-{namespace}"),
        ]),
    ));
    for probe in ["livenessProbe", "readinessProbe"] {
        rows.extend([
            container(
                &format!("/{probe}/exec/command"),
                json!([
                    "/usr/local/bin/sidecar-injector",
                    "probe",
                    "--probe-path=/health",
                    "--interval=4s"
                ]),
            ),
            container(&format!("/{probe}/initialDelaySeconds"), json!(4)),
            container(&format!("/{probe}/periodSeconds"), json!(4)),
            container(&format!("/{probe}/timeoutSeconds"), json!(1)),
            container(&format!("/{probe}/successThreshold"), json!(1)),
            container(&format!("/{probe}/failureThreshold"), json!(3)),
        ]);
    }
    rows.extend([
        container(
            "/volumeMounts",
            json!([
                {"mountPath": "/etc/istio/certs", "name": "certs", "readOnly": true},
                {"mountPath": "/etc/istio/config", "name": "config-volume", "readOnly": true},
                {"mountPath": "/etc/istio/inject", "name": "inject-config", "readOnly": true},
            ]),
        ),
        of(
            &format!("{SPEC}/volumes"),
            json!([
                {"name": "certs", "secret": {
                    "defaultMode": 420, "secretName": "istio.istio-sidecar-injector-service-account",
                }},
                {"name": "config-volume", "configMap": {"defaultMode": 420, "name": "istio"}},
                {"name": "inject-config", "configMap": {
                    "defaultMode": 420, "name": INJECTOR, "items": [{"key": "config", "path": "config"}],
                }},
            ]),
        ),
        service("/metadata/labels/istio", json!("sidecar-injector")),
        service("/spec/selector", json!({"istio": "sidecar-injector"})),
        service(
            "/spec/ports",
            json!([{"port": 443, "protocol": "TCP", "targetPort": 443}]),
        ),
        row("ConfigMap", INJECTOR, "/metadata/labels/app", json!(INJECTOR)),
        row(
            "ConfigMap",
            INJECTOR,
            "/metadata/labels/istio",
            json!("sidecar-injector"),
        ),
        row("ConfigMap", "istio", "/metadata/labels/app", json!("istio")),
        row(
            "ServiceAccount",
            "istio-sidecar-injector-service-account",
            "/metadata/labels/app",
            json!(INJECTOR),
        ),
    ]);
    rows
}

/// Values of 2.6 of the reference.
fn mesh_configuration(namespace: &str) -> Vec<(&'static str, Value)> {
    vec![
        ("/disablePolicyChecks", json!(false)),
        ("/enableTracing", json!(true)),
        ("/accessLogFile", json!("/dev/stdout")),
        (
            "/mixerCheckServer",
            json!(format!("istio-policy.{namespace}.svc.cluster.local:9091")),
        ),
        (
            "/mixerReportServer",
            json!(format!("istio-telemetry.{namespace}.svc.cluster.local:9091")),
        ),
        ("/policyCheckFailOpen", json!(false)),
        ("/sdsUdsPath", json!("")),
        ("/sdsRefreshDelay", json!("15s")),
        ("/defaultConfig/connectTimeout", json!("10s")),
        ("/defaultConfig/configPath", json!("/etc/istio/proxy")),
        ("/defaultConfig/binaryPath", json!("/usr/local/bin/envoy")),
        ("/defaultConfig/serviceCluster", json!("istio-proxy")),
        ("/defaultConfig/drainDuration", json!("45s")),
        ("/defaultConfig/parentShutdownDuration", json!("1m0s")),
        ("/defaultConfig/proxyAdminPort", json!(15000)),
        ("/defaultConfig/concurrency", json!(0)),
        (
            "/defaultConfig/zipkinAddress",
            json!(format!("zipkin.{namespace}:9411")),
        ),
        ("/defaultConfig/controlPlaneAuthPolicy", json!("NONE")),
        (
            "/defaultConfig/discoveryAddress",
            json!(format!("istio-pilot.{namespace}:15007")),
        ),
    ]
}

/// Every difference between a table and what the remote's API server holds.
async fn differences(remote: &Remote, rows: Vec<Row>) -> Vec<String> {
    let mut differences = Vec::new();
    for (kind, name, pointer, expected) in rows {
        let object = remote.object(kind, name).await.unwrap_or_default();
        let actual = object.pointer(&pointer).cloned().unwrap_or_default();
        if actual != expected {
            differences.push(format!("{kind} {name} {pointer}: {actual} instead of {expected}"));
        }
    }
    differences
}

/// A key of a `ConfigMap` that is YAML.
async fn yaml_in(remote: &Remote, name: &str, key: &str) -> Value {
    let map = remote.object("ConfigMap", name).await.expect("there");
    let text = map["data"][key].as_str().expect("a text");
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{name}/{key}: {error}\n{text}"))
}

// Turns red when: any field of a template is dropped or changed.
#[test]
fn seed_brings_every_object_of_2019_field_by_field() {
    run(async {
        let name = "components-seed";
        let mesh = seeded(name).await;
        let remote = mesh.remote(0);
        let rows = [citadel(name), injector(name)].concat();
        assert_eq!(differences(remote, rows).await, Vec::<String>::new());

        let configuration = yaml_in(remote, "istio", "mesh").await;
        for (pointer, expected) in mesh_configuration(name) {
            let actual = configuration.pointer(pointer).cloned().unwrap_or_default();
            assert_eq!(actual, expected, "{pointer} of {configuration}");
        }
        let injection = yaml_in(remote, INJECTOR, "config").await;
        assert_eq!(injection["policy"], "enabled");
        let template = injection["template"].as_str().expect("a template");
        for part in [
            "docker.io/istio/proxy_init:1.0.5",
            "docker.io/istio/proxyv2:1.0.5",
            "traffic.sidecar.istio.io/includeOutboundIPRanges",
            "traffic.sidecar.istio.io/excludeOutboundIPRanges",
            "name: istio-init",
            "name: istio-proxy",
            "http-envoy-prom",
        ] {
            assert!(template.contains(part), "{part} is missing in\n{template}");
        }
        // D36: on an init container of today it would make a sidecar container.
        assert!(!template.contains("restartPolicy"), "{template}");

        // Pods only pretend to run: the webhook waits, and the status says why.
        let webhook = format!("{INJECTOR}-{name}");
        assert_eq!(
            remote.cluster_object("MutatingWebhookConfiguration", &webhook).await,
            None
        );
        mesh.until_condition_says(0, "Applied", "False", "webhook").await;
        let status = mesh
            .until_status(0, "both components are counted", |status| {
                let components = status["components"].as_array();
                let available = |component: &&Value| component["available"] == 1;
                components.is_some_and(|all| all.iter().filter(available).count() == 2)
            })
            .await;
        for component in status["components"].as_array().expect("a list") {
            assert_eq!(component["desired"], 1, "{component}");
            assert_eq!(component["updated"], 1, "{component}");
        }
        assert_ne!(condition(&status, "Ready")["status"], "True", "{status}");
        let others: Vec<Value> = condition(&status, "MeshTrust")
            .as_object()
            .map(|all| json!(all))
            .into_iter()
            .collect();
        assert_eq!(
            others.first().map(|trust| trust["status"].clone()),
            Some(json!("True")),
            "{status}"
        );
        // The labels of namespaces do not wait for the webhook.
        let injected = format!("{name}-app");
        assert_eq!(
            remote.read_label(&injected, "istio-injection").await.as_deref(),
            Some("enabled")
        );
    });
}

/// How a component shall be run, with every field.
fn placement(image: &str) -> Value {
    json!({
        "image": image,
        "replicaCount": 2,
        "imagePullPolicy": "Always",
        "imagePullSecrets": [{"name": "pull"}],
        "nodeSelector": {"type": "kwok"},
        "tolerations": [{"key": "mesh", "operator": "Exists", "effect": "NoSchedule"}],
        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}},
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
            "weight": 5,
            "podAffinityTerm": {
                "topologyKey": "kubernetes.io/hostname",
                "labelSelector": {"matchLabels": {"istio": "any"}},
            },
        }]}},
    })
}

/// A spec with every field of the components.
fn every_field() -> Value {
    json!({
        "enabledServices": [],
        "includeIPRanges": "10.0.0.0/8,192.168.0.0/16",
        "excludeIPRanges": "10.9.0.0/16",
        "controlPlaneSecurityEnabled": true,
        "citadel": placement("registry.test/mesh/citadel:9"),
        "sidecarInjector": placement("registry.test/mesh/injector:9"),
        "proxy": {
            "image": "registry.test/mesh/proxy:9",
            "privileged": true,
            "resources": {"requests": {"cpu": "30m"}},
        },
        "proxyInit": {"image": "registry.test/mesh/init:9"},
    })
}

// Turns red when: a parameter of the spec is not read, not sent, or not put into its template.
#[test]
fn every_field_of_the_spec_arrives_in_the_remote() {
    run(async {
        let name = "components-fields";
        let mesh = Mesh::with_pods(
            name,
            Setup::components().with_policy(json!({
                "components": ["citadel", "sidecarInjector"],
                "imageRegistries": ["docker.io/istio", "registry.test/mesh"],
                "privilegedProxy": true,
            })),
        )
        .await;
        mesh.put_mesh_ca(CENTRAL_CA, &MeshCa::self_signed("central").expect("a CA"))
            .await;
        mesh.create_remote_istio(0, every_field()).await;
        let remote = mesh.remote(0);
        for (deployment, image) in [(CITADEL, "citadel"), (INJECTOR, "injector")] {
            remote
                .until_object("Deployment", deployment, |object| {
                    object["status"]["availableReplicas"] == 2
                })
                .await;
            let of = |pointer: &str, expected: Value| row("Deployment", deployment, pointer, expected);
            let pods = |pointer: &str, expected: Value| of(&format!("{SPEC}{pointer}"), expected);
            let preferred = "/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/0";
            let rows = vec![
                of("/spec/replicas", json!(2)),
                pods("/containers/0/image", json!(format!("registry.test/mesh/{image}:9"))),
                pods("/containers/0/imagePullPolicy", json!("Always")),
                pods("/imagePullSecrets", json!([{"name": "pull"}])),
                pods("/nodeSelector", json!({"type": "kwok"})),
                pods(
                    "/tolerations",
                    json!([{"key": "mesh", "operator": "Exists", "effect": "NoSchedule"}]),
                ),
                pods(
                    "/containers/0/resources",
                    json!({"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}}),
                ),
                pods(&format!("{preferred}/weight"), json!(5)),
                pods(
                    &format!("{preferred}/podAffinityTerm/topologyKey"),
                    json!("kubernetes.io/hostname"),
                ),
                pods(
                    &format!("{preferred}/podAffinityTerm/labelSelector/matchLabels"),
                    json!({"istio": "any"}),
                ),
            ];
            assert_eq!(differences(remote, rows).await, Vec::<String>::new());
        }
        let configuration = yaml_in(remote, "istio", "mesh").await;
        assert_eq!(configuration["defaultConfig"]["controlPlaneAuthPolicy"], "MUTUAL_TLS");
        assert_eq!(
            configuration["defaultConfig"]["discoveryAddress"],
            json!(format!("istio-pilot.{name}:15005"))
        );
        let template = yaml_in(remote, INJECTOR, "config").await["template"].to_string();
        for part in [
            "10.0.0.0/8,192.168.0.0/16",
            "10.9.0.0/16",
            "registry.test/mesh/proxy:9",
            "registry.test/mesh/init:9",
            "30m",
            "privileged: true",
        ] {
            assert!(template.contains(part), "{part} is missing in\n{template}");
        }
    });
}

// Turns red when: one of the kinds is not watched, or its difference is not seen.
#[test]
fn edited_and_deleted_objects_of_components_are_restored_without_the_hub() {
    run(async {
        let mut mesh = seeded("components-drift").await;
        mesh.remote(0).until_quiet().await;
        mesh.kill_hub().await;
        let remote = mesh.remote(0);
        let edits = [
            ("ConfigMap", "istio", "/data/mesh", json!({"data": {"mesh": "wrong"}})),
            (
                "ConfigMap",
                INJECTOR,
                "/data/config",
                json!({"data": {"config": "wrong"}}),
            ),
            (
                "Deployment",
                CITADEL,
                "/spec/replicas",
                json!({"spec": {"replicas": 0}}),
            ),
            (
                "Deployment",
                INJECTOR,
                "/spec/replicas",
                json!({"spec": {"replicas": 3}}),
            ),
            (
                "Service",
                CITADEL,
                "/spec/selector",
                json!({"spec": {"selector": {"istio": "wrong"}}}),
            ),
            (
                "Service",
                INJECTOR,
                "/spec/selector",
                json!({"spec": {"selector": {"istio": "wrong"}}}),
            ),
        ];
        for (kind, name, pointer, edit) in edits {
            let before = remote.object(kind, name).await.expect("there");
            remote.merge(kind, name, &edit).await;
            remote
                .until_object(kind, name, |now| now.pointer(pointer) == before.pointer(pointer))
                .await;
            let before = remote.object(kind, name).await.expect("there");
            remote.delete(kind, name).await;
            let made_again = |now: &Value| now["metadata"]["uid"] != before["metadata"]["uid"];
            let now = remote.until_object(kind, name, made_again).await;
            assert_eq!(now.pointer(pointer), before.pointer(pointer), "{kind} {name}");
        }
    });
}

/// Every name that the agent has deleted since, in order, each once.
async fn deleted(audit: &crate::audit::Audit) -> Vec<String> {
    let deletes = |event: &crate::audit::Event| event.is_ours && event.verb == "delete" && event.succeeded;
    let mut names: Vec<String> = Vec::new();
    for event in audit.since(deletes).await {
        let name = format!("{}/{}", event.resource, event.name);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

// Turns red when: the order of removal is not the reverse of that of setting up.
#[test]
fn components_go_in_the_reverse_order_of_their_coming() {
    run(async {
        let mesh = seeded("components-removal").await;
        let remote = mesh.remote(0);
        remote.until_quiet().await;
        let audit = remote.audit().await;
        mesh.delete_remote_istio(0).await;
        mesh.until_remote_istio_is_gone(0).await;
        remote.until_nothing_is_owned().await;
        assert_eq!(remote.secret("cacerts").await, None, "the Secret that we made");
        let deleted = deleted(&audit).await;
        let place = |name: &str| {
            let found = deleted.iter().position(|deleted| deleted == name);
            found.unwrap_or_else(|| panic!("{name} was not deleted: {deleted:?}"))
        };
        assert!(place("deployments/istio-sidecar-injector") < place("configmaps/istio-sidecar-injector"));
        assert!(
            place("deployments/istio-sidecar-injector") < place("configmaps/istio"),
            "{deleted:?}"
        );
        assert!(
            place("deployments/istio-citadel") < place("configmaps/istio"),
            "{deleted:?}"
        );
    });
}

// Turns red when: the roles are not looked for, or the answer does not name the chart's value.
#[test]
fn component_without_its_roles_is_refused_with_the_value_to_set_and_comes_when_it_is_set() {
    run(async {
        let setup = Setup {
            components: false,
            ..Setup::components()
        };
        let mesh = Mesh::with_pods("components-roles", setup).await;
        mesh.put_mesh_ca(CENTRAL_CA, &MeshCa::self_signed("central").expect("a CA"))
            .await;
        mesh.create_remote_istio(0, seed_spec("components-roles-app")).await;
        let values = [
            "components.citadel.enabled=true",
            "components.sidecarInjector.enabled=true",
        ];
        mesh.until_status(0, "each component names the chart's value", |status| {
            (0..2).all(|index| {
                let message = status["components"][index]["message"].as_str();
                message.is_some_and(|message| message.contains("Forbidden") && message.contains(values[index]))
            })
        })
        .await;
        mesh.until_condition(0, "Applied", "False").await;
        let remote = mesh.remote(0);
        assert_eq!(remote.object("Deployment", CITADEL).await, None);
        remote.install_components().await;
        until_available(remote, CITADEL).await;
        until_available(remote, INJECTOR).await;
    });
}

// Turns red when: the Deployment's own conditions are not read.
#[test]
fn component_that_finds_no_node_is_not_ready_and_the_status_says_why() {
    run(async {
        let mesh = Mesh::with_pods("components-stuck", Setup::components()).await;
        mesh.put_mesh_ca(CENTRAL_CA, &MeshCa::self_signed("central").expect("a CA"))
            .await;
        mesh.create_remote_istio(
            0,
            json!({"enabledServices": [], "citadel": {"nodeSelector": {"no": "such-node"}}}),
        )
        .await;
        mesh.until_condition_says(0, "Applied", "False", "citadel").await;
        let status = mesh
            .until_status(0, "the component is counted", |status| {
                status["components"][0]["desired"] == 1 && status["components"][0]["available"] == 0
            })
            .await;
        assert_ne!(status["components"][0]["message"], "", "{status}");
        assert_ne!(status["Status"], "Available", "{status}");
        // A node is found: nobody has to touch anything.
        mesh.merge_spec(0, json!({"citadel": {"nodeSelector": null}})).await;
        mesh.until_ready(0).await;
    });
}

// Turns red when: a refusal by quota is not told, or not tried again.
#[test]
fn quota_of_the_remote_is_told_and_waited_for() {
    run(async {
        let mesh = Mesh::with_pods("components-quota", Setup::components()).await;
        let remote = mesh.remote(0);
        remote
            .create(
                "ResourceQuota",
                "tight",
                json!({"spec": {"hard": {"count/deployments.apps": "0"}}}),
            )
            .await;
        eventually("the quota is in force", || async {
            let quota = remote.object("ResourceQuota", "tight").await.unwrap_or_default();
            seen(quota["status"]["hard"]["count/deployments.apps"] == "0", quota)
        })
        .await;
        mesh.put_mesh_ca(CENTRAL_CA, &MeshCa::self_signed("central").expect("a CA"))
            .await;
        mesh.create_remote_istio(0, json!({"enabledServices": [], "citadel": {}}))
            .await;
        mesh.until_condition_says(0, "Applied", "False", "exceeded quota").await;
        remote.delete("ResourceQuota", "tight").await;
        until_available(remote, CITADEL).await;
        mesh.until_ready(0).await;
    });
}

// Turns red when: a refusal by admission is not told, or holds up the other objects.
#[test]
fn admission_of_the_remote_that_denies_our_writes_is_told_and_holds_up_nothing_else() {
    run(async {
        let name = "components-denied";
        let mesh = Mesh::with_pods(name, Setup::components()).await;
        let remote = mesh.remote(0);
        let policy = json!({"spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"],
            }]},
            "validations": [{"expression": "false", "message": "no workloads of strangers here"}],
        }});
        remote
            .create_cluster_object("ValidatingAdmissionPolicy", name, policy)
            .await;
        let binding = json!({"spec": {
            "policyName": name,
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}},
        }});
        remote
            .create_cluster_object("ValidatingAdmissionPolicyBinding", name, binding)
            .await;
        // In force once it denies.
        eventually("the policy is in force", || async {
            let tried = remote.try_create("Deployment", "probe", probe()).await;
            if tried.is_ok() {
                remote.delete("Deployment", "probe").await;
            }
            seen(tried.is_err(), tried).map(drop)
        })
        .await;
        mesh.put_mesh_ca(CENTRAL_CA, &MeshCa::self_signed("central").expect("a CA"))
            .await;
        mesh.create_remote_istio(
            0,
            json!({"enabledServices": [{"name": "istio-pilot", "labelSelector": "istio=pilot"}], "citadel": {}}),
        )
        .await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        remote.until_addresses("istio-pilot", &["10.1.0.1"]).await;
        remote.until_object("ConfigMap", "istio", |_| true).await;
        mesh.until_condition_says(0, "Applied", "False", "no workloads of strangers here")
            .await;
        remote
            .delete_cluster_object("ValidatingAdmissionPolicyBinding", name)
            .await;
        remote.delete_cluster_object("ValidatingAdmissionPolicy", name).await;
        until_available(remote, CITADEL).await;
    });
}

/// A Deployment of nobody.
fn probe() -> Value {
    json!({"spec": {
        "replicas": 0,
        "selector": {"matchLabels": {"app": "probe"}},
        "template": {"metadata": {"labels": {"app": "probe"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}},
    }})
}

// Turns red when: a foreign Deployment is merged into, or the way to adopt it is not told.
#[test]
fn foreign_deployment_is_left_alone_until_a_person_labels_it_as_told() {
    run(async {
        let mesh = Mesh::with_pods("components-adopted", Setup::components()).await;
        let remote = mesh.remote(0);
        let mut theirs = probe();
        theirs["spec"]["selector"] = json!({"matchLabels": {"istio": "citadel"}});
        theirs["spec"]["template"]["metadata"]["labels"] = json!({"istio": "citadel"});
        remote.create("Deployment", CITADEL, theirs).await;
        mesh.put_mesh_ca(CENTRAL_CA, &MeshCa::self_signed("central").expect("a CA"))
            .await;
        mesh.create_remote_istio(0, json!({"enabledServices": [], "citadel": {}}))
            .await;
        let told = mesh.until_condition_says(0, "Applied", "False", "kubectl").await;
        let told = told["message"].as_str().unwrap_or_default().to_owned();
        let object = remote.object("Deployment", CITADEL).await.expect("there");
        assert_eq!(
            object["spec"]["template"]["spec"]["containers"][0]["image"], "a",
            "not a byte of it was touched"
        );
        // What it says is done, word by word.
        let labels = words_of_label_command(&told);
        assert!(labels.len() >= 2, "both owner labels: {told}");
        let labels: serde_json::Map<String, Value> =
            labels.into_iter().map(|(key, value)| (key, json!(value))).collect();
        remote
            .merge("Deployment", CITADEL, &json!({"metadata": {"labels": labels}}))
            .await;
        until_available(remote, CITADEL).await;
        remote
            .until_object("Deployment", CITADEL, |object| {
                object["spec"]["template"]["spec"]["containers"][0]["name"] == "citadel"
                    || object["spec"]["template"]["spec"]["containers"][1]["name"] == "citadel"
            })
            .await;
    });
}

/// The KEY=VALUE words of a `kubectl label` command in a text.
pub fn words_of_label_command(text: &str) -> Vec<(String, String)> {
    let from = text.find("kubectl").map_or("", |at| &text[at..]);
    let words = from
        .split([' ', '`', '\'', '"', '\n'])
        .filter_map(|word| word.split_once('='));
    words
        .filter(|(key, _)| key.contains('/') && !key.starts_with('-'))
        .map(|(key, value)| (key.to_owned(), value.trim_end_matches([',', '.', ';', ')']).to_owned()))
        .collect()
}

// Turns red when: an API server's refusal of an immutable field is only told, or a new one is made beside it.
#[test]
fn deployment_of_ours_with_another_selector_is_made_anew() {
    run(async {
        let mut mesh = seeded("components-selector").await;
        mesh.remote(0).until_quiet().await;
        mesh.remote_mut(0).kill_agent().await;
        let remote = mesh.remote(0);
        let ours = remote.object("Deployment", CITADEL).await.expect("there");
        remote.delete("Deployment", CITADEL).await;
        remote.until_absent("Deployment", CITADEL).await;
        let mut other = probe();
        other["metadata"] = json!({"labels": ours["metadata"]["labels"]});
        remote.create("Deployment", CITADEL, other).await;
        let other = remote.object("Deployment", CITADEL).await.expect("there");
        mesh.launch_agent(0).await;
        let remote = mesh.remote(0);
        let again = remote
            .until_object("Deployment", CITADEL, |now| {
                now["spec"]["selector"] == ours["spec"]["selector"] && now["status"]["availableReplicas"] == 1
            })
            .await;
        assert_ne!(again["metadata"]["uid"], other["metadata"]["uid"]);
    });
}

// Turns red when: a removal that waits is not told, or holds up the others.
#[test]
fn finalizer_on_our_object_is_named_and_holds_up_no_other() {
    run(async {
        let mesh = seeded("components-held").await;
        let remote = mesh.remote(0);
        remote.until_quiet().await;
        let held = json!({"metadata": {"finalizers": ["test.example/holds"]}});
        remote.merge("Service", CITADEL, &held).await;
        mesh.delete_remote_istio(0).await;
        remote.until_absent("Deployment", CITADEL).await;
        remote.until_absent("Deployment", INJECTOR).await;
        remote.until_absent("Service", INJECTOR).await;
        mesh.until_status(0, "the finalizer is named", |status| {
            status.to_string().contains("test.example/holds")
        })
        .await;
        remote
            .merge("Service", CITADEL, &json!({"metadata": {"finalizers": null}}))
            .await;
        mesh.until_remote_istio_is_gone(0).await;
        remote.until_nothing_is_owned().await;
    });
}
