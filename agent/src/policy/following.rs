//! Follows the policy file and the cluster's ranges while the agent runs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use remote_istio::policy::{Policy, Range};
use remote_istio::process::{Backoff, Condition};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::cluster::{Surroundings, ranges};
use super::{Source, within};

/// Between two looks at the file. `ConfigMap` mounts swap a link, so there is no event to wait for.
const FILE_INTERVAL: Duration = Duration::from_secs(2);

/// Between two looks at the cluster's ranges: they change by hand, if ever.
const RANGES_INTERVAL: Duration = Duration::from_mins(5);

/// First and largest bound of the pause after a failed look at the ranges.
const RANGES_PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// What following needs.
pub struct Following {
    /// The file.
    pub source: Source,
    /// The cluster.
    pub surroundings: Surroundings,
    /// The policy of the file as it was read at the start.
    pub first: Arc<Policy>,
    /// Where the policy goes; with its ranges once they are known.
    pub policy: watch::Sender<Arc<Policy>>,
    /// Set once the ranges are known: nothing of the hub may be judged before.
    pub known: watch::Sender<bool>,
    /// Met once the ranges are known.
    pub condition: Condition,
}

/// Follows file and cluster until `stop`. Whatever fails keeps what was known last, and is said once.
pub async fn follow(following: Following, stop: CancellationToken) {
    let now = Instant::now();
    let mut follower = Follower {
        read: Arc::clone(&following.first),
        file_at: now + FILE_INTERVAL,
        ranges: None,
        ranges_at: now,
        backoff: Backoff::new(RANGES_PAUSE, rand::random()),
        said: Said::default(),
        following,
    };
    follower.following.condition.waits_for("service ranges of the cluster");
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep_until(follower.ranges_at) => tokio::select! {
                () = stop.cancelled() => return,
                () = follower.look_at_ranges() => {}
            },
            () = sleep_until(follower.file_at) => follower.look_at_file().await,
        }
    }
}

struct Follower {
    following: Following,
    /// The last good contents of the file.
    read: Arc<Policy>,
    file_at: Instant,
    ranges: Option<BTreeSet<Range>>,
    ranges_at: Instant,
    backoff: Backoff,
    said: Said,
}

/// What was said last, so that each thing is said once.
#[derive(Default)]
struct Said {
    file: String,
    ranges: String,
}

impl Follower {
    async fn look_at_ranges(&mut self) {
        match ranges(&self.following.surroundings).await {
            Ok(ranges) => {
                self.ranges_at = Instant::now() + RANGES_INTERVAL;
                self.backoff.reset();
                self.said.ranges.clear();
                if self.ranges.as_ref() != Some(&ranges) {
                    let shown: Vec<String> = ranges.iter().map(ToString::to_string).collect();
                    tracing::info!(ranges = %shown.join(" "), "ranges of this cluster that are never endpoints");
                    self.ranges = Some(ranges);
                    self.publish();
                }
            }
            Err(error) => {
                self.ranges_at = Instant::now() + self.backoff.next_pause();
                if self.ranges.is_none() {
                    self.following.condition.waits_for(error.as_str());
                }
                if self.said.ranges != error {
                    tracing::warn!(%error, "the policy lacks the ranges of this cluster, trying again");
                    self.said.ranges = error;
                }
            }
        }
    }

    async fn look_at_file(&mut self) {
        self.file_at = Instant::now() + FILE_INTERVAL;
        let source = self.following.source.clone();
        if source.file.is_none() {
            return;
        }
        let read = tokio::task::spawn_blocking(move || source.read()).await;
        let read = match read {
            Ok(read) => read.map_err(|error| error.to_string()),
            Err(error) => Err(format!("looking at the policy file failed: {error}")),
        };
        match read {
            Ok(policy) => {
                self.said.file.clear();
                if policy != self.read {
                    self.read = policy;
                    self.publish();
                }
            }
            Err(error) if self.said.file != error => {
                tracing::warn!(%error, "the new policy cannot be used, the last good one stays");
                self.said.file = error;
            }
            Err(_) => {}
        }
    }

    fn publish(&mut self) {
        let Some(ranges) = &self.ranges else { return };
        let policy = match within(&self.read, ranges) {
            Ok(policy) => policy,
            Err(error) => {
                tracing::warn!(%error, "the policy is too large for the hub, the last good one stays");
                return;
            }
        };
        let (digest, sent) = (policy.digest(), &self.following.policy);
        let is_new = sent.send_if_modified(|before| {
            let differs = *before != policy;
            *before = policy;
            differs
        });
        if is_new {
            tracing::info!(%digest, "policy of this remote in force");
        }
        self.following.known.send_replace(true);
        self.following.condition.met();
    }
}
