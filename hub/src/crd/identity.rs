//! `RemoteIdentity`: what the name of a remote is bound to, and whether its certificates count. Holds no secret.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// The identity of one remote. Its name is the remote's. Made when a remote joins; `remote-istio-hub revoke` and
/// `remote-istio-hub release` change it.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "istio.banzaicloud.io",
    version = "v1beta1",
    kind = "RemoteIdentity",
    plural = "remoteidentities",
    singular = "remoteidentity",
    namespaced,
    status = "RemoteIdentityStatus",
    derive = "PartialEq",
    validation = Rule::new("size(self.metadata.name) <= 63 && !self.metadata.name.contains('.')")
        .message("the name must be a remote's: a DNS label of at most 63 characters"),
    doc = "What the name of a remote is bound to, and whether its certificates count. Holds no secret.",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterUid"),
    printcolumn(name = "Joined", type_ = "date", json_path = ".spec.joinedAt"),
    printcolumn(name = "Revoked", type_ = "date", json_path = ".spec.revoked.at"),
    printcolumn(name = "Epoch", type_ = "integer", json_path = ".status.trustEpoch")
)]
#[serde(rename_all = "camelCase")]
pub struct RemoteIdentitySpec {
    /// UID of the kube-system namespace of the cluster that bears the name.
    #[schemars(length(max = 253))]
    pub cluster_uid: String,
    /// When it joined last.
    pub joined_at: Time,
    /// Pin of the key that joined last: tells two joins of one second apart.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub key: String,
    /// Certificates whose validity begins earlier do not count: they are from before the last join.
    pub not_before: Time,
    /// An operator lets the next join bind the name to another cluster.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub released: bool,
    /// Set: no certificate of this name counts, until it joins with a token made later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revocation>,
}

/// When an identity was revoked, and why.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revocation {
    /// When.
    pub at: Time,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1_024))]
    pub reason: String,
}

/// How far the remote has come in a rollover of the CA. Written when it changes, not with each renewal.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoteIdentityStatus {
    /// Epoch of the trust that the agent keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_epoch: Option<i64>,
    /// Pin of the CA that signed the certificate it connected with last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
}
