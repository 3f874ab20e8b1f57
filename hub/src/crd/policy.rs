//! What a remote lets the hub ask for, as it stands in the status of its `RemoteIstio`.

use kube::KubeSchema;
use remote_istio::policy::{Policy, PolicyError};
use remote_istio::wire::v1;
use serde::{Deserialize, Serialize};

/// The policy of a remote, as its agent told it last. It is made in the remote: nothing written here changes it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// Over everything below.
    pub digest: String,
    /// Components that may be run; none: none.
    #[serde(default)]
    pub components: Vec<String>,
    /// Namespaces that services and their endpoints may be written into.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// Prefixes that images must have.
    #[serde(default)]
    pub image_registries: Vec<String>,
    /// Ranges that endpoints must lie in; none: all that are not refused.
    #[serde(default)]
    pub endpoint_ranges: Vec<String>,
    /// Ranges that endpoints never lie in: the remote's own services and its API server.
    #[serde(default)]
    pub refused_ranges: Vec<String>,
    /// Namespaces that sidecars may be injected into; `*`: every one that is not Kubernetes' own or the agent's.
    #[serde(default)]
    pub injection_namespaces: Vec<String>,
    /// Removals at a time without a person's release; not given: ten, or a fifth of what is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_removals: Option<i64>,
    /// Whether sidecars may be privileged.
    #[serde(default)]
    pub privileged_proxy: bool,
}

impl PolicyStatus {
    /// Of what an agent told.
    #[must_use]
    pub fn of(policy: &Policy) -> Self {
        let wire = policy.to_wire();
        Self {
            digest: policy.digest().to_string(),
            components: wire.components,
            namespaces: wire.namespaces,
            image_registries: wire.image_registries,
            endpoint_ranges: wire.endpoint_ranges,
            refused_ranges: wire.refused_ranges,
            injection_namespaces: wire.injection_namespaces,
            most_removals: policy.most_removals.map(i64::from),
            privileged_proxy: wire.privileged_proxy,
        }
    }

    /// The policy, to judge by while its agent is away.
    ///
    /// # Errors
    /// Somebody has written into it what is no policy.
    pub fn policy(&self) -> Result<Policy, PolicyError> {
        let most = self.most_removals.and_then(|most| u32::try_from(most).ok());
        Policy::read(&v1::Policy {
            digest: Vec::new(),
            components: self.components.clone(),
            namespaces: self.namespaces.clone(),
            image_registries: self.image_registries.clone(),
            endpoint_ranges: self.endpoint_ranges.clone(),
            refused_ranges: self.refused_ranges.clone(),
            injection_namespaces: self.injection_namespaces.clone(),
            most_removals: most.unwrap_or(0),
            privileged_proxy: self.privileged_proxy,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use remote_istio::policy::Runs;

    use super::*;

    #[test]
    fn policy_is_read_back_from_the_status_as_it_was_told() {
        let policy = Policy {
            components: BTreeSet::from([Runs::Citadel]),
            namespaces: BTreeSet::from(["istio-system".to_owned()]),
            endpoint_ranges: BTreeSet::from(["10.0.0.0/8".parse().expect("a range")]),
            refused_ranges: BTreeSet::from(["10.96.0.0/12".parse().expect("a range")]),
            most_removals: Some(7),
            privileged_proxy: true,
            ..Policy::default()
        };
        let status = PolicyStatus::of(&policy);
        let stored: PolicyStatus =
            serde_json::from_value(serde_json::to_value(&status).expect("JSON")).expect("readable");
        assert_eq!(stored.policy(), Ok(policy));
    }
}
