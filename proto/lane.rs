//! The lane state machine: how one side's state reaches the other, whichever side that is.
//!
//! Pure: no clock, no I/O, no wire. [`Outbox`] is the side that owns the state, [`Inbox`] the side that holds a copy.
//! One delta is in flight at a time; while it is unacknowledged further changes merge by key, the latest wins.

mod inbox;
mod outbox;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::model::{EndpointPatch, Key, LaneHash, Object, Version};

pub use inbox::{Assembly, DeltaEnd, Inbox, Judged, ProtocolError};
pub use outbox::{Acked, Outbox, Refused};

/// What one delta says, complete: all of its parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Fresh for each delta of a session.
    pub nonce: u64,
    /// A snapshot: what is not named is gone.
    pub complete: bool,
    /// A person wants the removals: they pass the guard.
    pub released: bool,
    /// What is removed is let go of and stays where it is.
    pub orphaned: bool,
    /// Objects to hold from now on.
    pub upserts: Vec<(Key, Payload)>,
    /// Objects to let go; empty in a snapshot.
    pub removals: Vec<Key>,
    /// The lane's hash once all of this is accepted.
    pub next_hash: LaneHash,
}

/// How an object travels.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// Whole.
    Full(Arc<Object>),
    /// As the difference to what the receiver is known to hold.
    Patch {
        /// Version the patch applies to.
        base: Version,
        /// The difference.
        patch: EndpointPatch,
        /// Version of the result.
        version: Version,
        /// Position of the result.
        position: u64,
    },
}

/// Why the receiver refused one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NackReason {
    /// Breaks a rule of the contract.
    Invalid,
    /// Over a limit.
    TooLarge,
    /// This release does not know the kind.
    UnknownKind,
    /// The remote does not allow it.
    Policy,
    /// A patch of something else than what is held.
    BaseMismatch,
    /// An older position than what is held.
    Stale,
    /// Too many removals at once.
    GuardHeld,
}

impl NackReason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Invalid,
        Self::TooLarge,
        Self::UnknownKind,
        Self::Policy,
        Self::BaseMismatch,
        Self::Stale,
        Self::GuardHeld,
    ];

    /// The word used in logs, metrics and conditions.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "Invalid",
            Self::TooLarge => "TooLarge",
            Self::UnknownKind => "UnknownKind",
            Self::Policy => "Policy",
            Self::BaseMismatch => "BaseMismatch",
            Self::Stale => "Stale",
            Self::GuardHeld => "GuardHeld",
        }
    }

    /// Whether the sender no longer knows what the receiver holds under the refused key.
    #[must_use]
    fn hides_what_is_held(self) -> bool {
        matches!(self, Self::BaseMismatch | Self::Stale | Self::GuardHeld)
    }
}

/// One refused object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nack {
    /// The object.
    pub key: Key,
    /// Why, and with that when another try is worth it.
    pub reason: NackReason,
    /// For people: what was wrong and what to do.
    pub detail: String,
}
