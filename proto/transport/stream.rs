//! A TLS stream with a name on it, which can be cut.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_rustls::TlsStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use super::link_error::LinkError;
use crate::tls::Peer;

/// A connection after its handshake. It fails once its peer is cut, and at the end of the peer's certificate at the
/// latest; whoever wants to part in good order does so before.
pub struct SecureStream<S> {
    tls: TlsStream<S>,
    peer: Arc<Peer>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    expiry: Pin<Box<Sleep>>,
    error: LinkError,
}

impl<S> SecureStream<S> {
    pub(super) fn new(tls: TlsStream<S>, peer: Peer) -> Self {
        let left = peer.not_after.duration_since(SystemTime::now()).unwrap_or_default();
        let cut = Box::pin(peer.cut_token().clone().cancelled_owned());
        let expiry = Box::pin(tokio::time::sleep(left));
        Self {
            tls,
            peer: Arc::new(peer),
            cut,
            expiry,
            error: LinkError::default(),
        }
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Arc<Peer> {
        &self.peer
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
        } else if self.expiry.as_mut().poll(context).is_ready() {
            self.peer.cut();
            "the peer's certificate has expired"
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

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for SecureStream<S> {
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

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for SecureStream<S> {
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

impl<S> Connected for SecureStream<S> {
    type ConnectInfo = Arc<Peer>;

    fn connect_info(&self) -> Arc<Peer> {
        Arc::clone(&self.peer)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        let mut peer = Peer::clone(&accepted.peer);
        peer.not_after = SystemTime::now() + Duration::from_millis(50);
        let mut ending = SecureStream::new(accepted.tls, peer);
        let error = ending
            .read_u8()
            .await
            .expect_err("the certificate ends before anything comes");
        assert_eq!(error.to_string(), "the peer's certificate has expired");
        assert!(ending.peer().cut_token().is_cancelled());
    }
}
