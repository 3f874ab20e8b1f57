//! What can be wrong with the Secret of a CA, in words that say what to do.

use remote_istio::limits;

/// An entry of the Secret that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {entry}: {problem}")]
pub struct CaError {
    /// Which one.
    pub entry: &'static str,
    /// What is wrong with it.
    pub problem: CaProblem,
}

/// What is wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaProblem {
    /// Not there, or blank, although others are.
    #[error("is missing: write tls.crt, tls.key and ca.crt together")]
    Missing,
    /// No certificate in it.
    #[error("holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// No key in it.
    #[error("holds no unencrypted private key in PEM (-----BEGIN PRIVATE KEY-----)")]
    NoKey,
    /// A damaged block.
    #[error("is damaged: {0}")]
    Damaged(String),
    /// A certificate that cannot be read.
    #[error("certificate {0} in it cannot be read")]
    Unreadable(usize),
    /// More certificates than there may be.
    #[error("holds {0} certificates, at most {1} are taken")]
    TooMany(usize, usize),
    /// A certificate larger than any.
    #[error("certificate {0} in it is larger than {max} bytes", max = limits::CERTIFICATE_MAX_BYTES)]
    TooLarge(usize),
    /// A certificate that may not sign.
    #[error("{0:?} is no CA that may sign certificates (CA:true, keyCertSign): issue it with isCA: true")]
    NotACa(String),
    /// A name that cannot be written again.
    #[error("{0:?} cannot sign: its name has a part twice; give it a plain name")]
    Name(String),
    /// It has ended.
    #[error("the CA has expired by this machine's clock (now {now}, valid until {until})")]
    Ended {
        /// This machine's time.
        now: String,
        /// Its end.
        until: String,
    },
    /// It has not begun.
    #[error("the CA is not valid yet by this machine's clock (now {now}, valid from {from}): correct the clock")]
    NotYetValid {
        /// This machine's time.
        now: String,
        /// Its beginning.
        from: String,
    },
    /// A key that cannot be used.
    #[error("holds a key that cannot be used: {0}; make an ECDSA P-256 key")]
    KeyKind(String),
    /// Certificate and key are not of one pair: perhaps only half of an update is written.
    #[error("does not belong to the certificate beside it: write both from the same source")]
    KeyOfAnotherCertificate,
    /// The roots do not vouch for the signer.
    #[error("what the CA in tls.crt signs does not lead to a root in it: {0}")]
    NotBelowRoots(String),
    /// A certificate that should be there.
    #[error("lacks the certificate in {0}")]
    Lacks(&'static str),
    /// No number.
    #[error("is no number from 1 on")]
    Epoch,
    /// Signing failed.
    #[error("cannot be signed: {0}")]
    Signing(String),
}

impl CaProblem {
    /// As the problem of an entry.
    pub(super) fn of(self, entry: &'static str) -> CaError {
        CaError { entry, problem: self }
    }
}
