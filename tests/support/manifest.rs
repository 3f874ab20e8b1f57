//! Applies YAML as `kubectl apply --server-side` does.

use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{GroupVersionKind, TypeMeta};
use kube::discovery::{self, Scope};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, ResourceExt as _};
use serde_json::Value;

/// Field manager of what a test or a person applies.
const FIELD_MANAGER: &str = "playground";

/// From a CRD to its `Established`.
const ESTABLISHED_DEADLINE: Duration = Duration::from_secs(30);

/// Kinds without a namespace whose names rules name, and of which each installation has its own.
const CLUSTER_WIDE: [&str; 3] = ["mutatingwebhookconfigurations", "clusterroles", "clusterrolebindings"];

/// The documents of a YAML text; empty ones are left out.
///
/// # Errors
/// The text is not YAML.
pub fn documents(text: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).context("reading YAML")?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// Applies every document, server-side and by force, in the order of the text; a CRD is waited for until it serves.
///
/// # Errors
/// The text is not YAML, or the API server refuses a document.
pub async fn apply_yaml(client: &Client, text: &str) -> Result<()> {
    for document in documents(text)? {
        apply(client, document).await?;
    }
    Ok(())
}

/// Applies one object and gives what the API server holds then.
///
/// # Errors
/// The API server refuses it.
pub async fn apply(client: &Client, document: Value) -> Result<DynamicObject> {
    let object: DynamicObject = serde_json::from_value(document).context("an object with kind and name")?;
    let types = object.types.clone().context("an object without a kind")?;
    let name = object.name_any();
    let api = api(client, &types, object.namespace().as_deref()).await?;
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let applied = api
        .patch(&name, &parameters, &Patch::Apply(&object))
        .await
        .with_context(|| format!("applying {} {name}", types.kind))?;
    if types.kind == "CustomResourceDefinition" {
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        let established = await_condition(definitions, &name, conditions::is_crd_established());
        tokio::time::timeout(ESTABLISHED_DEADLINE, established)
            .await
            .with_context(|| format!("CRD {name} is not established after {ESTABLISHED_DEADLINE:?}"))?
            .with_context(|| format!("watching CRD {name}"))?;
    }
    Ok(applied)
}

async fn api(client: &Client, types: &TypeMeta, namespace: Option<&str>) -> Result<Api<DynamicObject>> {
    let kind = GroupVersionKind::try_from(types).context("an apiVersion")?;
    let (resource, capabilities) = discovery::pinned_kind(client, &kind)
        .await
        .with_context(|| format!("asking for kind {}", types.kind))?;
    Ok(match (capabilities.scope, namespace) {
        (Scope::Cluster, _) => Api::all_with(client.clone(), &resource),
        (Scope::Namespaced, None) => Api::default_namespaced_with(client.clone(), &resource),
        (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(client.clone(), namespace, &resource),
    })
}

/// The same documents for another namespace than the one they were written for: each string that is the old
/// namespace becomes the new one, and cluster-wide names of ours get it as a suffix, so that several can stand side by
/// side.
///
/// # Errors
/// The text is not YAML.
pub fn moved(text: &str, from: &str, to: &str) -> Result<Vec<Value>> {
    let mut documents = documents(text)?;
    if from == to {
        return Ok(documents);
    }
    for document in &mut documents {
        // What lies in a namespace that it shares with others.
        let is_elsewhere = document["metadata"]["namespace"]
            .as_str()
            .is_some_and(|namespace| namespace != from);
        replace(document, from, to);
        let kind = document["kind"].as_str().unwrap_or_default();
        if is_elsewhere || matches!(kind, "ClusterRole" | "ClusterRoleBinding") {
            suffix(&mut document["metadata"]["name"], to);
        }
        if document["roleRef"]["kind"] == "ClusterRole" || (is_elsewhere && document["roleRef"].is_object()) {
            suffix(&mut document["roleRef"]["name"], to);
        }
        let rules = document.get_mut("rules").and_then(Value::as_array_mut);
        for rule in rules.into_iter().flatten() {
            let of = rule["resources"].as_array().into_iter().flatten();
            if of.filter_map(Value::as_str).any(|kind| CLUSTER_WIDE.contains(&kind)) {
                let names = rule.get_mut("resourceNames").and_then(Value::as_array_mut);
                names.into_iter().flatten().for_each(|name| suffix(name, to));
            }
        }
    }
    Ok(documents)
}

fn suffix(name: &mut Value, suffix: &str) {
    if let Some(text) = name.as_str() {
        *name = Value::String(format!("{text}-{suffix}"));
    }
}

fn replace(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::String(text) if text == from => to.clone_into(text),
        Value::Array(values) => values.iter_mut().for_each(|value| replace(value, from, to)),
        Value::Object(fields) => fields.values_mut().for_each(|value| replace(value, from, to)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn roles_of_components_and_webhooks_get_one_for_each_namespace() -> Result<()> {
        let text = "kind: ClusterRoleBinding\nmetadata: {name: istio-citadel-cluster-role-binding}\n\
                    roleRef: {kind: ClusterRole, name: istio-citadel-cluster-role}\n---\n\
                    kind: ClusterRole\nmetadata: {name: agent}\n\
                    rules: [{resources: [mutatingwebhookconfigurations], resourceNames: [istio-sidecar-injector]}, \
                    {resources: [clusterroles], resourceNames: [istio-citadel-cluster-role]}]\n";
        assert_eq!(
            moved(text, "istio-system", "mine")?,
            [
                json!({
                    "kind": "ClusterRoleBinding",
                    "metadata": {"name": "istio-citadel-cluster-role-binding-mine"},
                    "roleRef": {"kind": "ClusterRole", "name": "istio-citadel-cluster-role-mine"},
                }),
                json!({
                    "kind": "ClusterRole",
                    "metadata": {"name": "agent-mine"},
                    "rules": [{
                        "resources": ["mutatingwebhookconfigurations"],
                        "resourceNames": ["istio-sidecar-injector-mine"],
                    }, {
                        "resources": ["clusterroles"],
                        "resourceNames": ["istio-citadel-cluster-role-mine"],
                    }],
                }),
            ]
        );
        Ok(())
    }

    #[test]
    fn roles_move_to_another_namespace_without_meeting_the_old_ones() -> Result<()> {
        let text = "kind: ClusterRoleBinding\nmetadata: {name: agent}\nroleRef: {kind: ClusterRole, name: agent}\n\
                    subjects: [{kind: ServiceAccount, name: agent, namespace: istio-system}]\n---\n\
                    kind: Role\nmetadata: {name: agent, namespace: istio-system}\n";
        let moved = moved(text, "istio-system", "mine")?;
        assert_eq!(
            moved,
            [
                json!({
                    "kind": "ClusterRoleBinding",
                    "metadata": {"name": "agent-mine"},
                    "roleRef": {"kind": "ClusterRole", "name": "agent-mine"},
                    "subjects": [{"kind": "ServiceAccount", "name": "agent", "namespace": "mine"}],
                }),
                json!({"kind": "Role", "metadata": {"name": "agent", "namespace": "mine"}}),
            ]
        );
        Ok(())
    }

    #[test]
    fn what_lies_in_a_third_namespace_stays_there_under_a_name_of_its_own() -> Result<()> {
        let text = "kind: RoleBinding\nmetadata: {name: agent, namespace: default}\n\
                    roleRef: {kind: Role, name: agent}\nsubjects: [{name: agent, namespace: istio-system}]\n";
        assert_eq!(
            moved(text, "istio-system", "mine")?,
            [json!({
                "kind": "RoleBinding",
                "metadata": {"name": "agent-mine", "namespace": "default"},
                "roleRef": {"kind": "Role", "name": "agent-mine"},
                "subjects": [{"name": "agent", "namespace": "mine"}],
            })]
        );
        Ok(())
    }
}
