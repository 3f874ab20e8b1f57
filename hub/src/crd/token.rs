//! `JoinToken`: what the hub keeps of a join token. The token itself is with its bearer; here is its hash.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// One join token, by its public id. Made by `remote-istio-hub token create`, removed an hour after its end.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "istio.banzaicloud.io",
    version = "v1beta1",
    kind = "JoinToken",
    plural = "jointokens",
    singular = "jointoken",
    namespaced,
    status = "JoinTokenStatus",
    derive = "PartialEq",
    validation = Rule::new("self.spec == oldSelf.spec").message("a token cannot be changed: make another"),
    doc = "What the hub keeps of a single-use join token: its hash and what became of it.",
    printcolumn(name = "Remote", type_ = "string", json_path = ".spec.remote"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Approval", type_ = "string", json_path = ".spec.approval"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".spec.expiresAt"),
    printcolumn(name = "From", type_ = "string", json_path = ".status.claim.address")
)]
#[serde(rename_all = "camelCase")]
pub struct JoinTokenSpec {
    /// The only remote that may join by it.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub remote: String,
    /// SHA-256 of the secret half, hex.
    #[schemars(length(min = 64, max = 64), regex(pattern = "^[0-9a-f]{64}$"))]
    pub secret_hash: String,
    /// From then on it is worth nothing.
    pub expires_at: Time,
    /// Whether a person must approve the join.
    #[serde(default)]
    pub approval: Approval,
    /// The only cluster that may join by it, where given: UID of its kube-system namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub cluster_uid: Option<String>,
    /// Who made it, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub created_by: String,
}

/// Whether a person must approve a join.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Approval {
    /// The token is enough.
    #[default]
    Automatic,
    /// `remote-istio-hub join approve` is needed too.
    Manual,
}

/// What became of a token. Each change is guarded by the resourceVersion, so that it has one user also with several
/// hub replicas.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinTokenStatus {
    /// Where it stands.
    #[serde(default)]
    pub state: TokenState,
    /// Who came with it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<TokenClaim>,
    /// When it was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_at: Option<Time>,
    /// What it was used for: the certificate that was issued, PEM, for an answer that was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

/// Where a token stands.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenState {
    /// Nobody came with it yet.
    #[default]
    Unused,
    /// Somebody came; a person must approve.
    Pending,
    /// A person approved; the next request is answered.
    Approved,
    /// A person denied.
    Denied,
    /// A certificate was issued.
    Used,
    /// Somebody came with it after its use, or with another key: it is worth nothing.
    Dead,
}

/// Who came with a token.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenClaim {
    /// Pin of the key that asked.
    #[schemars(length(max = 128))]
    pub key: String,
    /// UID of the cluster it is in.
    #[schemars(length(max = 253))]
    pub cluster_uid: String,
    /// Where it dials from.
    #[schemars(length(max = 253))]
    pub address: String,
}
