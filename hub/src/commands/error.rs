//! Why a command did not do what it was asked for.

use std::io;

use crate::api_error;

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The API server refused, or did not answer.
    #[error("{attempted}: {}", api_error::message(.error))]
    Api {
        /// What was attempted, on what.
        attempted: String,
        /// The answer.
        error: Box<kube::Error>,
    },
    /// The API server does not know a resource of ours.
    #[error(
        "{attempted}: the resource is not defined on this cluster; is it central? Then apply what `remote-istio-hub crd` \
         prints"
    )]
    NotDefined {
        /// What was attempted, on what.
        attempted: String,
    },
    /// Others wrote the same object at the same time, again and again.
    #[error("{attempted}: others write it at the same time; try again")]
    Contended {
        /// What was attempted, on what.
        attempted: String,
    },
    /// It must not be done; the text says why, and what to do.
    #[error("{0}")]
    Refused(String),
    /// It is done, but nobody can be told.
    #[error("it is done, but the output cannot be written: {0}")]
    Output(#[from] io::Error),
}

impl CommandError {
    /// A call that cannot end in 404 but where the resource is not defined: a list or a creation.
    pub(super) fn of_collection(attempted: impl Into<String>, error: kube::Error) -> Self {
        if api_error::code(&error) == 404 {
            return Self::NotDefined {
                attempted: attempted.into(),
            };
        }
        Self::of_object(attempted, error)
    }

    /// A call on one object.
    pub(super) fn of_object(attempted: impl Into<String>, error: kube::Error) -> Self {
        Self::Api {
            attempted: attempted.into(),
            error: Box::new(error),
        }
    }
}
