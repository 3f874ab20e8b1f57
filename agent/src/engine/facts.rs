//! What the tasks beside the engine found out about the remote, as the engine gets it. Pure types.

use std::collections::BTreeMap;

use remote_istio::model::Component;

/// Everything found out so far. A component that is not in `roles` has not been looked at yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Whether the account, role and binding of a component are there; otherwise what is missing and what to set.
    pub roles: BTreeMap<Component, Result<(), String>>,
    /// Whether Citadel has what it signs with.
    pub trust: Trust,
    /// Whether the injector serves.
    pub injector: Served,
}

/// Whether Citadel has what it signs with: the Secret `cacerts`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Not looked at yet.
    #[default]
    Unknown,
    /// Not there: why, and what to do.
    Missing(String),
    /// There.
    Ready {
        /// Over the Secret's contents: Citadel reads them only at its start.
        hash: String,
        /// Made by this agent, not brought by the user.
        own: bool,
    },
}

/// Whether the injector serves with a certificate of the remote's Citadel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Served {
    /// Not looked at yet.
    #[default]
    Unknown,
    /// It does not, and why.
    Not(String),
    /// It does.
    Yes {
        /// PEM of what its certificate was verified with.
        ca_bundle: Vec<u8>,
    },
}

impl Facts {
    /// Hash of the Secret that Citadel signs with, once it is there.
    #[must_use]
    pub fn trust_hash(&self) -> Option<&str> {
        match &self.trust {
            Trust::Ready { hash, .. } => Some(hash),
            Trust::Unknown | Trust::Missing(_) => None,
        }
    }
}
