//! The webhook that sends new pods to the injector. It fails closed, so it stands only while the injector serves.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ServiceReference, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, OwnerReference};

use super::injector::PORT;
use super::{INJECTOR, Settings, cluster_metadata, map, stamp};
use crate::engine::names;

/// Where a webhook of this name does not tell its remote: the seed's namespace.
const SEED_NAMESPACE: &str = "istio-system";
/// Namespaces of Kubernetes itself, where a pod that cannot be made can cost the cluster.
const KUBERNETES: [&str; 3] = ["kube-node-lease", "kube-public", "kube-system"];
/// How long the API server waits for the injector, seconds. A pod's creation waits as long.
const TIMEOUT_SECONDS: i32 = 10;

/// What the webhook is called: two agents of one remote have two.
#[must_use]
pub fn webhook_name(settings: &Settings) -> String {
    if settings.namespace == SEED_NAMESPACE {
        INJECTOR.to_owned()
    } else {
        format!("{INJECTOR}-{}", settings.namespace)
    }
}

/// The webhook, with the PEM that the injector's certificate is verified with. It belongs to the agent's namespace, whose
/// UID this is: deleted with the injector in it, and no agent left to withdraw it, it goes too.
#[must_use]
pub fn webhook(settings: &Settings, namespace_uid: Option<&str>, ca_bundle: &[u8]) -> MutatingWebhookConfiguration {
    let mut configuration = MutatingWebhookConfiguration {
        metadata: cluster_metadata(settings, &webhook_name(settings), &[("app", INJECTOR)]),
        webhooks: Some(vec![injection(settings, ca_bundle)]),
    };
    configuration.metadata.owner_references = namespace_uid.map(|uid| {
        vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Namespace".to_owned(),
            name: settings.namespace.clone(),
            uid: uid.to_owned(),
            ..OwnerReference::default()
        }]
    });
    configuration.metadata.annotations = Some(stamp(&configuration));
    configuration
}

fn injection(settings: &Settings, ca_bundle: &[u8]) -> MutatingWebhook {
    MutatingWebhook {
        name: "sidecar-injector.istio.io".to_owned(),
        client_config: WebhookClientConfig {
            ca_bundle: Some(ByteString(ca_bundle.to_vec())),
            service: Some(ServiceReference {
                name: INJECTOR.to_owned(),
                namespace: settings.namespace.clone(),
                path: Some("/inject".to_owned()),
                port: Some(i32::from(PORT)),
            }),
            url: None,
        },
        rules: Some(vec![RuleWithOperations {
            operations: Some(texts(&["CREATE"])),
            api_groups: Some(texts(&[""])),
            api_versions: Some(texts(&["*"])),
            resources: Some(texts(&["pods"])),
            scope: Some("*".to_owned()),
        }]),
        // The injector of the 1.0 line reads no other reviews.
        admission_review_versions: vec!["v1beta1".to_owned()],
        side_effects: "None".to_owned(),
        failure_policy: Some("Fail".to_owned()),
        match_policy: Some("Equivalent".to_owned()),
        reinvocation_policy: Some("Never".to_owned()),
        timeout_seconds: Some(TIMEOUT_SECONDS),
        namespace_selector: Some(selector(settings)),
        ..MutatingWebhook::default()
    }
}

/// Namespaces that are labelled, but never Kubernetes' own, nor the one the injector itself must come up in.
fn selector(settings: &Settings) -> LabelSelector {
    let mut never = texts(&KUBERNETES);
    if !never.contains(&settings.namespace) {
        never.push(settings.namespace.clone());
    }
    LabelSelector {
        match_labels: Some(map(&[(names::INJECTION, "enabled")])),
        match_expressions: Some(vec![LabelSelectorRequirement {
            key: "kubernetes.io/metadata.name".to_owned(),
            operator: "NotIn".to_owned(),
            values: Some(never),
        }]),
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().copied().map(str::to_owned).collect()
}
