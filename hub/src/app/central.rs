//! Clients of the central cluster's API server, and whether it is new enough.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use http::HeaderValue;
use http::header::USER_AGENT;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config as ClientConfig};
use remote_istio::process::Backoff;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::args::Config;

/// The oldest supported minor version of Kubernetes 1.
const OLDEST_MINOR: u32 = 33;

/// Opening a connection to the API server.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Silence on a watch: above the 295 seconds after which the watcher itself starts anew.
const WATCH_READ_DEADLINE: Duration = Duration::from_secs(310);

/// Silence on any other call.
const CALL_READ_DEADLINE: Duration = Duration::from_secs(30);

/// A request that does not go out.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);

/// One question for the version.
const VERSION_DEADLINE: Duration = Duration::from_secs(10);

/// Between two questions for the version while central does not answer.
const VERSION_PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Two clients of one API server, for a call must not wait as long as a watch may.
#[derive(Clone)]
pub(super) struct Clients {
    /// For watches and their lists.
    pub(super) watches: Client,
    /// For everything else.
    pub(super) calls: Client,
}

impl Clients {
    pub(super) async fn new(config: &Config) -> anyhow::Result<Self> {
        let base = base(config.kubeconfig.as_deref()).await?;
        Ok(Self {
            watches: client(base.clone(), WATCH_READ_DEADLINE, false)?,
            calls: client(base, CALL_READ_DEADLINE, true)?,
        })
    }
}

/// A client for a command that does one thing and ends.
pub(super) async fn client_for_calls(kubeconfig: Option<&Path>) -> anyhow::Result<Client> {
    client(base(kubeconfig).await?, CALL_READ_DEADLINE, true)
}

async fn base(kubeconfig: Option<&Path>) -> anyhow::Result<ClientConfig> {
    let Some(path) = kubeconfig else {
        let inferred = ClientConfig::infer().await;
        return inferred.context("no API server is known: run in a pod, or give --kubeconfig");
    };
    let cannot = || format!("--kubeconfig {} cannot be used", path.display());
    let read = Kubeconfig::read_from(path).with_context(cannot)?;
    let options = KubeConfigOptions::default();
    ClientConfig::from_custom_kubeconfig(read, &options)
        .await
        .with_context(cannot)
}

fn client(mut config: ClientConfig, read: Duration, reset_reader_on_write: bool) -> anyhow::Result<Client> {
    config.connect_timeout = Some(CONNECT_DEADLINE);
    config.read_timeout = Some(read);
    config.write_timeout = Some(WRITE_DEADLINE);
    config.reset_reader_on_write = reset_reader_on_write;
    // Whoever calls has a retry loop of its own, with a limit and a counter.
    config.default_retry = false;
    let agent = HeaderValue::from_static(concat!("remote-istio-hub/", env!("CARGO_PKG_VERSION")));
    config.headers.push((USER_AGENT, agent));
    Client::try_from(config).context("no client can be made from the settings of the API server")
}

/// Asks for the version of central until it answers, and says it. Nothing is returned when `stop` comes first.
///
/// # Errors
/// The API server is too old.
pub(super) async fn check_version(client: &Client, stop: &CancellationToken) -> anyhow::Result<()> {
    let mut backoff = Backoff::new(VERSION_PAUSE, rand::random());
    let mut reason = String::new();
    loop {
        let error = match timeout(VERSION_DEADLINE, client.apiserver_version()).await {
            Ok(Ok(version)) => {
                let found = &version.git_version;
                anyhow::ensure!(
                    is_supported(&version.major, &version.minor),
                    "central runs Kubernetes {found}, at least 1.{OLDEST_MINOR} is needed: upgrade it"
                );
                tracing::info!(version = %found, "connected to central");
                return Ok(());
            }
            Ok(Err(kube::Error::Api(status))) => status.message.clone(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        if error != reason {
            tracing::warn!(%error, "central does not answer, trying again");
            reason = error;
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(backoff.next_pause()) => {}
        }
    }
}

/// Providers append signs to the minor, as in `33+`.
fn is_supported(major: &str, minor: &str) -> bool {
    let digits = |text: &str| -> Option<u32> {
        let end = text
            .find(|character: char| !character.is_ascii_digit())
            .unwrap_or(text.len());
        text[..end].parse().ok()
    };
    match (digits(major), digits(minor)) {
        (Some(1), Some(minor)) => minor >= OLDEST_MINOR,
        (Some(major), _) => major > 1,
        (None, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_from_the_oldest_supported_on_are_taken() {
        for (major, minor, supported) in [
            ("1", "33", true),
            ("1", "33+", true),
            ("1", "36", true),
            ("2", "0", true),
            ("1", "32", false),
            ("1", "9", false),
            ("", "", false),
        ] {
            assert_eq!(is_supported(major, minor), supported, "{major}.{minor}");
        }
    }
}
