//! What joining takes, in a `ConfigMap`: the public part of the CA and where the hub is found. Whoever makes tokens
//! reads it and needs no sight of the Secret.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use remote_istio::enrolment::{Pin, Trust};
use remote_istio::process::Backoff;
use remote_istio::transport::HubAddress;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::Authority;
use super::secret::{CALL_DEADLINE, FIELD_MANAGER};
use crate::api_error;

/// The `ConfigMap`, in the hub's namespace.
pub const LINK_CONFIG_MAP: &str = "remote-istio-link";

/// Between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_mins(1));

/// Between two looks whether it is still there.
const LOOK_INTERVAL: Duration = Duration::from_mins(5);

/// Never returns.
pub(super) async fn publish(authority: &Authority, client: &kube::Client) {
    let namespace = &authority.settings.namespace;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let mut trust = authority.trust();
    let mut backoff = Backoff::new(PAUSES, rand::random());
    let mut reason = String::new();
    // At the start and after a change what stands there is replaced. Later only what is gone is written again:
    // replicas of two configurations must not write against each other.
    let mut replaces = true;
    loop {
        let pin = authority.ca.load().pin();
        let service = authority.settings.public_service.as_deref();
        let wanted = contents(&trust.borrow_and_update(), pin, service);
        let pause = match write(&maps, namespace, &wanted, replaces).await {
            Ok(()) => {
                backoff.reset();
                reason.clear();
                replaces = false;
                LOOK_INTERVAL
            }
            Err(error) => {
                if error != reason {
                    warn!(config_map = LINK_CONFIG_MAP, %error, "what joining takes cannot be published, trying again");
                    reason = error;
                }
                backoff.next_pause()
            }
        };
        tokio::select! {
            // The sender lives in the authority, so this does not fail.
            changed = trust.changed() => replaces |= changed.is_ok(),
            () = sleep(pause) => {}
        }
    }
}

/// The entries of the `ConfigMap`. `service`: by whose load balancer the addresses come, where they do.
pub(super) fn contents(trust: &Trust, pin: Pin, service: Option<&str>) -> BTreeMap<String, String> {
    let listed = |addresses: &[HubAddress]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let service = service.map(|service| ("public-service", service.to_owned()));
    let entries = [
        ("ca.crt", trust.bundle()),
        ("epoch", trust.epoch.to_string()),
        ("trust-domain", trust.trust_domain.clone()),
        ("hubs", listed(&trust.hubs)),
        ("enrolments", listed(&trust.enrolments)),
        ("pin", pin.to_string()),
    ];
    let entries = entries.into_iter().chain(service);
    entries.map(|(entry, value)| (entry.to_owned(), value)).collect()
}

async fn write(
    maps: &Api<ConfigMap>,
    namespace: &str,
    wanted: &BTreeMap<String, String>,
    replaces: bool,
) -> Result<(), String> {
    match answered(maps.get_opt(LINK_CONFIG_MAP)).await? {
        Some(found) if !replaces || found.data.as_ref() == Some(wanted) => {
            debug!(config_map = LINK_CONFIG_MAP, "what joining takes is published already");
            return Ok(());
        }
        _ => {}
    }
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let patch = Patch::Apply(body(namespace, wanted));
    answered(maps.patch(LINK_CONFIG_MAP, &parameters, &patch)).await?;
    info!(config_map = LINK_CONFIG_MAP, "what joining takes was published");
    Ok(())
}

async fn answered<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match timeout(CALL_DEADLINE, call).await {
        Ok(answer) => answer.map_err(|error| api_error::message(&error)),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

fn body(namespace: &str, data: &BTreeMap<String, String>) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": LINK_CONFIG_MAP,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": FIELD_MANAGER},
        },
        "data": data,
    })
}
