//! gRPC over exactly one connection, with the link's limits on both ends.

use std::fmt;
use std::future::ready;
use std::io;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Channel, Endpoint, Server};
use tower::service_fn;

use super::address::HubAddress;
use super::connect_error::ConnectError;
use super::link_error::LinkError;
use super::stream::SecureStream;
use crate::limits;
use crate::tls::Peer;

/// Streams a peer may have reset before they were handled: bounds what rapid resets can cost.
const RESET_STREAMS_PENDING: usize = 16;

/// A gRPC channel on one connection to the hub. It never reconnects: a dead link stays dead.
#[derive(Clone)]
pub struct Link {
    /// For the generated client.
    pub channel: Channel,
    /// The hub; [`Peer::cut`] ends the connection.
    pub peer: Arc<Peer>,
    /// Keying material exported from this connection; the hub has the same.
    pub exporter: [u8; 32],
    /// Why the connection failed, once it has: ask it whenever a request fails.
    pub error: LinkError,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("peer", &self.peer)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

/// Speaks HTTP/2 on an established stream.
///
/// # Errors
/// The other end closed right after the handshake; the text says why as far as it was said.
pub async fn open<S>(stream: SecureStream<S>, address: &HubAddress) -> Result<Link, ConnectError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (peer, error, exporter) = (Arc::clone(stream.peer()), stream.link_error(), stream.exporter());
    let only = Arc::new(Mutex::new(Some(stream)));
    let connector = service_fn(move |_| {
        let stream = only.lock().take();
        ready(
            stream
                .map(TokioIo::new)
                .ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the link has ended")),
        )
    });
    let closed = |cause: &dyn std::fmt::Display| {
        let detail = error.explain().unwrap_or_else(|| cause.to_string());
        ConnectError::Closed {
            address: peer.address.clone(),
            detail,
        }
    };
    let endpoint = endpoint(address).map_err(|cause| closed(&cause))?;
    let channel = endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|cause| closed(&cause))?;
    Ok(Link {
        channel,
        peer,
        exporter,
        error,
    })
}

/// The URI is `http` because TLS is below tonic here; the origin keeps scheme and authority of the requests right.
fn endpoint(address: &HubAddress) -> Result<Endpoint, Box<dyn std::error::Error + Send + Sync>> {
    let origin = format!("https://{address}").parse()?;
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .origin(origin)
        .connect_timeout(limits::CONNECT_DEADLINE)
        .http2_keep_alive_interval(limits::KEEPALIVE_INTERVAL)
        .keep_alive_timeout(limits::KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .http2_adaptive_window(false)
        .initial_stream_window_size(limits::AGENT_STREAM_WINDOW)
        .initial_connection_window_size(limits::AGENT_CONNECTION_WINDOW)
        .http2_max_header_list_size(limits::HEADER_LIST_BYTES);
    Ok(endpoint)
}

/// The hub's gRPC server before its services are added.
#[must_use]
pub fn server_builder() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(limits::KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
        .http2_adaptive_window(Some(false))
        .initial_stream_window_size(limits::HUB_STREAM_WINDOW)
        .initial_connection_window_size(limits::HUB_CONNECTION_WINDOW)
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION)
        .http2_max_header_list_size(limits::HEADER_LIST_BYTES)
        .http2_max_pending_accept_reset_streams(Some(RESET_STREAMS_PENDING))
}
