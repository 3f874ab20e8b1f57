//! Where certificates come from, for messages.

use super::error::{Problem, TlsError, TlsFile};
use super::files::CertificateFiles;

/// Three files, or whoever hands the material over.
#[derive(Debug)]
pub(super) enum Origin {
    Files(CertificateFiles),
    Given(String),
}

impl Origin {
    pub(super) fn error(&self, file: TlsFile, problem: Problem) -> TlsError {
        let place = match self {
            Self::Files(files) => format!("{} {}", file.flag(), files.path(file).display()),
            Self::Given(origin) => format!("{origin}, {}", file.entry()),
        };
        TlsError { file, place, problem }
    }
}
