//! Follows the Secret of the CA: one object by its name, which is all that the hub's role lets it see.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::runtime::watcher::{self, Event, watcher};
use remote_istio::process::Backoff;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::secret::data_of;
use super::{Authority, SecretState};

/// A watch on which nothing came for so long is begun anew, for it may be dead. Secrets of CAs rarely change.
const SILENCE_DEADLINE: Duration = Duration::from_mins(5);

/// Between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// Never returns.
pub(super) async fn follow(authority: &Authority, client: &kube::Client) {
    let settings = &authority.settings;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &settings.namespace);
    let one = format!("metadata.name={}", settings.secret_name);
    let mut follower = Follower {
        authority,
        is_listed: false,
        reason: String::new(),
        backoff: Backoff::new(PAUSES, rand::random()),
    };
    loop {
        let mut events = pin!(watcher(secrets.clone(), watcher::Config::default().fields(&one)));
        while let Ok(Some(event)) = timeout(SILENCE_DEADLINE, events.next()).await {
            match event {
                Ok(event) => follower.seen(&event),
                Err(error) => follower.failed(&error).await,
            }
        }
        // A stream that ends at once must not become a busy loop.
        sleep(follower.backoff.next_pause()).await;
    }
}

struct Follower<'a> {
    authority: &'a Authority,
    /// The Secret stood in the list that is being read.
    is_listed: bool,
    /// Of the last failure that was logged; empty while all is well.
    reason: String,
    backoff: Backoff,
}

impl Follower<'_> {
    fn seen(&mut self, event: &Event<Secret>) {
        match event {
            Event::Init => self.is_listed = false,
            Event::InitApply(secret) => self.found(secret),
            Event::Apply(secret) => {
                self.worked();
                self.found(secret);
            }
            Event::InitDone => {
                self.worked();
                if !self.is_listed {
                    self.authority.lost(SecretState::Missing);
                }
            }
            Event::Delete(secret) => {
                if self.is_ours(secret) {
                    self.authority.lost(SecretState::Missing);
                }
            }
        }
    }

    fn found(&mut self, secret: &Secret) {
        if self.is_ours(secret) {
            self.is_listed = true;
            self.authority.found(&data_of(secret));
        }
    }

    fn is_ours(&self, secret: &Secret) -> bool {
        secret.metadata.name.as_deref() == Some(self.authority.settings.secret_name.as_str())
    }

    fn worked(&mut self) {
        self.backoff.reset();
        if !std::mem::take(&mut self.reason).is_empty() {
            info!("watch of the link CA's Secret works again");
        }
    }

    async fn failed(&mut self, error: &watcher::Error) {
        let error = error.to_string();
        if error != self.reason {
            warn!(%error, "watch of the link CA's Secret failed, trying again");
            self.reason = error;
        }
        sleep(self.backoff.next_pause()).await;
    }
}
