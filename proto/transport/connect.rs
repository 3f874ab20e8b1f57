//! The dialling end: resolve, connect, shake hands, and make sure that it is the hub.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, Error};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, TlsStream};

use super::address::HubAddress;
use super::link_error::{explain_alert, tls_error};
use super::protocol::Protocol;
use super::stream::SecureStream;
use crate::identity::{Identity, IdentityError};
use crate::limits;
use crate::tls::{Peer, TlsSource};

/// Addresses of one name that are tried in one attempt.
const ADDRESSES_TRIED: usize = 8;

/// Dials the hub with the newest certificate.
#[derive(Clone, Debug)]
pub struct Connector {
    tls: Arc<TlsSource>,
}

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
    #[error("{0} refused the connection: is the hub running, and is this its sync port?")]
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
    #[error("{0} does not speak TLS: is this the hub's sync port?")]
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
    #[error("the certificate of {0} is signed by a CA that is not in --trust-bundle")]
    UnknownCa(String),
    /// The hub's certificate is not for this name.
    #[error("the certificate of {address} is not for this name, only for {presented}")]
    WrongName {
        /// The address.
        address: String,
        /// The names it carries.
        presented: String,
    },
    /// The hub's certificate has ended.
    #[error("the certificate of {0} has expired; is the clock of this machine right?")]
    Expired(String),
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
    /// The other end refused this end's certificate, or closed during or right after the handshake.
    #[error("{address}: {detail}")]
    Closed {
        /// The address.
        address: String,
        /// Why, as far as it was said.
        detail: String,
    },
}

impl Connector {
    /// Dials with the certificate of `tls`, each time the newest.
    #[must_use]
    pub fn new(tls: Arc<TlsSource>) -> Self {
        Self { tls }
    }

    /// Resolves the name, tries its addresses in the resolver's order until one takes the connection, shakes hands
    /// and makes sure that the hub is at the other end.
    ///
    /// # Errors
    /// See [`ConnectError`]; of several addresses the last one's.
    pub async fn connect(&self, address: &HubAddress) -> Result<SecureStream<TcpStream>, ConnectError> {
        let mut failure = ConnectError::NoAddress(address.host().to_owned());
        for socket in resolve(address).await?.into_iter().take(ADDRESSES_TRIED) {
            match dial(socket).await {
                Ok(stream) => {
                    let shown = format!("{address} ({socket})");
                    return handshake_client(stream, &self.tls, address.server_name(), shown).await;
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

async fn resolve(address: &HubAddress) -> Result<Vec<SocketAddr>, ConnectError> {
    let host = || address.host().to_owned();
    let lookup = tokio::net::lookup_host((address.host(), address.port()));
    let found = timeout(limits::CONNECT_DEADLINE, lookup)
        .await
        .map_err(|_| ConnectError::ResolveTimedOut(host()))?;
    Ok(found
        .map_err(|source| ConnectError::Resolve { host: host(), source })?
        .collect())
}

async fn dial(socket: SocketAddr) -> Result<TcpStream, ConnectError> {
    let address = socket.to_string();
    let dialled = async {
        let stream = TcpStream::connect(socket).await?;
        stream.set_nodelay(true)?;
        Ok::<_, io::Error>(stream)
    };
    match timeout(limits::CONNECT_DEADLINE, dialled).await {
        Err(_) => Err(ConnectError::TimedOut(address)),
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(match error.kind() {
            io::ErrorKind::ConnectionRefused => ConnectError::Refused(address),
            io::ErrorKind::TimedOut => ConnectError::TimedOut(address),
            _ => ConnectError::Unreachable { address, source: error },
        }),
    }
}

/// The dialling end of a TLS handshake on any stream, within the limits' deadline. `name` must stand in the hub's
/// certificate; `address` is for messages.
///
/// # Errors
/// The handshake failed, or the other end is not a hub of this trust domain.
pub async fn handshake_client<S>(
    stream: S,
    tls: &TlsSource,
    name: ServerName<'static>,
    address: String,
) -> Result<SecureStream<S>, ConnectError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let connector = TlsConnector::from(Arc::clone(&tls.current().client));
    let stream = match timeout(limits::HANDSHAKE_DEADLINE, connector.connect(name, stream)).await {
        Err(_) => return Err(ConnectError::HandshakeTimedOut(address)),
        Ok(Err(error)) => return Err(explain(&error, address)),
        Ok(Ok(stream)) => stream,
    };
    let (_, connection) = stream.get_ref();
    if Protocol::from_alpn(connection.alpn_protocol()).is_none() {
        return Err(ConnectError::Incompatible {
            address,
            detail: "it did not agree to HTTP/2 (ALPN)".to_owned(),
        });
    }
    let leaf = connection.peer_certificates().and_then(|chain| chain.first());
    let Some(leaf) = leaf else {
        return Err(ConnectError::Certificate {
            address,
            detail: "none was shown".to_owned(),
        });
    };
    let peer = match Peer::new(leaf, tls.trust_domain(), address.clone()) {
        Ok(peer) if peer.identity == Identity::Hub => peer,
        Ok(peer) => {
            return Err(ConnectError::NotTheHub {
                address,
                identity: peer.identity.uri(tls.trust_domain()),
            });
        }
        Err(source) => return Err(ConnectError::Identity { address, source }),
    };
    Ok(SecureStream::new(TlsStream::Client(stream), peer))
}

fn explain(error: &io::Error, address: String) -> ConnectError {
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
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => ConnectError::Expired(address),
        other => ConnectError::Certificate {
            address,
            detail: other.to_string(),
        },
    }
}
