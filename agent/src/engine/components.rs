//! Templates of the components: what the mesh configuration, Citadel and the sidecar injector look like in the remote.
//! The hub sends numbers and names, everything else stands here. Accounts and roles are the chart's, never ours.

mod citadel;
mod injector;
mod mesh;
mod quantity;
mod template;
#[cfg(test)]
mod tests;
mod webhook;
mod workload;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use remote_istio::model::{Body, Canonical};
use remote_istio::wire::v1;

use super::{Facts, Resource, Settings, names};

pub use quantity::parse as quantity;
pub use webhook::{webhook, webhook_name};

/// The `ConfigMap` of the mesh configuration.
pub const MESH: &str = "istio";
/// Citadel's Deployment and Service.
pub const CITADEL: &str = "istio-citadel";
/// The injector's `ConfigMap`, Deployment, Service, and (see [`webhook_name`]) its webhook.
pub const INJECTOR: &str = "istio-sidecar-injector";

/// On what we write: hash over all of it. So a field that is no longer wanted is a difference, though what others have
/// added beside ours is none.
pub const TEMPLATE: &str = "istio.banzaicloud.io/template";
/// On Citadel's pods: hash of the Secret they sign with, since they read it only at their start.
pub const CACERTS_HASH: &str = "istio.banzaicloud.io/cacerts-hash";
/// On the injector's pods: hash of the two configurations they mount.
pub const CONFIGURATION_HASH: &str = "istio.banzaicloud.io/configuration-hash";

/// Renders the objects of the components.
#[derive(Clone, Copy, Debug)]
pub struct Templates<'a> {
    /// Whose objects, and where.
    pub settings: &'a Settings,
    /// What was found out in the remote.
    pub facts: &'a Facts,
    /// What is asked of the mesh configuration, where it is asked for.
    pub mesh: Option<&'a v1::MeshConfig>,
}

impl Templates<'_> {
    /// The configuration that the injector and the sidecars read.
    #[must_use]
    pub fn mesh(&self, mesh: v1::MeshConfig) -> ConfigMap {
        mesh::config_map(self.settings, mesh)
    }

    /// Citadel, in the order of creation.
    #[must_use]
    pub fn citadel(&self, citadel: &v1::Citadel) -> Vec<Resource> {
        let deployment = citadel::deployment(self.settings, self.facts, citadel);
        vec![
            Resource::Deployment(Box::new(deployment)),
            Resource::Service(Box::new(citadel::service(self.settings))),
        ]
    }

    /// The sidecar injector without its webhook, in the order of creation.
    #[must_use]
    pub fn injector(&self, injector: &v1::SidecarInjector) -> Vec<Resource> {
        let config = injector::config_map(self.settings, injector);
        let mesh = mesh::text(&self.settings.namespace, self.mesh.copied().unwrap_or_default());
        let template = template::config(injector);
        let hash = hash("configuration", &[mesh.as_bytes(), template.as_bytes()]);
        let deployment = injector::deployment(self.settings, injector, hash);
        vec![
            Resource::ConfigMap(Box::new(config)),
            Resource::Deployment(Box::new(deployment)),
            Resource::Service(Box::new(injector::service(self.settings))),
        ]
    }
}

/// Whether an object of the hub can be rendered. Most texts only ever become values of typed fields, which the API
/// server judges; images and ranges also become part of the injection template, where nothing but themselves may come
/// of them.
///
/// # Errors
/// The field and what is wrong with it, for the hub.
pub fn check(body: &Body) -> Result<(), String> {
    match body {
        Body::Citadel(citadel) => workload::check("citadel", citadel.workload.as_ref()),
        Body::Injector(injector) => injector::check(injector),
        Body::Endpoints(_) | Body::Service(_) | Body::Injection | Body::Mesh(_) | Body::Trust(_) | Body::Rules(_) => {
            Ok(())
        }
    }
}

/// Name and labels of an object of ours in the agent's own namespace.
fn metadata(settings: &Settings, name: &str, labels: &[(&str, &str)]) -> ObjectMeta {
    ObjectMeta {
        namespace: Some(settings.namespace.clone()),
        ..cluster_metadata(settings, name, labels)
    }
}

/// Name and labels of an object of ours that lies in no namespace.
fn cluster_metadata(settings: &Settings, name: &str, labels: &[(&str, &str)]) -> ObjectMeta {
    let mut all = names::owner_labels(settings);
    all.extend(map(labels));
    ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(all),
        ..ObjectMeta::default()
    }
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

fn hash(kind: &str, texts: &[&[u8]]) -> String {
    let canonical = texts
        .iter()
        .fold(Canonical::new(kind), |canonical, text| canonical.bytes(text));
    canonical.version().to_string()
}

/// The annotation that tells one rendering from another.
fn stamp(rendered: &impl serde::Serialize) -> BTreeMap<String, String> {
    let text = serde_json::to_vec(rendered).expect("objects of Kubernetes have only texts as keys");
    [(TEMPLATE.to_owned(), hash("template", &[&text]))].into()
}
