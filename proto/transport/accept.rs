//! The accepting end: bounded handshakes, each in its own task with its own deadline.

use std::future::{Future, ready};
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
use super::places::{Places, Source};
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

    /// Waits until the client has said something or has gone, and takes nothing of it. At once where that cannot be
    /// told: then the handshake's own deadline is all there is.
    fn spoken(_stream: &mut Self::Stream) -> impl Future<Output = io::Result<()>> + Send {
        ready(Ok(()))
    }
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

    async fn spoken(stream: &mut TcpStream) -> io::Result<()> {
        // Waiting for the stream to be readable would not do: that may be announced wrongly.
        stream.peek(&mut [0]).await.map(|_| ())
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
    /// Of these, handshakes of one source address; more are refused.
    pub handshakes_of_source: usize,
    /// Until the client's first byte.
    pub first_byte: Duration,
    /// One handshake, from there on.
    pub handshake: Duration,
    /// Connections open at once, at most `Semaphore::MAX_PERMITS`; more wait in the kernel's queue.
    pub connections: usize,
    /// Of these, connections of one source address; more are refused.
    pub connections_of_source: usize,
    /// One connection, from its acceptance on.
    pub lifetime: Duration,
}

impl AcceptBounds {
    /// Of the sync port: connections stay for as long as their certificates hold.
    pub const SYNC: Self = Self {
        handshakes: limits::HANDSHAKES_IN_FLIGHT,
        handshakes_of_source: limits::HANDSHAKES_IN_FLIGHT / limits::SOURCE_SHARE,
        first_byte: limits::FIRST_BYTE_DEADLINE,
        handshake: limits::HANDSHAKE_DEADLINE,
        connections: Semaphore::MAX_PERMITS,
        connections_of_source: Semaphore::MAX_PERMITS,
        lifetime: Duration::MAX,
    };

    /// Of the enrolment port, where strangers knock.
    pub const ENROLMENT: Self = Self {
        handshakes: limits::ENROLMENT_HANDSHAKES_IN_FLIGHT,
        handshakes_of_source: limits::ENROLMENT_HANDSHAKES_IN_FLIGHT / limits::SOURCE_SHARE,
        first_byte: limits::FIRST_BYTE_DEADLINE,
        handshake: limits::HANDSHAKE_DEADLINE,
        connections: limits::ENROLMENT_CONNECTIONS,
        connections_of_source: limits::ENROLMENT_CONNECTIONS / limits::SOURCE_SHARE,
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
    let handshaking = Places::of_handshakes(&shake.bounds);
    let connected = Places::of_connections(&shake.bounds);
    let failures = Mutex::new(Throttle::default());
    let mut handshakes = JoinSet::new();
    let mut stopped = pin!(stop.cancelled());
    loop {
        while handshakes.try_join_next().is_some() {}
        // The places come before the connection: what cannot be handled waits in the kernel's queue.
        let accepted = async {
            (
                connected.free().await,
                handshaking.free().await,
                listener.accept().await,
            )
        };
        let (connection, handshake, accepted) = tokio::select! {
            () = &mut stopped => return,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let source = Source::of(&address);
                // One source's many are refused, not queued: whoever waits keeps others waiting.
                let (Some(connection), Some(handshake)) = (
                    connected.give(connection, &source),
                    handshaking.give(handshake, &source),
                ) else {
                    shake.refuse(
                        Refusal::SourceFull,
                        &address,
                        "its source address has its share of places",
                    );
                    continue;
                };
                let (shake, ready_tx) = (Arc::clone(&shake), ready_tx.clone());
                handshakes.spawn(async move {
                    if let Some(stream) = shake.run::<L, D>(stream, address).await {
                        // The server has ended if nobody takes it.
                        let _ = ready_tx.send(Ok(stream.holding(connection))).await;
                    }
                    drop(handshake);
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
    async fn run<L: Listener, D: Door>(
        &self,
        mut stream: L::Stream,
        address: String,
    ) -> Option<SecureStream<L::Stream, D::End>> {
        let first_byte = self.bounds.first_byte;
        match tokio::time::timeout(first_byte, L::spoken(&mut stream)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                self.refuse(Refusal::Closed, &address, &error.to_string());
                return None;
            }
            Err(_) => {
                let detail = format!("the client said nothing within {first_byte:?}");
                self.refuse(Refusal::Timeout, &address, &detail);
                return None;
            }
        }
        match shake_hands::<L::Stream, D>(&self.bounds, stream, &self.tls, address.clone()).await {
            Ok(stream) => Some(stream),
            Err((refusal, detail)) => {
                self.refuse(refusal, &address, &detail);
                None
            }
        }
    }

    fn refuse(&self, refusal: Refusal, address: &str, detail: &str) {
        (self.on_refused)(refusal);
        self.log.write(refusal, address, detail, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::io::{DuplexStream, duplex};

    use super::super::connect::handshake_client;
    use super::super::tests::hub_name;
    use super::*;
    use crate::tls::test_ca::{LeafParams, TestCa};

    /// A network without TCP: whatever is sent into the channel has «connected».
    struct Pipes(mpsc::UnboundedReceiver<(DuplexStream, String)>);

    impl Listener for Pipes {
        type Stream = DuplexStream;

        async fn accept(&mut self) -> io::Result<(DuplexStream, String)> {
            match self.0.recv().await {
                Some(accepted) => Ok(accepted),
                None => pending().await,
            }
        }
    }

    /// An accept loop of a sync port on such a network.
    struct Accepting {
        pipe_tx: mpsc::UnboundedSender<(DuplexStream, String)>,
        refusals: mpsc::UnboundedReceiver<Refusal>,
        ready_rx: mpsc::Receiver<io::Result<SecureStream<DuplexStream>>>,
        _tasks: JoinSet<()>,
    }

    impl Accepting {
        fn start(ca: &TestCa, bounds: AcceptBounds) -> Self {
            let (pipe_tx, pipe_rx) = mpsc::unbounded_channel();
            let (refusal_tx, refusals) = mpsc::unbounded_channel();
            let (ready_tx, ready_rx) = mpsc::channel(1);
            let shake = handshaker(ca, bounds, refusal_tx);
            let mut tasks = JoinSet::new();
            tasks.spawn(run::<_, Mutual>(
                Pipes(pipe_rx),
                Arc::new(shake),
                CancellationToken::new(),
                ready_tx,
            ));
            Self {
                pipe_tx,
                refusals,
                ready_rx,
                _tasks: tasks,
            }
        }

        /// A client that connects and is silent.
        fn dial(&self, address: &str) -> DuplexStream {
            let (near, far) = duplex(64 * 1024);
            self.pipe_tx.send((far, address.to_owned())).expect("the loop runs");
            near
        }
    }

    fn handshaker(ca: &TestCa, bounds: AcceptBounds, refusal_tx: mpsc::UnboundedSender<Refusal>) -> Handshaker {
        Handshaker {
            tls: ca.source(LeafParams::hub()),
            on_refused: Arc::new(move |refusal| refusal_tx.send(refusal).expect("the test listens")),
            log: RefusalLog::default(),
            bounds,
        }
    }

    #[tokio::test]
    async fn source_that_takes_its_share_of_handshakes_shuts_nobody_else_out() {
        let ca = TestCa::new();
        let bounds = AcceptBounds {
            handshakes: 4,
            handshakes_of_source: 2,
            ..AcceptBounds::SYNC
        };
        let mut accepting = Accepting::start(&ca, bounds);
        // The handshakes' own deadline is far away: none of these gives way.
        let _silent: Vec<_> = (1..=8)
            .map(|port| accepting.dial(&format!("10.0.0.1:{port}")))
            .collect();
        let near = accepting.dial("10.0.0.2:1");
        let agent = ca.source(LeafParams::remote("remote-1"));
        handshake_client(near, &agent, hub_name(), "hub".to_owned())
            .await
            .expect("there is a place for others");
        accepting
            .ready_rx
            .recv()
            .await
            .expect("the loop runs")
            .expect("a connection");
        let refused: Vec<_> = std::iter::from_fn(|| accepting.refusals.try_recv().ok()).collect();
        assert_eq!(refused, [Refusal::SourceFull; 6]);
    }

    #[tokio::test]
    async fn open_connections_of_one_source_are_bounded_and_closed_ones_do_not_count() {
        let ca = TestCa::new();
        let bounds = AcceptBounds {
            connections: 4,
            connections_of_source: 1,
            ..AcceptBounds::SYNC
        };
        let mut accepting = Accepting::start(&ca, bounds);
        let agent = ca.source(LeafParams::remote("remote-1"));
        for turn in 0..3 {
            let near = accepting.dial("10.0.0.1:1");
            handshake_client(near, &agent, hub_name(), "hub".to_owned())
                .await
                .unwrap_or_else(|error| panic!("turn {turn}: {error}"));
            let open = accepting.ready_rx.recv().await.expect("the loop runs");
            let _refused = accepting.dial("10.0.0.1:2");
            assert_eq!(
                accepting.refusals.recv().await,
                Some(Refusal::SourceFull),
                "turn {turn}"
            );
            drop(open);
        }
    }

    #[tokio::test]
    async fn client_that_does_not_begin_loses_its_place_long_before_the_handshake_is_due() {
        let mut listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let _client = TcpStream::connect(address).await.expect("connected");
        let (stream, address) = Listener::accept(&mut listener).await.expect("accepted");
        let (refusal_tx, mut refusals) = mpsc::unbounded_channel();
        let bounds = AcceptBounds {
            first_byte: Duration::from_millis(50),
            handshake: Duration::MAX,
            ..AcceptBounds::ENROLMENT
        };
        let shake = handshaker(&TestCa::new(), bounds, refusal_tx);
        let running = shake.run::<TcpListener, Anonymous>(stream, address);
        let taken = tokio::time::timeout(Duration::from_secs(20), running).await;
        assert!(taken.expect("it gives up").is_none());
        assert_eq!(refusals.try_recv(), Ok(Refusal::Timeout));
    }

    #[tokio::test]
    async fn handshakes_in_flight_are_bounded_and_silent_ones_give_way() {
        let ca = TestCa::new();
        let bounds = AcceptBounds {
            handshakes: 3,
            handshake: Duration::from_millis(300),
            ..AcceptBounds::SYNC
        };
        let mut accepting = Accepting::start(&ca, bounds);
        let _silent = [(); 3].map(|()| accepting.dial("10.0.0.1:1"));
        let near = accepting.dial("10.0.0.1:1");
        let agent = ca.source(LeafParams::remote("remote-1"));
        handshake_client(near, &agent, hub_name(), "hub".to_owned())
            .await
            .expect("a silent one has given way");
        let ready = accepting.ready_rx.recv().await;
        ready.expect("the loop runs").expect("a connection");
        assert_eq!(
            accepting.refusals.try_recv(),
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
