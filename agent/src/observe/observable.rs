//! Types that the watches observe, as the engine sees them.

use std::fmt::Debug;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::owned_labels::owned_labels;
use crate::apply::FIELD_MANAGER;
use crate::engine::{Kind, NamespaceLabels, ObjectName, Resource};

/// A type that the watches observe and the writes answer with.
pub trait Observable: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static {
    /// Its kind.
    const KIND: Kind;

    /// As the engine sees it, without what it never reads.
    fn into_resource(self) -> Resource;

    /// The way to the objects of a namespace, or of the cluster where they lie in none.
    fn api(client: Client, namespace: &str) -> Api<Self>;

    /// Names it.
    fn object_name(&self) -> ObjectName {
        ObjectName {
            kind: Self::KIND,
            namespace: self.namespace().unwrap_or_default(),
            name: self.name_any(),
        }
    }
}

macro_rules! observable {
    ($($kind:ident),*) => {$(
        impl Observable for $kind {
            const KIND: Kind = Kind::$kind;

            fn into_resource(mut self) -> Resource {
                self.metadata.managed_fields = None;
                Resource::$kind(Box::new(self))
            }

            fn api(client: Client, namespace: &str) -> Api<Self> {
                Api::namespaced(client, namespace)
            }
        }
    )*};
}

observable!(Deployment, Service, EndpointSlice, Endpoints, ConfigMap);

impl Observable for MutatingWebhookConfiguration {
    const KIND: Kind = Kind::MutatingWebhook;

    fn into_resource(mut self) -> Resource {
        self.metadata.managed_fields = None;
        Resource::MutatingWebhook(Box::new(self))
    }

    fn api(client: Client, _: &str) -> Api<Self> {
        Api::all(client)
    }
}

impl Observable for PartialObjectMeta<Namespace> {
    const KIND: Kind = Kind::Namespace;

    fn into_resource(self) -> Resource {
        let metadata = self.metadata;
        Resource::Namespace(NamespaceLabels {
            owned_labels: owned_labels(&metadata.managed_fields.unwrap_or_default(), FIELD_MANAGER),
            name: metadata.name.unwrap_or_default(),
            uid: metadata.uid.unwrap_or_default(),
            terminating: metadata.deletion_timestamp.is_some(),
            labels: metadata.labels.unwrap_or_default(),
        })
    }

    fn api(client: Client, _: &str) -> Api<Self> {
        Api::all(client)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn namespace_is_seen_with_what_is_owned_of_it() {
        let object: PartialObjectMeta<Namespace> = serde_json::from_value(json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": {
                "name": "default", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"istio-injection": "enabled", "team": "a"},
                "managedFields": [{
                    "manager": "remote-istio-agent", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
                    "fieldsV1": {"f:metadata": {"f:labels": {"f:istio-injection": {}}}},
                }],
            },
        }))
        .expect("a namespace");
        let labels = [("istio-injection", "enabled"), ("team", "a")];
        let expected = NamespaceLabels {
            name: "default".to_owned(),
            uid: "u".to_owned(),
            terminating: true,
            labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            owned_labels: BTreeSet::from(["istio-injection".to_owned()]),
        };
        assert_eq!(object.into_resource(), Resource::Namespace(expected));
    }
}
