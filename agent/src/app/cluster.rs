//! What must be known of the remote cluster: its version, and which cluster it is.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use remote_istio::process::{Backoff, Condition};
use tokio_util::sync::CancellationToken;

use crate::apply::explain;

/// The oldest minor version of Kubernetes 1 that is supported.
const OLDEST_MINOR: u32 = 33;

/// Its UID tells clusters apart: it lives as long as the cluster.
const SYSTEM_NAMESPACE: &str = "kube-system";

/// First and largest bound of the pause between two attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// The API server is too old.
#[derive(Debug, thiserror::Error)]
#[error("this cluster runs Kubernetes {0}, at least 1.{OLDEST_MINOR} is needed: upgrade it")]
pub(super) struct Unsupported(pub(super) String);

/// Waits for the API server and makes sure that it is new enough; nothing when the agent is asked to stop before.
pub(super) async fn supported(
    client: &Client,
    condition: &Condition,
    stop: &CancellationToken,
) -> Result<Option<()>, Unsupported> {
    let Some(info) = until_answered("version of the API server", condition, stop, || {
        client.apiserver_version()
    })
    .await
    else {
        return Ok(None);
    };
    if !is_supported(&info.major, &info.minor) {
        return Err(Unsupported(info.git_version));
    }
    tracing::info!(version = %info.git_version, needed = %format!("1.{OLDEST_MINOR}"), "API server is supported");
    Ok(Some(()))
}

/// Version and UID of the cluster; nothing when the agent is asked to stop before.
pub(super) async fn describe(
    client: &Client,
    condition: &Condition,
    stop: &CancellationToken,
) -> Option<(String, String)> {
    let info = until_answered("version of the API server", condition, stop, || {
        client.apiserver_version()
    })
    .await?;
    let namespaces = Api::<PartialObjectMeta<Namespace>>::all(client.clone());
    let system = until_answered("namespace kube-system", condition, stop, || {
        namespaces.get_metadata(SYSTEM_NAMESPACE)
    })
    .await?;
    Some((info.git_version, system.metadata.uid.unwrap_or_default()))
}

/// Asks again after a pause until there is an answer; nothing when the agent is asked to stop before.
pub(super) async fn until_answered<T, F>(
    what: &'static str,
    condition: &Condition,
    stop: &CancellationToken,
    ask: impl Fn() -> F,
) -> Option<T>
where
    F: Future<Output = Result<T, kube::Error>>,
{
    let mut backoff = Backoff::new(PAUSE, rand::random());
    let mut said = String::new();
    condition.waits_for(what);
    loop {
        let answer = tokio::select! {
            () = stop.cancelled() => return None,
            answer = ask() => answer,
        };
        match answer {
            Ok(answer) => return Some(answer),
            Err(error) => {
                let error = explain(&error);
                condition.waits_for(format!("{what}: {error}"));
                if said == error {
                    tracing::debug!(what, %error, "still no answer of the API server");
                } else {
                    tracing::warn!(what, %error, "no answer of the API server, trying again");
                    said = error;
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(backoff.next_pause()) => {}
        }
    }
}

/// The API server writes a plus sign behind the minor version of builds that are not quite a release.
pub(super) fn is_supported(major: &str, minor: &str) -> bool {
    let number = |text: &str| {
        text.trim_end_matches(|c: char| !c.is_ascii_digit())
            .parse::<u32>()
            .unwrap_or(0)
    };
    (number(major), number(minor)) >= (1, OLDEST_MINOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oldest_supported_version_and_later_ones_pass() {
        for (major, minor) in [("1", "33"), ("1", "33+"), ("1", "40"), ("2", "0")] {
            assert!(is_supported(major, minor), "{major}.{minor}");
        }
        for (major, minor) in [("1", "32"), ("1", "9+"), ("", "")] {
            assert!(!is_supported(major, minor), "{major}.{minor}");
        }
    }
}
