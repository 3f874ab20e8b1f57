//! The writes themselves: server-side apply of the status, merge of the finalizers, both only over what was read.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::{Api, Patch, PatchParams};
use remote_istio::identity::RemoteName;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::entry::Written;
use crate::api_error;
use crate::crd::{RemoteIstio, RemoteIstioStatus};
use crate::lifecycle::{Store, StoreError, Tombstone};

/// Field manager of everything the hub writes.
const FIELD_MANAGER: &str = "remote-istio-hub";

/// One call.
const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// Why a write was not done.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Another writer came first.
    #[error("another writer came first: {0}")]
    Conflict(String),
    /// The resource is gone.
    #[error("the resource is gone")]
    Gone,
    /// No answer in time.
    #[error("no answer in time")]
    Late,
    /// A tombstone was not written.
    #[error(transparent)]
    Tombstone(#[from] StoreError),
    /// Anything else.
    #[error("{}", api_error::message(.0))]
    Api(#[source] kube::Error),
}

impl WriteError {
    /// HTTP status code of the answer; 0 when none came.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::Conflict(_) => 409,
            Self::Gone => 404,
            Self::Late => 0,
            Self::Tombstone(error) => error.code(),
            Self::Api(error) => api_error::code(error),
        }
    }
}

/// The answer without the spec: that of an old resource may not be readable.
#[derive(Resource, Clone, Debug, Deserialize, Serialize)]
#[resource(inherit = RemoteIstio)]
struct Answer {
    metadata: ObjectMeta,
    #[serde(default)]
    status: Option<RemoteIstioStatus>,
}

/// The API server as the status writer uses it.
#[derive(Clone)]
pub struct StatusApi {
    remotes: Api<Answer>,
    tombstones: Store,
}

impl StatusApi {
    /// Writes to `RemoteIstio` resources of one namespace.
    #[must_use]
    pub fn new(client: kube::Client, namespace: &str) -> Self {
        Self {
            tombstones: Store::new(client.clone(), namespace),
            remotes: Api::namespaced(client, namespace),
        }
    }

    /// Writes a status over the resource that was read.
    ///
    /// # Errors
    /// The write was not done, or no answer came.
    pub async fn write_status(&self, read: &ObjectMeta, status: &RemoteIstioStatus) -> Result<Written, WriteError> {
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(status_body(read, status));
        let name = read.name.as_deref().unwrap_or_default();
        answered(self.remotes.patch_status(name, &parameters, &patch)).await
    }

    /// Writes the finalizers of the resource that was read.
    ///
    /// # Errors
    /// The write was not done, or no answer came.
    pub async fn write_finalizers(&self, read: &ObjectMeta, finalizers: &[String]) -> Result<Written, WriteError> {
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(finalizers_body(read, finalizers));
        let name = read.name.as_deref().unwrap_or_default();
        answered(self.remotes.patch(name, &parameters, &patch)).await
    }

    /// Writes the tombstone of a remote.
    ///
    /// # Errors
    /// The write was not done, or no answer came.
    pub async fn write_tombstone(&self, remote: &RemoteName, tombstone: &Tombstone) -> Result<(), WriteError> {
        self.tombstones
            .put(remote, tombstone)
            .await
            .map_err(WriteError::Tombstone)
    }
}

async fn answered(call: impl Future<Output = kube::Result<Answer>>) -> Result<Written, WriteError> {
    match tokio::time::timeout(CALL_DEADLINE, call).await {
        Ok(Ok(Answer { mut metadata, status })) => {
            metadata.managed_fields = None;
            Ok(Written { metadata, status })
        }
        Ok(Err(kube::Error::Api(refusal))) if refusal.is_conflict() => Err(WriteError::Conflict(refusal.message)),
        Ok(Err(kube::Error::Api(refusal))) if refusal.is_not_found() => Err(WriteError::Gone),
        Ok(Err(error)) => Err(WriteError::Api(error)),
        Err(_) => Err(WriteError::Late),
    }
}

/// Resource version and UID make the API server refuse the write when anything else was written since the read.
fn status_body(read: &ObjectMeta, status: &RemoteIstioStatus) -> Value {
    json!({
        "apiVersion": RemoteIstio::api_version(&()),
        "kind": RemoteIstio::kind(&()),
        "metadata": {
            "name": read.name,
            "namespace": read.namespace,
            "uid": read.uid,
            "resourceVersion": read.resource_version,
        },
        "status": status,
    })
}

fn finalizers_body(read: &ObjectMeta, finalizers: &[String]) -> Value {
    json!({
        "metadata": {
            "uid": read.uid,
            "resourceVersion": read.resource_version,
            "finalizers": finalizers,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::State;

    fn read() -> ObjectMeta {
        ObjectMeta {
            name: Some("remote-1".to_owned()),
            namespace: Some("istio-system".to_owned()),
            uid: Some("u1".to_owned()),
            resource_version: Some("41".to_owned()),
            generation: Some(3),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn status_is_written_only_over_the_resource_that_was_read() {
        let status = RemoteIstioStatus {
            state: Some(State::Created),
            ..RemoteIstioStatus::default()
        };
        assert_eq!(
            status_body(&read(), &status),
            json!({
                "apiVersion": "istio.banzaicloud.io/v1beta1",
                "kind": "RemoteIstio",
                "metadata": {"name": "remote-1", "namespace": "istio-system", "uid": "u1", "resourceVersion": "41"},
                "status": {"Status": "Created"},
            })
        );
    }

    #[test]
    fn finalizers_are_written_only_over_the_resource_that_was_read() {
        assert_eq!(
            finalizers_body(&read(), &["other".to_owned()]),
            json!({"metadata": {"uid": "u1", "resourceVersion": "41", "finalizers": ["other"]}})
        );
    }
}
