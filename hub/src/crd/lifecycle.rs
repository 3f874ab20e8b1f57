//! What becomes of a remote when its `RemoteIstio` is deleted, and when its hub is lost.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// How long the hub must be away where nothing is said.
pub const LOST_AFTER_DEFAULT: &str = "10m";

/// What becomes of what stands in the remote when the `RemoteIstio` is deleted.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeletionPolicy {
    /// The agent removes it.
    #[default]
    Delete,
    /// It stays, and is nobody's from then on.
    Orphan,
}

/// What the agent does with the endpoints by itself once the hub is lost.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhenHubLost {
    /// What becomes of them.
    #[serde(default)]
    pub action: LostAction,
    /// How long the hub must be away, a number and a unit (s, m, h, d) from 1m to 30d; 10m where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), regex(pattern = r"^[0-9]{1,7}[smhd]$"))]
    #[x_kube(validation = Rule::new(
            "int(self.substring(0, size(self) - 1)) * {'s': 1, 'm': 60, 'h': 3600, 'd': 86400}[self.substring(size(self) - 1)] >= 60 && int(self.substring(0, size(self) - 1)) * {'s': 1, 'm': 60, 'h': 3600, 'd': 86400}[self.substring(size(self) - 1)] <= 2592000"
        )
        .message("must be from 1m to 30d: a number and one of s, m, h, d"))]
    pub after: Option<String>,
}

/// What becomes of endpoints that nobody vouches for any more.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LostAction {
    /// They stay as they are.
    #[default]
    Keep,
    /// They stay, none of them ready.
    NotReady,
    /// They go; the services stay.
    Withdraw,
}
