//! Who is at the other end of a connection, read once from the verified certificate.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::identity::{self, Identity, IdentityError};

/// The other end of one connection. Handlers find it as `Arc<Peer>` among a request's extensions.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Whom the certificate stands for.
    pub identity: Identity,
    /// The certificate's serial number, lower-case hex.
    pub serial: String,
    /// When the certificate ends; the connection ends then at the latest.
    pub not_after: SystemTime,
    /// Where the connection comes from or goes to, for logs.
    pub address: String,
    cut: CancellationToken,
}

impl Peer {
    pub(crate) fn new(der: &[u8], trust_domain: &str, address: String) -> Result<Self, IdentityError> {
        let Leaf {
            identity,
            serial,
            not_after,
        } = read_leaf(der, trust_domain)?;
        Ok(Self {
            identity,
            serial,
            not_after,
            address,
            cut: CancellationToken::new(),
        })
    }

    /// Ends the connection at once: its reads and writes fail from now on.
    pub fn cut(&self) {
        self.cut.cancel();
    }

    /// Becomes cancelled when the connection is cut.
    #[must_use]
    pub fn cut_token(&self) -> &CancellationToken {
        &self.cut
    }
}

/// What a leaf certificate says of its owner.
pub(super) struct Leaf {
    pub(super) identity: Identity,
    pub(super) serial: String,
    pub(super) not_after: SystemTime,
}

pub(super) fn read_leaf(der: &[u8], trust_domain: &str) -> Result<Leaf, IdentityError> {
    let identity = identity::from_certificate(der, trust_domain)?;
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|error| IdentityError::Unreadable(error.to_string()))?;
    let not_after = system_time(certificate.validity().not_after.timestamp());
    Ok(Leaf {
        identity,
        serial: hex(certificate.raw_serial()),
        not_after,
    })
}

/// Seconds since 1970 as a time; what lies before 1970 counts as 1970.
pub(super) fn system_time(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
