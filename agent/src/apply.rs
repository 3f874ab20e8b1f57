//! Writes to the remote's API server: one call each, with a deadline, and what became of it.

mod failure;
mod ownership;

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::{Api, Client, Error};
use serde::Serialize;
use serde_json::{Value, json};

use crate::engine::{Kind, NamespaceLabels, ObjectName, Outcome, Resource, Verb, Write};
use crate::observe::Observable;
pub use failure::{classify, explain, unavailable};

/// Under this name the API server remembers which fields are the agent's.
pub const FIELD_MANAGER: &str = "remote-istio-agent";

/// One write, with the repair of its field ownership where that is needed.
const DEADLINE: Duration = Duration::from_secs(10);

/// Carries out writes.
#[derive(Clone)]
pub struct Applier {
    client: Client,
}

impl Applier {
    /// Writes with this client. It must not retry by itself: the engine decides when to try again.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Carries one write out, within its deadline.
    pub async fn write(&self, write: Write) -> Outcome {
        let (verb, kind) = (verb_of(&write), kind_of(&write));
        match tokio::time::timeout(DEADLINE, self.call(write)).await {
            Ok(Ok(written)) => Outcome::Done(written),
            Ok(Err(error)) => Outcome::Failed(classify(&error, verb, kind)),
            Err(_) => Outcome::Failed(unavailable(format!("no answer within {DEADLINE:?}"))),
        }
    }

    async fn call(&self, write: Write) -> Result<Option<Resource>, Error> {
        match write {
            Write::Create(resource) => self.create(resource).await.map(Some),
            Write::Apply(resource) => self.apply(resource).await.map(Some),
            Write::Delete { object, uid } => self.delete(&object, uid).await.map(|()| None),
        }
    }

    async fn create(&self, resource: Resource) -> Result<Resource, Error> {
        match resource {
            Resource::Service(object) => self.create_as(*object).await,
            Resource::EndpointSlice(object) => self.create_as(*object).await,
            Resource::Endpoints(object) => self.create_as(*object).await,
            Resource::ConfigMap(object) => self.create_as(*object).await,
            // Never created: an apply with the UID that the engine has seen fails where there is none.
            Resource::Namespace(labels) => self.apply_labels(labels).await,
        }
    }

    async fn apply(&self, resource: Resource) -> Result<Resource, Error> {
        match resource {
            Resource::Service(object) => self.apply_as(*object).await,
            Resource::EndpointSlice(object) => self.apply_as(*object).await,
            Resource::Endpoints(object) => self.apply_as(*object).await,
            Resource::ConfigMap(object) => self.apply_as(*object).await,
            Resource::Namespace(labels) => self.apply_labels(labels).await,
        }
    }

    async fn delete(&self, object: &ObjectName, uid: String) -> Result<(), Error> {
        match object.kind {
            Kind::Service => self.delete_as::<Service>(object, uid).await,
            Kind::EndpointSlice => self.delete_as::<EndpointSlice>(object, uid).await,
            Kind::Endpoints => self.delete_as::<Endpoints>(object, uid).await,
            Kind::ConfigMap => self.delete_as::<ConfigMap>(object, uid).await,
            Kind::Namespace => {
                tracing::error!(namespace = %object.name, "deletion of a namespace asked for, which never happens");
                Ok(())
            }
        }
    }

    async fn create_as<K>(&self, object: K) -> Result<Resource, Error>
    where
        K: Observable + Serialize + kube::Resource<Scope = NamespaceResourceScope>,
    {
        let parameters = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let api = self.api::<K>(&object.object_name().namespace);
        api.create(&parameters, &object).await.map(Observable::into_resource)
    }

    async fn apply_as<K>(&self, object: K) -> Result<Resource, Error>
    where
        K: Observable + Serialize + kube::Resource<Scope = NamespaceResourceScope>,
    {
        let ObjectName { namespace, name, .. } = object.object_name();
        let api = self.api::<K>(&namespace);
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(&object);
        let written = api.patch(&name, &parameters, &patch).await?;
        let Some(joined) = ownership::joined(written.meta()) else {
            return Ok(written.into_resource());
        };
        match api.patch(&name, &PatchParams::default(), &Patch::Merge(&joined)).await {
            Ok(_) => api
                .patch(&name, &parameters, &patch)
                .await
                .map(Observable::into_resource),
            // Somebody was faster. What was to be written stands; the next apply tries this again.
            Err(Error::Api(status)) if status.is_conflict() => Ok(written.into_resource()),
            Err(error) => Err(error),
        }
    }

    async fn apply_labels(&self, labels: NamespaceLabels) -> Result<Resource, Error> {
        let api = Api::<PartialObjectMeta<Namespace>>::all(self.client.clone());
        // Without force: a label that somebody else set otherwise stays his.
        let parameters = PatchParams::apply(FIELD_MANAGER);
        let written = api
            .patch(&labels.name, &parameters, &Patch::Apply(labels_body(&labels)))
            .await?;
        Ok(written.into_resource())
    }

    async fn delete_as<K>(&self, object: &ObjectName, uid: String) -> Result<(), Error>
    where
        K: Observable + kube::Resource<Scope = NamespaceResourceScope>,
    {
        let parameters = DeleteParams::background().preconditions(Preconditions {
            uid: Some(uid),
            resource_version: None,
        });
        self.api::<K>(&object.namespace)
            .delete(&object.name, &parameters)
            .await
            .map(|_| ())
    }

    fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }
}

/// Exactly the labels the agent owns. The UID keeps the apply from creating a namespace, and from labelling one that
/// was made anew under the same name before it was seen.
fn labels_body(labels: &NamespaceLabels) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": labels.name, "uid": labels.uid, "labels": labels.labels},
    })
}

/// The verb of a write.
#[must_use]
pub fn verb_of(write: &Write) -> Verb {
    match write {
        Write::Create(_) => Verb::Create,
        Write::Apply(_) => Verb::Apply,
        Write::Delete { .. } => Verb::Delete,
    }
}

/// The kind of object a write is about.
#[must_use]
pub fn kind_of(write: &Write) -> Kind {
    name_of(write).kind
}

/// The object a write is about.
#[must_use]
pub fn name_of(write: &Write) -> ObjectName {
    match write {
        Write::Create(resource) | Write::Apply(resource) => name_of_resource(resource),
        Write::Delete { object, .. } => object.clone(),
    }
}

/// Names an observed object.
#[must_use]
pub fn name_of_resource(resource: &Resource) -> ObjectName {
    match resource {
        Resource::Service(object) => object.object_name(),
        Resource::EndpointSlice(object) => object.object_name(),
        Resource::Endpoints(object) => object.object_name(),
        Resource::ConfigMap(object) => object.object_name(),
        Resource::Namespace(labels) => ObjectName {
            kind: Kind::Namespace,
            namespace: String::new(),
            name: labels.name.clone(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_for_a_namespace_carries_its_uid_and_nothing_but_labels() {
        let labels = NamespaceLabels {
            name: "default".to_owned(),
            uid: "u".to_owned(),
            labels: [("istio-injection".to_owned(), "enabled".to_owned())].into(),
            ..NamespaceLabels::default()
        };
        let expected = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "default", "uid": "u", "labels": {"istio-injection": "enabled"}},
        });
        assert_eq!(labels_body(&labels), expected);
    }
}
