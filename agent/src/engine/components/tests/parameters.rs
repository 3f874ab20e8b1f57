//! Every field of the wire reaches the object it is meant for.

use remote_istio::policy::image;

use super::*;

fn requirement(operator: &str, values: &[&str]) -> v1::Requirement {
    v1::Requirement {
        key: "disk".to_owned(),
        operator: operator.to_owned(),
        values: values.iter().copied().map(str::to_owned).collect(),
    }
}

fn pod_term() -> v1::PodTerm {
    v1::PodTerm {
        match_labels: [("app".to_owned(), "a".to_owned())].into(),
        labels: vec![requirement("NotIn", &["x", "y"])],
        namespaces: vec!["other".to_owned()],
        topology_key: "zone".to_owned(),
    }
}

fn affinity() -> v1::Affinity {
    let weighted = |weight: u32| v1::WeightedPodTerm {
        weight,
        term: Some(pod_term()),
    };
    let node = v1::NodeTerm {
        labels: vec![requirement("Exists", &[])],
        fields: vec![requirement("In", &["n"])],
    };
    v1::Affinity {
        node_required: vec![node.clone()],
        node_preferred: vec![v1::WeightedNodeTerm {
            weight: 3,
            term: Some(node),
        }],
        pod_required: vec![pod_term()],
        pod_preferred: vec![weighted(4)],
        pod_anti_required: vec![pod_term()],
        pod_anti_preferred: vec![weighted(5)],
    }
}

fn affinity_json() -> Value {
    let pod = json!({
        "labelSelector": {
            "matchLabels": {"app": "a"},
            "matchExpressions": [{"key": "disk", "operator": "NotIn", "values": ["x", "y"]}],
        },
        "namespaces": ["other"],
        "topologyKey": "zone",
    });
    let node = json!({
        "matchExpressions": [{"key": "disk", "operator": "Exists"}],
        "matchFields": [{"key": "disk", "operator": "In", "values": ["n"]}],
    });
    let pods = |weight: u32| {
        json!({
            "requiredDuringSchedulingIgnoredDuringExecution": [pod],
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": weight, "podAffinityTerm": pod}],
        })
    };
    json!({
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [node]},
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 3, "preference": node}],
        },
        "podAffinity": pods(4),
        "podAntiAffinity": pods(5),
    })
}

fn resources() -> v1::Resources {
    v1::Resources {
        requests: [
            ("cpu".to_owned(), "0.1".to_owned()),
            ("memory".to_owned(), "64Mi".to_owned()),
        ]
        .into(),
        limits: [("memory".to_owned(), "1Gi".to_owned())].into(),
    }
}

fn toleration() -> v1::Toleration {
    v1::Toleration {
        key: "k".to_owned(),
        operator: String::new(),
        value: "v".to_owned(),
        effect: "NoExecute".to_owned(),
        seconds: Some(30),
    }
}

#[test]
fn every_field_of_a_workload_reaches_its_place() {
    type Set = fn(&mut v1::Workload);
    let pod = "/spec/template/spec";
    let container = "/spec/template/spec/containers/0";
    let cases: Vec<(Set, String, Value)> = vec![
        (
            |w| w.image = "a.example/b@sha256:0".to_owned(),
            format!("{container}/image"),
            json!("a.example/b@sha256:0"),
        ),
        (|w| w.replicas = Some(0), "/spec/replicas".to_owned(), json!(0)),
        (|w| w.replicas = Some(3), "/spec/replicas".to_owned(), json!(3)),
        (
            |w| w.image_pull_policy = "Always".to_owned(),
            format!("{container}/imagePullPolicy"),
            json!("Always"),
        ),
        (
            |w| w.image_pull_secrets = vec!["one".to_owned(), "two".to_owned()],
            format!("{pod}/imagePullSecrets"),
            json!([{"name": "one"}, {"name": "two"}]),
        ),
        (
            |w| w.resources = Some(resources()),
            format!("{container}/resources"),
            json!({"requests": {"cpu": "0.1", "memory": "64Mi"}, "limits": {"memory": "1Gi"}}),
        ),
        (
            |w| w.node_selector = [("a".to_owned(), "b".to_owned())].into(),
            format!("{pod}/nodeSelector"),
            json!({"a": "b"}),
        ),
        (
            |w| w.tolerations = vec![toleration()],
            format!("{pod}/tolerations"),
            json!([{"key": "k", "operator": "Equal", "value": "v", "effect": "NoExecute", "tolerationSeconds": 30}]),
        ),
        (
            |w| w.affinity = Some(affinity()),
            format!("{pod}/affinity"),
            affinity_json(),
        ),
    ];
    let plain = citadel(v1::Workload::default());
    for (set, pointer, expected) in cases {
        let mut workload = v1::Workload::default();
        set(&mut workload);
        assert_eq!(
            check(&Body::Citadel(Box::new(v1::Citadel {
                workload: Some(workload.clone())
            }))),
            Ok(())
        );
        let object = citadel(workload.clone());
        assert_eq!(object.pointer(&pointer), Some(&expected), "{pointer}");
        assert_ne!(
            object["metadata"]["annotations"][TEMPLATE], plain["metadata"]["annotations"][TEMPLATE],
            "{pointer}"
        );
        let ask = v1::SidecarInjector {
            workload: Some(workload),
            ..v1::SidecarInjector::default()
        };
        let object = &injector(&ask, v1::MeshConfig::default())[1];
        assert_eq!(object.pointer(&pointer), Some(&expected), "{pointer} of the injector");
    }
}

#[test]
fn an_empty_affinity_is_none() {
    let workload = v1::Workload {
        affinity: Some(v1::Affinity::default()),
        ..v1::Workload::default()
    };
    assert_eq!(citadel(workload).pointer("/spec/template/spec/affinity"), None);
}

#[test]
fn citadel_without_trust_carries_no_hash() {
    let deployment = citadel::deployment(&settings(), &Facts::default(), &v1::Citadel::default());
    let annotations = deployment.spec.template.metadata.unwrap().annotations.unwrap();
    assert_eq!(annotations.keys().collect::<Vec<_>>(), ["sidecar.istio.io/inject"]);
}

#[test]
fn injector_starts_anew_for_either_configuration() {
    let hash = |ask: &v1::SidecarInjector, secure: bool| {
        let mesh = v1::MeshConfig {
            control_plane_security: secure,
        };
        injector(ask, mesh)[1]["spec"]["template"]["metadata"]["annotations"][CONFIGURATION_HASH].clone()
    };
    let plain = v1::SidecarInjector::default();
    let other = v1::SidecarInjector {
        exclude_ip_ranges: "10.0.0.0/8".to_owned(),
        ..plain.clone()
    };
    assert_eq!(hash(&plain, false), hash(&plain, false));
    assert_ne!(hash(&plain, false), hash(&plain, true));
    assert_ne!(hash(&plain, false), hash(&other, false));
}

#[test]
fn template_has_no_restart_policy_and_every_default() {
    let (text, pods) = template_of(&v1::SidecarInjector::default(), |_| false);
    assert_eq!(text.matches("[[").count(), text.matches("]]").count());
    assert!(!text.contains("restartPolicy"));
    assert!(!text.contains('@'), "everything is put in");
    let init = &pods["initContainers"][0];
    assert_eq!(init["image"], image::PROXY_INIT);
    assert_eq!(init["imagePullPolicy"], "IfNotPresent");
    assert_eq!(
        init["args"][7],
        "[[ annotation .ObjectMeta `traffic.sidecar.istio.io/includeOutboundIPRanges` `*` ]]"
    );
    assert_eq!(
        init["args"][9],
        "[[ annotation .ObjectMeta `traffic.sidecar.istio.io/excludeOutboundIPRanges` `` ]]"
    );
    let flags = |index: usize| init["args"][index].clone();
    assert_eq!(
        [0, 2, 4, 6, 8, 10, 12].map(flags),
        ["-p", "-u", "-m", "-i", "-x", "-b", "-d"]
    );
    assert_eq!(
        init["securityContext"],
        json!({
            "runAsUser": 0, "runAsNonRoot": false, "privileged": false,
            "capabilities": {"add": ["NET_ADMIN", "NET_RAW"]},
        })
    );
    let proxy = &pods["containers"][0];
    let proxy_image = format!(
        "[[ annotation .ObjectMeta `sidecar.istio.io/proxyImage` `{}` ]]",
        image::PROXY
    );
    assert_eq!(proxy["image"], proxy_image);
    assert_eq!(proxy["resources"], json!({"requests": {"cpu": "10m"}}));
    assert_eq!(
        proxy["securityContext"],
        json!({
            "privileged": false, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]}, "runAsUser": 1337,
        })
    );
    assert_eq!(
        pods["volumes"][1]["secret"]["secretName"],
        "istio.[[ .Spec.ServiceAccountName ]]"
    );
}

#[test]
fn conditions_of_the_template_hold_what_the_seed_had() {
    let (_, pods) = template_of(&v1::SidecarInjector::default(), |_| true);
    let proxy = &pods["containers"][0];
    let names: Vec<&str> = proxy["env"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|env| env["name"].as_str())
        .collect();
    let expected = [
        "POD_NAME",
        "POD_NAMESPACE",
        "INSTANCE_IP",
        "ISTIO_META_POD_NAME",
        "ISTIO_META_INTERCEPTION_MODE",
        "ISTIO_METAJSON_ANNOTATIONS",
        "ISTIO_METAJSON_LABELS",
    ];
    assert_eq!(names, expected);
    assert_eq!(proxy["readinessProbe"]["httpGet"]["path"], "/healthz/ready");
    assert_eq!(
        proxy["securityContext"],
        json!({
            "privileged": false, "readOnlyRootFilesystem": true,
            "capabilities": {"add": ["NET_ADMIN"]}, "runAsGroup": 1337,
        })
    );
    assert_eq!(proxy["resources"]["requests"].as_object().unwrap().len(), 2);
    let arguments = proxy["args"].as_array().unwrap();
    for flag in ["--concurrency", "--statusPort", "--applicationPorts"] {
        assert!(arguments.contains(&json!(flag)), "{flag}");
    }
    assert_eq!(pods["volumes"][1]["secret"]["secretName"], "istio.default");
}

#[test]
fn every_field_of_the_sidecar_reaches_the_template() {
    let ask = v1::SidecarInjector {
        workload: None,
        include_ip_ranges: "10.0.0.0/8,fd00::/8".to_owned(),
        exclude_ip_ranges: "10.9.0.0/16".to_owned(),
        proxy: Some(v1::Proxy {
            image: "a.example/proxy:1".to_owned(),
            init_image: "a.example/init:2".to_owned(),
            image_pull_policy: "Never".to_owned(),
            privileged: true,
            resources: Some(resources()),
        }),
    };
    assert_eq!(check(&Body::Injector(Box::new(ask.clone()))), Ok(()));
    let (_, pods) = template_of(&ask, |_| false);
    let (init, proxy) = (&pods["initContainers"][0], &pods["containers"][0]);
    assert!(init["args"][7].as_str().unwrap().contains("`10.0.0.0/8,fd00::/8`"));
    assert!(init["args"][9].as_str().unwrap().contains("`10.9.0.0/16`"));
    assert_eq!(init["image"], "a.example/init:2");
    assert!(proxy["image"].as_str().unwrap().contains("`a.example/proxy:1`"));
    for container in [init, proxy] {
        assert_eq!(container["imagePullPolicy"], "Never");
        assert_eq!(container["securityContext"]["privileged"], true);
    }
    assert_eq!(proxy["securityContext"]["allowPrivilegeEscalation"], true);
    assert_eq!(
        proxy["resources"],
        json!({"requests": {"cpu": "0.1", "memory": "64Mi"}, "limits": {"memory": "1Gi"}})
    );
}

#[test]
fn place_in_an_images_name_stays_text() {
    let images = ["a.example/proxy@RESOURCES@", "a.example/init@PRIVILEGED@@EXCLUDE@"];
    let ask = v1::SidecarInjector {
        proxy: Some(v1::Proxy {
            image: images[0].to_owned(),
            init_image: images[1].to_owned(),
            resources: Some(resources()),
            ..v1::Proxy::default()
        }),
        ..v1::SidecarInjector::default()
    };
    let (text, pods) = template_of(&ask, |_| false);
    assert!(
        pods["containers"][0]["image"].as_str().unwrap().contains(images[0]),
        "{text}"
    );
    assert_eq!(pods["initContainers"][0]["image"], images[1]);
}
