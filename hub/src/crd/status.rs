//! The status of a `RemoteIstio`, as the hub writes it.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::PolicyStatus;

/// What the hub knows of the remote.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoteIstioStatus {
    /// In one word, as the 2019 operator said it: `Created`, `Reconciling`, `Available` or `ReconcileFailed`.
    #[serde(
        default,
        rename = "Status",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "known_state"
    )]
    pub state: Option<State>,
    /// What is wrong, where something is.
    #[serde(default, rename = "ErrorMessage", skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// `metadata.generation` this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Connected`, `Accepted`, `Applied`, and `Ready` that sums up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// When the agent last connected or was last heard before its connection ended. Not a heartbeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_contact: Option<Time>,
    /// Release of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    /// UID of the remote's kube-system namespace: which cluster the agent is in.
    #[serde(default, rename = "clusterUID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub cluster_uid: Option<String>,
    /// Version of the remote's API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<String>,
    /// Hub replica that holds, or last held, the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
    /// The session this status was written for: a hub with an older one does not write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionStatus>,
    /// Per enabled service the addresses sent and applied; at most a minute old.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceStatus>,
    /// Per component how far its pods are; counts are at most a minute old.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<ComponentStatus>,
    /// What the remote lets the hub ask for, as its agent told it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyStatus>,
}

/// The seed's one-word states.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Seen by the hub.
    Created,
    /// Something is on its way.
    Reconciling,
    /// Applied by the agent and acknowledged, nothing less.
    Available,
    /// Something cannot be done; the error message says what.
    ReconcileFailed,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Created, Self::Reconciling, Self::Available, Self::ReconcileFailed];

    /// The word in the status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "Created",
            Self::Reconciling => "Reconciling",
            Self::Available => "Available",
            Self::ReconcileFailed => "ReconcileFailed",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that this release does not know is as good as none: it must not make the whole object unreadable.
fn known_state<'de, D: Deserializer<'de>>(from: D) -> Result<Option<State>, D::Error> {
    let word: Option<String> = Deserialize::deserialize(from)?;
    Ok(word.and_then(|word| State::ALL.into_iter().find(|state| state.as_str() == word)))
}

/// Order of sessions of one remote.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionStatus {
    /// Raised at each start of an agent.
    pub start: i64,
    /// Counts the connections of that process.
    pub connection: i64,
}

/// One enabled service of the remote.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// Name of the service.
    pub name: String,
    /// Namespace of the service.
    pub namespace: String,
    /// Addresses that were sent.
    pub addresses_sent: i64,
    /// Addresses that stand in the remote.
    pub addresses_applied: i64,
}

/// One component of the remote.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ComponentStatus {
    /// The block of the spec that asks for it.
    pub name: String,
    /// Pods that it should have.
    pub desired: i64,
    /// Pods of the newest template.
    pub updated: i64,
    /// Pods that are available.
    pub available: i64,
    /// Why it is not as it should be, where it is not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}
