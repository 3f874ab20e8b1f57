//! Whose objects are to go: as the identity says, else a flag, else the records.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt as _};
use remote_istio::identity::RemoteName;

use crate::apply::FIELD_MANAGER;
use crate::apply::explain;
use crate::args::Leave;
use crate::engine::{MANAGED_BY, OWNER, owner_of};
use crate::identity::{Contents, Store, StoreError};

/// Whose objects are to go.
pub(super) struct Owner {
    /// The value of the owner's label.
    pub(super) label: String,
    /// The remote's name, where it is known whole.
    pub(super) name: Option<String>,
    /// For people.
    pub(super) shown: String,
    /// The Secret of the identity says so: its key is to go too.
    pub(super) joined: bool,
}

/// Nobody knows whose objects are to go.
#[derive(Debug, thiserror::Error)]
pub(super) enum OwnerError {
    /// Two agents share the namespace, and no identity says which one leaves.
    #[error(
        "records of several agents are in namespace {0}: {1}; say which one leaves, with --remote and --trust-domain"
    )]
    Several(String, String),
    #[error("the records in namespace {0} cannot be listed: {1}")]
    Records(String, String),
    #[error(transparent)]
    Identity(StoreError),
}

impl Owner {
    fn of(trust_domain: &str, remote: &RemoteName, joined: bool) -> Self {
        Self {
            label: owner_of(trust_domain, remote),
            name: Some(remote.to_string()),
            shown: format!("remote {remote} of trust domain {trust_domain}"),
            joined,
        }
    }
}

/// Nothing where no agent was.
pub(super) async fn find(client: &Client, leave: &Leave, store: &Store) -> Result<Option<Owner>, OwnerError> {
    if let Some(remote) = &leave.remote {
        return Ok(Some(Owner::of(&leave.trust_domain, remote, false)));
    }
    match store.read().await {
        Ok((Contents::Kept(kept), _)) => {
            return Ok(Some(Owner::of(
                &kept.trust.trust_domain,
                &kept.certificate.remote,
                true,
            )));
        }
        // With certificate files there is no such Secret, and no right to it.
        Ok(_) | Err(StoreError::Missing(_) | StoreError::Forbidden(..)) => {}
        Err(error) => return Err(OwnerError::Identity(error)),
    }
    let records = Api::<PartialObjectMeta<ConfigMap>>::namespaced(client.clone(), &leave.namespace);
    let ours = ListParams::default().labels(&format!("{MANAGED_BY}={FIELD_MANAGER}"));
    let listed = records.list(&ours).await;
    let listed = listed.map_err(|error| OwnerError::Records(leave.namespace.clone(), explain(&error)))?;
    let owners: BTreeSet<String> = listed
        .iter()
        .filter_map(|record| record.labels().get(OWNER).cloned())
        .collect();
    if owners.len() > 1 {
        let all = owners.into_iter().collect::<Vec<_>>().join(", ");
        return Err(OwnerError::Several(leave.namespace.clone(), all));
    }
    Ok(owners.into_iter().next().map(|label| Owner {
        shown: format!("the agent {label}"),
        name: None,
        joined: false,
        label,
    }))
}
