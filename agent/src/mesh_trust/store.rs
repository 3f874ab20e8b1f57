//! Reads and writes of the Secret `cacerts`: guarded by its resource version, so that what others do meanwhile
//! is never lost.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client, Error};

use super::secret::{Found, NAME, wipe};
use super::step::Seen;
use crate::apply::{FIELD_MANAGER, explain};

/// What gives the agent's account its rights to it.
const REMEDY: &str =
    "set components.citadel.enabled=true of chart remote-istio-agent, or apply deploy/roles/components.yaml";

pub(super) struct Store {
    secrets: Api<Secret>,
    labels: BTreeMap<String, String>,
}

/// What a look at the Secret came to.
pub(super) enum Look {
    /// This is what stands there.
    Seen(Seen),
    /// This account may not look.
    Forbidden(String),
    /// Nothing was learnt.
    Failed(String),
}

impl Store {
    pub(super) fn new(client: Client, namespace: &str, labels: BTreeMap<String, String>) -> Self {
        Self {
            secrets: Api::namespaced(client, namespace),
            labels,
        }
    }

    pub(super) async fn look(&self) -> Look {
        match self.secrets.get_opt(NAME).await {
            Ok(Some(secret)) => Look::Seen(Seen::There(Box::new(Found::new(secret, &self.labels)))),
            Ok(None) => Look::Seen(Seen::Absent),
            Err(error) if is(&error, 403) => {
                let error = explain(&error);
                Look::Forbidden(format!("the Secret {NAME} cannot be looked at: {error}; {REMEDY}"))
            }
            Err(error) => Look::Failed(format!("the Secret {NAME} cannot be looked at: {}", explain(&error))),
        }
    }

    /// Writes a new one.
    pub(super) async fn create(&self, mut secret: Secret) -> Result<(), String> {
        let written = self.secrets.create(&parameters(), &secret).await;
        wipe(&mut secret);
        written.map(forget).map_err(|error| told("made", &error))
    }

    /// Writes over the one that was read.
    pub(super) async fn replace(&self, mut secret: Secret) -> Result<(), String> {
        let written = self.secrets.replace(NAME, &parameters(), &secret).await;
        wipe(&mut secret);
        written.map(forget).map_err(|error| told("written", &error))
    }

    /// Deletes the one that was read.
    pub(super) async fn delete(&self, found: &Found) -> Result<(), String> {
        let parameters = DeleteParams::default().preconditions(as_it_was(found));
        match self.secrets.delete(NAME, &parameters).await {
            Ok(_) => Ok(()),
            Err(error) if is(&error, 404) => Ok(()),
            Err(error) => Err(told("deleted", &error)),
        }
    }
}

/// The UID alone is not enough: who puts his own into the Secret may keep it.
fn as_it_was(found: &Found) -> Preconditions {
    Preconditions {
        uid: Some(found.uid().to_owned()),
        resource_version: found.resource_version().map(ToOwned::to_owned),
    }
}

fn forget(mut secret: Secret) {
    wipe(&mut secret);
}

fn parameters() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

fn is(error: &Error, code: u16) -> bool {
    matches!(error, Error::Api(status) if status.code == code)
}

fn told(what: &str, error: &Error) -> String {
    let remedy = if is(error, 403) {
        format!("; {REMEDY}")
    } else {
        String::new()
    };
    format!("the Secret {NAME} cannot be {what}: {}{remedy}", explain(error))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    #[test]
    fn secret_is_deleted_only_as_it_was_seen() {
        let metadata = ObjectMeta {
            uid: Some("uid-1".to_owned()),
            resource_version: Some("7".to_owned()),
            ..ObjectMeta::default()
        };
        let secret = Secret {
            metadata,
            ..Secret::default()
        };
        let Preconditions { uid, resource_version } = as_it_was(&Found::new(secret, &BTreeMap::new()));
        assert_eq!(
            (uid.as_deref(), resource_version.as_deref()),
            (Some("uid-1"), Some("7"))
        );
    }
}
