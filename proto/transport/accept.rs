//! The accepting end: bounded handshakes, each in its own task with its own deadline.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::protocol::Protocol;
use super::refusal::{Refusal, RefusalLog, Throttle, describe};
use super::stream::SecureStream;
use crate::limits;
use crate::tls::{Peer, TlsSource};

/// After a failed accept: out of file descriptors does not end by asking again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A refused client has so long to read the alert before the connection is torn down.
const LINGER: Duration = Duration::from_millis(500);

/// Ready connections that wait for the server to take them. It takes them at once.
const READY_QUEUED: usize = 16;

/// Where connections come from: TCP, or a simulated network.
pub trait Listener: Send + 'static {
    /// The stream below TLS.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Waits for the next connection, and says where it comes from. Must be safe to drop while it waits.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, String)>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, String)> {
        let (stream, address) = TcpListener::accept(self).await?;
        // Fails only for a connection that is already gone, which the handshake will find.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%address, %error, "an accepted connection cannot be set to send at once");
        }
        Ok((stream, address.to_string()))
    }
}

/// Told of each refused connection, to count it. Must not block.
pub type OnRefused = Arc<dyn Fn(Refusal) + Send + Sync>;

/// The streams that [`accept_loop`] hands out.
type Ready<S> = ReceiverStream<io::Result<SecureStream<S>>>;

/// Accepts connections until `stop`. The stream yields those whose handshake succeeded, for
/// `serve_with_incoming_shutdown`; the future does the work and must be polled, best as a task of its own.
/// Handshakes that still run when it ends are dropped.
pub fn accept_loop<L: Listener>(
    listener: L,
    tls: Arc<TlsSource>,
    stop: CancellationToken,
    on_refused: OnRefused,
) -> (Ready<L::Stream>, impl Future<Output = ()> + Send + 'static) {
    let (ready_tx, ready_rx) = mpsc::channel(READY_QUEUED);
    let shake = Arc::new(Handshaker {
        tls,
        on_refused,
        log: RefusalLog::default(),
        bounds: Bounds::default(),
    });
    (ReceiverStream::new(ready_rx), run(listener, shake, stop, ready_tx))
}

async fn run<L: Listener>(
    mut listener: L,
    shake: Arc<Handshaker>,
    stop: CancellationToken,
    ready_tx: mpsc::Sender<io::Result<SecureStream<L::Stream>>>,
) {
    let permits = Arc::new(Semaphore::new(shake.bounds.in_flight));
    let failures = Mutex::new(Throttle::default());
    let mut handshakes = JoinSet::new();
    let mut stopped = pin!(stop.cancelled());
    loop {
        while handshakes.try_join_next().is_some() {}
        // The permit comes before the connection: what cannot be handled waits in the kernel's queue.
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = &mut stopped => return,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let (shake, ready_tx) = (Arc::clone(&shake), ready_tx.clone());
                handshakes.spawn(async move {
                    if let Some(stream) = shake.run(stream, address).await {
                        // The server has ended if nobody takes it.
                        let _ = ready_tx.send(Ok(stream)).await;
                    }
                    drop(permit);
                });
            }
            // The client went away between the kernel and here.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                ) => {}
            Err(error) => {
                if let Some(held_back) = failures.lock().admit(Instant::now()) {
                    tracing::warn!(%error, held_back, "accepting a connection failed, trying again");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What one listener spends on handshakes. Tests take less of it.
#[derive(Clone, Copy)]
struct Bounds {
    in_flight: usize,
    deadline: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            in_flight: limits::HANDSHAKES_IN_FLIGHT,
            deadline: limits::HANDSHAKE_DEADLINE,
        }
    }
}

struct Handshaker {
    tls: Arc<TlsSource>,
    on_refused: OnRefused,
    log: RefusalLog,
    bounds: Bounds,
}

impl Handshaker {
    async fn run<S>(&self, stream: S, address: String) -> Option<SecureStream<S>>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin,
    {
        match handshake_within(self.bounds.deadline, stream, &self.tls, address.clone()).await {
            Ok(stream) => Some(stream),
            Err((refusal, detail)) => {
                (self.on_refused)(refusal);
                self.log.write(refusal, &address, &detail, Instant::now());
                None
            }
        }
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
    handshake_within(limits::HANDSHAKE_DEADLINE, stream, tls, address).await
}

async fn handshake_within<S>(
    deadline: Duration,
    stream: S,
    tls: &TlsSource,
    address: String,
) -> Result<SecureStream<S>, (Refusal, String)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let acceptor = TlsAcceptor::from(Arc::clone(&tls.current().server));
    let handshake = acceptor.accept(stream).into_fallible();
    let shaken = tokio::time::timeout(deadline, handshake)
        .await
        .map_err(|_| (Refusal::Timeout, format!("no finished handshake within {deadline:?}")))?;
    let stream = match shaken {
        Ok(stream) => stream,
        Err((error, stream)) => {
            linger(stream).await;
            return Err((Refusal::from_io(&error), describe(&error)));
        }
    };
    let (_, connection) = stream.get_ref();
    if Protocol::from_alpn(connection.alpn_protocol()).is_none() {
        return Err((
            Refusal::UnknownProtocol,
            "the client named no protocol (ALPN)".to_owned(),
        ));
    }
    let leaf = connection.peer_certificates().and_then(|chain| chain.first());
    let Some(leaf) = leaf else {
        return Err((Refusal::NoCertificate, "the client showed no certificate".to_owned()));
    };
    let peer = Peer::new(leaf, tls.trust_domain(), address)
        .map_err(|error| (Refusal::from_identity(&error), error.to_string()))?;
    Ok(SecureStream::new(TlsStream::Server(stream), peer))
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

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::io::{DuplexStream, duplex};
    use tokio_stream::StreamExt as _;

    use super::super::connect::handshake_client;
    use super::super::tests::hub_name;
    use super::*;
    use crate::tls::test_ca::{LeafParams, TestCa};

    /// A network without TCP: whatever is sent into the channel has «connected».
    struct Pipes(mpsc::UnboundedReceiver<DuplexStream>);

    impl Listener for Pipes {
        type Stream = DuplexStream;

        async fn accept(&mut self) -> io::Result<(DuplexStream, String)> {
            match self.0.recv().await {
                Some(stream) => Ok((stream, "pipe".to_owned())),
                None => pending().await,
            }
        }
    }

    #[tokio::test]
    async fn handshakes_in_flight_are_bounded_and_silent_ones_give_way() {
        let ca = TestCa::new();
        let (pipe_tx, pipe_rx) = mpsc::unbounded_channel();
        let (refusal_tx, mut refusals) = mpsc::unbounded_channel();
        let (ready_tx, ready_rx) = mpsc::channel(1);
        let shake = Arc::new(Handshaker {
            tls: ca.source(LeafParams::hub()),
            on_refused: Arc::new(move |refusal| refusal_tx.send(refusal).expect("the test listens")),
            log: RefusalLog::default(),
            bounds: Bounds {
                in_flight: 3,
                deadline: Duration::from_millis(300),
            },
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(run(Pipes(pipe_rx), shake, CancellationToken::new(), ready_tx));

        let mut silent = Vec::new();
        for _ in 0..3 {
            let (near, far) = duplex(64 * 1024);
            pipe_tx.send(far).expect("the loop runs");
            silent.push(near);
        }
        let (near, far) = duplex(64 * 1024);
        pipe_tx.send(far).expect("the loop runs");
        let agent = ca.source(LeafParams::remote("remote-1"));
        handshake_client(near, &agent, hub_name(), "hub".to_owned())
            .await
            .expect("a silent one has given way");
        ReceiverStream::new(ready_rx)
            .next()
            .await
            .expect("the loop runs")
            .expect("a connection");
        assert_eq!(
            refusals.try_recv(),
            Ok(Refusal::Timeout),
            "only a silent one's place could be taken"
        );
    }

    #[tokio::test]
    async fn client_that_says_nothing_runs_into_the_deadline() {
        let hub = TestCa::new().source(LeafParams::hub());
        let (near, _far) = duplex(1024);
        let result = handshake_within(Duration::from_millis(50), near, &hub, String::new()).await;
        assert_eq!(result.err().expect("refused").0, Refusal::Timeout);
    }
}
