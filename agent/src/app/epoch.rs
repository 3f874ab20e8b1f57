//! The session epoch: which start of an agent of this remote is the newest.
//!
//! It is `leaseTransitions` of the Lease `remote-istio-agent` in the agent's own namespace, raised by one at each start
//! by compare-and-swap on the resource version, so that no two processes ever have the same. The Lease is written at
//! no other time: it orders starts, it does not elect. It is read when the hub asks whether another agent took over. Deleting it makes the count begin anew; the hub compares
//! epochs only with those of sessions that live.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client, Error};
use remote_istio::process::Condition;
use tokio_util::sync::CancellationToken;

use super::cluster::until_answered;
use crate::apply::FIELD_MANAGER;

/// Name of the Lease.
pub(super) const LEASE: &str = "remote-istio-agent";

/// Raises the epoch; nothing when the agent is asked to stop before. A race that is lost is run again.
pub(super) async fn raised(
    client: &Client,
    namespace: &str,
    boot_id: &str,
    condition: &Condition,
    stop: &CancellationToken,
) -> Option<u64> {
    let leases = Api::<Lease>::namespaced(client.clone(), namespace);
    until_answered("Lease remote-istio-agent", condition, stop, || raise(&leases, boot_id)).await
}

async fn raise(leases: &Api<Lease>, boot_id: &str) -> Result<u64, Error> {
    let found = leases.get_opt(LEASE).await?;
    let exists = found.is_some();
    let (lease, epoch) = next(found, boot_id, Timestamp::now());
    let parameters = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    if exists {
        leases.replace(LEASE, &parameters, &lease).await?;
    } else {
        leases.create(&parameters, &lease).await?;
    }
    Ok(epoch)
}

/// Whether another agent of this cluster has started since. A Lease that is gone says nothing of another.
///
/// # Errors
/// The Lease cannot be read.
pub(super) async fn is_superseded(client: &Client, namespace: &str, boot_id: &str, epoch: u64) -> Result<bool, Error> {
    let leases = Api::<Lease>::namespaced(client.clone(), namespace);
    let found = leases.get_opt(LEASE).await?;
    Ok(found.is_some_and(|lease| is_of_another(&lease, boot_id, epoch)))
}

fn is_of_another(lease: &Lease, boot_id: &str, epoch: u64) -> bool {
    let Some(spec) = &lease.spec else { return false };
    let transitions = spec
        .lease_transitions
        .map(|count| u64::from(count.max(0).unsigned_abs()));
    spec.holder_identity.as_deref() != Some(boot_id) || transitions != Some(epoch)
}

/// The Lease of the next start. What was found keeps its resource version: that is the comparison.
fn next(found: Option<Lease>, boot_id: &str, now: Timestamp) -> (Lease, u64) {
    let mut lease = found.unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(LEASE.to_owned()),
            labels: Some([("app.kubernetes.io/managed-by".to_owned(), FIELD_MANAGER.to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: None,
    });
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    let epoch = spec.lease_transitions.unwrap_or(0).max(0).saturating_add(1);
    spec.lease_transitions = Some(epoch);
    spec.holder_identity = Some(boot_id.to_owned());
    spec.acquire_time = Some(MicroTime(now));
    (lease, u64::from(epoch.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_raises_the_epoch_and_keeps_the_version_it_compares_with() {
        let now = Timestamp::UNIX_EPOCH;
        let (mut lease, first) = next(None, "a", now);
        lease.metadata.resource_version = Some("7".to_owned());
        let (lease, second) = next(Some(lease), "b", now);
        assert_eq!((first, second), (1, 2));
        assert_eq!(lease.metadata.resource_version.as_deref(), Some("7"));
        let spec = lease.spec.expect("written");
        assert_eq!(spec.lease_transitions, Some(2));
        assert_eq!(spec.holder_identity.as_deref(), Some("b"));
    }

    #[test]
    fn lease_of_a_later_start_is_of_another() {
        let (lease, epoch) = next(None, "a", Timestamp::UNIX_EPOCH);
        assert!(!is_of_another(&lease, "a", epoch));
        let (later, _) = next(Some(lease), "b", Timestamp::UNIX_EPOCH);
        assert!(is_of_another(&later, "a", epoch));
        assert!(!is_of_another(&Lease::default(), "a", epoch), "it says nothing");
    }
}
