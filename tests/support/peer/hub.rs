//! The scripted hub.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use remote_istio::convert::write_lane;
use remote_istio::model::{Key, Lane, Object, Snapshot};
use remote_istio::tls::{CertificateFiles, Peer, TlsSource};
use remote_istio::transport::{accept_loop, server_builder};
use remote_istio::wire::v1::sync_server::{Sync, SyncServer};
use remote_istio::wire::v1::{self, agent_frame, hub_frame};
use remote_istio::{convert, limits};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::eventually::PATIENCE;

/// A hub that does nothing by itself: each session that opens is handed to the test. Ends with its value.
#[derive(Debug)]
pub struct ScriptedHub {
    address: SocketAddr,
    sessions: Mutex<mpsc::Receiver<HubSession>>,
    _tasks: JoinSet<()>,
}

/// One session of an agent with a scripted hub.
#[derive(Debug)]
pub struct HubSession {
    /// Who opened it.
    pub peer: Arc<Peer>,
    /// The first frame.
    pub hello: v1::Hello,
    incoming: Streaming<v1::AgentFrame>,
    outgoing: mpsc::Sender<Result<v1::HubFrame, Status>>,
    nonce: u64,
    /// Frames of the agent so far, for heartbeats.
    received: u64,
    /// What the agent said last of each key.
    applied: BTreeMap<String, v1::Applied>,
}

impl ScriptedHub {
    /// Listens on a free port with the certificate in `files`.
    ///
    /// # Errors
    /// No port could be had, or the certificate does not read.
    pub async fn start(files: CertificateFiles, trust_domain: &str) -> Result<Self> {
        let tls = TlsSource::load(files, trust_domain)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (ready, accepting) = accept_loop(listener, tls, CancellationToken::new(), Arc::new(|_| {}));
        let (sessions_tx, sessions) = mpsc::channel(16);
        let service = SyncServer::new(Doorman(sessions_tx));
        let mut tasks = JoinSet::new();
        tasks.spawn(accepting);
        tasks.spawn(async move {
            let served = server_builder().add_service(service).serve_with_incoming(ready).await;
            if let Err(error) = served {
                eprintln!("a scripted hub ended before its test: {error}");
            }
        });
        Ok(Self {
            address,
            sessions: Mutex::new(sessions),
            _tasks: tasks,
        })
    }

    /// Where agents dial.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next session that opens, not yet welcomed.
    ///
    /// # Errors
    /// None opens for long.
    pub async fn session(&self) -> Result<HubSession> {
        let next = timeout(PATIENCE, async { self.sessions.lock().await.recv().await });
        next.await
            .context("waited for an agent in vain")?
            .context("the hub has ended")
    }

    /// The next session, welcomed and claimed.
    ///
    /// # Errors
    /// None opens for long.
    pub async fn welcomed(&self, boot_id: &str) -> Result<HubSession> {
        let session = self.session().await?;
        session.welcome(boot_id).await?;
        Ok(session)
    }
}

struct Doorman(mpsc::Sender<HubSession>);

#[tonic::async_trait]
impl Sync for Doorman {
    type SessionStream = ReceiverStream<Result<v1::HubFrame, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentFrame>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let peer = request.extensions().get::<Arc<Peer>>().cloned();
        let peer = peer.ok_or_else(|| Status::internal("no peer in the request"))?;
        let mut incoming = request.into_inner();
        let (outgoing, frames) = mpsc::channel(limits::FRAMES_QUEUED);
        let Some(v1::AgentFrame {
            frame: Some(agent_frame::Frame::Hello(hello)),
        }) = incoming.message().await?
        else {
            return Err(Status::invalid_argument("the first frame is no hello"));
        };
        let session = HubSession {
            peer,
            hello,
            incoming,
            outgoing,
            nonce: 0,
            received: 1,
            applied: BTreeMap::new(),
        };
        let taken = self.0.send(session).await;
        taken.map_err(|_| Status::unavailable("the test has ended"))?;
        Ok(Response::new(ReceiverStream::new(frames)))
    }
}

impl HubSession {
    /// Welcomes the agent as claimed.
    ///
    /// # Errors
    /// The session has ended.
    pub async fn welcome(&self, boot_id: &str) -> Result<()> {
        self.send(hub_frame::Frame::Welcome(v1::Welcome {
            protocol: 1,
            release: "scripted".to_owned(),
            replica: "scripted".to_owned(),
            boot_id: boot_id.to_owned(),
            heartbeat_milliseconds: 10_000,
            claim: Some(v1::Claim {
                claimed: true,
                message: String::new(),
            }),
            ..v1::Welcome::default()
        }))
        .await
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// The session has ended.
    pub async fn send(&self, kind: hub_frame::Frame) -> Result<()> {
        self.send_frame(v1::HubFrame { frame: Some(kind) }).await
    }

    /// Sends one frame, also one of no kind.
    ///
    /// # Errors
    /// The session has ended.
    pub async fn send_frame(&self, frame: v1::HubFrame) -> Result<()> {
        self.outgoing.send(Ok(frame)).await.context("the session has ended")
    }

    /// Ends the session with a reason.
    ///
    /// # Errors
    /// It has already ended.
    pub async fn end(self, status: Status) -> Result<()> {
        self.outgoing.send(Err(status)).await.context("the session has ended")
    }

    /// Sends a complete snapshot of these objects on one lane, and returns its nonce.
    ///
    /// # Errors
    /// The session has ended.
    pub async fn snapshot(&mut self, lane: Lane, objects: Vec<(Key, Object)>, released: bool) -> Result<u64> {
        let objects: BTreeMap<_, _> = objects
            .into_iter()
            .map(|(key, object)| (key, Arc::new(object)))
            .collect();
        let snapshot = Snapshot::new(objects, released);
        let upserts = snapshot
            .objects()
            .iter()
            .map(|(key, object)| convert::write_upsert(key, object))
            .collect();
        self.nonce += 1;
        self.send(hub_frame::Frame::Delta(v1::Delta {
            lane: write_lane(lane),
            nonce: self.nonce,
            last: true,
            complete: true,
            upserts,
            next_hash: snapshot.hash().as_bytes().to_vec(),
            released,
            ..v1::Delta::default()
        }))
        .await?;
        Ok(self.nonce)
    }

    /// The next frame of the agent; heartbeats are answered and passed over, what a status says is kept.
    ///
    /// # Errors
    /// The session has ended, or nothing came for long.
    pub async fn next(&mut self) -> Result<agent_frame::Frame> {
        loop {
            let frame = timeout(PATIENCE, self.incoming.message())
                .await
                .context("waited for a frame of the agent in vain")??;
            self.received += 1;
            match frame.context("the agent ended the session")?.frame {
                Some(agent_frame::Frame::Heartbeat(beat)) => self.answer(beat.sequence).await?,
                Some(other) => {
                    if let agent_frame::Frame::Status(status) = &other {
                        let entries = status.entries.iter();
                        self.applied
                            .extend(entries.map(|entry| (entry.key.clone(), entry.clone())));
                    }
                    return Ok(other);
                }
                None => bail!("the agent sent a frame of no kind"),
            }
        }
    }

    async fn answer(&self, sequence: u64) -> Result<()> {
        let heartbeat = v1::Heartbeat {
            sequence,
            received: self.received,
            ..v1::Heartbeat::default()
        };
        self.send(hub_frame::Frame::Heartbeat(heartbeat)).await
    }

    /// The ack of one delta; what comes before it is passed over.
    ///
    /// # Errors
    /// The session has ended, or the ack does not come.
    pub async fn ack(&mut self, nonce: u64) -> Result<v1::Ack> {
        loop {
            match self.next().await? {
                agent_frame::Frame::Ack(ack) if ack.nonce == nonce => return Ok(ack),
                _ => {}
            }
        }
    }

    /// What the agent says of one key, once it says `state`.
    ///
    /// # Errors
    /// The session has ended, or the agent never says so.
    pub async fn applied(&mut self, key: &Key, state: v1::ApplyState) -> Result<v1::Applied> {
        let key = key.to_string();
        loop {
            let said = self.applied.get(&key).filter(|entry| entry.state == i32::from(state));
            if let Some(entry) = said {
                return Ok(entry.clone());
            }
            self.next().await?;
        }
    }
}
