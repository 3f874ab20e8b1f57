//! Objects and what stands in their way, in words for people.

use super::super::progress::{self, Fault};
use super::super::{Kind, ObjectName, Resource, Settings, names};

/// Whether an object is being deleted.
#[must_use]
pub fn is_terminating(resource: &Resource) -> bool {
    resource
        .metadata()
        .is_some_and(|metadata| metadata.deletion_timestamp.is_some())
}

/// Who still holds an object that is being deleted.
#[must_use]
pub fn finalizers(resource: &Resource) -> Vec<String> {
    let metadata = resource
        .metadata()
        .filter(|metadata| metadata.deletion_timestamp.is_some());
    metadata
        .and_then(|metadata| metadata.finalizers.clone())
        .unwrap_or_default()
}

/// That an object which is being deleted still stands.
#[must_use]
pub fn lingers(name: &ObjectName, finalizers: &[String]) -> String {
    let (what, finalizers) = (describe(name), finalizers.join(", "));
    format!("{what} is deleted and stands until its finalizers are gone: {finalizers}")
}

/// Another object has the name: whose it is, and how a person hands it over.
#[must_use]
pub fn foreign(settings: &Settings, name: &ObjectName) -> Fault {
    let labels = names::owner_labels(settings);
    let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}={value}")).collect();
    let place = if name.namespace.is_empty() {
        String::new()
    } else {
        format!("-n {} ", name.namespace)
    };
    let (resource, object) = (resource(name.kind), &name.name);
    let command = format!(
        "kubectl {place}label --overwrite {resource} {object} {}",
        labels.join(" ")
    );
    progress::foreign(&describe(name), &command)
}

/// What kubectl calls a kind.
fn resource(kind: Kind) -> &'static str {
    match kind {
        Kind::MutatingWebhook => "mutatingwebhookconfiguration",
        Kind::Deployment => "deployment",
        Kind::Service => "service",
        Kind::EndpointSlice => "endpointslice",
        Kind::Endpoints => "endpoints",
        Kind::Namespace => "namespace",
        Kind::ConfigMap => "configmap",
    }
}

/// An object in words.
#[must_use]
pub fn describe(name: &ObjectName) -> String {
    let kind = match name.kind {
        Kind::MutatingWebhook => return format!("mutating webhook configuration {}", name.name),
        Kind::Deployment => "deployment",
        Kind::Service => "service",
        Kind::EndpointSlice => "endpoint slice",
        Kind::Endpoints => "endpoints object",
        Kind::Namespace => return format!("namespace {}", name.name),
        Kind::ConfigMap => "config map",
    };
    format!("{kind} {}/{}", name.namespace, name.name)
}
