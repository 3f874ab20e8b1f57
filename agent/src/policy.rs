//! The policy of this remote: a file that its users write, and what their cluster is like.

mod cluster;
mod file;
mod following;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use remote_istio::policy::{Policy, PolicyError, Range};

pub use cluster::Surroundings;
pub use file::FileError;
pub use following::{Following, follow};

/// Where the policy of a remote comes from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file; nothing: what counts where nothing is said.
    pub file: Option<PathBuf>,
    /// The namespaces that are watched for services: those the policy allows where it names none, and the most it can
    /// allow.
    pub service_namespaces: BTreeSet<String>,
}

/// A policy that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    /// The file cannot be read.
    #[error("--policy {path}: cannot be read: {error}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why not.
        error: std::io::Error,
    },
    /// The file says something that is no policy.
    #[error("--policy {path}: {error}")]
    Wrong {
        /// The file.
        path: String,
        /// What is wrong.
        error: FileError,
    },
    /// With what the cluster is like it is too large.
    #[error("the policy is too large: {0}")]
    TooLarge(#[from] PolicyError),
}

impl Source {
    /// Reads the policy as it is now, without what the cluster is like. Blocks on file I/O.
    ///
    /// # Errors
    /// The file cannot be read, or says something that is no policy.
    pub fn read(&self) -> Result<Arc<Policy>, PolicyFileError> {
        let text = match &self.file {
            Some(path) => std::fs::read_to_string(path).map_err(|error| PolicyFileError::Unreadable {
                path: shown(path),
                error,
            })?,
            None => String::new(),
        };
        let policy = file::policy(&text, &self.service_namespaces).map_err(|error| PolicyFileError::Wrong {
            path: self.file.as_deref().map(shown).unwrap_or_default(),
            error,
        })?;
        policy.check_size()?;
        Ok(Arc::new(policy))
    }
}

/// The policy of a file in a cluster whose services and API server have these ranges.
///
/// # Errors
/// It is too large to be told to the hub.
pub fn within(policy: &Policy, ranges: &BTreeSet<Range>) -> Result<Arc<Policy>, PolicyError> {
    let policy = Policy {
        refused_ranges: ranges.clone(),
        ..policy.clone()
    };
    policy.check_size()?;
    Ok(Arc::new(policy))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
