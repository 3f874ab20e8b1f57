//! What can be wrong with the certificates of this process, in words that say what to do.

use std::fmt;
use std::io;

use crate::identity::IdentityError;

/// One of the three files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFile {
    /// The certificate chain, leaf first.
    Certificate,
    /// The private key of the leaf.
    Key,
    /// The CAs that sign the peers.
    TrustBundle,
}

impl TlsFile {
    /// The flag that names the file, of hub and agent alike.
    #[must_use]
    pub fn flag(self) -> &'static str {
        match self {
            Self::Certificate => "--certificate",
            Self::Key => "--key",
            Self::TrustBundle => "--trust-bundle",
        }
    }

    /// The entry of a Secret of TLS that holds it.
    #[must_use]
    pub fn entry(self) -> &'static str {
        match self {
            Self::Certificate => "tls.crt",
            Self::Key => "tls.key",
            Self::TrustBundle => "ca.crt",
        }
    }
}

impl fmt::Display for TlsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.flag())
    }
}

/// A certificate, key or bundle that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct TlsError {
    /// Which of the three.
    pub file: TlsFile,
    /// Where it comes from: flag and path, or Secret and entry.
    pub place: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It is not there or cannot be opened.
    #[error("cannot be read: {0}; is the Secret mounted, and the path right?")]
    Unreadable(io::Error),
    /// It has no content: a writer is in the middle of its work, or the Secret's entry is blank.
    #[error("is empty")]
    Empty,
    /// It is larger than any such file.
    #[error("is larger than {0} bytes, which no certificate file is")]
    TooLarge(u64),
    /// No certificate block in it.
    #[error("holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// No key block in it.
    #[error("holds no unencrypted private key in PEM (-----BEGIN PRIVATE KEY-----)")]
    NoKey,
    /// A block is damaged.
    #[error("is damaged: {0}")]
    Damaged(String),
    /// A key of a kind that is not supported.
    #[error("holds a key that cannot be used: {0}; make an ECDSA P-256 key")]
    KeyKind(String),
    /// Key and certificate are not of one pair.
    #[error("does not belong to the certificate; write both from the same Secret")]
    KeyOfAnotherCertificate,
    /// The certificate has ended.
    #[error(
        "the certificate has expired by this machine's clock (now {now}, valid until {until}): renew it, or correct \
         the clock"
    )]
    Expired {
        /// This machine's time.
        now: String,
        /// Its end.
        until: String,
    },
    /// The certificate has not begun.
    #[error(
        "the certificate is not valid yet by this machine's clock (now {now}, valid from {from}): correct the clock"
    )]
    NotYetValid {
        /// This machine's time.
        now: String,
        /// Its beginning.
        from: String,
    },
    /// The certificate stands for nobody here.
    #[error(transparent)]
    Identity(IdentityError),
    /// A CA certificate that cannot be trusted.
    #[error("holds a certificate that cannot be a CA: {0}")]
    NotACa(String),
    /// The configured trust domain is none.
    #[error("cannot be judged: --trust-domain {0:?} is not a DNS name")]
    TrustDomainName(String),
    /// The TLS stack refuses the whole.
    #[error("cannot be used for TLS: {0}")]
    Unusable(String),
}
