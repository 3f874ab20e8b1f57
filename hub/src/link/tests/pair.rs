//! A hub's link and scripted agents, joined by pipes in memory.

use std::future::pending;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, stream};
use prometheus_client::registry::Registry;
use prost::Message as _;
use remote_istio::identity::RemoteName;
use remote_istio::tls::TlsSource;
use remote_istio::transport::{self, HubAddress, Listener, handshake_client};
use remote_istio::wire::v1;
use remote_istio::wire::v1::hub_frame::Frame;
use rustls::pki_types::ServerName;
use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use super::super::stream::{Bounds, Shared};
use super::super::{Bindings, Link, Sessions, Settings};
use super::raw::RawCodec;
use crate::index::{self, Index, RemoteView};
use crate::metrics::Metrics;
use crate::report::SessionReport;
use crate::state::State;
use crate::test_certificates::{HUB_NAME, LinkCa};

/// Fails a test that hangs; far more than anything here takes.
pub(super) const PATIENCE: Duration = Duration::from_mins(2);

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

/// A hub whose world the test sets.
pub(super) struct Hub {
    pub(super) ca: LinkCa,
    pub(super) state: Arc<State>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) stop: CancellationToken,
    registry: Registry,
    pipes: mpsc::UnboundedSender<DuplexStream>,
    pub(super) serving: JoinSet<Result<(), tonic::transport::Error>>,
}

impl Hub {
    pub(super) fn start() -> Self {
        Self::start_with(Bounds::default())
    }

    pub(super) fn start_with(bounds: Bounds) -> Self {
        Self::start_as(bounds, Bindings::elsewhere())
    }

    pub(super) fn start_as(bounds: Bounds, bindings: Bindings) -> Self {
        let ca = LinkCa::new();
        let namespace = "istio-system".to_owned();
        let state = State::new(Index::new(index::Settings {
            service_namespaces: [namespace.clone()].into(),
            namespace: namespace.clone(),
        }));
        let (sessions, stop) = (Sessions::new(), CancellationToken::new());
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let settings = Settings {
            namespace,
            replica: "hub-0".to_owned(),
            boot_id: "hub boot".to_owned(),
        };
        let link = Link::with(Shared {
            settings: Arc::new(settings),
            bounds,
            state: Arc::clone(&state),
            sessions: Arc::clone(&sessions),
            bindings,
            metrics,
            stop: stop.clone(),
        });
        let (pipes, accepted) = mpsc::unbounded_channel();
        let mut serving = JoinSet::new();
        serving.spawn(link.serve(Pipes(accepted), ca.source("hub"), Routes::default()));
        let hub = Self {
            ca,
            state,
            sessions,
            stop,
            registry,
            pipes,
            serving,
        };
        hub.state.update(|index| {
            index.pods_listed("istio-system", vec![], 1, 0);
            index.services_listed("istio-system", vec![], 1, 0);
            index.remotes_listed(vec![], 0)
        });
        hub
    }

    /// `RemoteIstio` of this name enables one service with these addresses.
    pub(super) fn enable(&self, remote: &str, addresses: &[&str]) {
        self.apply(
            remote,
            &serde_json::json!([{"name": "istio-pilot", "podIPs": addresses}]),
        );
    }

    /// `RemoteIstio` of this name enables so many services with so many addresses each.
    pub(super) fn enable_many(&self, remote: &str, services: u16, addresses: u32) {
        let address = |last: u32| Ipv4Addr::from(0x0a00_0000 + last).to_string();
        let addresses: Vec<String> = (1..=addresses).map(address).collect();
        let service = |index| serde_json::json!({"name": format!("service-{index}"), "podIPs": addresses});
        self.apply(remote, &(0..services).map(service).collect());
    }

    fn apply(&self, remote: &str, services: &serde_json::Value) {
        let object = serde_json::json!({
            "apiVersion": "istio.banzaicloud.io/v1beta1",
            "kind": "RemoteIstio",
            "metadata": {"name": remote, "namespace": "istio-system", "uid": format!("uid of {remote}"), "generation": 1},
            "spec": {"enabledServices": services},
        });
        let object = serde_json::from_value(object).expect("a RemoteIstio");
        let view = RemoteView::new(object).expect("a good name");
        self.state
            .update(|index| index.remote_applied(view, crate::clock::now()));
    }

    async fn channel(&self, tls: Arc<TlsSource>) -> transport::Link {
        let (near, far) = duplex(64 * 1024);
        self.pipes.send(far).expect("the hub accepts");
        let name = ServerName::try_from(HUB_NAME).expect("a DNS name");
        let stream = handshake_client(near, &tls, name, "hub".to_owned())
            .await
            .expect("a handshake");
        let address: HubAddress = format!("{HUB_NAME}:8444").parse().expect("an address");
        transport::open(stream, &address).await.expect("a link")
    }

    /// An agent with this path in its certificate, after its request and before its hello.
    pub(super) async fn dial(&self, path: &str) -> Result<Agent, Status> {
        self.dial_with(self.ca.source(path)).await
    }

    /// The same with a certificate of the test's choice.
    pub(super) async fn dial_with(&self, tls: Arc<TlsSource>) -> Result<Agent, Status> {
        let link = self.channel(tls).await;
        let (frames, outgoing) = mpsc::channel(64);
        let incoming = open_stream(&link.channel, ReceiverStream::new(outgoing)).await?;
        Ok(Agent {
            frames: Some(frames),
            incoming,
            link,
        })
    }

    /// An agent of a remote that has said hello.
    pub(super) async fn join(&self, remote: &str, hello: v1::Hello) -> Agent {
        let agent = self.dial(&format!("remote/{remote}")).await.expect("a stream");
        agent.send(v1::agent_frame::Frame::Hello(hello)).await;
        agent
    }

    /// Waits until the report of a remote is as wanted.
    pub(super) async fn report(&self, remote: &str, wanted: impl Fn(&SessionReport) -> bool) -> Arc<SessionReport> {
        let name = RemoteName::new(remote).expect("a DNS label");
        eventually(|| self.sessions.report(&name).filter(|report| wanted(report))).await
    }

    /// Waits until a line of the metrics is there.
    pub(super) async fn metric(&self, line: &str) {
        let scrape = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("metrics");
            text.lines().any(|found| found == line).then_some(())
        };
        eventually(scrape).await;
    }
}

async fn open_stream<S>(channel: &Channel, outgoing: S) -> Result<Streaming<v1::HubFrame>, Status>
where
    S: Stream<Item = Vec<u8>> + Send + 'static,
{
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    let ready = timeout(PATIENCE, grpc.ready()).await.expect("in time");
    ready.map_err(|error| Status::unavailable(error.to_string()))?;
    let method = http::uri::PathAndQuery::from_static("/remoteistio.v1.Sync/Session");
    let answer = grpc.streaming(Request::new(outgoing), method, RawCodec);
    Ok(timeout(PATIENCE, answer).await.expect("in time")?.into_inner())
}

/// Waits for a condition, with a deadline.
pub(super) async fn eventually<T>(mut condition: impl FnMut() -> Option<T>) -> T {
    let met = async {
        loop {
            if let Some(value) = condition() {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, met).await.expect("the condition is met in time")
}

pub(super) fn hello(start: u64, boot_id: &str, connection: u64) -> v1::Hello {
    v1::Hello {
        protocol_min: 1,
        protocol_max: 1,
        release: "0.1.0".to_owned(),
        cluster_uid: "cluster".to_owned(),
        boot_id: boot_id.to_owned(),
        session_epoch: start,
        connection,
        ..v1::Hello::default()
    }
}

/// A scripted agent.
pub(super) struct Agent {
    frames: Option<mpsc::Sender<Vec<u8>>>,
    incoming: Streaming<v1::HubFrame>,
    link: transport::Link,
}

impl Agent {
    pub(super) async fn send(&self, frame: v1::agent_frame::Frame) {
        let frame = v1::AgentFrame { frame: Some(frame) };
        self.send_bytes(frame.encode_to_vec()).await;
    }

    pub(super) async fn send_bytes(&self, bytes: Vec<u8>) {
        let frames = self.frames.as_ref().expect("not left yet");
        frames.send(bytes).await.expect("the stream is open");
    }

    /// The next frame but heartbeats; an error or nothing: the end of the stream.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, Status> {
        loop {
            let frame = timeout(PATIENCE, self.incoming.message()).await.expect("in time")?;
            match frame.and_then(|frame| frame.frame) {
                Some(Frame::Heartbeat(_)) => {}
                other => return Ok(other),
            }
        }
    }

    /// Reads up to the end of the stream and says what it is.
    pub(super) async fn end(&mut self) -> Result<(), Status> {
        while self.next().await?.is_some() {}
        Ok(())
    }

    pub(super) async fn welcome(&mut self) -> v1::Welcome {
        match self.next().await {
            Ok(Some(Frame::Welcome(welcome))) => welcome,
            other => panic!("not a welcome: {other:?}"),
        }
    }

    /// Takes a delta and accepts all of it, with the hash that the hub expects.
    pub(super) async fn accept(&mut self) -> v1::Delta {
        let delta = match self.next().await {
            Ok(Some(Frame::Delta(delta))) => delta,
            other => panic!("not a delta: {other:?}"),
        };
        let ack = v1::Ack {
            lane: delta.lane,
            nonce: delta.nonce,
            hash: delta.next_hash.clone(),
            ..v1::Ack::default()
        };
        self.send(v1::agent_frame::Frame::Ack(ack)).await;
        delta
    }

    /// Waits until the connection below is gone: until then it takes another request.
    pub(super) async fn gone(&self) {
        let refused = async {
            while open_stream(&self.link.channel, stream::pending()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, refused)
            .await
            .expect("the hub cuts the connection in time");
    }

    /// Takes a question and answers it.
    pub(super) async fn answer(&mut self, yields: bool) -> v1::Challenge {
        let challenge = match self.next().await {
            Ok(Some(Frame::Challenge(challenge))) => challenge,
            other => panic!("not a challenge: {other:?}"),
        };
        let nonce = challenge.nonce;
        self.send(v1::agent_frame::Frame::Yield(v1::Yield { nonce, yields }))
            .await;
        challenge
    }

    /// Breaks the connection below.
    pub(super) fn cut(&self) {
        self.link.peer.cut();
    }

    /// Closes the agent's side of the stream.
    pub(super) fn leave(&mut self) {
        self.frames = None;
    }
}
