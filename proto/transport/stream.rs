//! A TLS stream with a name on it, which can be cut.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::ConnectionCommon;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_rustls::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::caller::Caller;
use super::link_error::LinkError;
use super::places::Place;
use crate::tls::Peer;

/// Of which TLS derives [`SecureStream::exporter`].
const EXPORTER_LABEL: &[u8] = b"EXPORTER-remote-istio-recover";

/// What is known of the other end of a connection: a [`Peer`] with a certificate or a [`Caller`] without.
pub trait FarEnd: Send + Sync + 'static {
    /// What ends the connection when its time is up, for logs.
    const TIME_IS_UP: &'static str;

    /// Cancelled to end the connection.
    fn cut_token(&self) -> &CancellationToken;
}

impl FarEnd for Peer {
    const TIME_IS_UP: &'static str = "the peer's certificate has expired";

    fn cut_token(&self) -> &CancellationToken {
        Peer::cut_token(self)
    }
}

impl FarEnd for Caller {
    const TIME_IS_UP: &'static str = "the connection has lasted as long as one to the enrolment port may";

    fn cut_token(&self) -> &CancellationToken {
        Caller::cut_token(self)
    }
}

/// A connection after its handshake. It fails once its other end is cut, and when its time is up (at the end of the
/// peer's certificate) at the latest; whoever wants to part in good order does so before.
pub struct SecureStream<S, E = Peer> {
    tls: TlsStream<S>,
    end: Arc<E>,
    exporter: [u8; 32],
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    time_is_up: Pin<Box<Sleep>>,
    error: LinkError,
    held: Option<Place>,
}

impl<S, E: FarEnd> SecureStream<S, E> {
    /// `left`: how long the connection may last from now on.
    pub(super) fn new(tls: TlsStream<S>, end: Arc<E>, exporter: [u8; 32], left: Duration) -> Self {
        let cut = Box::pin(end.cut_token().clone().cancelled_owned());
        Self {
            tls,
            end,
            exporter,
            cut,
            time_is_up: Box::pin(tokio::time::sleep(left)),
            error: LinkError::default(),
            held: None,
        }
    }

    /// Keeps a place among the open connections for as long as this one lives.
    pub(super) fn holding(mut self, place: Place) -> Self {
        self.held = Some(place);
        self
    }

    /// Keying material exported from this connection: the same at both ends, and on no other connection.
    #[must_use]
    pub fn exporter(&self) -> [u8; 32] {
        self.exporter
    }

    /// The first failure of this connection, readable after the stream itself has gone into a channel.
    #[must_use]
    pub fn link_error(&self) -> LinkError {
        self.error.clone()
    }

    /// Whether the connection has been ended from here. Registers for a wake-up if not.
    fn poll_ended(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let reason = if self.cut.as_mut().poll(context).is_ready() {
            "the connection was cut"
        } else if self.time_is_up.as_mut().poll(context).is_ready() {
            self.end.cut_token().cancel();
            E::TIME_IS_UP
        } else {
            return Ok(());
        };
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason))
    }

    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            self.error.note(error);
        }
        result
    }
}

impl<S> SecureStream<S> {
    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Arc<Peer> {
        &self.end
    }
}

impl<S> SecureStream<S, Caller> {
    /// What is known of the other end.
    #[must_use]
    pub fn caller(&self) -> &Arc<Caller> {
        &self.end
    }
}

/// Keying material of a finished handshake.
pub(super) fn export<D>(connection: &ConnectionCommon<D>) -> Result<[u8; 32], rustls::Error> {
    connection.export_keying_material([0; 32], EXPORTER_LABEL, None)
}

impl<S: AsyncRead + AsyncWrite + Unpin, E: FarEnd> AsyncRead for SecureStream<S, E> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let ended = this.poll_ended(context);
        this.note(ended)?;
        let before = buffer.filled().len();
        let result = ready!(Pin::new(&mut this.tls).poll_read(context, buffer));
        if result.is_ok() && buffer.filled().len() == before && buffer.remaining() > 0 {
            this.error.note_closed();
        }
        Poll::Ready(this.note(result))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, E: FarEnd> AsyncWrite for SecureStream<S, E> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let ended = this.poll_ended(context);
        this.note(ended)?;
        let result = ready!(Pin::new(&mut this.tls).poll_write(context, bytes));
        Poll::Ready(this.note(result))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let ended = this.poll_ended(context);
        this.note(ended)?;
        let result = ready!(Pin::new(&mut this.tls).poll_write_vectored(context, slices));
        Poll::Ready(this.note(result))
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let ended = this.poll_ended(context);
        this.note(ended)?;
        let result = ready!(Pin::new(&mut this.tls).poll_flush(context));
        Poll::Ready(this.note(result))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let ended = this.poll_ended(context);
        this.note(ended)?;
        Pin::new(&mut this.tls).poll_shutdown(context)
    }
}

impl<S, E: FarEnd> Connected for SecureStream<S, E> {
    type ConnectInfo = Arc<E>;

    fn connect_info(&self) -> Arc<E> {
        Arc::clone(&self.end)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::super::tests::shake;
    use super::*;
    use crate::tls::test_ca::{LeafParams, TestCa};

    #[tokio::test]
    async fn connection_ends_with_the_certificate_of_its_peer() {
        let ca = TestCa::new();
        let (accepted, dialled) = shake(
            &ca.source(LeafParams::hub()),
            &ca.source(LeafParams::remote("remote-1")),
        )
        .await;
        let (accepted, _dialled) = (accepted.expect("accepted"), dialled.expect("dialled"));
        let mut ending = SecureStream::new(accepted.tls, accepted.end, [0; 32], Duration::from_millis(50));
        let error = ending
            .read_u8()
            .await
            .expect_err("the certificate ends before anything comes");
        assert_eq!(error.to_string(), "the peer's certificate has expired");
        assert!(ending.peer().cut_token().is_cancelled());
    }
}
