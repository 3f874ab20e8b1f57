//! What a remote lets the hub ask for. The agent enforces it; the hub judges with the same function, to say in advance
//! what would be refused. Pure.

pub mod image;
mod judge;
mod range;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::BTreeSet;

use crate::model::Version;

pub use range::{Range, RangeError};
pub use wire::PolicyError;

/// Namespaces of Kubernetes itself, where nothing is ever written.
pub const KUBERNETES_NAMESPACES: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// Stands for every namespace that is not Kubernetes' own or the agent's.
pub const EVERY_NAMESPACE: &str = "*";

/// The registry that is allowed where a policy names none: that of the images the agent runs by itself.
pub const DEFAULT_REGISTRY: &str = "docker.io/istio";

/// What a policy can allow to be run in the remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Runs {
    /// The CA of the remote's workloads, with the mesh's trust.
    Citadel,
    /// The sidecar injector.
    SidecarInjector,
}

impl Runs {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Citadel, Self::SidecarInjector];

    /// The word in a policy, as in the spec of a `RemoteIstio`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Citadel => "citadel",
            Self::SidecarInjector => "sidecarInjector",
        }
    }

    /// Name of its Deployment and Service.
    #[must_use]
    pub fn workload(self) -> &'static str {
        match self {
            Self::Citadel => "istio-citadel",
            Self::SidecarInjector => "istio-sidecar-injector",
        }
    }

    /// The one of this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|runs| runs.as_str() == word)
    }
}

/// What a remote lets the hub ask for. Made in the remote, of a file and of what its cluster is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What may be run.
    pub components: BTreeSet<Runs>,
    /// Where services and their endpoints may be written.
    pub namespaces: BTreeSet<String>,
    /// Prefixes of images, normalised, see [`image::normalised`].
    pub image_registries: BTreeSet<String>,
    /// Where endpoints may lie; none: everywhere that is not refused.
    pub endpoint_ranges: BTreeSet<Range>,
    /// Where endpoints never lie: the service ranges and the API server of the remote.
    pub refused_ranges: BTreeSet<Range>,
    /// Which namespaces may be injected; [`EVERY_NAMESPACE`] is every one.
    pub injection_namespaces: BTreeSet<String>,
    /// Removals in one delta without a person's release; nothing: see [`crate::limits::guard_allows`].
    pub most_removals: Option<u32>,
    /// Whether sidecars may be privileged.
    pub privileged_proxy: bool,
}

impl Default for Policy {
    /// What counts where nothing is said: no component, no service, and injection of every namespace.
    fn default() -> Self {
        Self {
            components: BTreeSet::new(),
            namespaces: BTreeSet::new(),
            image_registries: BTreeSet::from([DEFAULT_REGISTRY.to_owned()]),
            endpoint_ranges: BTreeSet::new(),
            refused_ranges: BTreeSet::new(),
            injection_namespaces: BTreeSet::from([EVERY_NAMESPACE.to_owned()]),
            most_removals: None,
            privileged_proxy: false,
        }
    }
}

impl Policy {
    /// Changes with the content, and only with it.
    #[must_use]
    pub fn digest(&self) -> Version {
        wire::digest(&wire::contents(self))
    }

    /// Removals in one delta without a person's release, where the policy says so.
    #[must_use]
    pub fn removals_limit(&self) -> Option<usize> {
        self.most_removals
            .map(|most| usize::try_from(most).unwrap_or(usize::MAX))
    }
}

/// Why the policy refuses an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {detail}")]
pub struct Refusal {
    /// A stable word for what was broken.
    pub rule: &'static str,
    /// For people: what was asked for, and what to change where, if anything can be.
    pub detail: String,
}
