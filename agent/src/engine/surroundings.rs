//! What the objects of a key depend on beside the key itself.

use remote_istio::model::{Body, Component};
use remote_istio::wire::v1;

use super::{Engine, Facts};

/// What the objects of a key depend on beside the key itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Surroundings {
    /// What the tasks beside the engine found out.
    pub facts: Facts,
    /// The mesh configuration, where one is held.
    pub mesh: Option<v1::MeshConfig>,
    /// UID of the agent's own namespace, once it was seen.
    pub namespace_uid: Option<String>,
    /// What has become of the endpoints, with the hub away for too long.
    pub stale: Option<Stale>,
}

/// What becomes of endpoints that nobody vouches for any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// None of them is ready.
    NotReady,
    /// They go.
    Withdrawn,
}

impl Stale {
    /// What was asked for, if anything.
    #[must_use]
    pub fn of(rules: v1::Rules) -> Option<Self> {
        match rules.stale_action() {
            v1::StaleAction::NotReady => Some(Self::NotReady),
            v1::StaleAction::Withdraw => Some(Self::Withdrawn),
            v1::StaleAction::Keep | v1::StaleAction::Unspecified => None,
        }
    }

    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::NotReady => "not ready",
            Self::Withdrawn => "withdrawn",
        }
    }
}

impl Engine {
    /// The agent's own namespace may have come to be known, or be another of the name.
    pub(super) fn namespace_may_differ(&mut self) {
        let uid = self
            .observed
            .namespace(&self.settings.namespace)
            .map(|own| own.uid.clone());
        if uid.is_some() && self.surroundings.namespace_uid != uid {
            self.surroundings.namespace_uid = uid;
            self.surroundings_changed();
        }
    }

    /// The mesh configuration may have come, changed or gone.
    pub(super) fn mesh_may_differ(&mut self) {
        let held = self.state_of(Component::Mesh).filter(|state| !state.removed);
        let mesh = held.and_then(|state| match state.object.body {
            Body::Mesh(mesh) => Some(mesh),
            _ => None,
        });
        if self.surroundings.mesh != mesh {
            self.surroundings.mesh = mesh;
            self.surroundings_changed();
        }
    }
}
