//! Every object that a chart renders is taken by a real API server, field by field: a field that it does not know, or that is
//! twice there, is refused.
//! Kinds that come with other people's CRDs are held to these.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use kube::api::{DynamicObject, Patch, PatchParams, ValidationDirective};
use kube::core::{GroupVersionKind, TypeMeta};
use kube::discovery::{self, Scope};
use kube::{Api, Client};
use serde_json::json;
use support::manifest::{apply, apply_yaml};
use support::render::{Document, Renderer, split};
use support::tools::Tool;
use support::{Cluster, ClusterOptions, deploy, foreign_crds};

use super::cases;

async fn take(client: &Client, document: &Document) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(document.object.clone())?;
    let types: TypeMeta = object.types.clone().context("an object without a kind")?;
    let kind = GroupVersionKind::try_from(&types)?;
    let (resource, capabilities) = discovery::pinned_kind(client, &kind).await?;
    let api: Api<DynamicObject> = match (capabilities.scope, document.namespace()) {
        (Scope::Cluster, None) => Api::all_with(client.clone(), &resource),
        (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(client.clone(), namespace, &resource),
        (scope, namespace) => anyhow::bail!("{scope:?} and namespace {namespace:?}"),
    };
    let mut parameters = PatchParams::apply("helm").dry_run();
    parameters.field_validation = Some(ValidationDirective::Strict);
    api.patch(document.name(), &parameters, &Patch::Apply(&object)).await?;
    Ok(())
}

/// With pods under the restricted level, as a careful cluster has it.
async fn make_namespaces<'a>(client: &Client, documents: impl Iterator<Item = &'a Document>) -> Result<()> {
    let names: BTreeSet<&str> = documents.filter_map(Document::namespace).collect();
    for name in names {
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        apply(client, namespace).await?;
        for account in ["remote-istio-hub", "remote-istio-agent", "remote-istio-agent-leave"] {
            let metadata = json!({"name": account, "namespace": name});
            apply(
                client,
                json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
            )
            .await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_object_of_every_case_is_taken_by_an_api_server() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions::named("charts")).await?;
    let client = cluster.admin();
    deploy::crds(&client).await?;
    for definition in tokio::task::spawn_blocking(foreign_crds::all).await?? {
        apply_yaml(&client, &definition).await?;
    }
    let helm = Renderer::new(Tool::Helm)?;
    let mut taken = 0;
    for case in cases::all() {
        let documents = split(&case.render(&helm)?)?;
        make_namespaces(&client, documents.iter()).await?;
        for document in &documents {
            take(&client, document)
                .await
                .with_context(|| format!("{}: {} {}", case.file(), document.kind(), document.name()))?;
            taken += 1;
        }
    }
    assert!(taken > 100, "only {taken} objects");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_field_is_refused_by_the_dry_run() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions::named("charts-strict")).await?;
    let client = cluster.admin();
    let document = Document {
        template: String::new(),
        text: String::new(),
        object: json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "default"},
            "spec": {"prots": []},
        }),
    };
    let error = take(&client, &document).await.expect_err("an unknown field");
    assert!(format!("{error:#}").contains("prots"), "{error:#}");
    Ok(())
}
