//! Reading the three files, bounded, and telling their contents apart.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;

use super::error::{Problem, TlsError, TlsFile};

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

/// What the files held at one look.
pub(super) struct Contents {
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
    pub(super) trust_bundle: Vec<u8>,
}

/// Digest of contents; keys are not kept around to be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint([u8; 32]);

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

    pub(super) fn error(&self, file: TlsFile, problem: Problem) -> TlsError {
        TlsError {
            file,
            path: self.path(file).to_owned(),
            problem,
        }
    }

    pub(super) fn read(&self) -> Result<Contents, TlsError> {
        let read = |file| read_bounded(self.path(file)).map_err(|problem| self.error(file, problem));
        Ok(Contents {
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

impl Contents {
    pub(super) fn fingerprint(&self) -> Fingerprint {
        digest_of(&[&self.certificate, &self.key, &self.trust_bundle])
    }

    /// Stands for contents that could not even be read, so that one cause is reported once.
    pub(super) fn fingerprint_of_failure(error: &TlsError) -> Fingerprint {
        digest_of(&[error.to_string().as_bytes()])
    }
}

fn digest_of(parts: &[&[u8]]) -> Fingerprint {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    Fingerprint(bytes)
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
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Problem::Empty);
    }
    Ok(bytes)
}
