//! The accepting end: bounded handshakes, each in its own task with its own deadline.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::caller::Caller;
use super::door::{Anonymous, Door, Mutual, shake_hands};
use super::refusal::{Refusal, RefusalLog, Throttle};
use super::stream::SecureStream;
use crate::limits;
use crate::tls::{Peer, TlsSource};

/// After a failed accept: out of file descriptors does not end by asking again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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

/// The streams that an accept loop hands out.
type Ready<S, E> = ReceiverStream<io::Result<SecureStream<S, E>>>;

/// What one listener spends on those who connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptBounds {
    /// Handshakes in flight.
    pub handshakes: usize,
    /// One handshake.
    pub handshake: Duration,
    /// Connections open at once, at most `Semaphore::MAX_PERMITS`; more wait in the kernel's queue.
    pub connections: usize,
    /// One connection, from its acceptance on.
    pub lifetime: Duration,
}

impl AcceptBounds {
    /// Of the sync port: connections stay for as long as their certificates hold.
    pub const SYNC: Self = Self {
        handshakes: limits::HANDSHAKES_IN_FLIGHT,
        handshake: limits::HANDSHAKE_DEADLINE,
        connections: Semaphore::MAX_PERMITS,
        lifetime: Duration::MAX,
    };

    /// Of the enrolment port, where strangers knock.
    pub const ENROLMENT: Self = Self {
        handshakes: limits::ENROLMENT_HANDSHAKES_IN_FLIGHT,
        handshake: limits::HANDSHAKE_DEADLINE,
        connections: limits::ENROLMENT_CONNECTIONS,
        lifetime: limits::ENROLMENT_CONNECTION_LIFETIME,
    };
}

/// Accepts connections until `stop`. The stream yields those whose handshake succeeded, for
/// `serve_with_incoming_shutdown`; the future does the work and must be polled, best as a task of its own.
/// Handshakes that still run when it ends are dropped.
pub fn accept_loop<L: Listener>(
    listener: L,
    tls: Arc<TlsSource>,
    stop: CancellationToken,
    on_refused: OnRefused,
) -> (Ready<L::Stream, Peer>, impl Future<Output = ()> + Send + 'static) {
    start::<L, Mutual>(listener, tls, stop, on_refused, AcceptBounds::SYNC)
}

/// The same without asking for client certificates, for the enrolment port: handlers find an `Arc<Caller>`, and a
/// connection is cut when its lifetime is over.
pub fn accept_anonymous_loop<L: Listener>(
    listener: L,
    tls: Arc<TlsSource>,
    stop: CancellationToken,
    on_refused: OnRefused,
    bounds: AcceptBounds,
) -> (Ready<L::Stream, Caller>, impl Future<Output = ()> + Send + 'static) {
    start::<L, Anonymous>(listener, tls, stop, on_refused, bounds)
}

fn start<L: Listener, D: Door>(
    listener: L,
    tls: Arc<TlsSource>,
    stop: CancellationToken,
    on_refused: OnRefused,
    bounds: AcceptBounds,
) -> (Ready<L::Stream, D::End>, impl Future<Output = ()> + Send + 'static) {
    let (ready_tx, ready_rx) = mpsc::channel(READY_QUEUED);
    let shake = Arc::new(Handshaker {
        tls,
        on_refused,
        log: RefusalLog::default(),
        bounds,
    });
    let running = run::<L, D>(listener, shake, stop, ready_tx);
    (ReceiverStream::new(ready_rx), running)
}

async fn run<L: Listener, D: Door>(
    mut listener: L,
    shake: Arc<Handshaker>,
    stop: CancellationToken,
    ready_tx: mpsc::Sender<io::Result<SecureStream<L::Stream, D::End>>>,
) {
    let handshake_permits = Arc::new(Semaphore::new(shake.bounds.handshakes));
    let connection_permits = Arc::new(Semaphore::new(shake.bounds.connections));
    let failures = Mutex::new(Throttle::default());
    let mut handshakes = JoinSet::new();
    let mut stopped = pin!(stop.cancelled());
    loop {
        while handshakes.try_join_next().is_some() {}
        // The permits come before the connection: what cannot be handled waits in the kernel's queue.
        let accepted = async {
            let place = Arc::clone(&connection_permits).acquire_owned().await.ok();
            let permit = Arc::clone(&handshake_permits).acquire_owned().await;
            (place, permit, listener.accept().await)
        };
        let (place, permit, accepted) = tokio::select! {
            () = &mut stopped => return,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let (shake, ready_tx) = (Arc::clone(&shake), ready_tx.clone());
                handshakes.spawn(async move {
                    if let Some(stream) = shake.run::<_, D>(stream, address).await {
                        // The server has ended if nobody takes it.
                        let _ = ready_tx.send(Ok(stream.holding(place))).await;
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

struct Handshaker {
    tls: Arc<TlsSource>,
    on_refused: OnRefused,
    log: RefusalLog,
    bounds: AcceptBounds,
}

impl Handshaker {
    async fn run<S, D: Door>(&self, stream: S, address: String) -> Option<SecureStream<S, D::End>>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin,
    {
        match shake_hands::<S, D>(&self.bounds, stream, &self.tls, address.clone()).await {
            Ok(stream) => Some(stream),
            Err((refusal, detail)) => {
                (self.on_refused)(refusal);
                self.log.write(refusal, &address, &detail, Instant::now());
                None
            }
        }
    }
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
            bounds: AcceptBounds {
                handshakes: 3,
                handshake: Duration::from_millis(300),
                ..AcceptBounds::SYNC
            },
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(run::<_, Mutual>(
            Pipes(pipe_rx),
            shake,
            CancellationToken::new(),
            ready_tx,
        ));

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
        let bounds = AcceptBounds {
            handshake: Duration::from_millis(50),
            ..AcceptBounds::SYNC
        };
        let result = shake_hands::<_, Mutual>(&bounds, near, &hub, String::new()).await;
        assert_eq!(result.err().expect("refused").0, Refusal::Timeout);
    }
}
