//! Wire to model and back. Every rejection has a reason; a bad object rejects itself and nothing else.

mod change;
mod component;
mod object;
mod report;
#[cfg(test)]
mod tests;

pub use change::{DeltaPart, ack_frames, delta_parts, read_ack, read_delta};
pub use object::{read_upsert, write_upsert};
pub use report::{SessionHello, lane_states, read_hello, read_status, status_frames};

use crate::model::Lane;
use crate::wire::v1;

/// A frame that breaks the contract as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A lane this release does not have.
    #[error("lane {0} is unknown")]
    Lane(i32),
    /// A hash that is not 16 bytes.
    #[error("a hash of {0} bytes came, it must have 16")]
    Hash(usize),
    /// More entries than one message may hold.
    #[error("{what}: {count} entries in one message, at most {limit} are allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many came.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// A text over its limit.
    #[error("{what}: a text of {length} bytes, at most {limit} are allowed")]
    TooLong {
        /// Which field.
        what: &'static str,
        /// How long it was.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// Both ends share no protocol version.
    #[error("the peer speaks protocol {min} to {max}, this release {own_min} to {own_max}: upgrade the older end")]
    Protocol {
        /// Lowest of the peer.
        min: u32,
        /// Highest of the peer.
        max: u32,
        /// Lowest of this release.
        own_min: u32,
        /// Highest of this release.
        own_max: u32,
    },
}

/// The lane of a wire value.
///
/// # Errors
/// The value is no lane of this release.
pub fn read_lane(lane: i32) -> Result<Lane, FrameError> {
    match v1::Lane::try_from(lane) {
        Ok(v1::Lane::Endpoints) => Ok(Lane::Endpoints),
        Ok(v1::Lane::Config) => Ok(Lane::Config),
        Ok(v1::Lane::Unspecified) | Err(_) => Err(FrameError::Lane(lane)),
    }
}

/// The wire value of a lane.
#[must_use]
pub fn write_lane(lane: Lane) -> i32 {
    match lane {
        Lane::Endpoints => v1::Lane::Endpoints.into(),
        Lane::Config => v1::Lane::Config.into(),
    }
}

fn at_most(what: &'static str, count: usize, limit: usize) -> Result<(), FrameError> {
    if count <= limit {
        Ok(())
    } else {
        Err(FrameError::TooMany { what, count, limit })
    }
}

fn no_longer_than(what: &'static str, text: &str, limit: usize) -> Result<(), FrameError> {
    if text.len() <= limit {
        Ok(())
    } else {
        Err(FrameError::TooLong {
            what,
            length: text.len(),
            limit,
        })
    }
}
