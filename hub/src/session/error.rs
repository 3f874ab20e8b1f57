//! What ends a session from within.

use remote_istio::convert::FrameError;
use remote_istio::model::Lane;

/// What ends a stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// A frame broke the contract.
    #[error("the agent sent a frame that breaks the contract: {0}")]
    Frame(#[from] FrameError),
    /// A second hello.
    #[error("the agent sent a second hello on one stream")]
    HelloTwice,
    /// The answer to a delta before its last part was sent.
    #[error("the agent answered delta {nonce} of lane {lane} before its last part was sent")]
    EarlyAck {
        /// The lane.
        lane: Lane,
        /// The delta.
        nonce: u64,
    },
    /// More refusals than a lane has objects.
    #[error("the agent refused more objects of lane {lane} than a lane may hold")]
    TooManyNacks {
        /// The lane.
        lane: Lane,
    },
    /// More states than both lanes have objects.
    #[error("the agent reported states of more than {0} objects")]
    TooManyStates(usize),
}
