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
    /// The hub's certificate is of a CA that this agent does not trust.
    Untrusted(String),
    /// The hub does not take this agent; trying again at once cannot help.
    Refused(Refused, String),
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

/// For what the hub does not take an agent, as far as it decides what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The certificate has ended by the hub's clock: an ended one can be recovered.
    Expired,
    /// Revoked, unknown, or of another CA: a new token can help.
    NotKnown,
    /// Another agent of the same remote is there.
    Twin,
    /// Anything else.
    Other,
}

impl Refused {
    /// By the words that the contract's texts and the hub's own agree on.
    fn from_words(text: &str) -> Self {
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if says(&["certificate has expired"]) {
            Self::Expired
        } else if says(&["certificate revoked", "unknown to this hub", "signed by another CA"]) {
            Self::NotKnown
        } else {
            Self::Other
        }
    }
}

impl Ended {
    /// `failed` at the very start of the connection; `error` knows whether the hub said why.
    pub(super) fn unreachable(failed: &ConnectError, error: &LinkError) -> Self {
        if error.is_refusal() {
            Self::refused(failed.to_string())
        } else {
            Self::Unreachable(failed.to_string())
        }
    }

    /// Replaces what the request says by what the connection knows better.
    pub(super) fn with_cause(self, error: &LinkError) -> Self {
        let transport = matches!(&self, Self::Status(status) if is_transport(status)) || matches!(self, Self::Closed);
        match (self, error.explain()) {
            (Self::Stopped, _) => Self::Stopped,
            (_, Some(cause)) if error.is_refusal() => Self::refused(cause),
            (Self::Status(status), _) if status.code() == Code::AlreadyExists => {
                Self::Refused(Refused::Twin, status.message().to_owned())
            }
            (Self::Status(status), _) if refuses(status.code()) => Self::refused(status.message().to_owned()),
            (Self::Status(_), Some(cause)) if transport => Self::Broken(cause),
            (ended, _) => ended,
        }
    }

    pub(super) fn refused(text: String) -> Self {
        Self::Refused(Refused::from_words(&text), text)
    }

    /// For what the hub does not take this agent, if that is how it ended.
    pub(super) fn refusal(&self) -> Option<Refused> {
        match self {
            Self::Refused(refused, _) => Some(*refused),
            // Neither knows the other any more: a new token makes both known again.
            Self::Untrusted(_) => Some(Refused::NotKnown),
            _ => None,
        }
    }

    /// The word used in metrics and logs.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Unreachable(_) => "unreachable",
            Self::Untrusted(_) => "untrusted",
            Self::Refused(..) => "refused",
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
        match error {
            ConnectError::UnknownCa(_) => Self::Untrusted(error.to_string()),
            _ => Self::Unreachable(error.to_string()),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("the agent stops"),
            Self::Unreachable(text)
            | Self::Untrusted(text)
            | Self::Refused(_, text)
            | Self::Broken(text)
            | Self::Protocol(text) => f.write_str(text),
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
        Code::PermissionDenied | Code::Unauthenticated | Code::FailedPrecondition
    )
}

/// What tonic makes of a connection that broke, as far as a code can tell.
fn is_transport(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unknown | Code::Unavailable | Code::Cancelled | Code::Internal
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_is_told_by_the_words_of_the_contract() {
        for (text, expected) in [
            (
                "this agent's certificate has expired or is not valid yet by the hub's clock; renew it",
                Refused::Expired,
            ),
            (
                "certificate revoked: the hub takes this remote no longer",
                Refused::NotKnown,
            ),
            ("unknown to this hub: the certificate is good, but", Refused::NotKnown),
            (
                "the hub does not trust the CA: it is signed by another CA; join again",
                Refused::NotKnown,
            ),
            ("a newer agent holds this session", Refused::Other),
        ] {
            assert_eq!(Ended::refused(text.to_owned()).refusal(), Some(expected), "{text}");
        }
    }

    #[test]
    fn hub_of_another_ca_is_one_that_a_new_token_can_help_with() {
        let stranger = Ended::from(ConnectError::UnknownCa("hub.test:8444".to_owned()));
        assert_eq!(
            (stranger.refusal(), stranger.as_str()),
            (Some(Refused::NotKnown), "untrusted")
        );
    }

    #[test]
    fn twin_is_told_by_its_code() {
        let twin = Ended::Status(Status::already_exists("another agent is there")).with_cause(&LinkError::default());
        assert_eq!(twin.refusal(), Some(Refused::Twin));
        let other = Ended::Status(Status::unavailable("stopping")).with_cause(&LinkError::default());
        assert_eq!(other.refusal(), None);
    }
}
