//! The scripted agent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message as _;
use remote_istio::tls::{CertificateFiles, TlsSource};
use remote_istio::transport::{Connector, HubAddress, Link, open};
use remote_istio::wire::v1::{self, agent_frame, hub_frame};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use super::raw::RawCodec;
use crate::eventually::PATIENCE;

/// The RPC, as the contract names it.
const SESSION: &str = "/remoteistio.v1.Sync/Session";

/// One session with a hub, as an agent. Ends with its value.
#[derive(Debug)]
pub struct ScriptedAgent {
    link: Link,
    outgoing: mpsc::Sender<Bytes>,
    incoming: Streaming<v1::HubFrame>,
    /// Frames of the hub so far, for heartbeats.
    received: u64,
}

impl ScriptedAgent {
    /// Dials with the certificate in `files`, sends `hello`, and stops there: the welcome is still to be read.
    ///
    /// # Errors
    /// The certificate does not read, the hub cannot be reached or refuses.
    pub async fn open(hub: SocketAddr, files: CertificateFiles, trust_domain: &str, hello: v1::Hello) -> Result<Self> {
        Self::open_raw(hub, files, trust_domain, frame(agent_frame::Frame::Hello(hello))).await
    }

    /// As [`ScriptedAgent::open`] with any bytes as the first message.
    ///
    /// # Errors
    /// As [`ScriptedAgent::open`].
    pub async fn open_raw(
        hub: SocketAddr,
        files: CertificateFiles,
        trust_domain: &str,
        first: impl Into<Bytes>,
    ) -> Result<Self> {
        let source = TlsSource::load(files, trust_domain)?;
        let address: HubAddress = hub.to_string().parse()?;
        let stream = Connector::new(Arc::clone(&source)).connect(&address).await?;
        let link = open(stream, &address).await?;
        let (outgoing, frames) = mpsc::channel(1024);
        outgoing.send(first.into()).await?;
        let mut client = tonic::client::Grpc::new(link.channel.clone());
        client
            .ready()
            .await
            .with_context(|| format!("the link is not usable: {:?}", link.error.explain()))?;
        let response = client
            .streaming(
                Request::new(ReceiverStream::new(frames)),
                PathAndQuery::from_static(SESSION),
                RawCodec::<v1::HubFrame>::default(),
            )
            .await?;
        let incoming = response.into_inner();
        Ok(Self {
            link,
            outgoing,
            incoming,
            received: 0,
        })
    }

    /// The connection below.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// The session has ended.
    pub async fn send(&self, kind: agent_frame::Frame) -> Result<()> {
        self.send_raw(frame(kind)).await
    }

    /// Sends any bytes as one message.
    ///
    /// # Errors
    /// The session has ended.
    pub async fn send_raw(&self, bytes: impl Into<Bytes>) -> Result<()> {
        self.outgoing.send(bytes.into()).await.context("the session has ended")
    }

    /// The next frame of the hub; heartbeats are answered and passed over.
    ///
    /// # Errors
    /// The session has ended, or nothing came for long.
    pub async fn next(&mut self) -> Result<hub_frame::Frame> {
        loop {
            let frame = timeout(PATIENCE, self.incoming.message())
                .await
                .context("waited for a frame of the hub in vain")??;
            self.received += 1;
            match frame.context("the hub ended the session without a word")?.frame {
                Some(hub_frame::Frame::Heartbeat(beat)) => self.answer(beat.sequence).await?,
                Some(other) => return Ok(other),
                None => bail!("the hub sent a frame of no kind"),
            }
        }
    }

    async fn answer(&self, sequence: u64) -> Result<()> {
        let heartbeat = v1::Heartbeat {
            sequence,
            received: self.received,
            unix_milliseconds: unix_milliseconds(),
            ..v1::Heartbeat::default()
        };
        self.send(agent_frame::Frame::Heartbeat(heartbeat)).await
    }

    /// The welcome, which must be the next frame.
    ///
    /// # Errors
    /// Something else came, or the session has ended.
    pub async fn welcome(&mut self) -> Result<v1::Welcome> {
        match self.next().await? {
            hub_frame::Frame::Welcome(welcome) => Ok(welcome),
            other => bail!("expected a welcome, the hub sent {other:?}"),
        }
    }

    /// The next delta, complete and in one value; claims before it are passed over.
    ///
    /// # Errors
    /// Something else came, or the session has ended.
    pub async fn delta(&mut self) -> Result<v1::Delta> {
        let mut whole: Option<v1::Delta> = None;
        loop {
            match self.next().await? {
                hub_frame::Frame::Claim(_) => {}
                hub_frame::Frame::Delta(mut part) => {
                    let last = part.last;
                    let mut joined = whole.take().unwrap_or_default();
                    joined.upserts.append(&mut part.upserts);
                    joined.removals.append(&mut part.removals);
                    part.upserts = joined.upserts;
                    part.removals = joined.removals;
                    if last {
                        return Ok(part);
                    }
                    whole = Some(part);
                }
                other => bail!("expected a delta, the hub sent {other:?}"),
            }
        }
    }

    /// Accepts a delta as a whole.
    ///
    /// # Errors
    /// The session has ended.
    pub async fn accept(&self, delta: &v1::Delta) -> Result<()> {
        self.send(agent_frame::Frame::Ack(v1::Ack {
            lane: delta.lane,
            nonce: delta.nonce,
            hash: delta.next_hash.clone(),
            ..v1::Ack::default()
        }))
        .await
    }

    /// Accepts whatever comes and says that it is applied, until the session ends.
    ///
    /// # Errors
    /// How the session ended; never a success.
    pub async fn obey(mut self) -> Result<()> {
        self.welcome().await?;
        loop {
            let delta = self.delta().await?;
            self.accept(&delta).await?;
            let applied = |upsert: &v1::Upsert| v1::Applied {
                key: upsert.key.clone(),
                version: upsert.version.clone(),
                state: v1::ApplyState::Applied.into(),
                ..v1::Applied::default()
            };
            let entries = delta.upserts.iter().map(applied).collect();
            self.send(agent_frame::Frame::Status(v1::Status { entries })).await?;
        }
    }

    /// Waits until the hub ends the session, and returns its reason. Frames before that are passed over.
    ///
    /// # Errors
    /// It does not end, or ends without an error.
    pub async fn ended(&mut self) -> Result<Status> {
        loop {
            match timeout(PATIENCE, self.incoming.message()).await {
                Err(_) => bail!("the hub keeps the session open"),
                Ok(Err(status)) => return Ok(status),
                Ok(Ok(None)) => bail!("the hub ended the session without a reason"),
                Ok(Ok(Some(_))) => {}
            }
        }
    }
}

/// A hello of an agent that holds nothing. `session_epoch` orders processes of one remote.
#[must_use]
pub fn hello(boot_id: &str, session_epoch: u64) -> v1::Hello {
    v1::Hello {
        protocol_min: 1,
        protocol_max: 1,
        release: "scripted".to_owned(),
        cluster_uid: "3f0c9a54-2c56-4b51-9f0c-5a1f3c1d7a10".to_owned(),
        boot_id: boot_id.to_owned(),
        session_epoch,
        connection: 1,
        kubernetes_version: "v1.37.2".to_owned(),
        ..v1::Hello::default()
    }
}

/// A clock that is right: a wrong one is worth a word in the status.
fn unix_milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn frame(kind: agent_frame::Frame) -> Vec<u8> {
    v1::AgentFrame { frame: Some(kind) }.encode_to_vec()
}
