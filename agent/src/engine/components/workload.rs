//! How a component is run: its Deployment and Service, with what the hub may say of image, replicas, resources and
//! placement.

mod affinity;
mod checks;

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, LocalObjectReference, PodSecurityContext, PodSpec, PodTemplateSpec, ResourceRequirements,
    SeccompProfile, SecurityContext, Service, ServicePort, ServiceSpec, Toleration, Volume,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use remote_istio::wire::v1;

use super::{Settings, map, metadata, stamp};

pub use checks::{check, image as check_image, pull_policy as check_pull_policy, resources as check_resources};

/// Pull policy where the hub names none.
pub const PULL_POLICY: &str = "IfNotPresent";
/// Processor time a container asks for where the hub says nothing.
pub const CPU_REQUEST: &str = "10m";
/// On pods that must not be given a sidecar.
const INJECT: &str = "sidecar.istio.io/inject";

/// What a component's Deployment is made of, beside the parameters.
pub struct Run<'a> {
    /// Its name.
    pub name: &'a str,
    /// Labels of the Deployment, beside the owner's.
    pub labels: &'a [(&'a str, &'a str)],
    /// Labels of its pods.
    pub selector: &'a [(&'a str, &'a str)],
    /// Annotations of its pods.
    pub annotations: BTreeMap<String, String>,
    /// The pods' account.
    pub account: &'a str,
    /// Where the hub names none.
    pub default_image: &'a str,
    /// Without image, pull policy and resources.
    pub container: Container,
    /// The pods' volumes.
    pub volumes: Vec<Volume>,
}

/// The Deployment of a component.
#[must_use]
pub fn deployment(settings: &Settings, workload: &v1::Workload, run: Run<'_>) -> Deployment {
    let mut annotations = run.annotations;
    annotations.insert(INJECT.to_owned(), "false".to_owned());
    let pod = pod(workload, run.account, run.default_image, run.container, run.volumes);
    let mut deployment = Deployment {
        metadata: metadata(settings, run.name, run.labels),
        spec: DeploymentSpec {
            replicas: Some(replicas(workload)),
            selector: LabelSelector {
                match_labels: Some(map(run.selector)),
                match_expressions: None,
            },
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(map(run.selector)),
                    annotations: Some(annotations),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod),
            },
            ..DeploymentSpec::default()
        },
        status: None,
    };
    deployment.metadata.annotations = Some(stamp(&deployment));
    deployment
}

fn replicas(workload: &v1::Workload) -> i32 {
    let replicas = workload.replicas.unwrap_or(1).min(checks::REPLICAS_MAX);
    i32::try_from(replicas).unwrap_or(1)
}

fn pod(
    workload: &v1::Workload,
    account: &str,
    default_image: &str,
    container: Container,
    volumes: Vec<Volume>,
) -> PodSpec {
    let secret = |name: &String| LocalObjectReference { name: name.clone() };
    PodSpec {
        service_account_name: Some(account.to_owned()),
        containers: vec![Container {
            image: Some(or(&workload.image, default_image)),
            image_pull_policy: Some(or(&workload.image_pull_policy, PULL_POLICY)),
            resources: Some(resources(workload.resources.as_ref())),
            ..container
        }],
        volumes: Some(volumes),
        image_pull_secrets: some(workload.image_pull_secrets.iter().map(secret).collect()),
        node_selector: some_map(workload.node_selector.clone()),
        tolerations: some(workload.tolerations.iter().map(toleration).collect()),
        affinity: workload.affinity.as_ref().and_then(affinity::affinity),
        security_context: Some(PodSecurityContext {
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        ..PodSpec::default()
    }
}

/// A service that selects the pods of a component.
#[must_use]
pub fn selecting(
    settings: &Settings,
    name: &str,
    labels: &[(&str, &str)],
    selector: &[(&str, &str)],
    ports: Vec<ServicePort>,
) -> Service {
    Service {
        metadata: metadata(settings, name, labels),
        spec: Some(ServiceSpec {
            selector: Some(map(selector)),
            ports: Some(ports),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// A port that leads to the same port of the pods.
#[must_use]
pub fn port(name: &str, number: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: i32::from(number),
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::Int(i32::from(number))),
        ..ServicePort::default()
    }
}

/// What a component's container may do: nothing but `capabilities`.
#[must_use]
pub fn security(capabilities: &[&str]) -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: some(capabilities.iter().copied().map(str::to_owned).collect()),
        }),
        ..SecurityContext::default()
    }
}

/// What a container asks for: the seed's where the hub says nothing.
fn resources(resources: Option<&v1::Resources>) -> ResourceRequirements {
    let Some(resources) = resources.filter(|resources| !resources.requests.is_empty() || !resources.limits.is_empty())
    else {
        return ResourceRequirements {
            requests: Some([("cpu".to_owned(), Quantity(CPU_REQUEST.to_owned()))].into()),
            ..ResourceRequirements::default()
        };
    };
    let quantities = |amounts: &BTreeMap<String, String>| {
        let quantity = |(name, amount): (&String, &String)| (name.clone(), Quantity(amount.clone()));
        some_map(amounts.iter().map(quantity).collect())
    };
    ResourceRequirements {
        requests: quantities(&resources.requests),
        limits: quantities(&resources.limits),
        ..ResourceRequirements::default()
    }
}

fn toleration(toleration: &v1::Toleration) -> Toleration {
    Toleration {
        key: text(&toleration.key),
        operator: Some(or(&toleration.operator, "Equal")),
        value: text(&toleration.value),
        effect: text(&toleration.effect),
        toleration_seconds: toleration.seconds,
    }
}

/// What the hub says, or what stands where it says nothing.
#[must_use]
pub fn or(text: &str, default: &str) -> String {
    if text.is_empty() { default } else { text }.to_owned()
}

fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn some_map<T>(map: BTreeMap<String, T>) -> Option<BTreeMap<String, T>> {
    (!map.is_empty()).then_some(map)
}
