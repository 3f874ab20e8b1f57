//! What lies under `deploy/`, as tests and playground install it.

use std::path::Path;

use anyhow::{Context as _, Result};
use kube::Client;
use serde_json::{Value, json};

use crate::manifest::{apply, apply_yaml, documents, moved};

/// The namespace that the manifests are written for.
pub const NAMESPACE: &str = "istio-system";

/// A file under `deploy/`.
///
/// # Errors
/// There is no such file.
pub fn read(name: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name);
    std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

/// The CRDs: what a remote is to hold, what its name is bound to, and join tokens.
const CRDS: [&str; 3] = ["remoteistios", "remoteidentities", "jointokens"];

/// Applies the CRDs and waits until the API server serves them.
///
/// # Errors
/// The API server refuses one.
pub async fn crds(client: &Client) -> Result<()> {
    for name in CRDS {
        apply_yaml(
            client,
            &read(&format!("charts/remote-istio-hub/files/crds/{name}.yaml"))?,
        )
        .await?;
    }
    Ok(())
}

/// Makes a namespace if it is missing.
///
/// # Errors
/// The API server refuses it.
pub async fn namespace(client: &Client, name: &str) -> Result<()> {
    apply(
        client,
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
    )
    .await
    .map(|_| ())
}

/// Applies `roles/NAME.yaml` for a process that runs in `namespace`, and its namespaced rules also in each of
/// `service_namespaces`.
///
/// # Errors
/// The API server refuses it.
pub async fn roles(client: &Client, name: &str, namespace: &str, service_namespaces: &[String]) -> Result<()> {
    for document in role_documents(name, namespace, service_namespaces)? {
        apply(client, document).await?;
    }
    Ok(())
}

/// The documents that [`roles`] applies.
///
/// # Errors
/// The file is missing or not YAML.
pub fn role_documents(name: &str, namespace: &str, service_namespaces: &[String]) -> Result<Vec<Value>> {
    let mut all = moved(&read(&format!("roles/{name}.yaml"))?, NAMESPACE, namespace)?;
    let is_own = |document: &&Value| is_rule(document) && document["metadata"]["namespace"] == namespace;
    let namespaced: Vec<Value> = all.iter().filter(is_own).cloned().collect();
    for other in service_namespaces.iter().filter(|other| *other != namespace) {
        all.extend(namespaced.iter().cloned().map(|mut document| {
            document["metadata"]["namespace"] = Value::String(other.clone());
            document
        }));
    }
    Ok(all)
}

fn is_rule(document: &Value) -> bool {
    matches!(document["kind"].as_str(), Some("Role" | "RoleBinding"))
}

/// The documents of a YAML text with this kind.
///
/// # Errors
/// The text is not YAML.
pub fn of_kind(text: &str, kind: &str) -> Result<Vec<Value>> {
    Ok(documents(text)?
        .into_iter()
        .filter(|document| document["kind"] == kind)
        .collect())
}
