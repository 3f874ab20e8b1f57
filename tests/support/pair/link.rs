//! The certificates of one hub and its remotes, in files.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;

use crate::ca::{Authority, Files, Leaf};
use crate::folder::Folder;

/// One link CA and a folder with what it signed, and with the logs of those who use it.
#[derive(Debug, Clone)]
pub struct Link {
    authority: Arc<Authority>,
    folder: Arc<Folder>,
}

impl Link {
    /// A new CA in a folder of its own.
    ///
    /// # Errors
    /// No key can be made, or the temporary folder cannot be written.
    pub fn create(name: &str) -> Result<Self> {
        Ok(Self {
            authority: Arc::new(Authority::new("link of remote-istio")?),
            folder: Folder::create(name)?,
        })
    }

    /// The CA.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Certificates and logs.
    #[must_use]
    pub fn folder(&self) -> &Arc<Folder> {
        &self.folder
    }

    /// The CA's own certificate as a file; there after the first leaf.
    #[must_use]
    pub fn trust_bundle(&self) -> PathBuf {
        self.folder.access("hub").join("ca.crt")
    }

    /// A fresh certificate of the hub.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn hub(&self) -> Result<Files> {
        self.issue("hub", &Leaf::hub())
    }

    /// A fresh certificate of a remote.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn remote(&self, name: &str) -> Result<Files> {
        self.issue(name, &Leaf::remote(name))
    }

    /// Any leaf of this CA, in a folder of that name.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn issue(&self, name: &str, leaf: &Leaf) -> Result<Files> {
        self.issue_by(&self.authority, name, leaf)
    }

    /// A leaf of another CA beside this CA's bundle.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn issue_by(&self, authority: &Authority, name: &str, leaf: &Leaf) -> Result<Files> {
        let files = authority.issue_into(&self.folder.access(name), leaf)?;
        std::fs::write(&files.trust_bundle, self.authority.bundle())?;
        Ok(files)
    }
}
