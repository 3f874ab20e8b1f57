//! The writes themselves: one POST for an event, one PATCH for its count.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event as ApiEvent;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde_json::json;

use super::merge::Step;
use super::{Event, Kind, Subject};
use crate::api_error;
use crate::crd::{JoinToken, RemoteIdentity, RemoteIstio};

/// Who reports, in every event.
const CONTROLLER: &str = "istio.banzaicloud.io/remote-istio-hub";

/// One call.
const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// Bytes of the reporting instance the API server takes.
const INSTANCE_MAX_BYTES: usize = 128;

/// Why an event was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("no answer in time")]
    Late,
    #[error("{}", api_error::message(.0))]
    Api(#[from] kube::Error),
}

pub(super) struct Writer {
    client: Client,
    namespace: String,
    instance: String,
}

impl Writer {
    pub(super) fn new(client: Client, namespace: &str, replica: &str) -> Self {
        let mut instance = replica.to_owned();
        while instance.len() > INSTANCE_MAX_BYTES {
            instance.pop();
        }
        Self {
            client,
            namespace: namespace.to_owned(),
            instance,
        }
    }

    pub(super) async fn write(&self, step: &Step) -> Result<(), WriteError> {
        let written = tokio::time::timeout(CALL_DEADLINE, self.carry_out(step)).await;
        match written.unwrap_or(Err(WriteError::Late)) {
            // Another replica saw the same and was first.
            Err(WriteError::Api(error)) if api_error::code(&error) == 409 => Ok(()),
            other => other,
        }
    }

    async fn carry_out(&self, step: &Step) -> Result<(), WriteError> {
        let events: Api<ApiEvent> = Api::namespaced(self.client.clone(), &self.namespace);
        match step {
            Step::Create { event, name, at } => {
                let regarding = self.reference(&event.subject).await?;
                let event = self.body(event, name, *at, regarding);
                events.create(&PostParams::default(), &event).await?;
            }
            Step::Count { name, count, at, .. } => {
                let series = json!({"count": count, "lastObservedTime": MicroTime(time(*at))});
                let patch = Patch::Merge(json!({"series": series}));
                events.patch(name, &PatchParams::default(), &patch).await?;
            }
        }
        Ok(())
    }

    /// The object, with the UID by which it is found among others of its name.
    async fn reference(&self, subject: &Subject) -> Result<ObjectReference, WriteError> {
        match subject {
            Subject::Remote(remote) => {
                let name = remote.as_str();
                if let Some(reference) = self.find::<RemoteIstio>(name).await? {
                    return Ok(reference);
                }
                let identity = self.find::<RemoteIdentity>(name).await?;
                Ok(identity.unwrap_or_else(|| self.named::<RemoteIdentity>(name, None)))
            }
            Subject::Token(id) => {
                let token = self.find::<JoinToken>(id).await?;
                Ok(token.unwrap_or_else(|| self.named::<JoinToken>(id, None)))
            }
        }
    }

    async fn find<K>(&self, name: &str) -> Result<Option<ObjectReference>, WriteError>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let objects: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = objects.get_metadata_opt(name).await?;
        Ok(found.map(|found| self.named::<K>(name, found.metadata.uid)))
    }

    fn named<K: Resource<DynamicType = ()>>(&self, name: &str, uid: Option<String>) -> ObjectReference {
        ObjectReference {
            api_version: Some(K::api_version(&()).into_owned()),
            kind: Some(K::kind(&()).into_owned()),
            name: Some(name.to_owned()),
            namespace: Some(self.namespace.clone()),
            uid,
            ..ObjectReference::default()
        }
    }

    fn body(&self, event: &Event, name: &str, at: i64, regarding: ObjectReference) -> ApiEvent {
        let kind = match event.kind {
            Kind::Normal => "Normal",
            Kind::Warning => "Warning",
        };
        ApiEvent {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(self.namespace.clone()),
                ..ObjectMeta::default()
            },
            action: Some(event.reason.as_str().to_owned()),
            reason: Some(event.reason.as_str().to_owned()),
            event_time: Some(MicroTime(time(at))),
            note: Some(event.note.clone()),
            regarding: Some(regarding),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(kind.to_owned()),
            ..ApiEvent::default()
        }
    }
}

/// Milliseconds since 1970 as a time.
fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}
