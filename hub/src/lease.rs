//! Elects one hub replica by a Lease, for the work that needs exactly one: statuses of remotes without a session.

pub mod election;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use rand::Rng as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::election::{Election, Found, RETRY_PAUSE, Record, Write, Written};
use crate::{api_error, clock};

/// Name of the Lease, in the hub's namespace.
pub const LEASE_NAME: &str = "remote-istio-hub";

/// One call to the API server.
const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// Stepping down on the way out; nobody needs to wait longer for it.
const RELEASE_DEADLINE: Duration = Duration::from_secs(2);

/// Takes part in the election until `stop`: `leads` holds at each moment whether this process leads. `replica` is
/// made unique by a random suffix, so that a second process of the same name is another candidate.
pub async fn run(
    client: kube::Client,
    namespace: String,
    replica: String,
    leads: watch::Sender<bool>,
    stop: CancellationToken,
) {
    let identity = format!("{replica}_{:08x}", rand::rng().random::<u32>());
    let mut candidate = Candidate {
        leases: Api::namespaced(client, &namespace),
        identity: Arc::from(identity.as_str()),
        election: Election::new(identity),
        leads,
        last_failure: None,
    };
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = candidate.attempt() => {}
        }
        candidate.publish();
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = candidate.pause() => {}
        }
        candidate.publish();
    }
    candidate.release().await;
}

struct Candidate {
    leases: Api<Lease>,
    identity: Arc<str>,
    election: Election,
    leads: watch::Sender<bool>,
    last_failure: Option<String>,
}

impl Candidate {
    async fn attempt(&mut self) {
        let mut write = self.election.renewal(clock::now(), wall_microseconds());
        if write.is_none() {
            let found = match self.call(self.leases.get_opt(LEASE_NAME)).await {
                Ok(lease) => lease.map(found),
                Err(error) => return self.failed("read", &error),
            };
            write = self.election.judge(found, clock::now(), wall_microseconds());
        }
        match write {
            Some(write) => self.write(write).await,
            None => self.worked(),
        }
    }

    async fn write(&mut self, write: Write) {
        let started = clock::now();
        let lease = lease(&write);
        let parameters = PostParams::default();
        let outcome = if write.replaces.is_some() {
            self.call(self.leases.replace(LEASE_NAME, &parameters, &lease)).await
        } else {
            self.call(self.leases.create(&parameters, &lease)).await
        };
        let written = match outcome {
            Ok(lease) => {
                self.worked();
                Written::Done(lease.metadata.resource_version.unwrap_or_default())
            }
            Err(CallError::Api(kube::Error::Api(status)))
                if status.is_conflict() || status.is_already_exists() || status.is_not_found() =>
            {
                debug!(reason = %status.reason, "lease was written by another");
                Written::Lost
            }
            Err(error) => {
                self.failed("write", &error);
                Written::Unknown
            }
        };
        self.election.written(write, written, started);
    }

    /// A call ends when the lead does: a leader must not learn too late that it no longer leads.
    async fn call<T>(&self, call: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
        let limit = self.until_lapse().map_or(CALL_DEADLINE, |rest| rest.min(CALL_DEADLINE));
        Ok(tokio::time::timeout(limit, call).await.map_err(|_| CallError::Late)??)
    }

    async fn pause(&self) {
        let pause = RETRY_PAUSE.mul_f64(rand::rng().random_range(0.8..=1.2));
        tokio::time::sleep(self.until_lapse().map_or(pause, |rest| rest.min(pause))).await;
    }

    fn until_lapse(&self) -> Option<Duration> {
        let now = clock::now();
        Some(Duration::from_nanos(
            self.election.leads_until(now)?.saturating_sub(now),
        ))
    }

    fn publish(&mut self) {
        let leads = self.election.leads_until(clock::now()).is_some();
        let changed = self
            .leads
            .send_if_modified(|held| std::mem::replace(held, leads) != leads);
        if changed {
            info!(identity = %self.identity, leads, "lead of the hub replicas changed");
        }
    }

    async fn release(&mut self) {
        let write = self.election.release(clock::now(), wall_microseconds());
        self.publish();
        let Some(write) = write else { return };
        let lease = lease(&write);
        let parameters = PostParams::default();
        let replace = self.leases.replace(LEASE_NAME, &parameters, &lease);
        match tokio::time::timeout(RELEASE_DEADLINE, replace).await {
            Ok(Ok(_)) => info!(identity = %self.identity, "lease released"),
            Ok(Err(error)) => warn!(error = %api_error::message(&error), "lease could not be released, it will expire"),
            Err(_) => warn!(
                error = "no answer in time",
                "lease could not be released, it will expire"
            ),
        }
    }

    fn worked(&mut self) {
        if self.last_failure.take().is_some() {
            info!(lease = LEASE_NAME, "lease can be read and written again");
        }
    }

    /// Said once for each new reason: the next attempt is two seconds away.
    fn failed(&mut self, verb: &str, error: &CallError) {
        let error = format!("cannot {verb} lease: {error}");
        if self.last_failure.as_ref() != Some(&error) {
            warn!(lease = LEASE_NAME, %error, "election is held up");
            self.last_failure = Some(error);
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("no answer in time")]
    Late,
    #[error("{}", api_error::message(.0))]
    Api(#[from] kube::Error),
}

fn found(lease: Lease) -> Found {
    let spec = lease.spec.unwrap_or_default();
    let microseconds = |time: Option<MicroTime>| time.map_or(0, |time| time.0.as_microsecond());
    Found {
        resource_version: lease.metadata.resource_version.unwrap_or_default(),
        record: Record {
            holder: spec.holder_identity.unwrap_or_default(),
            duration_seconds: spec.lease_duration_seconds.unwrap_or_default(),
            acquired_at: microseconds(spec.acquire_time),
            renewed_at: microseconds(spec.renew_time),
            transitions: spec.lease_transitions.unwrap_or_default(),
        },
    }
}

fn lease(write: &Write) -> Lease {
    let record = &write.record;
    let time = |microseconds| Timestamp::from_microsecond(microseconds).ok().map(MicroTime);
    Lease {
        metadata: ObjectMeta {
            name: Some(LEASE_NAME.to_owned()),
            resource_version: write.replaces.clone(),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(record.holder.clone()),
            lease_duration_seconds: Some(record.duration_seconds),
            acquire_time: time(record.acquired_at),
            renew_time: time(record.renewed_at),
            lease_transitions: Some(record.transitions),
            ..LeaseSpec::default()
        }),
    }
}

fn wall_microseconds() -> i64 {
    clock::unix_milliseconds().saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_survives_the_lease_object() {
        let write = Write {
            replaces: Some("41".to_owned()),
            record: Record {
                holder: "hub-0_1234".to_owned(),
                duration_seconds: 15,
                acquired_at: 1_700_000_000_123_456,
                renewed_at: 1_700_000_002_654_321,
                transitions: 4,
            },
        };
        let lease = lease(&write);
        assert_eq!(lease.metadata.name.as_deref(), Some(LEASE_NAME));
        let found = found(lease);
        assert_eq!(Some(found.resource_version), write.replaces);
        assert_eq!(found.record, write.record);
    }

    #[test]
    fn empty_lease_is_held_by_nobody() {
        assert_eq!(found(Lease::default()).record, Record::default());
    }
}
