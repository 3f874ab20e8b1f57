//! How far an accepted object has come in the remote cluster.

use super::Version;
use crate::wire::v1;

/// How far an accepted object has come in the remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ApplyState {
    /// The API server holds it as accepted.
    Applied,
    /// It is gone, as asked.
    Removed,
    /// An object of that name is not ours and is left alone.
    Foreign,
    /// The agent's role does not allow it.
    Forbidden,
    /// Waits for the namespace.
    NamespaceMissing,
    /// The API server refused it: validation, quota or a webhook.
    Rejected,
    /// The API server does not answer; tried again by itself.
    Unavailable,
    /// Somebody keeps changing it; slowed down.
    Contended,
    /// A user's own label says otherwise and wins.
    UserDecided,
    /// Written as far as it can be; what it starts, or what it needs, is not there yet.
    NotReady,
}

impl ApplyState {
    /// The word used in logs, metrics and conditions.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "Applied",
            Self::Removed => "Removed",
            Self::Foreign => "Foreign",
            Self::Forbidden => "Forbidden",
            Self::NamespaceMissing => "NamespaceMissing",
            Self::Rejected => "Rejected",
            Self::Unavailable => "Unavailable",
            Self::Contended => "Contended",
            Self::UserDecided => "UserDecided",
            Self::NotReady => "NotReady",
        }
    }
}

/// What the remote made of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The accepted version this speaks of; nothing once a removal was accepted.
    pub version: Option<Version>,
    /// How far it has come.
    pub state: ApplyState,
    /// For people, when not applied: what is in the way and what to do.
    pub detail: String,
    /// Of an endpoint set: how many addresses stand in the remote.
    pub addresses: u32,
    /// Of a component: how far its pods are.
    pub replicas: Option<v1::Replicas>,
}
