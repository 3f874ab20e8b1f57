//! The Secret of the CA at the start: read it, and fill it where that is asked for.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ListParams, PostParams};
use remote_istio::process::Backoff;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::error::AuthorityError;
use super::link_ca::LinkCa;
use super::{Mode, Settings};
use crate::api_error;
use crate::crd::RemoteIdentity;

/// Field manager of everything the hub writes.
pub(super) const FIELD_MANAGER: &str = "remote-istio-hub";

/// One call to the API server.
pub(super) const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// So long the start waits for an API server that does not answer.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// Between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// The CA of the Secret; in mode made, one that was made into it if it was empty.
pub(super) async fn obtain(client: &kube::Client, settings: &Settings) -> Result<LinkCa, AuthorityError> {
    let deadline = Instant::now() + START_DEADLINE;
    let mut backoff = Backoff::new(PAUSES, rand::random());
    let mut reason = String::new();
    loop {
        let error = match attempt(client, settings).await {
            Ok(ca) => return Ok(ca),
            Err(error) if !may_pass(&error) || Instant::now() >= deadline => return Err(error),
            Err(error) => error.to_string(),
        };
        if error != reason {
            warn!(%error, "link CA cannot be read yet, trying again");
            reason = error;
        }
        sleep(backoff.next_pause()).await;
    }
}

/// No answer, one that says to come back, or a write that another came before.
fn may_pass(error: &AuthorityError) -> bool {
    match error {
        AuthorityError::Late(_) | AuthorityError::Contended(..) => true,
        AuthorityError::Api { error, .. } => matches!(api_error::code(error), 0 | 429 | 500..),
        _ => false,
    }
}

async fn attempt(client: &kube::Client, settings: &Settings) -> Result<LinkCa, AuthorityError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &settings.namespace);
    let name = &settings.secret_name;
    let reading = format!("read Secret {}/{name}", settings.namespace);
    let found = call(&reading, secrets.get_opt(name)).await?;
    let Some(secret) = found else {
        return Err(refusal(settings, AuthorityError::Missing));
    };
    let ca = LinkCa::from_secret(&data_of(&secret), SystemTime::now());
    let unusable = |error| AuthorityError::Ca(settings.namespace.clone(), name.clone(), error);
    if let Some(ca) = ca.map_err(unusable)? {
        info!(epoch = ca.epoch(), signer = %ca.signer(), stage = ?ca.stage(), "link CA found");
        return Ok(ca);
    }
    if settings.mode == Mode::Brought {
        return Err(refusal(settings, AuthorityError::Empty));
    }
    if has_joined(client, settings).await? {
        return Err(refusal(settings, AuthorityError::Lost));
    }
    let ca = LinkCa::create(&settings.trust_domain, SystemTime::now()).map_err(unusable)?;
    fill(&secrets, secret, &ca, settings).await?;
    info!(signer = %ca.signer(), secret = %name, "link CA made: back up its Secret");
    Ok(ca)
}

fn refusal(settings: &Settings, kind: fn(String, String) -> AuthorityError) -> AuthorityError {
    kind(settings.namespace.clone(), settings.secret_name.clone())
}

/// Whether any remote ever joined: then there was a CA. Where the kind is unknown nobody can have.
async fn has_joined(client: &kube::Client, settings: &Settings) -> Result<bool, AuthorityError> {
    let identities: Api<RemoteIdentity> = Api::namespaced(client.clone(), &settings.namespace);
    let one = ListParams::default().limit(1);
    let listing = format!("list RemoteIdentity objects in {}", settings.namespace);
    match call(&listing, identities.list_metadata(&one)).await {
        Ok(found) => Ok(!found.items.is_empty()),
        Err(AuthorityError::Api { error, .. }) if api_error::code(&error) == 404 => Ok(false),
        Err(error) => Err(error),
    }
}

/// The resourceVersion that was read goes along: who comes second is refused, and reads what the first has written.
async fn fill(secrets: &Api<Secret>, read: Secret, ca: &LinkCa, settings: &Settings) -> Result<(), AuthorityError> {
    let mut kept = read.data.clone().unwrap_or_default();
    kept.extend(
        ca.to_secret()
            .into_iter()
            .map(|(entry, value)| (entry, ByteString(value))),
    );
    let filled = Secret {
        data: Some(kept),
        ..read
    };
    let parameters = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let name = &settings.secret_name;
    let writing = format!("fill Secret {}/{name}", settings.namespace);
    match call(&writing, secrets.replace(name, &parameters, &filled)).await {
        Ok(_) => Ok(()),
        Err(AuthorityError::Api { error, .. }) if api_error::code(&error) == 409 => {
            Err(refusal(settings, AuthorityError::Contended))
        }
        Err(error) => Err(error),
    }
}

async fn call<T>(what: &str, call: impl Future<Output = kube::Result<T>>) -> Result<T, AuthorityError> {
    match timeout(CALL_DEADLINE, call).await {
        Ok(answer) => answer.map_err(|error| AuthorityError::Api {
            attempted: what.to_owned(),
            error,
        }),
        Err(_) => Err(AuthorityError::Late(what.to_owned())),
    }
}

/// The entries of a Secret.
pub(super) fn data_of(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    let entries = secret.data.iter().flatten();
    entries.map(|(entry, value)| (entry.clone(), value.0.clone())).collect()
}
