//! The dialling end: resolve, connect, shake hands, and make sure that it is the hub.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, TlsStream};

use super::address::HubAddress;
use super::connect_error::{ConnectError, explain};
use super::protocol::Protocol;
use super::proxy;
use super::stream::{SecureStream, export};
use super::way::Way;
use crate::identity::Identity;
use crate::limits;
use crate::tls::{Peer, TlsSource};

/// Addresses of one name that are tried in one attempt.
const ADDRESSES_TRIED: usize = 8;

/// Dials the hub with the newest certificate.
#[derive(Clone, Debug)]
pub struct Connector {
    tls: Arc<TlsSource>,
    way: Way,
}

impl Connector {
    /// Dials with the certificate of `tls`, each time the newest.
    #[must_use]
    pub fn new(tls: Arc<TlsSource>) -> Self {
        Self { tls, way: Way::Direct }
    }

    /// The same by another way.
    #[must_use]
    pub fn via(self, way: Way) -> Self {
        Self { way, ..self }
    }

    /// Resolves the name, tries its addresses in the resolver's order until one takes the connection, shakes hands
    /// and makes sure that the hub is at the other end. Where the way leads through a proxy, the proxy resolves.
    ///
    /// # Errors
    /// See [`ConnectError`]; of several addresses the last one's.
    pub async fn connect(&self, address: &HubAddress) -> Result<SecureStream<TcpStream>, ConnectError> {
        let (stream, shown) = reach(address, &self.way).await?;
        handshake_client(stream, &self.tls, address.server_name(), shown).await
    }
}

/// A connection to the hub below TLS, and what to call it.
pub(super) async fn reach(address: &HubAddress, way: &Way) -> Result<(TcpStream, String), ConnectError> {
    match way.proxy_for(address) {
        None => {
            let (stream, socket) = dial_any(address.host(), address.port()).await?;
            Ok((stream, format!("{address} ({socket})")))
        }
        Some(proxy) => {
            let stream = proxy::tunnel(proxy, address).await?;
            Ok((stream, format!("{address} (by proxy {proxy})")))
        }
    }
}

/// Resolves the name and tries its addresses.
pub(super) async fn dial_any(host: &str, port: u16) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let mut failure = ConnectError::NoAddress(host.to_owned());
    for socket in resolve(host, port).await?.into_iter().take(ADDRESSES_TRIED) {
        match dial(socket).await {
            Ok(stream) => return Ok((stream, socket)),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
    let owned = || host.to_owned();
    let found = timeout(limits::CONNECT_DEADLINE, tokio::net::lookup_host((host, port)))
        .await
        .map_err(|_| ConnectError::ResolveTimedOut(owned()))?;
    Ok(found
        .map_err(|source| ConnectError::Resolve { host: owned(), source })?
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
    let config = Arc::clone(&tls.current().client);
    shake_hands(stream, config, name, tls.trust_domain(), tls.now(), address).await
}

/// The same with any configuration; `now` by its clock.
pub(super) async fn shake_hands<S>(
    stream: S,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    trust_domain: &str,
    now: SystemTime,
    address: String,
) -> Result<SecureStream<S>, ConnectError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let handshake = TlsConnector::from(config).connect(name, stream);
    let stream = match timeout(limits::HANDSHAKE_DEADLINE, handshake).await {
        Err(_) => return Err(ConnectError::HandshakeTimedOut(address)),
        Ok(Err(error)) => return Err(explain(&error, address)),
        Ok(Ok(stream)) => stream,
    };
    let (_, connection) = stream.get_ref();
    if Protocol::from_alpn(connection.alpn_protocol()).is_none() {
        let detail = "it did not agree to HTTP/2 (ALPN)".to_owned();
        return Err(ConnectError::Incompatible { address, detail });
    }
    let leaf = connection.peer_certificates().and_then(|chain| chain.first());
    let Some(leaf) = leaf else {
        let detail = "none was shown".to_owned();
        return Err(ConnectError::Certificate { address, detail });
    };
    let peer = hub(leaf, trust_domain, address)?;
    let exporter = export(connection).map_err(|error| ConnectError::Incompatible {
        address: peer.address.clone(),
        detail: error.to_string(),
    })?;
    let left = peer.not_after.duration_since(now).unwrap_or_default();
    Ok(SecureStream::new(
        TlsStream::Client(stream),
        Arc::new(peer),
        exporter,
        left,
    ))
}

/// Makes sure that the certificate is a hub's.
fn hub(leaf: &[u8], trust_domain: &str, address: String) -> Result<Peer, ConnectError> {
    match Peer::new(leaf, trust_domain, address.clone()) {
        Ok(peer) if peer.identity == Identity::Hub => Ok(peer),
        Ok(peer) => Err(ConnectError::NotTheHub {
            address,
            identity: peer.identity.uri(trust_domain),
        }),
        Err(source) => Err(ConnectError::Identity { address, source }),
    }
}
