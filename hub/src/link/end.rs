//! Why a session ended: a closed set, for counters, logs and what the agent is told.

use std::time::Duration;

use remote_istio::convert::FrameError;
use remote_istio::limits;
use remote_istio::liveness::Dead;
use remote_istio::tls::NotAdmitted;
use tonic::{Code, Status};

use super::standing::Ending;
use crate::registry::Refused;
use crate::session::SessionError;

/// Why a session ended, or was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum End {
    /// The agent closed its side.
    #[error("the agent closed the stream")]
    AgentClosed,
    /// The agent said that it leaves, and why.
    #[error("the agent left: {0}")]
    AgentLeft(String),
    /// The connection broke.
    #[error("the connection was lost: {0}")]
    ConnectionLost(String),
    /// A message over the limit.
    #[error("the agent sent a message that is too large: more than {max} bytes", max = limits::FRAME_MAX_BYTES)]
    Oversized,
    /// Bytes that are no frame.
    #[error("the agent sent what is no frame: {0}")]
    Garbage(String),
    /// Frames that break the protocol.
    #[error(transparent)]
    Protocol(SessionError),
    /// No hello in time.
    #[error("no hello came within {0:?}")]
    HelloMissing(Duration),
    /// Another frame than a hello came first.
    #[error("the first frame was not a hello")]
    HelloExpected,
    /// A hello that cannot be taken.
    #[error("the hello cannot be taken: {0}")]
    HelloRefused(FrameError),
    /// Another session of this remote stands.
    #[error(transparent)]
    Refused(Refused),
    /// A newer session of this remote took its place.
    #[error("a newer session of this remote took its place")]
    Superseded,
    /// Its certificate does not count any more.
    #[error("{0}; get a token with `remote-istio-hub token create NAME` on central and join again")]
    NotAdmitted(NotAdmitted),
    /// Its certificate has come to its end.
    #[error("the certificate of this agent ends: connect with the next one, or recover")]
    CertificateEnds,
    /// The agent no longer works.
    #[error("the agent is {}", .0.as_str())]
    Dead(Dead),
    /// The transport takes nothing any more.
    #[error("a frame could not be sent in time")]
    Stuck,
    /// This hub goes.
    #[error("this hub replica is stopping")]
    Drained,
}

/// The label of sessions that were revoked.
pub(crate) const REVOKED: &str = "revoked";

impl From<Ending> for End {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Superseded => Self::Superseded,
            Ending::NotAdmitted(why) => Self::NotAdmitted(why),
        }
    }
}

impl End {
    /// The word used as a metric's label.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::AgentClosed => "agent_closed",
            Self::AgentLeft(_) => "agent_left",
            Self::ConnectionLost(_) => "connection_lost",
            Self::Oversized => "oversized_frame",
            Self::Garbage(_) => "garbage_frame",
            Self::Protocol(_) => "protocol_error",
            Self::HelloMissing(_) => "hello_missing",
            Self::HelloExpected => "hello_expected",
            Self::HelloRefused(_) => "hello_refused",
            Self::Refused(Refused::OlderConnection) => "older_connection",
            Self::Refused(Refused::OlderAgent { .. }) => "older_agent",
            Self::Refused(Refused::Twin { .. }) => "twin",
            Self::Refused(Refused::OtherCluster { .. }) => "other_cluster",
            Self::Refused(Refused::Contended) => "contended",
            Self::NotAdmitted(NotAdmitted::Revoked) => REVOKED,
            Self::NotAdmitted(NotAdmitted::Unknown) => "unknown_identity",
            Self::NotAdmitted(NotAdmitted::AnotherCa) => "unknown_ca",
            Self::CertificateEnds => "certificate_ends",
            Self::Superseded => "superseded",
            Self::Dead(Dead::Silent) => "silent",
            Self::Dead(Dead::NotReading) => "not_reading",
            Self::Stuck => "stuck",
            Self::Drained => "drained",
        }
    }

    /// What a failed read of the stream means.
    pub(super) fn of_read(status: &Status) -> Self {
        match status.code() {
            Code::OutOfRange => Self::Oversized,
            // What tonic's decoder says of bytes that are no message; a lost connection has other codes.
            Code::Internal if !status.message().contains("h2 protocol error") => {
                Self::Garbage(limits::detail(status.message()))
            }
            _ => Self::ConnectionLost(limits::detail(status.message())),
        }
    }

    /// The stream's last word to the agent, where there is one.
    pub(super) fn status(&self) -> Option<Status> {
        let code = match self {
            Self::AgentClosed | Self::AgentLeft(_) | Self::ConnectionLost(_) => return None,
            Self::Oversized | Self::Garbage(_) | Self::Protocol(_) | Self::HelloExpected | Self::HelloRefused(_) => {
                Code::InvalidArgument
            }
            Self::HelloMissing(_) | Self::Dead(_) | Self::Stuck => Code::DeadlineExceeded,
            Self::Refused(Refused::Twin { .. } | Refused::OtherCluster { .. }) => Code::AlreadyExists,
            Self::Refused(Refused::Contended) | Self::CertificateEnds | Self::Drained => Code::Unavailable,
            Self::Refused(Refused::OlderConnection | Refused::OlderAgent { .. }) => Code::FailedPrecondition,
            Self::Superseded => Code::Aborted,
            Self::NotAdmitted(_) => Code::PermissionDenied,
        };
        Some(Status::new(code, self.to_string()))
    }

    /// Whether the connection below is of no more use and must not wait for the agent to close it.
    pub(super) fn cuts(&self) -> bool {
        matches!(
            self,
            Self::Dead(_) | Self::Stuck | Self::Superseded | Self::NotAdmitted(_)
        )
    }
}
