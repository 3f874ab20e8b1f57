//! Why there is no connection to the hub, in words that say what to do.

use std::io;
use std::time::{Duration, UNIX_EPOCH};

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, OtherError};

use super::link_error::{explain_alert, tls_error};
use crate::identity::IdentityError;
use crate::tls::{PinProblem, shown};

/// Why there is no connection to the hub.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name could not be resolved.
    #[error("cannot resolve {host:?}: {source}; is the name right, and does DNS work here?")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The name has no address.
    #[error("{0:?} resolves to no address")]
    NoAddress(String),
    /// The resolver did not answer.
    #[error("resolving {0:?} took too long; does DNS work here?")]
    ResolveTimedOut(String),
    /// Nobody listens there.
    #[error("{0} refused the connection: is the hub running, and is this its port?")]
    Refused(String),
    /// Nothing came back.
    #[error("{0} did not answer in time: does a firewall stand between?")]
    TimedOut(String),
    /// Any other failure below TLS.
    #[error("cannot connect to {address}: {source}")]
    Unreachable {
        /// The address.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// TCP answers, TLS does not.
    #[error("{0} took the connection but did not finish the TLS handshake in time")]
    HandshakeTimedOut(String),
    /// The other end does not speak TLS.
    #[error("{0} does not speak TLS: is this a port of the hub?")]
    NotTls(String),
    /// The other end does not speak what is spoken here.
    #[error("{address} does not speak TLS 1.3 with HTTP/2: {detail}")]
    Incompatible {
        /// The address.
        address: String,
        /// What is missing.
        detail: String,
    },
    /// The hub's certificate is signed by a CA that is not in the bundle.
    #[error(
        "the certificate of {0} is signed by another CA: none in the trust bundle this agent holds (--trust-bundle, or \
         what the hub sent it last)"
    )]
    UnknownCa(String),
    /// The hub's certificate is not for this name.
    #[error("the certificate of {address} is not for this name, only for {presented}")]
    WrongName {
        /// The address.
        address: String,
        /// The names it carries.
        presented: String,
    },
    /// No presented CA is pinned, or the pinned one is not what the certificate hangs on.
    #[error("the certificate of {address} does not fit the pin: {detail}")]
    PinMismatch {
        /// The address.
        address: String,
        /// What was looked for, and what was shown.
        detail: String,
    },
    /// The hub's certificate has ended.
    #[error(
        "the certificate of {address} has expired by this machine's clock (now {now}, valid until {until}): correct \
         the clock, or renew the hub's certificate"
    )]
    Expired {
        /// The address.
        address: String,
        /// This machine's time.
        now: String,
        /// Its end.
        until: String,
    },
    /// The hub's certificate has not begun.
    #[error(
        "the certificate of {address} is not valid yet by this machine's clock (now {now}, valid from {from}): correct \
         the clock"
    )]
    NotYetValid {
        /// The address.
        address: String,
        /// This machine's time.
        now: String,
        /// Its beginning.
        from: String,
    },
    /// The hub's certificate cannot be used for another reason.
    #[error("the certificate of {address} cannot be used: {detail}")]
    Certificate {
        /// The address.
        address: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The certificate stands for nobody.
    #[error("the certificate of {address} carries no identity of a hub: {source}")]
    Identity {
        /// The address.
        address: String,
        /// What is wrong with it.
        source: IdentityError,
    },
    /// The certificate stands for somebody else.
    #[error("{address} is not a hub: its certificate stands for {identity}")]
    NotTheHub {
        /// The address.
        address: String,
        /// Whom it stands for, as a URI.
        identity: String,
    },
    /// The way leads through a proxy, which does not let this connection through.
    #[error("proxy {proxy} (HTTPS_PROXY): {detail}")]
    Proxy {
        /// Its address, without credentials.
        proxy: String,
        /// What it said, or what failed.
        detail: String,
    },
    /// The other end refused this end's certificate, or closed during or right after the handshake.
    #[error("{address}: {detail}")]
    Closed {
        /// The address.
        address: String,
        /// Why, as far as it was said.
        detail: String,
    },
}

/// What a failed handshake means.
pub(super) fn explain(error: &io::Error, address: String) -> ConnectError {
    match tls_error(error) {
        Some(Error::InvalidCertificate(problem)) => explain_certificate(problem, address),
        Some(Error::InvalidMessage(_) | Error::InappropriateMessage { .. }) => ConnectError::NotTls(address),
        Some(Error::PeerIncompatible(what)) => ConnectError::Incompatible {
            address,
            detail: format!("{what:?}"),
        },
        Some(Error::AlertReceived(
            alert @ (AlertDescription::ProtocolVersion | AlertDescription::NoApplicationProtocol),
        )) => ConnectError::Incompatible {
            address,
            detail: explain_alert(*alert),
        },
        Some(Error::AlertReceived(alert)) => ConnectError::Closed {
            address,
            detail: explain_alert(*alert),
        },
        _ => ConnectError::Closed {
            address,
            detail: format!("the connection broke during the TLS handshake: {error}"),
        },
    }
}

fn explain_certificate(problem: &CertificateError, address: String) -> ConnectError {
    match problem {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => ConnectError::UnknownCa(address),
        CertificateError::NotValidForName => ConnectError::WrongName {
            address,
            presented: "others".to_owned(),
        },
        CertificateError::NotValidForNameContext { presented, .. } => {
            let presented = if presented.is_empty() {
                "none".to_owned()
            } else {
                presented.join(", ")
            };
            ConnectError::WrongName { address, presented }
        }
        CertificateError::ExpiredContext { time, not_after } => ConnectError::Expired {
            address,
            now: shown_unix(*time),
            until: shown_unix(*not_after),
        },
        CertificateError::NotValidYetContext { time, not_before } => ConnectError::NotYetValid {
            address,
            now: shown_unix(*time),
            from: shown_unix(*not_before),
        },
        CertificateError::Other(OtherError(inner)) if inner.is::<PinProblem>() => ConnectError::PinMismatch {
            address,
            detail: inner.to_string(),
        },
        other => ConnectError::Certificate {
            address,
            detail: other.to_string(),
        },
    }
}

fn shown_unix(time: UnixTime) -> String {
    shown(UNIX_EPOCH + Duration::from_secs(time.as_secs()))
}
