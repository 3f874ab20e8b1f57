//! The Secret that the identity is kept in, and the one that the token came in: guarded reads and writes.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, Client, Error};
use remote_istio::enrolment::{TOKEN_KEY, Token};

use super::kept::{Contents, ENTRIES, Entries, Kept, NEXT_KEY, next_key, read};
use super::key::PrivateKey;
use crate::apply::{FIELD_MANAGER, explain};

/// Attempts at one update while others write too.
const ATTEMPTS: u32 = 5;

/// Two Secrets of the agent's namespace. Neither is ever created: an account that may create Secrets may do so under
/// any name.
pub struct Store {
    secrets: Api<Secret>,
    identity: String,
    token: String,
    namespace: String,
}

/// A Secret that cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It is not there.
    #[error(
        "Secret {0} is not there: make it, empty, and let the agent's account get and update it, as \
         deploy/roles/agent.yaml does"
    )]
    Missing(String),
    /// The account may not.
    #[error(
        "Secret {0} cannot be used: {1}; let the agent's account get and update it, as deploy/roles/agent.yaml does"
    )]
    Forbidden(String, String),
    /// The API server does not answer, or not well.
    #[error("Secret {0} cannot be read or written: {1}")]
    Failed(String, String),
}

impl Store {
    /// The Secrets of these names.
    #[must_use]
    pub fn new(client: Client, namespace: &str, identity: &str, token: &str) -> Self {
        Self {
            secrets: Api::namespaced(client, namespace),
            identity: identity.to_owned(),
            token: token.to_owned(),
            namespace: namespace.to_owned(),
        }
    }

    /// The identity's Secret in words.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("Secret {}", self.shown(&self.identity))
    }

    /// What is kept.
    ///
    /// # Errors
    /// The Secret cannot be read.
    pub async fn read(&self) -> Result<(Contents, Option<PrivateKey>), StoreError> {
        let secret = self.secrets.get(&self.identity).await;
        let entries = entries(&secret.map_err(|error| self.error(&self.identity, &error))?);
        Ok((read(&entries), next_key(&entries)))
    }

    /// Keeps an identity, and beside it the key of a request under way.
    ///
    /// # Errors
    /// The Secret cannot be written.
    pub async fn keep(&self, kept: &Kept, next: Option<&PrivateKey>) -> Result<(), StoreError> {
        let kept = self.update(&self.identity, |entries| kept.write(next, entries)).await;
        kept.map(|_| ())
    }

    /// Keeps the key of a request under way, unless one is kept already: that one is returned then, because another
    /// process may have sent it with the same token.
    ///
    /// # Errors
    /// The Secret cannot be read or written.
    pub async fn keep_next(&self, key: PrivateKey) -> Result<PrivateKey, StoreError> {
        let kept = self.update(&self.identity, |entries| {
            if next_key(entries).is_none() {
                entries.insert(NEXT_KEY.to_owned(), key.pem().to_vec());
            }
        });
        Ok(next_key(&kept.await?).unwrap_or(key))
    }

    /// Takes key, certificate and trust out of the Secret; what others keep there stays. Says whether there was any.
    ///
    /// # Errors
    /// The Secret cannot be read or written; one that does not exist holds nothing.
    pub async fn clear(&self) -> Result<bool, StoreError> {
        let held = match self.read().await {
            Ok((contents, next)) => !matches!(contents, Contents::Nothing) || next.is_some(),
            Err(StoreError::Missing(_)) => return Ok(false),
            Err(error) => return Err(error),
        };
        let emptied = self.update(&self.identity, |entries| {
            entries.retain(|name, _| !ENTRIES.contains(&name.as_str()));
        });
        emptied.await?;
        Ok(held)
    }

    /// Empties the token's Secret if it still holds this token.
    ///
    /// # Errors
    /// The Secret cannot be read or written; one that does not exist needs no blanking.
    pub async fn blank_token(&self, used: &Token) -> Result<(), StoreError> {
        let blanked = self.update(&self.token, |entries| {
            let is_used = entries
                .get(TOKEN_KEY)
                .and_then(|value| std::str::from_utf8(value).ok())
                .is_some_and(|text| text.parse() == Ok(used.clone()));
            if is_used {
                entries.insert(TOKEN_KEY.to_owned(), Vec::new());
            }
        });
        match blanked.await {
            Err(StoreError::Missing(_)) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Guarded by the resource version: what others write meanwhile is read again and kept. Returns what stands there
    /// then.
    async fn update(&self, name: &str, change: impl Fn(&mut Entries)) -> Result<Entries, StoreError> {
        let parameters = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let mut attempt = 1;
        loop {
            let found = self.secrets.get(name).await;
            let mut secret = found.map_err(|error| self.error(name, &error))?;
            let before = entries(&secret);
            let mut after = before.clone();
            change(&mut after);
            if after == before {
                return Ok(after);
            }
            let data: BTreeMap<_, _> = after
                .iter()
                .map(|(name, value)| (name.clone(), ByteString(value.clone())))
                .collect();
            secret.data = Some(data);
            match self.secrets.replace(name, &parameters, &secret).await {
                Ok(_) => return Ok(after),
                Err(Error::Api(status)) if status.code == 409 && attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(self.error(name, &error)),
            }
        }
    }

    fn shown(&self, name: &str) -> String {
        format!("{}/{name}", self.namespace)
    }

    fn error(&self, name: &str, error: &Error) -> StoreError {
        let shown = self.shown(name);
        match error {
            Error::Api(status) if status.code == 404 => StoreError::Missing(shown),
            Error::Api(status) if status.code == 403 => StoreError::Forbidden(shown, explain(error)),
            other => StoreError::Failed(shown, explain(other)),
        }
    }
}

fn entries(secret: &Secret) -> Entries {
    let data = secret.data.iter().flatten();
    data.map(|(name, value)| (name.clone(), value.0.clone())).collect()
}

#[cfg(test)]
pub(super) mod tests;
