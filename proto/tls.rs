//! Certificates of the link: read from three files or handed over, judged as a whole, replaced while running.
//!
//! Owns what a TLS handshake needs and nothing of connections. A change becomes a *whole new* configuration, and
//! only if every part of it parses and the key fits the certificate; else the old one stays. Sessions are never
//! resumed: a resumed one would pass the check of the certificate by.

mod admission;
mod build;
mod enrolling;
mod error;
mod files;
mod material;
mod origin;
mod peer;
mod pins;
mod source;
mod verifier;

#[cfg(test)]
pub(crate) mod test_ca;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::SystemTime;

use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, ServerConfig};

use crate::identity::Identity;

pub use admission::{Admission, NotAdmitted};
pub use enrolling::{EnrolmentTrust, EnrolmentTrustError};
pub use error::{Problem, TlsError, TlsFile};
pub use files::CertificateFiles;
pub use material::Material;
pub use peer::{LeafFacts, Peer};
pub use source::TlsSource;

pub(crate) use enrolling::EnrolmentTls;
pub(crate) use peer::shown;
pub(crate) use pins::PinProblem;

/// The only protocol offered and taken on the link.
pub const ALPN_HTTP2: &[u8] = b"h2";

/// One configuration: certificate, key and trust bundle that belong together.
#[derive(Debug)]
pub struct TlsConfig {
    /// For connections that were accepted: TLS 1.3, client certificate required, no tickets.
    pub server: Arc<ServerConfig>,
    /// For connections to the enrolment port: TLS 1.3, no client certificate asked, no tickets. The chain it shows
    /// goes on with the trust bundle, so that a pinned root is in it.
    pub enrolment: Arc<ServerConfig>,
    /// For connections that were dialled: TLS 1.3, roots from the bundle only, no resumption.
    pub client: Arc<ClientConfig>,
    /// Who this process is, by its own certificate.
    pub own: OwnCertificate,
    /// Whether a client's chain leads to the trust bundle.
    pub(crate) clients: Arc<dyn ClientCertVerifier>,
}

/// What this process's own certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnCertificate {
    /// Whom it stands for.
    pub identity: Identity,
    /// Its serial number, lower-case hex.
    pub serial: String,
    /// When it began; backdated, so that a clock somewhat behind takes it too.
    pub not_before: SystemTime,
    /// When it ends.
    pub not_after: SystemTime,
    /// Names the key that signed it (authority key identifier); empty if it does not say.
    pub issuer_key_id: Vec<u8>,
}

/// How reloading went so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReloadStatus {
    /// New configurations taken since the start.
    pub reloads: u64,
    /// Distinct contents that were refused since the start.
    pub refused: u64,
    /// Why the newest contents are not in use; `None` while they are.
    pub error: Option<String>,
}
