//! The accepting end of one handshake: who must show a certificate, and who need not.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::Instant;
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::accept::AcceptBounds;
use super::caller::Caller;
use super::protocol::Protocol;
use super::refusal::{Refusal, describe};
use super::stream::{FarEnd, SecureStream, export};
use crate::tls::{Peer, TlsConfig, TlsSource};

/// A refused client has so long to read the alert before the connection is torn down.
const LINGER: Duration = Duration::from_millis(500);

/// Who it is and how long the connection may last for that reason, or why it is refused.
type Entered<E> = Result<(Arc<E>, Duration), (Refusal, String)>;

/// What is asked of those who connect to a listener.
pub(super) trait Door: Send + Sync + 'static {
    /// What is then known of them.
    type End: FarEnd;

    fn config(tls: &TlsConfig) -> &Arc<ServerConfig>;

    /// Judges a finished handshake.
    fn enter(tls: &TlsSource, connection: &ServerConnection, exporter: [u8; 32], address: String)
    -> Entered<Self::End>;
}

/// Client certificates, as on the sync port.
pub(super) struct Mutual;

/// Server TLS only, as on the enrolment port.
pub(super) struct Anonymous;

impl Door for Mutual {
    type End = Peer;

    fn config(tls: &TlsConfig) -> &Arc<ServerConfig> {
        &tls.server
    }

    fn enter(tls: &TlsSource, connection: &ServerConnection, _exporter: [u8; 32], address: String) -> Entered<Peer> {
        let Some(chain) = connection.peer_certificates().filter(|chain| !chain.is_empty()) else {
            return Err((Refusal::NoCertificate, "the client showed no certificate".to_owned()));
        };
        let peer = Peer::presenting(chain, tls.trust_domain(), address)
            .map_err(|error| (Refusal::from_identity(&error), error.to_string()))?;
        let peer = Arc::new(peer);
        tls.enter(&peer)
            .map_err(|reason| (reason.into(), format!("{reason} since the handshake")))?;
        let left = peer.not_after.duration_since(tls.now()).unwrap_or_default();
        Ok((peer, left))
    }
}

impl Door for Anonymous {
    type End = Caller;

    fn config(tls: &TlsConfig) -> &Arc<ServerConfig> {
        &tls.enrolment
    }

    fn enter(_tls: &TlsSource, _connection: &ServerConnection, exporter: [u8; 32], address: String) -> Entered<Caller> {
        Ok((Arc::new(Caller::new(address, exporter)), Duration::MAX))
    }
}

/// The accepting end of a TLS handshake on any stream, within the limits' deadline. `address` is for logs.
///
/// # Errors
/// Why the client was refused, and the detail for the log.
pub async fn handshake_server<S>(
    stream: S,
    tls: &TlsSource,
    address: String,
) -> Result<SecureStream<S>, (Refusal, String)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    shake_hands::<S, Mutual>(&AcceptBounds::SYNC, stream, tls, address).await
}

/// The same without asking for a client certificate, within the bounds of the enrolment port.
///
/// # Errors
/// Why the client was refused, and the detail for the log.
pub async fn handshake_anonymous<S>(
    stream: S,
    tls: &TlsSource,
    address: String,
) -> Result<SecureStream<S, Caller>, (Refusal, String)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    shake_hands::<S, Anonymous>(&AcceptBounds::ENROLMENT, stream, tls, address).await
}

pub(super) async fn shake_hands<S, D: Door>(
    bounds: &AcceptBounds,
    stream: S,
    tls: &TlsSource,
    address: String,
) -> Result<SecureStream<S, D::End>, (Refusal, String)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let accepted = Instant::now();
    let acceptor = TlsAcceptor::from(Arc::clone(D::config(&tls.current())));
    let handshake = acceptor.accept(stream).into_fallible();
    let shaken = tokio::time::timeout(bounds.handshake, handshake).await.map_err(|_| {
        let detail = format!("no finished handshake within {:?}", bounds.handshake);
        (Refusal::Timeout, detail)
    })?;
    let stream = match shaken {
        Ok(stream) => stream,
        Err((error, stream)) => {
            linger(stream).await;
            return Err((Refusal::from_io(&error), describe(&error)));
        }
    };
    let (_, connection) = stream.get_ref();
    if Protocol::from_alpn(connection.alpn_protocol()).is_none() {
        let detail = "the client named no protocol (ALPN)".to_owned();
        return Err((Refusal::UnknownProtocol, detail));
    }
    let exporter = export(connection).map_err(|error| (Refusal::Protocol, error.to_string()))?;
    let (end, left) = D::enter(tls, connection, exporter, address)?;
    let left = left.min(bounds.lifetime.saturating_sub(accepted.elapsed()));
    Ok(SecureStream::new(TlsStream::Server(stream), end, exporter, left))
}

/// Closes the writing side and reads until the client has closed too: a connection torn down over unread bytes is
/// reset, and the alert that says why is lost with it.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let drain = async {
        let mut buffer = [0; 1024];
        stream.shutdown().await?;
        while stream.read(&mut buffer).await? > 0 {}
        io::Result::Ok(())
    };
    // Whether the client heard it is its own affair.
    let _ = tokio::time::timeout(LINGER, drain).await;
}
