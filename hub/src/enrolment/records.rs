//! Tokens and names as they are kept on central: read afresh, and written only over what was read.

use std::time::Duration;

use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};
use remote_istio::identity::RemoteName;

use crate::api_error;
use crate::crd::{JoinToken, JoinTokenStatus, RemoteIdentity};

/// One call.
const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// Field manager of everything the hub writes.
const FIELD_MANAGER: &str = "remote-istio-hub";

/// Why a record was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Another writer came first: read again, decide again.
    #[error("another writer came first")]
    Conflict,
    /// The record is gone.
    #[error("the record is gone")]
    Gone,
    /// No answer in time.
    #[error("central did not answer in time")]
    Late,
    /// Anything else, in the API server's words.
    #[error("{}", api_error::message(.0))]
    Api(#[source] kube::Error),
}

/// Where tokens and names are kept.
#[tonic::async_trait]
pub trait Records: Send + Sync + 'static {
    /// A token by its id, as it is now.
    ///
    /// # Errors
    /// It cannot be read.
    async fn token(&self, id: &str) -> Result<Option<JoinToken>, RecordError>;

    /// What the name is bound to now.
    ///
    /// # Errors
    /// It cannot be read.
    async fn identity(&self, remote: &RemoteName) -> Result<Option<RemoteIdentity>, RecordError>;

    /// Writes the status of a token over what was read.
    ///
    /// # Errors
    /// It was not written.
    async fn write_token(&self, read: &JoinToken, status: JoinTokenStatus) -> Result<JoinToken, RecordError>;

    /// Writes a name: over what was read if it carries a resourceVersion, else anew.
    ///
    /// # Errors
    /// It was not written.
    async fn write_identity(&self, record: RemoteIdentity) -> Result<RemoteIdentity, RecordError>;

    /// Removes exactly this token.
    ///
    /// # Errors
    /// It was not removed.
    async fn remove_token(&self, token: &JoinToken) -> Result<(), RecordError>;
}

/// The records on central's API server.
#[derive(Clone, Debug)]
pub struct KubeRecords {
    tokens: Api<JoinToken>,
    identities: Api<RemoteIdentity>,
}

impl KubeRecords {
    /// Those of one namespace.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            tokens: Api::namespaced(client.clone(), namespace),
            identities: Api::namespaced(client, namespace),
        }
    }
}

#[tonic::async_trait]
impl Records for KubeRecords {
    async fn token(&self, id: &str) -> Result<Option<JoinToken>, RecordError> {
        answered(self.tokens.get_opt(id)).await
    }

    async fn identity(&self, remote: &RemoteName) -> Result<Option<RemoteIdentity>, RecordError> {
        answered(self.identities.get_opt(remote.as_str())).await
    }

    async fn write_token(&self, read: &JoinToken, status: JoinTokenStatus) -> Result<JoinToken, RecordError> {
        let token = JoinToken {
            status: Some(status),
            ..read.clone()
        };
        let name = read.metadata.name.as_deref().unwrap_or_default();
        answered(self.tokens.replace_status(name, &parameters(), &token)).await
    }

    async fn write_identity(&self, record: RemoteIdentity) -> Result<RemoteIdentity, RecordError> {
        if record.metadata.resource_version.is_none() {
            return answered(self.identities.create(&parameters(), &record)).await;
        }
        let name = record.metadata.name.as_deref().unwrap_or_default();
        answered(self.identities.replace(name, &parameters(), &record)).await
    }

    async fn remove_token(&self, token: &JoinToken) -> Result<(), RecordError> {
        let name = token.metadata.name.as_deref().unwrap_or_default();
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: token.metadata.uid.clone(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        answered(self.tokens.delete(name, &parameters)).await.map(drop)
    }
}

fn parameters() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

async fn answered<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, RecordError> {
    match tokio::time::timeout(CALL_DEADLINE, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(match api_error::code(&error) {
            409 => RecordError::Conflict,
            404 => RecordError::Gone,
            _ => RecordError::Api(error),
        }),
        Err(_) => Err(RecordError::Late),
    }
}
