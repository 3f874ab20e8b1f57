//! What can be wrong with central's mesh CA, in words that say what to do.

/// Why a mesh CA cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeshCaProblem {
    /// Not there, or blank, although others are: perhaps half of an update.
    #[error("entry {0} is missing: write ca-cert.pem, ca-key.pem, root-cert.pem and cert-chain.pem together")]
    Missing(&'static str),
    /// It cannot be read.
    #[error("entry {0} cannot be used: {1}")]
    Unreadable(&'static str, String),
    /// Certificate and key are not of one pair: perhaps only half of an update is written.
    #[error("entry ca-key.pem does not belong to the certificate in ca-cert.pem: write both from the same source")]
    KeyOfAnotherCertificate,
    /// A certificate that may not sign.
    #[error("{0:?} is no CA that may sign certificates (CA:true, keyCertSign): bring one that is")]
    NotACa(String),
    /// A CA that may sign workloads only.
    #[error(
        "{subject:?} has path length {length}, so that it cannot sign the CA of a remote: bring an intermediate CA with \
         path length {needed} or more (or without one), or name another Secret with --mesh-ca-secret"
    )]
    PathLength {
        /// Whose.
        subject: String,
        /// CAs that may stand below it.
        length: u32,
        /// CAs that would stand below it.
        needed: u32,
    },
    /// A name that cannot be written again.
    #[error("{0:?} cannot sign: its name has a part twice; give it a plain name")]
    Name(String),
    /// It has ended.
    #[error("{subject:?} has expired by this machine's clock (now {now}, valid until {until}): renew it")]
    Ended {
        /// Whose end.
        subject: String,
        /// This machine's time.
        now: String,
        /// The end.
        until: String,
    },
    /// It has not begun.
    #[error("{subject:?} is not valid yet by this machine's clock (now {now}, valid from {from}): correct the clock")]
    NotYetValid {
        /// Whose beginning.
        subject: String,
        /// This machine's time.
        now: String,
        /// The beginning.
        from: String,
    },
    /// No way up to a root.
    #[error(
        "the CA in ca-cert.pem does not lead to a root in root-cert.pem: {0}; write the CAs between them into \
         cert-chain.pem"
    )]
    NotBelowRoots(String),
    /// One key for both trusts: what a remote signs would be believed on the link.
    #[error(
        "the link trusts {0:?} too, so that a remote could make itself a hub's certificate: bring a CA of the link \
         under another root, or use --link-ca made"
    )]
    TrustedOnTheLink(String),
    /// Signing failed.
    #[error("nothing can be signed: {0}")]
    Signing(String),
}
