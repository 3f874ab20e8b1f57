use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use remote_istio::wire::v1;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::components::{Templates, webhook};
use super::super::tests::settings;
use super::super::{Facts, Trust};
use super::*;

/// What the API server and its controllers write beside what is sent.
const DEPLOYMENT_DEFAULTS: &[(&str, &str)] = &[
    ("/metadata/annotations/deployment.kubernetes.io~1revision", "\"3\""),
    ("/metadata/uid", "\"u\""),
    ("/metadata/generation", "4"),
    ("/spec/progressDeadlineSeconds", "600"),
    ("/spec/revisionHistoryLimit", "10"),
    (
        "/spec/strategy",
        r#"{"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}"#,
    ),
    (
        "/spec/template/metadata/annotations/kubectl.kubernetes.io~1restartedAt",
        "\"now\"",
    ),
    ("/spec/template/spec/dnsPolicy", "\"ClusterFirst\""),
    ("/spec/template/spec/restartPolicy", "\"Always\""),
    ("/spec/template/spec/schedulerName", "\"default-scheduler\""),
    (
        "/spec/template/spec/serviceAccount",
        "\"istio-citadel-service-account\"",
    ),
    ("/spec/template/spec/terminationGracePeriodSeconds", "30"),
    (
        "/spec/template/spec/containers/0/terminationMessagePath",
        "\"/dev/termination-log\"",
    ),
    ("/spec/template/spec/containers/0/terminationMessagePolicy", "\"File\""),
    ("/spec/template/spec/containers/0/resources/requests/cpu", "\"100m\""),
    ("/spec/template/spec/containers/0/resources/requests/memory", "\"1Gi\""),
    ("/status", r#"{"replicas": 1, "observedGeneration": 4}"#),
];

fn workload() -> v1::Workload {
    let pod_term = v1::PodTerm {
        topology_key: "zone".to_owned(),
        ..v1::PodTerm::default()
    };
    v1::Workload {
        resources: Some(v1::Resources {
            requests: [
                ("cpu".to_owned(), "0.1".to_owned()),
                ("memory".to_owned(), "1024Mi".to_owned()),
            ]
            .into(),
            ..v1::Resources::default()
        }),
        node_selector: [("disk".to_owned(), "ssd".to_owned())].into(),
        tolerations: vec![v1::Toleration {
            key: "k".to_owned(),
            operator: "Exists".to_owned(),
            ..v1::Toleration::default()
        }],
        affinity: Some(v1::Affinity {
            pod_anti_required: vec![pod_term],
            ..v1::Affinity::default()
        }),
        ..v1::Workload::default()
    }
}

fn citadel(workload: v1::Workload) -> Vec<Resource> {
    let settings = settings();
    let facts = Facts {
        trust: Trust::Ready {
            hash: "abc".to_owned(),
            own: true,
        },
        ..Facts::default()
    };
    let templates = Templates {
        settings: &settings,
        facts: &facts,
        mesh: None,
    };
    templates.citadel(&v1::Citadel {
        workload: Some(workload),
    })
}

/// `object` with each value put in at its pointer, or taken out where it is null; the parents are there.
fn with<T: Serialize + DeserializeOwned>(object: &T, changes: &[(&str, &str)]) -> T {
    let mut value = serde_json::to_value(object).unwrap();
    for (pointer, change) in changes {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let name = name.replace("~1", "/");
        let change: Value = serde_json::from_str(change).unwrap();
        match value.pointer_mut(parent) {
            Some(Value::Object(object)) if change.is_null() => {
                object.remove(&name);
            }
            Some(Value::Object(object)) => {
                object.insert(name, change);
            }
            Some(Value::Array(list)) => list.push(change),
            _ => panic!("{parent} is not there"),
        }
    }
    serde_json::from_value(value).unwrap()
}

fn deployment() -> Deployment {
    let Some(Resource::Deployment(deployment)) = citadel(workload()).into_iter().next() else {
        panic!("the first of Citadel's objects is its Deployment");
    };
    *deployment
}

fn alike(wanted: &Deployment, observed: Deployment) -> bool {
    let wanted = Resource::Deployment(Box::new(wanted.clone()));
    matches(&wanted, &Resource::Deployment(Box::new(observed)))
}

#[test]
fn what_the_api_server_adds_to_a_deployment_is_no_drift() {
    let wanted = deployment();
    assert!(alike(&wanted, with(&wanted, DEPLOYMENT_DEFAULTS)));
}

#[test]
fn what_others_add_to_a_deployment_is_theirs() {
    let wanted = deployment();
    for change in [
        ("/metadata/labels/team", "\"a\""),
        ("/spec/template/metadata/labels/team", "\"a\""),
        ("/spec/template/spec/containers/1", r#"{"name": "beside"}"#),
        ("/spec/template/spec/volumes/1", r#"{"name": "beside"}"#),
        (
            "/spec/template/spec/containers/0/env",
            r#"[{"name": "A", "value": "b"}]"#,
        ),
        ("/spec/template/spec/priorityClassName", "\"high\""),
    ] {
        assert!(alike(&wanted, with(&wanted, &[change])), "{change:?}");
    }
}

#[test]
fn what_is_changed_of_a_deployment_is_drift() {
    let wanted = deployment();
    for change in [
        ("/metadata/labels/app", "\"a\""),
        ("/metadata/annotations/istio.banzaicloud.io~1template", "\"0\""),
        ("/spec/replicas", "2"),
        (
            "/spec/template/metadata/annotations/istio.banzaicloud.io~1cacerts-hash",
            "\"0\"",
        ),
        ("/spec/template/spec/serviceAccountName", "\"default\""),
        ("/spec/template/spec/containers", "[]"),
        ("/spec/template/spec/containers/0/image", "\"evil\""),
        ("/spec/template/spec/containers/0/args", "[]"),
        ("/spec/template/spec/containers/0/args/10", "\"--more\""),
        ("/spec/template/spec/containers/0/readinessProbe", "null"),
        ("/spec/template/spec/containers/0/resources/requests/cpu", "\"101m\""),
        ("/spec/template/spec/containers/0/resources/requests/cpu", "null"),
        (
            "/spec/template/spec/containers/0/securityContext/allowPrivilegeEscalation",
            "true",
        ),
        (
            "/spec/template/spec/containers/0/securityContext/capabilities/drop",
            "[]",
        ),
        ("/spec/template/spec/nodeSelector/more", "\"a\""),
        ("/spec/template/spec/tolerations/0/effect", "\"NoExecute\""),
        ("/spec/template/spec/affinity", "null"),
        ("/spec/template/spec/volumes/0/secret/secretName", "\"other\""),
    ] {
        let observed = with(&wanted, &[change]);
        assert!(!alike(&wanted, observed), "{change:?}");
    }
}

/// What is no longer wanted still stands in what is observed: only the stamp tells.
#[test]
fn a_field_that_is_no_longer_wanted_is_drift() {
    let observed = deployment();
    let mut fewer = workload();
    fewer.node_selector.clear();
    let [Resource::Deployment(wanted), ..] = &citadel(fewer)[..] else {
        panic!("the first of Citadel's objects is its Deployment");
    };
    assert!(!alike(wanted, observed));
}

#[test]
fn webhook_is_compared_as_it_is_merged() {
    let wanted = webhook(&settings(), None, b"PEM");
    let alike = |change: (&str, &str)| {
        let observed: MutatingWebhookConfiguration = with(&wanted, &[change]);
        matches(
            &Resource::MutatingWebhook(Box::new(wanted.clone())),
            &Resource::MutatingWebhook(Box::new(observed)),
        )
    };
    for theirs in [
        ("/metadata/uid", "\"u\""),
        ("/webhooks/0/objectSelector", "{}"),
        ("/webhooks/0/matchConditions", "[]"),
    ] {
        assert!(alike(theirs), "{theirs:?}");
    }
    for drift in [
        ("/webhooks", "[]"),
        ("/webhooks/0/failurePolicy", "\"Ignore\""),
        ("/webhooks/0/clientConfig/caBundle", "\"QUFB\""),
        ("/webhooks/0/clientConfig/caBundle", "null"),
        ("/webhooks/0/namespaceSelector/matchExpressions", "[]"),
        ("/webhooks/0/namespaceSelector/matchLabels/more", "\"a\""),
        ("/webhooks/0/rules/0/resources/1", "\"secrets\""),
        ("/webhooks/0/rules/1", r#"{"resources": ["secrets"]}"#),
        ("/webhooks/0/timeoutSeconds", "30"),
    ] {
        assert!(!alike(drift), "{drift:?}");
    }
}

#[test]
fn a_services_selector_and_target_are_its_own() {
    let Some(Resource::Service(wanted)) = citadel(workload()).pop() else {
        panic!("the last of Citadel's objects is its Service");
    };
    let alike = |change: (&str, &str)| {
        let observed: Service = with(wanted.as_ref(), &[change]);
        matches(
            &Resource::Service(wanted.clone()),
            &Resource::Service(Box::new(observed)),
        )
    };
    for theirs in [
        ("/spec/clusterIP", "\"10.96.0.9\""),
        ("/spec/sessionAffinity", "\"None\""),
    ] {
        assert!(alike(theirs), "{theirs:?}");
    }
    for drift in [
        ("/spec/selector/app", "\"evil\""),
        ("/spec/selector", "{}"),
        ("/spec/ports/0/targetPort", "22"),
        ("/spec/ports/0/port", "22"),
    ] {
        assert!(!alike(drift), "{drift:?}");
    }
}

#[test]
fn a_configuration_that_was_edited_is_drift() {
    let settings = settings();
    let facts = Facts::default();
    let templates = Templates {
        settings: &settings,
        facts: &facts,
        mesh: None,
    };
    let wanted = templates.mesh(v1::MeshConfig::default());
    let alike = |change: (&str, &str)| {
        let observed: ConfigMap = with(&wanted, &[change]);
        matches(
            &Resource::ConfigMap(Box::new(wanted.clone())),
            &Resource::ConfigMap(Box::new(observed)),
        )
    };
    assert!(alike(("/data/more", "\"theirs\"")));
    assert!(!alike(("/data/mesh", "\"\"")));
    assert!(!alike(("/data", &json!({}).to_string())));
}
