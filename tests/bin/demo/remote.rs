//! What a remote holds, read from its API server.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DynamicObject, ListParams};
use kube::core::ApiResource;
use kube::{Api, Client, Resource, ResourceExt as _};
use support::deploy::NAMESPACE;

/// The label that ties slices to their Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Ready addresses in the slices of a Service.
pub(crate) async fn addresses(client: &Client, service: &str) -> Result<BTreeSet<String>> {
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
    let parameters = ListParams::default().labels(&format!("{SERVICE_NAME}={service}"));
    let listed = slices
        .list(&parameters)
        .await
        .with_context(|| format!("listing the slices of {service}"))?;
    Ok(listed.items.iter().flat_map(ready_addresses).collect())
}

/// Ready addresses of one slice.
pub(crate) fn ready_addresses(slice: &EndpointSlice) -> Vec<String> {
    let endpoints = slice.endpoints.iter().flatten();
    let ready = endpoints.filter(|endpoint| {
        endpoint
            .conditions
            .as_ref()
            .and_then(|conditions| conditions.ready)
            .unwrap_or(true)
    });
    ready.flat_map(|endpoint| endpoint.addresses.iter().cloned()).collect()
}

/// Addresses and UID of an Endpoints object, if there is one.
pub(crate) async fn endpoints(client: &Client, service: &str) -> Result<Option<(BTreeSet<String>, String)>> {
    let endpoints: Api<Endpoints> = Api::namespaced(client.clone(), NAMESPACE);
    let found = endpoints
        .get_opt(service)
        .await
        .with_context(|| format!("reading Endpoints {service}"))?;
    Ok(found.map(|found| {
        let uid = found.uid().unwrap_or_default();
        let subsets = found.subsets.into_iter().flatten();
        let addresses = subsets.flat_map(|subset| subset.addresses.unwrap_or_default());
        (addresses.map(|address| address.ip).collect(), uid)
    }))
}

/// Whether a Service is there and headless.
pub(crate) async fn is_headless(client: &Client, service: &str) -> Result<bool> {
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    let found = services
        .get_opt(service)
        .await
        .with_context(|| format!("reading Service {service}"))?;
    let spec = found.and_then(|found| found.spec);
    Ok(spec.is_some_and(|spec| spec.cluster_ip.as_deref() == Some("None") && spec.selector.is_none()))
}

/// A label of a namespace.
pub(crate) async fn namespace_label(client: &Client, namespace: &str, label: &str) -> Result<Option<String>> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let found = namespaces
        .get(namespace)
        .await
        .with_context(|| format!("reading namespace {namespace}"))?;
    Ok(found.labels().get(label).cloned())
}

/// The resourceVersion of everything that an agent may write, so that a rewrite shows.
pub(crate) async fn versions(client: &Client) -> Result<BTreeMap<String, String>> {
    let mut versions = BTreeMap::new();
    collect::<Service>(client, &mut versions).await?;
    collect::<Endpoints>(client, &mut versions).await?;
    collect::<EndpointSlice>(client, &mut versions).await?;
    collect::<ConfigMap>(client, &mut versions).await?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for namespace in namespaces
        .list(&ListParams::default())
        .await
        .context("listing namespaces")?
    {
        let version = namespace.resource_version().unwrap_or_default();
        versions.insert(format!("Namespace {}", namespace.name_any()), version);
    }
    Ok(versions)
}

async fn collect<K>(client: &Client, versions: &mut BTreeMap<String, String>) -> Result<()>
where
    K: Resource<DynamicType = ()>,
{
    let kind = K::kind(&());
    let objects: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &ApiResource::erase::<K>(&()));
    let listed = objects
        .list(&ListParams::default())
        .await
        .with_context(|| format!("listing {kind}"))?;
    for object in listed {
        let version = object.resource_version().unwrap_or_default();
        // The records are named by hashes; each says of which key it is.
        let name = object.data["data"]["key"]
            .as_str()
            .map_or_else(|| object.name_any(), |key| format!("of {key}"));
        versions.insert(format!("{kind} {name}"), version);
    }
    Ok(())
}
