//! Writes to the remote's API server: one call each, with a deadline, and what became of it.

mod failure;
mod ownership;

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Error, ResourceExt as _};
use serde::Serialize;
use serde_json::{Value, json};

use crate::engine::{Kind, NamespaceLabels, OWNER_LABELS, ObjectName, Outcome, Resource, Verb, Write};
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
            Write::Delete { object, uid } => self.delete(&object, uid).await,
            Write::Release { object, uid } => self.release(&object, &uid).await,
        }
    }

    async fn create(&self, resource: Resource) -> Result<Resource, Error> {
        match resource {
            Resource::MutatingWebhook(object) => self.create_as(*object).await,
            Resource::Deployment(object) => self.create_as(*object).await,
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
            Resource::MutatingWebhook(object) => self.apply_as(*object).await,
            Resource::Deployment(object) => self.apply_as(*object).await,
            Resource::Service(object) => self.apply_as(*object).await,
            Resource::EndpointSlice(object) => self.apply_as(*object).await,
            Resource::Endpoints(object) => self.apply_as(*object).await,
            Resource::ConfigMap(object) => self.apply_as(*object).await,
            Resource::Namespace(labels) => self.apply_labels(labels).await,
        }
    }

    async fn delete(&self, object: &ObjectName, uid: String) -> Result<Option<Resource>, Error> {
        match object.kind {
            Kind::MutatingWebhook => self.delete_as::<MutatingWebhookConfiguration>(object, uid).await,
            Kind::Deployment => self.delete_as::<Deployment>(object, uid).await,
            Kind::Service => self.delete_as::<Service>(object, uid).await,
            Kind::EndpointSlice => self.delete_as::<EndpointSlice>(object, uid).await,
            Kind::Endpoints => self.delete_as::<Endpoints>(object, uid).await,
            Kind::ConfigMap => self.delete_as::<ConfigMap>(object, uid).await,
            Kind::Namespace => {
                tracing::error!(namespace = %object.name, "deletion of a namespace asked for, which never happens");
                Ok(None)
            }
        }
    }

    async fn release(&self, object: &ObjectName, uid: &str) -> Result<Option<Resource>, Error> {
        match object.kind {
            Kind::MutatingWebhook => self.release_as::<MutatingWebhookConfiguration>(object, uid).await,
            Kind::Deployment => self.release_as::<Deployment>(object, uid).await,
            Kind::Service => self.release_as::<Service>(object, uid).await,
            Kind::EndpointSlice => self.release_as::<EndpointSlice>(object, uid).await,
            Kind::Endpoints => self.release_as::<Endpoints>(object, uid).await,
            Kind::ConfigMap => self.release_as::<ConfigMap>(object, uid).await,
            // Its labels stay as they are.
            Kind::Namespace => Ok(None),
        }
    }

    async fn create_as<K>(&self, object: K) -> Result<Resource, Error>
    where
        K: Observable + Serialize,
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
        K: Observable + Serialize,
    {
        let ObjectName { namespace, name, .. } = object.object_name();
        let api = self.api::<K>(&namespace);
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(&object);
        let written = match api.patch(&name, &parameters, &patch).await {
            Ok(written) => written,
            // What the POST set is not for an apply to take away, and it may stand in the way: a port of the same name
            // with another number.
            Err(refused) if is_invalid(&refused) => {
                // Boxed, for it is rare and large.
                if !Box::pin(take_over(&api, &object)).await? {
                    return Err(refused);
                }
                return Box::pin(api.patch(&name, &parameters, &patch))
                    .await
                    .map(Observable::into_resource);
            }
            Err(error) => return Err(error),
        };
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

    async fn delete_as<K: Observable>(&self, object: &ObjectName, uid: String) -> Result<Option<Resource>, Error> {
        let parameters = DeleteParams::background().preconditions(Preconditions {
            uid: Some(uid),
            resource_version: None,
        });
        let deleted = self
            .api::<K>(&object.namespace)
            .delete(&object.name, &parameters)
            .await?;
        // Some kinds answer with the object although it is gone: only finalizers hold it.
        let stands = |object: &K| object.meta().deletion_timestamp.is_some() && !object.finalizers().is_empty();
        Ok(deleted.left().filter(stands).map(Observable::into_resource))
    }

    async fn release_as<K: Observable>(&self, object: &ObjectName, uid: &str) -> Result<Option<Resource>, Error> {
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(released(uid));
        let released = self
            .api::<K>(&object.namespace)
            .patch(&object.name, &parameters, &patch)
            .await?;
        Ok(Some(released.into_resource()))
    }

    fn api<K: Observable>(&self, namespace: &str) -> Api<K> {
        K::api(self.client.clone(), namespace)
    }
}

/// Makes what the agent posted its own to take away. Says whether there was anything of the kind.
async fn take_over<K: Observable>(api: &Api<K>, object: &K) -> Result<bool, Error> {
    let ObjectName { name, .. } = object.object_name();
    // Changes nothing and answers with the object: this takes no right to get it.
    let nothing = json!({"metadata": {"uid": object.meta().uid}});
    let stands = api
        .patch(&name, &PatchParams::default(), &Patch::Merge(&nothing))
        .await?;
    let Some(joined) = ownership::joined(stands.meta()) else {
        return Ok(false);
    };
    let joined = api.patch(&name, &PatchParams::default(), &Patch::Merge(&joined)).await;
    joined.map(|_| true)
}

fn is_invalid(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 422)
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

/// Takes the owner's labels off, of the object with this UID only.
fn released(uid: &str) -> Value {
    let labels: serde_json::Map<String, Value> = OWNER_LABELS
        .map(|label| (label.to_owned(), Value::Null))
        .into_iter()
        .collect();
    json!({"metadata": {"uid": uid, "labels": labels}})
}

/// The verb of a write.
#[must_use]
pub fn verb_of(write: &Write) -> Verb {
    match write {
        Write::Create(_) => Verb::Create,
        Write::Apply(_) => Verb::Apply,
        Write::Delete { .. } => Verb::Delete,
        Write::Release { .. } => Verb::Release,
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
        Write::Delete { object, .. } | Write::Release { object, .. } => object.clone(),
    }
}

/// Names an observed object.
#[must_use]
pub fn name_of_resource(resource: &Resource) -> ObjectName {
    match resource {
        Resource::MutatingWebhook(object) => object.object_name(),
        Resource::Deployment(object) => object.object_name(),
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
    fn release_takes_both_labels_off_one_object_and_touches_nothing_else() {
        let expected = json!({"metadata": {"uid": "u", "labels": {
            "app.kubernetes.io/managed-by": null, "istio.banzaicloud.io/owner": null,
        }}});
        assert_eq!(released("u"), expected);
    }

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
