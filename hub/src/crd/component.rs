//! What the remote runs of Istio, and how.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, ResourceClaim, Toleration};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Entries of a node selector.
pub const NODE_SELECTOR_MAX: usize = 64;

/// Tolerations of one component.
pub const TOLERATIONS_MAX: usize = 64;

/// Secrets that images are pulled with, of one component.
pub const PULL_SECRETS_MAX: usize = 16;

/// Replicas of one component, as agents take them.
pub const REPLICAS_MAX: u32 = 100;

/// The resources a component may ask for.
pub const RESOURCE_NAMES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// A component of the remote.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Component {
    /// Its image; that of the agent's release where not given or empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1_024), regex(pattern = r"^([A-Za-z0-9][-A-Za-z0-9._:/@]*)?$"))]
    pub image: Option<String>,
    /// Its replicas; one where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = REPLICAS_MAX))]
    pub replica_count: Option<i32>,
    /// When its image is pulled; `IfNotPresent` where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<PullPolicy>,
    /// Secrets beside it in the remote that its image is pulled with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = PULL_SECRETS_MAX))]
    pub image_pull_secrets: Vec<PullSecret>,
    /// Labels of the nodes it may run on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = NODE_SELECTOR_MAX))]
    pub node_selector: BTreeMap<String, String>,
    /// Where it should and should not run. Of the terms over pods: labelSelector, namespaces and topologyKey.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Taints that it tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = TOLERATIONS_MAX))]
    pub tolerations: Vec<Toleration>,
    /// What its container asks for, and may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

/// The sidecars of the remote.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proxy {
    /// Their image; that of the agent's release where not given or empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1_024), regex(pattern = r"^([A-Za-z0-9][-A-Za-z0-9._:/@]*)?$"))]
    pub image: Option<String>,
    /// When their images are pulled; `IfNotPresent` where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<PullPolicy>,
    /// Whether they are privileged. The remote's own policy must allow it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    /// What each of them asks for, and may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

/// The init containers of the sidecars.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyInit {
    /// Their image; that of the agent's release where not given or empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1_024), regex(pattern = r"^([A-Za-z0-9][-A-Za-z0-9._:/@]*)?$"))]
    pub image: Option<String>,
}

/// When an image is pulled.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// At each start.
    Always,
    /// Where the node has none.
    IfNotPresent,
    /// Never: the node has it.
    Never,
}

impl PullPolicy {
    /// As Kubernetes writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// A Secret that images are pulled with.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PullSecret {
    /// Its name in the remote, in the namespace of the component.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,
}

/// What a container asks for, and may use: cpu, memory and ephemeral-storage.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What it is promised.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    #[x_kube(validation = Rule::new("self.all(name, name in ['cpu', 'memory', 'ephemeral-storage'])")
        .message("only cpu, memory and ephemeral-storage can be asked for"))]
    pub requests: BTreeMap<String, Quantity>,
    /// What it never gets more of.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    #[x_kube(validation = Rule::new("self.all(name, name in ['cpu', 'memory', 'ephemeral-storage'])")
        .message("only cpu, memory and ephemeral-storage can be limited"))]
    pub limits: BTreeMap<String, Quantity>,
    /// Refused: devices cannot be claimed for a component.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(validation = Rule::new("size(self) == 0")
        .message("claims cannot be carried out: remove them"))]
    pub claims: Vec<ResourceClaim>,
}

/// An amount as Kubernetes writes it: 2, "100m", "64Mi".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Quantity {
    /// A number alone.
    Number(i64),
    /// With a suffix.
    Text(String),
}

impl schemars::JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "x-kubernetes-int-or-string": true,
            "minimum": 0,
            "maxLength": 32,
            "pattern": "^[0-9]+(\\.[0-9]+)?([numkMGTPE]|[KMGTPE]i|[eE][0-9]{1,3})?$",
        })
    }
}
