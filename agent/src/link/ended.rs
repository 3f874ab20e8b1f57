//! Why a conversation ended, or never began.

use std::fmt;
use std::time::Duration;

use remote_istio::liveness::Dead;
use remote_istio::transport::{ConnectError, LinkError};
use tonic::{Code, Status};

/// The end of one attempt.
#[derive(Debug)]
pub(super) enum Ended {
    /// The agent is asked to stop.
    Stopped,
    /// No connection came about.
    Unreachable(String),
    /// The hub does not take this agent; trying again at once cannot help.
    Refused(String),
    /// The hub ended the stream.
    Closed,
    /// The stream failed.
    Status(Status),
    /// The connection failed under the stream.
    Broken(String),
    /// The hub asked to leave, and to come back within this range.
    Drained(String, (Duration, Duration)),
    /// The hub did not answer the hello.
    NoWelcome,
    /// The hub no longer works.
    Dead(Dead),
    /// A frame found no room for too long.
    Stuck,
    /// The hub broke the contract.
    Protocol(String),
}

impl Ended {
    /// `failed` at the very start of the connection; `error` knows whether the hub said why.
    pub(super) fn unreachable(failed: &ConnectError, error: &LinkError) -> Self {
        if error.is_refusal() {
            Self::Refused(failed.to_string())
        } else {
            Self::Unreachable(failed.to_string())
        }
    }

    /// Replaces what the request says by what the connection knows better.
    pub(super) fn with_cause(self, error: &LinkError) -> Self {
        let transport = matches!(&self, Self::Status(status) if is_transport(status)) || matches!(self, Self::Closed);
        match (self, error.explain()) {
            (Self::Stopped, _) => Self::Stopped,
            (_, Some(cause)) if error.is_refusal() => Self::Refused(cause),
            (Self::Status(status), _) if refuses(status.code()) => Self::Refused(status.message().to_owned()),
            (Self::Status(_), Some(cause)) if transport => Self::Broken(cause),
            (ended, _) => ended,
        }
    }

    /// Trying again at once cannot help.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    /// The word used in metrics and logs.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Unreachable(_) => "unreachable",
            Self::Refused(_) => "refused",
            Self::Closed => "closed",
            Self::Status(_) => "failed",
            Self::Broken(_) => "broken",
            Self::Drained(..) => "drained",
            Self::NoWelcome => "no_welcome",
            Self::Dead(Dead::Silent) => "silent",
            Self::Dead(Dead::NotReading) => "not_reading",
            Self::Stuck => "stuck",
            Self::Protocol(_) => "protocol",
        }
    }
}

impl From<ConnectError> for Ended {
    fn from(error: ConnectError) -> Self {
        Self::Unreachable(error.to_string())
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("the agent stops"),
            Self::Unreachable(text) | Self::Refused(text) | Self::Broken(text) | Self::Protocol(text) => {
                f.write_str(text)
            }
            Self::Closed => f.write_str("the hub ended the stream"),
            Self::Status(status) => write!(f, "{} ({:?})", status.message(), status.code()),
            Self::Drained(reason, _) => write!(f, "the hub asked to leave: {reason}"),
            Self::NoWelcome => f.write_str("the hub did not answer the hello in time: is this its sync port?"),
            Self::Dead(Dead::Silent) => f.write_str("the hub has said nothing for too long"),
            Self::Dead(Dead::NotReading) => f.write_str("the hub speaks but does not read what is sent to it"),
            Self::Stuck => f.write_str("the connection takes nothing any more"),
        }
    }
}

/// Codes by which a hub refuses an agent for what it is, not for how things stand.
fn refuses(code: Code) -> bool {
    matches!(
        code,
        Code::PermissionDenied | Code::Unauthenticated | Code::FailedPrecondition | Code::AlreadyExists
    )
}

/// What tonic makes of a connection that broke, as far as a code can tell.
fn is_transport(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unknown | Code::Unavailable | Code::Cancelled | Code::Internal
    )
}
