//! Why a join was not answered as hoped: what the other end is told, and what the hub says to itself.

use remote_istio::identity::RemoteName;
use tonic::Status;

use crate::authority::IssueError;
use crate::enrolment::decide::Refusal;
use crate::enrolment::records::RecordError;

/// Why a join was not answered as hoped.
#[derive(Debug, thiserror::Error)]
pub(super) enum JoinError {
    #[error(
        "the token is not accepted: it is unknown, expired, used or taken back; make another on central with \
             `remote-istio-hub token create NAME`"
    )]
    Refused(Refusal),
    #[error("the join was denied on central")]
    Denied,
    #[error(
        "another cluster bears the name {0}: if this one is to take its place, run `remote-istio-hub release {0}` on \
         central and join again, the token is still good"
    )]
    NameTaken(RemoteName),
    #[error("too many failed attempts from this address: ask again in a minute")]
    MustWait,
    #[error("too many unknown tokens at the moment: ask again in a second")]
    Busy,
    #[error("{0}")]
    Invalid(String),
    #[error("central cannot answer now, ask again: {0}")]
    Records(#[from] RecordError),
    #[error("the link CA cannot sign now, ask again")]
    Authority(#[from] IssueError),
}

impl JoinError {
    /// For logs and metrics.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.as_str(),
            Self::Denied => "denied",
            Self::NameTaken(_) => "name_taken",
            Self::MustWait => "limited",
            Self::Busy => "busy",
            Self::Invalid(_) => "invalid",
            Self::Records(_) | Self::Authority(_) => "failed",
        }
    }

    pub(super) fn status(&self) -> Status {
        let text = self.to_string();
        match self {
            Self::Refused(_) => Status::unauthenticated(text),
            Self::Denied => Status::permission_denied(text),
            Self::NameTaken(_) => Status::failed_precondition(text),
            Self::MustWait => Status::resource_exhausted(text),
            Self::Invalid(_) => Status::invalid_argument(text),
            // An agent that is to ask again at once takes RESOURCE_EXHAUSTED for a minute's pause.
            Self::Busy | Self::Records(_) | Self::Authority(_) => Status::unavailable(text),
        }
    }
}
