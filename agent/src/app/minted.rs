//! What Citadel minted and nobody else takes away: shown, and removed on request. Only metadata is read, never a key.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Error, ResourceExt};
use remote_istio::process::{EXIT_CONFIGURATION, EXIT_FAILURE};

use super::clients::{ClientError, Clients};
use crate::apply::explain;
use crate::args::{Minted, MintedAction};

/// The type of everything Citadel mints.
const TYPE: &str = "istio.io/key-and-cert";

/// Citadel writes whom it minted for here, and calls the Secret after it.
const ACCOUNT: &str = "istio.io/service-account.name";

/// Before the account's name in the Secret's.
const PREFIX: &str = "istio.";

/// Its Deployment.
const CITADEL: &str = "istio-citadel";

/// Of one page of a list.
const PAGE: u32 = 500;

type Found = PartialObjectMeta<Secret>;

/// The command cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
enum MintedError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot list {0}: {1}")]
    List(&'static str, String),
    #[error("cannot delete Secret {0}: {1}")]
    Delete(String, String),
    #[error("Citadel still runs in {0} and would mint them anew: take it away first (Deployment {CITADEL})")]
    StillMinting(String),
    #[error("nothing was removed: add --yes to remove {0} Secrets")]
    Unsure(usize),
    #[error("no output: {0}")]
    Output(#[from] io::Error),
}

impl MintedError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Client(_) | Self::Unsure(_) => EXIT_CONFIGURATION,
            _ => EXIT_FAILURE,
        })
    }
}

/// Shows or removes what Citadel minted.
#[must_use]
pub fn run_minted(minted: &Minted) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no threads can be had: {error}");
            return ExitCode::from(EXIT_FAILURE);
        }
    };
    match runtime.block_on(carry_out(minted)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            error.exit_code()
        }
    }
}

async fn carry_out(minted: &Minted) -> Result<(), MintedError> {
    let client = Clients::load(minted.kubeconfig.as_deref()).await?.calls;
    let found = list(&client).await?;
    match minted.action {
        MintedAction::List => print(&table(&found)),
        MintedAction::Remove { .. } if found.is_empty() => print("nothing is left of what Citadel minted\n"),
        MintedAction::Remove { yes: false } => {
            print(&table(&found))?;
            Err(MintedError::Unsure(found.len()))
        }
        MintedAction::Remove { yes: true } => {
            citadel_is_gone(&client).await?;
            for secret in &found {
                delete(&client, secret).await?;
            }
            print(&format!("removed {} Secrets\n", found.len()))
        }
    }
}

fn print(text: &str) -> Result<(), MintedError> {
    Ok(io::stdout().write_all(text.as_bytes())?)
}

async fn list(client: &Client) -> Result<Vec<Found>, MintedError> {
    let secrets = Api::<Found>::all(client.clone());
    let mut page = ListParams::default().fields(&format!("type={TYPE}")).limit(PAGE);
    let mut found = Vec::new();
    loop {
        let listed = secrets.list(&page).await;
        let listed = listed.map_err(|error| MintedError::List("Secrets", explain(&error)))?;
        found.extend(listed.items.into_iter().filter(is_minted));
        match listed.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// Named and marked as Citadel does it; others may use the type for something of theirs.
fn is_minted(secret: &Found) -> bool {
    let name = secret.name_any();
    let account = secret.annotations().get(ACCOUNT);
    account.is_some_and(|account| name.strip_prefix(PREFIX) == Some(account.as_str()))
}

fn table(found: &[Found]) -> String {
    if found.is_empty() {
        return "nothing is left of what Citadel minted\n".to_owned();
    }
    let places: Vec<(String, String)> = found
        .iter()
        .map(|secret| (secret.namespace().unwrap_or_default(), secret.name_any()))
        .collect();
    let width = places.iter().map(|(namespace, _)| namespace.len()).max();
    let width = width.unwrap_or_default().max("NAMESPACE".len());
    let mut text = format!("{:width$}  SECRET\n", "NAMESPACE");
    for (namespace, name) in places {
        // A text takes everything.
        let _ = writeln!(text, "{namespace:width$}  {name}");
    }
    text
}

async fn citadel_is_gone(client: &Client) -> Result<(), MintedError> {
    let deployments = Api::<PartialObjectMeta<Deployment>>::all(client.clone());
    let named = ListParams::default().fields(&format!("metadata.name={CITADEL}"));
    let found = deployments.list(&named).await;
    let found = found.map_err(|error| MintedError::List("Deployments", explain(&error)))?;
    let namespaces: Vec<String> = found.items.iter().filter_map(ResourceExt::namespace).collect();
    if namespaces.is_empty() {
        return Ok(());
    }
    Err(MintedError::StillMinting(namespaces.join(", ")))
}

async fn delete(client: &Client, secret: &Found) -> Result<(), MintedError> {
    let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
    let secrets = Api::<Secret>::namespaced(client.clone(), &namespace);
    let preconditions = Preconditions {
        uid: secret.uid(),
        resource_version: None,
    };
    match secrets
        .delete(&name, &DeleteParams::default().preconditions(preconditions))
        .await
    {
        Ok(_) => Ok(()),
        // Gone already, or another one of the same name, which somebody made meanwhile.
        Err(Error::Api(status)) if [404, 409].contains(&status.code) => Ok(()),
        Err(error) => Err(MintedError::Delete(format!("{namespace}/{name}"), explain(&error))),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn secret(name: &str, account: Option<&str>) -> Found {
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some("bookinfo".to_owned()),
            annotations: account.map(|account| [(ACCOUNT.to_owned(), account.to_owned())].into()),
            ..ObjectMeta::default()
        };
        Found {
            metadata,
            ..Found::default()
        }
    }

    #[test]
    fn only_what_is_named_and_marked_as_citadel_does_it_was_minted() {
        for (name, account, expected) in [
            ("istio.default", Some("default"), true),
            ("istio.default", Some("other"), false),
            ("istio.default", None, false),
            ("default", Some("default"), false),
        ] {
            assert_eq!(is_minted(&secret(name, account)), expected, "{name} {account:?}");
        }
    }

    #[test]
    fn list_says_where_each_is() {
        let text = table(&[secret("istio.default", Some("default"))]);
        assert_eq!(text, "NAMESPACE  SECRET\nbookinfo   istio.default\n");
        assert!(table(&[]).starts_with("nothing"));
    }
}
