//! The way to the hub: dials its addresses in turn, holds one conversation at a time, and comes back after a pause.
//!
//! Owns no state of the engine: everything that is said comes from the driver and goes to it.

mod conversation;
mod ended;
mod pause;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rand::seq::SliceRandom as _;
use remote_istio::identity::RemoteName;
use remote_istio::limits;
use remote_istio::process::Condition;
use remote_istio::tls::{ReloadStatus, TlsSource};
use remote_istio::transport::{Connector, HubAddress, open};
use remote_istio::wire::v1::sync_client::SyncClient;
use remote_istio::wire::{PROTOCOL_MAX, PROTOCOL_MIN, v1};
use remote_istio::{convert, transport};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::engine::Greeting;
use crate::metrics::{Direction, Metrics};
use conversation::Conversation;
use ended::Ended;
use pause::Pauses;

/// Frames handed to the transport and not yet taken by it. Small: a heartbeat must not wait behind many others.
const TRANSPORT_QUEUED: usize = 4;

/// What the link tells the driver.
#[derive(Debug)]
pub enum LinkEvent {
    /// A stream opens: what is to be sent goes into `frames`, what to say in the hello comes back by `greeting`.
    Opened {
        /// What is to be sent.
        frames: mpsc::Sender<ToHub>,
        /// What to say in the hello.
        greeting: oneshot::Sender<Greeting>,
    },
    /// The hub has answered the hello.
    Welcomed(v1::Welcome),
    /// A part of a delta came.
    Delta(v1::Delta),
    /// The stream has ended.
    Closed,
}

/// What the driver has for the link.
#[derive(Clone, Debug, PartialEq)]
pub enum ToHub {
    /// Send this.
    Frame(v1::agent_frame::Frame),
    /// End the stream, for this reason.
    Close(String),
}

/// What a hello says of the agent beside its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// UID of the remote's kube-system namespace.
    pub cluster_uid: String,
    /// Random, once per process.
    pub boot_id: String,
    /// Raised at each start of an agent.
    pub session_epoch: u64,
    /// Version of the remote's API server.
    pub kubernetes_version: String,
    /// The agent's release.
    pub release: String,
}

/// The link's parts.
pub struct Link {
    /// Where hub replicas listen.
    pub hubs: Vec<HubAddress>,
    /// Who this agent is, and whom it trusts.
    pub tls: Arc<TlsSource>,
    /// The remote's name at the start; a renewed certificate must still say it.
    pub remote: RemoteName,
    /// To the driver.
    pub events: mpsc::Sender<LinkEvent>,
    /// Objects accepted and not applied, for heartbeats.
    pub backlog: Arc<AtomicU32>,
    /// Counts frames and ends.
    pub metrics: Arc<Metrics>,
    /// Met from the first welcome on.
    pub welcomed: Condition,
}

impl Link {
    /// Keeps a conversation with the hub going until `stop`, or until the driver has ended.
    pub async fn run(mut self, facts: Facts, stop: CancellationToken) {
        self.hubs.shuffle(&mut rand::rng());
        let mut certificates = self.tls.status();
        let mut pauses = Pauses::new(rand::random());
        let mut said = None;
        for connection in 1.. {
            let turn = usize::try_from(connection - 1).unwrap_or(0) % self.hubs.len();
            let address = self.hubs[turn].clone();
            let reloads = certificates.borrow().reloads;
            let (ended, lived) = self.attempt(&address, &facts, connection, &stop).await;
            self.metrics.session_ended(ended.as_str());
            if matches!(ended, Ended::Stopped) || self.events.is_closed() {
                return;
            }
            let pause = pauses.after(&ended, lived);
            say(&address, &ended, lived, pause, &mut said);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                () = renewed(&mut certificates, reloads), if ended.is_refusal() => {}
            }
        }
    }

    /// One connection from dialling to its end. Also says how long the session lived, if it came to a welcome.
    async fn attempt(
        &self,
        address: &HubAddress,
        facts: &Facts,
        connection: u64,
        stop: &CancellationToken,
    ) -> (Ended, Option<Duration>) {
        if self.tls.own().identity != remote_istio::identity::Identity::Remote(self.remote.clone()) {
            return (
                Ended::Refused(format!("--certificate no longer stands for {}", self.remote)),
                None,
            );
        }
        let connector = Connector::new(Arc::clone(&self.tls));
        let dialled = async {
            let stream = connector.connect(address).await?;
            let error = stream.link_error();
            open(stream, address)
                .await
                .map_err(|failed| Ended::unreachable(&failed, &error))
        };
        let link = tokio::select! {
            () = stop.cancelled() => return (Ended::Stopped, None),
            link = dialled => match link {
                Ok(link) => link,
                Err(ended) => return (ended, None),
            },
        };
        let (frames_tx, frames) = mpsc::channel(limits::FRAMES_QUEUED);
        let Some(greeting) = self.greeting(frames_tx).await else {
            return (Ended::Stopped, None);
        };
        let result = self
            .talk(&link, hello(facts, connection, &greeting), frames, address, stop)
            .await;
        link.peer.cut();
        // Nobody is left to hear it when the driver has ended.
        let _ = self.events.send(LinkEvent::Closed).await;
        self.metrics.session(false, false);
        result
    }

    async fn greeting(&self, frames: mpsc::Sender<ToHub>) -> Option<Greeting> {
        let (greeting, answer) = oneshot::channel();
        self.events.send(LinkEvent::Opened { frames, greeting }).await.ok()?;
        answer.await.ok()
    }

    async fn talk(
        &self,
        link: &transport::Link,
        hello: v1::Hello,
        frames: mpsc::Receiver<ToHub>,
        address: &HubAddress,
        stop: &CancellationToken,
    ) -> (Ended, Option<Duration>) {
        let mut client = SyncClient::new(link.channel.clone())
            .max_decoding_message_size(limits::FRAME_MAX_BYTES)
            .max_encoding_message_size(limits::FRAME_MAX_BYTES);
        let (outgoing, transport) = mpsc::channel(TRANSPORT_QUEUED);
        let mut conversation = Conversation::new(outgoing, frames, self, Instant::now());
        conversation.open(hello);
        let called = timeout(limits::HELLO_DEADLINE, client.session(ReceiverStream::new(transport)));
        let answered = tokio::select! {
            () = stop.cancelled() => return (Ended::Stopped, None),
            answered = called => answered,
        };
        let ended = match answered {
            Err(_) => Ended::NoWelcome,
            Ok(Err(status)) => Ended::Status(status),
            Ok(Ok(response)) => conversation.run(response.into_inner(), address, stop).await,
        };
        (ended.with_cause(&link.error), conversation.lived())
    }
}

fn hello(facts: &Facts, connection: u64, greeting: &Greeting) -> v1::Hello {
    v1::Hello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        release: facts.release.clone(),
        features: Vec::new(),
        cluster_uid: facts.cluster_uid.clone(),
        boot_id: facts.boot_id.clone(),
        session_epoch: facts.session_epoch,
        connection,
        lanes: convert::lane_states(&greeting.lanes),
        kubernetes_version: facts.kubernetes_version.clone(),
        settled: greeting.settled,
        trust_digest: Vec::new(),
    }
}

/// Other certificate files are in use than before.
async fn renewed(certificates: &mut watch::Receiver<ReloadStatus>, reloads: u64) {
    if certificates.wait_for(|status| status.reloads > reloads).await.is_err() {
        // The source lives as long as the link.
        std::future::pending::<()>().await;
    }
}

/// One line for each new reason: an agent that cannot connect for hours does not fill a disk.
fn say(address: &HubAddress, ended: &Ended, lived: Option<Duration>, pause: Duration, said: &mut Option<String>) {
    let (reason, error) = (ended.as_str(), ended.to_string());
    if let Some(lived) = lived {
        *said = None;
        let lived = humantime::format_duration(Duration::from_secs(lived.as_secs()));
        tracing::info!(%address, reason, %error, %lived, ?pause, "session with the hub ended, what was accepted stays");
    } else if said.as_deref() == Some(error.as_str()) {
        tracing::debug!(%address, reason, %error, ?pause, "still no session with the hub");
    } else {
        tracing::warn!(%address, reason, %error, ?pause, "no session with the hub, what was accepted stays");
        *said = Some(error);
    }
}

/// Counts one frame. Its lane is that of what it carries.
fn count_sent(metrics: &Metrics, frame: &v1::AgentFrame) {
    let lane = match &frame.frame {
        Some(v1::agent_frame::Frame::Delta(delta)) => Some(delta.lane),
        Some(v1::agent_frame::Frame::Ack(ack)) => Some(ack.lane),
        _ => None,
    };
    metrics.frame(
        Direction::Sent,
        lane.and_then(lane_of),
        prost::Message::encoded_len(frame),
    );
}

fn count_received(metrics: &Metrics, frame: &v1::HubFrame) {
    let lane = match &frame.frame {
        Some(v1::hub_frame::Frame::Delta(delta)) => Some(delta.lane),
        Some(v1::hub_frame::Frame::Ack(ack)) => Some(ack.lane),
        _ => None,
    };
    metrics.frame(
        Direction::Received,
        lane.and_then(lane_of),
        prost::Message::encoded_len(frame),
    );
}

fn lane_of(lane: i32) -> Option<remote_istio::model::Lane> {
    match v1::Lane::try_from(lane).ok()? {
        v1::Lane::Unspecified => None,
        v1::Lane::Endpoints => Some(remote_istio::model::Lane::Endpoints),
        v1::Lane::Config => Some(remote_istio::model::Lane::Config),
    }
}
