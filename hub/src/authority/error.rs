//! Why a hub has no authority, in words that say what to do.

use remote_istio::limits;
use remote_istio::tls::TlsError;

use super::link_ca::{CaError, IssueError};
use crate::api_error;

/// Why an authority cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The Secret is not there at all.
    #[error(
        "Secret {0}/{1} is missing: apply the roles that come with the hub, they hold it empty; if it was there \
         before, restore it from its backup"
    )]
    Missing(String, String),
    /// The Secret is empty, and the user was to fill it.
    #[error(
        "Secret {0}/{1} is empty: write tls.crt, tls.key and ca.crt of a signing CA into it, or use --link-ca made"
    )]
    Empty(String, String),
    /// The Secret is empty although remotes have joined.
    #[error(
        "the link CA was lost: Secret {0}/{1} is empty although remotes have joined; restore it from its backup, or \
         delete the RemoteIdentity objects and join all remotes again"
    )]
    Lost(String, String),
    /// The Secret holds something else.
    #[error("the CA of Secret {0}/{1} cannot be used: {2}")]
    Ca(String, String, #[source] CaError),
    /// Other replicas wrote each time.
    #[error("Secret {0}/{1} could not be filled, others wrote each time: start again")]
    Contended(String, String),
    /// The API server refuses.
    #[error("the API server refuses to {attempted}: {}", api_error::message(.error))]
    Api {
        /// What was attempted.
        attempted: String,
        /// Its answer; its text stands in this one's already, so that it is no source of it.
        error: kube::Error,
    },
    /// The API server does not answer.
    #[error("no answer in time from the API server, asked to {0}")]
    Late(String),
    /// The hub's own certificate cannot be signed.
    #[error("the hub's own certificate cannot be made: {0}")]
    Issue(#[from] IssueError),
    /// The hub's own certificate cannot be used.
    #[error("the hub's own certificate cannot be used: {0}")]
    Tls(#[from] TlsError),
    /// Agents could not find the hub.
    #[error(
        "{hubs} public addresses of the sync port and {enrolments} of the enrolment port are set: there must be 1 to \
         {max} of each",
        max = limits::TRUST_ADDRESSES
    )]
    Addresses {
        /// Of the sync port.
        hubs: usize,
        /// Of the enrolment port.
        enrolments: usize,
    },
}
