//! A hub that sends bytes: recorded ones, or those of a release that knows more than this one.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use futures::future::BoxFuture;
use prost::Message;
use remote_istio::tls::{CertificateFiles, TlsSource};
use remote_istio::transport::{accept_loop, server_builder};
use remote_istio::wire::v1::{self, agent_frame, hub_frame};
use support::ca::TRUST_DOMAIN;
use support::eventually::PATIENCE;
use support::peer::RawCodec;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::codegen::Service;
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};

/// Frames that wait to be sent.
const QUEUED: usize = 64;

/// Ends with its value.
pub struct RawHub {
    address: SocketAddr,
    sessions: Mutex<mpsc::Receiver<RawSession>>,
    _tasks: JoinSet<()>,
}

/// One session of an agent.
pub struct RawSession {
    incoming: Streaming<v1::AgentFrame>,
    outgoing: mpsc::Sender<Result<Bytes, Status>>,
    received: u64,
}

impl RawHub {
    /// Listens on a free port with this certificate.
    pub async fn start(files: CertificateFiles) -> Result<Self> {
        let tls = TlsSource::load(files, TRUST_DOMAIN)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (ready, accepting) = accept_loop(listener, tls, CancellationToken::new(), Arc::new(|_| {}));
        let (opened, sessions) = mpsc::channel(16);
        let mut tasks = JoinSet::new();
        tasks.spawn(accepting);
        tasks.spawn(async move {
            let served = server_builder().add_service(Doorman(opened)).serve_with_incoming(ready);
            if let Err(error) = served.await {
                eprintln!("a raw hub ended before its test: {error}");
            }
        });
        Ok(Self {
            address,
            sessions: Mutex::new(sessions),
            _tasks: tasks,
        })
    }

    /// Where agents dial.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next session that opens, its hello unread.
    pub async fn session(&self) -> Result<RawSession> {
        let next = timeout(PATIENCE, async { self.sessions.lock().await.recv().await });
        next.await
            .context("waited for an agent in vain")?
            .context("the hub has ended")
    }
}

impl RawSession {
    /// Sends these bytes as one message.
    pub async fn send(&self, bytes: impl Into<Bytes>) -> Result<()> {
        self.outgoing
            .send(Ok(bytes.into()))
            .await
            .context("the session has ended")
    }

    /// The next frame of the agent; heartbeats are answered and passed over.
    pub async fn next(&mut self) -> Result<agent_frame::Frame> {
        loop {
            let frame = timeout(PATIENCE, self.incoming.message())
                .await
                .context("waited for a frame of the agent in vain")??;
            self.received += 1;
            match frame.context("the agent ended the session")?.frame {
                Some(agent_frame::Frame::Heartbeat(beat)) => {
                    let answer = v1::Heartbeat {
                        sequence: beat.sequence,
                        received: self.received,
                        ..v1::Heartbeat::default()
                    };
                    let frame = Some(hub_frame::Frame::Heartbeat(answer));
                    self.send(v1::HubFrame { frame }.encode_to_vec()).await?;
                }
                Some(other) => return Ok(other),
                None => bail!("the agent sent a frame of no kind"),
            }
        }
    }

    /// The ack of one delta; what comes before it is passed over.
    pub async fn ack(&mut self, nonce: u64) -> Result<v1::Ack> {
        loop {
            match self.next().await? {
                agent_frame::Frame::Ack(ack) if ack.nonce == nonce => return Ok(ack),
                _ => {}
            }
        }
    }
}

#[derive(Clone)]
struct Doorman(mpsc::Sender<RawSession>);

impl NamedService for Doorman {
    const NAME: &'static str = "remoteistio.v1.Sync";
}

impl Service<http::Request<tonic::body::Body>> for Doorman {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let session = self.clone();
        Box::pin(async move { Ok(Grpc::new(RawCodec::default()).streaming(session, request).await) })
    }
}

impl StreamingService<v1::AgentFrame> for Doorman {
    type Response = Bytes;
    type ResponseStream = ReceiverStream<Result<Bytes, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<v1::AgentFrame>>) -> Self::Future {
        let opened = self.0.clone();
        Box::pin(async move {
            let (outgoing, frames) = mpsc::channel(QUEUED);
            let session = RawSession {
                incoming: request.into_inner(),
                outgoing,
                received: 0,
            };
            let taken = opened.send(session).await;
            taken.map_err(|_| Status::unavailable("the test has ended"))?;
            Ok(Response::new(ReceiverStream::new(frames)))
        })
    }
}
