//! Everything that a remote's API server holds, to see what is left of us.

use std::collections::BTreeMap;

use kube::api::{DeleteParams, DynamicObject, ListParams};
use kube::discovery::{Discovery, Scope, verbs};
use kube::{Api, ResourceExt as _};
use serde_json::Value;
use support::deploy;

use super::Remote;
use super::objects::{api, cluster_api};

/// What changes by itself: events, the API server's own leases, and what is not stored.
const RESTLESS: [&str; 3] = ["Event", "ComponentStatus", "Lease in kube-system"];

impl Remote {
    /// Every object of the cluster by kind, namespace and name, without what counts its writes.
    pub async fn whole_cluster(&self) -> BTreeMap<String, Value> {
        whole(&self.client).await
    }

    /// Takes away what the remote's operator has set up, as the page on operations says.
    pub async fn uninstall(&self) {
        for file in ["components", "agent"] {
            let documents = deploy::role_documents(file, &self.namespace, &[]).expect("deploy/roles");
            for document in documents.into_iter().rev() {
                let (kind, name) = (document["kind"].as_str(), document["metadata"]["name"].as_str());
                let (kind, name) = (kind.expect("a kind"), name.expect("a name"));
                let objects = match document["metadata"]["namespace"].as_str() {
                    None => cluster_api(&self.client, kind),
                    Some(namespace) => api(&self.client, kind, namespace),
                };
                let deleted = objects.delete(name, &DeleteParams::default()).await;
                deleted.unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
            }
        }
        self.delete("Lease", "remote-istio-agent").await;
    }
}

/// Every object of a cluster.
pub async fn whole(client: &kube::Client) -> BTreeMap<String, Value> {
    let discovery = Discovery::new(client.clone()).run().await.expect("discovery");
    let mut whole = BTreeMap::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if !capabilities.supports_operation(verbs::LIST) || RESTLESS.contains(&resource.kind.as_str()) {
                continue;
            }
            let objects: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
            let listed = objects.list(&ListParams::default()).await.expect("the remote answers");
            for object in listed {
                let namespace = object.namespace().unwrap_or_default();
                if capabilities.scope == Scope::Namespaced
                    && RESTLESS.contains(&format!("{} in {namespace}", resource.kind).as_str())
                {
                    continue;
                }
                let key = format!("{}.{} {namespace}/{}", resource.kind, resource.group, object.name_any());
                whole.insert(key, without_counts(&object));
            }
        }
    }
    whole
}

fn without_counts(object: &DynamicObject) -> Value {
    let mut value = super::objects::json(object);
    for field in ["resourceVersion", "managedFields", "generation"] {
        if let Some(metadata) = value["metadata"].as_object_mut() {
            metadata.remove(field);
        }
    }
    value
}

/// What was added, changed and taken away, for a message.
pub fn changes(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>) -> Vec<String> {
    let mut changes = Vec::new();
    for (key, value) in after {
        match before.get(key) {
            None => changes.push(format!("added {key}")),
            Some(old) if old != value => changes.push(format!("changed {key}: {old} to {value}")),
            Some(_) => {}
        }
    }
    changes.extend(
        before
            .keys()
            .filter(|key| !after.contains_key(*key))
            .map(|key| format!("gone {key}")),
    );
    changes
}
