//! The `ConfigMap` of the tombstones: an entry per remote, each write over what was read.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use remote_istio::identity::RemoteName;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::tombstone::Tombstone;
use crate::api_error;

/// The `ConfigMap`, in the hub's namespace.
pub const TOMBSTONES_CONFIG_MAP: &str = "remote-istio-gone";

/// Field manager of everything the hub writes.
const FIELD_MANAGER: &str = "remote-istio-hub";

/// One call.
const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// Of all entries; objects of the API end a little above 1 MiB. What comes beyond it names no keys.
const ENTRIES_MAX_BYTES: usize = 800 * 1024;

/// So often a write is tried where another replica comes first.
const TRIES: u32 = 5;

/// Why a tombstone could not be written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Other writers came first each time.
    #[error("other writers of ConfigMap {TOMBSTONES_CONFIG_MAP} came first")]
    Contended,
    /// No answer in time.
    #[error("no answer in time about ConfigMap {TOMBSTONES_CONFIG_MAP}")]
    Late,
    /// Anything else.
    #[error("ConfigMap {TOMBSTONES_CONFIG_MAP}: {}", api_error::message(.0))]
    Api(#[source] kube::Error),
}

impl StoreError {
    /// HTTP status code of the answer; 0 when none came.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::Contended => 409,
            Self::Late => 0,
            Self::Api(error) => api_error::code(error),
        }
    }

    fn is_raced(&self) -> bool {
        matches!(self, Self::Api(error) if api_error::code(error) == 409)
    }
}

/// Writes tombstones.
#[derive(Clone)]
pub struct Store {
    maps: Api<ConfigMap>,
}

impl Store {
    /// Of the hub's namespace.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            maps: Api::namespaced(client, namespace),
        }
    }

    /// Writes the tombstone of a remote, over any older one.
    ///
    /// # Errors
    /// It was not written, or no answer came.
    pub async fn put(&self, remote: &RemoteName, tombstone: &Tombstone) -> Result<(), StoreError> {
        for _ in 0..TRIES {
            let written = match answered(self.maps.get_opt(TOMBSTONES_CONFIG_MAP)).await? {
                Some(found) => {
                    let text = entry_text(&found.data.unwrap_or_default(), remote, tombstone);
                    self.patch(&found.metadata, remote, Some(&text)).await
                }
                None => self.create(remote, &tombstone.to_text()).await,
            };
            match written {
                Err(error) if error.is_raced() => {}
                other => return other,
            }
        }
        Err(StoreError::Contended)
    }

    /// Takes the tombstone of a remote away, unless it speaks of another `RemoteIstio` than `uid` meanwhile. Returns
    /// whether it was there.
    ///
    /// # Errors
    /// It was not taken away, or no answer came.
    pub async fn remove(&self, remote: &RemoteName, uid: &str) -> Result<bool, StoreError> {
        for _ in 0..TRIES {
            let Some(found) = answered(self.maps.get_opt(TOMBSTONES_CONFIG_MAP)).await? else {
                return Ok(false);
            };
            let text = found.data.as_ref().and_then(|data| data.get(remote.as_str()));
            let stands = text.and_then(|text| serde_json::from_str::<Tombstone>(text).ok());
            if stands.is_none_or(|stands| stands.uid != uid) {
                return Ok(false);
            }
            match self.patch(&found.metadata, remote, None).await {
                Err(error) if error.is_raced() => {}
                other => return other.map(|()| true),
            }
        }
        Err(StoreError::Contended)
    }

    async fn create(&self, remote: &RemoteName, text: &str) -> Result<(), StoreError> {
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(TOMBSTONES_CONFIG_MAP.to_owned()),
                labels: Some([("app.kubernetes.io/managed-by".to_owned(), FIELD_MANAGER.to_owned())].into()),
                ..ObjectMeta::default()
            },
            data: Some([(remote.to_string(), text.to_owned())].into()),
            ..ConfigMap::default()
        };
        let parameters = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        answered(self.maps.create(&parameters, &map)).await.map(drop)
    }

    async fn patch(&self, read: &ObjectMeta, remote: &RemoteName, text: Option<&str>) -> Result<(), StoreError> {
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(entry_body(read, remote, text));
        answered(self.maps.patch(TOMBSTONES_CONFIG_MAP, &parameters, &patch))
            .await
            .map(drop)
    }
}

/// The entry of a remote beside `others`: shorter where they leave little room, so that it can always be written.
pub(super) fn entry_text(others: &BTreeMap<String, String>, remote: &RemoteName, tombstone: &Tombstone) -> String {
    let text = tombstone.to_text();
    let others = others.iter().filter(|(name, _)| *name != remote.as_str());
    let taken: usize = others.map(|(name, text)| name.len() + text.len()).sum();
    if taken + text.len() > ENTRIES_MAX_BYTES {
        tombstone.without_keys().to_text()
    } else {
        text
    }
}

/// Resource version and UID make the API server refuse the write when anything else was written since the read.
pub(super) fn entry_body(read: &ObjectMeta, remote: &RemoteName, text: Option<&str>) -> Value {
    json!({
        "metadata": {"uid": read.uid, "resourceVersion": read.resource_version},
        "data": {remote.as_str(): text},
    })
}

async fn answered<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, StoreError> {
    match timeout(CALL_DEADLINE, call).await {
        Ok(answer) => answer.map_err(StoreError::Api),
        Err(_) => Err(StoreError::Late),
    }
}
