//! Reading the three files, bounded.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::error::{Problem, TlsError, TlsFile};
use super::material::Material;
use super::origin::Origin;

/// Largest file read, bytes: a bundle of several hundred CAs.
const FILE_MAX_BYTES: u64 = 1024 * 1024;

/// Where certificate, key and trust bundle lie, all in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate chain of this process, leaf first.
    pub certificate: PathBuf,
    /// The leaf's private key.
    pub key: PathBuf,
    /// The CAs that sign the peers' certificates; nothing else is trusted.
    pub trust_bundle: PathBuf,
}

impl CertificateFiles {
    /// The path of one of them.
    #[must_use]
    pub fn path(&self, file: TlsFile) -> &Path {
        match file {
            TlsFile::Certificate => &self.certificate,
            TlsFile::Key => &self.key,
            TlsFile::TrustBundle => &self.trust_bundle,
        }
    }

    pub(super) fn read(&self) -> Result<Material, TlsError> {
        let read =
            |file| read_bounded(self.path(file)).map_err(|problem| Origin::Files(self.clone()).error(file, problem));
        Ok(Material {
            certificate: read(TlsFile::Certificate)?,
            key: read(TlsFile::Key)?,
            trust_bundle: read(TlsFile::TrustBundle)?,
        })
    }

    #[cfg(unix)]
    pub(super) fn key_is_world_readable(&self) -> bool {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::metadata(&self.key).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
    }

    #[cfg(not(unix))]
    pub(super) fn key_is_world_readable(&self) -> bool {
        false
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, Problem> {
    let unreadable = |error: io::Error| Problem::Unreadable(error);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        return Err(Problem::TooLarge(FILE_MAX_BYTES));
    }
    Ok(bytes)
}
