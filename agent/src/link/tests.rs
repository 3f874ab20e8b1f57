use std::collections::BTreeMap;
use std::pin::Pin;

use futures::{Stream, StreamExt as _};
use remote_istio::model::Lane;
use remote_istio::process::Readiness;
use remote_istio::transport::{accept_loop, server_builder};
use remote_istio::wire::v1::agent_frame::Frame as Own;
use remote_istio::wire::v1::hub_frame::Frame as Hubs;
use remote_istio::wire::v1::sync_server::{Sync, SyncServer};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::conversation::Conversation;
use super::*;
use crate::test_ca::TestCa;

/// Of the channel to the transport in a conversation without a network.
const TRANSPORT_QUEUED: usize = 4;

/// Fails a test that hangs; far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// A hub that does what the test says.
struct ScriptedHub {
    address: HubAddress,
    sessions: mpsc::Receiver<HubEnd>,
    refused: mpsc::Receiver<()>,
    _tasks: JoinSet<()>,
    _folder: TempDir,
}

/// The hub's end of one session.
struct HubEnd {
    incoming: Streaming<v1::AgentFrame>,
    outgoing: mpsc::Sender<Result<v1::HubFrame, Status>>,
}

struct Script(mpsc::Sender<HubEnd>);

#[tonic::async_trait]
impl Sync for Script {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<v1::HubFrame, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentFrame>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (outgoing, frames) = mpsc::channel(16);
        let incoming = request.into_inner();
        self.0
            .send(HubEnd { incoming, outgoing })
            .await
            .expect("the test listens");
        Ok(Response::new(Box::pin(ReceiverStream::new(frames))))
    }
}

impl ScriptedHub {
    async fn start(ca: &TestCa) -> Self {
        let (tls, folder) = ca.source("hub", ca);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let (refused_tx, refused) = mpsc::channel(16);
        let on_refused = Arc::new(move |_| refused_tx.try_send(()).expect("room"));
        let (ready, running) = accept_loop(listener, tls, CancellationToken::new(), on_refused);
        let (sessions_tx, sessions) = mpsc::channel(16);
        let mut tasks = JoinSet::new();
        tasks.spawn(running);
        tasks.spawn(async move {
            let server = server_builder().add_service(SyncServer::new(Script(sessions_tx)));
            server.serve_with_incoming(ready).await.expect("the server runs");
        });
        Self {
            address: format!("localhost:{port}").parse().expect("an address"),
            sessions,
            refused,
            _tasks: tasks,
            _folder: folder,
        }
    }

    async fn session(&mut self) -> HubEnd {
        within(self.sessions.recv()).await.expect("the server runs")
    }
}

impl HubEnd {
    async fn next(&mut self) -> Option<Own> {
        let frame = within(self.incoming.next()).await?;
        Some(frame.expect("a frame").frame.expect("a known kind"))
    }

    async fn send(&self, frame: Hubs) {
        let frame = v1::HubFrame { frame: Some(frame) };
        self.outgoing.send(Ok(frame)).await.expect("the stream stands");
    }

    async fn welcome(&mut self) -> v1::Hello {
        let Some(Own::Hello(hello)) = self.next().await else {
            panic!("the first frame is no hello");
        };
        self.send(Hubs::Welcome(welcome())).await;
        hello
    }
}

/// A link that runs, and the test in place of its driver.
struct RunningLink {
    events: mpsc::Receiver<LinkEvent>,
    readiness: Readiness,
    side: SideEnds,
    tls: Arc<TlsSource>,
    stop: CancellationToken,
    task: JoinSet<()>,
    folder: TempDir,
}

/// The other ends of what the link says beside the driver.
struct SideEnds {
    guide: watch::Sender<Guide>,
    trusts: mpsc::Receiver<Question<v1::Trust>>,
    challenges: mpsc::Receiver<Question<v1::Challenge>>,
    channel: watch::Receiver<Option<Channel>>,
    refused: watch::Receiver<Option<Refused>>,
}

impl RunningLink {
    fn start(hub: &ScriptedHub, ca: &TestCa, trusted: &TestCa) -> Self {
        let (link, events, readiness, side, folder) = link(hub.address.clone(), ca, trusted);
        let tls = Arc::clone(&link.tls);
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(link.run(facts(), stop.clone()));
        Self {
            events,
            readiness,
            side,
            tls,
            stop,
            task,
            folder,
        }
    }

    /// Another certificate of this CA is in use from here on.
    fn renew(&self, ca: &TestCa, trusted: &TestCa) {
        let before = self.tls.own().serial;
        ca.write_files("remote/remote-1", trusted, self.folder.path());
        self.tls.reload();
        assert_ne!(self.tls.own().serial, before);
    }

    async fn event(&mut self) -> LinkEvent {
        within(self.events.recv()).await.expect("the link runs")
    }

    async fn opened(&mut self) -> mpsc::Sender<ToHub> {
        let LinkEvent::Opened { frames, greeting } = self.event().await else {
            panic!("the first event is no opening");
        };
        greeting.send(nothing_held()).expect("the link listens");
        frames
    }

    /// Opened and welcomed.
    async fn connected(&mut self, hub: &mut ScriptedHub) -> (mpsc::Sender<ToHub>, HubEnd) {
        let frames = self.opened().await;
        let mut end = hub.session().await;
        end.welcome().await;
        assert!(matches!(self.event().await, LinkEvent::Welcomed(_)));
        assert!(matches!(end.next().await, Some(Own::Heartbeat(_))));
        (frames, end)
    }

    /// Asked what to say on a second stream.
    async fn prepare(&mut self) -> oneshot::Sender<Greeting> {
        match self.event().await {
            LinkEvent::Prepare { greeting } => greeting,
            other => panic!("no preparation: {other:?}"),
        }
    }

    async fn delta(&mut self) -> u64 {
        match self.event().await {
            LinkEvent::Delta(delta) => delta.nonce,
            other => panic!("no delta: {other:?}"),
        }
    }
}

fn link(
    address: HubAddress,
    ca: &TestCa,
    trusted: &TestCa,
) -> (Link, mpsc::Receiver<LinkEvent>, Readiness, SideEnds, TempDir) {
    let (tls, folder) = ca.source("remote/remote-1", trusted);
    let (metrics, _registry) = Metrics::new();
    let (events_tx, events) = mpsc::channel(16);
    let readiness = Readiness::default();
    let hubs = super::Hubs {
        first: vec![address],
        last: vec![],
    };
    let (guide_tx, guide) = watch::channel(Guide {
        hubs,
        ..Guide::default()
    });
    let (trusts, trusts_asked) = mpsc::channel(4);
    let (challenges, challenges_asked) = mpsc::channel(4);
    let (channel, channel_seen) = watch::channel(None);
    let (refused, refused_seen) = watch::channel(None);
    let side = SideEnds {
        guide: guide_tx,
        trusts: trusts_asked,
        challenges: challenges_asked,
        channel: channel_seen,
        refused: refused_seen,
    };
    let link = Link {
        guide,
        way: Way::Direct,
        side: Side {
            trusts,
            challenges,
            channel,
            refused,
        },
        tls,
        remote: RemoteName::new("remote-1").expect("a label"),
        events: events_tx,
        backlog: Arc::new(AtomicU32::new(7)),
        metrics,
        welcomed: readiness.condition("hub"),
    };
    (link, events, readiness, side, folder)
}

fn facts() -> Facts {
    Facts {
        cluster_uid: "uid".to_owned(),
        boot_id: "boot".to_owned(),
        session_epoch: 3,
        kubernetes_version: "v1.37.2".to_owned(),
        release: "0.1.0".to_owned(),
    }
}

fn nothing_held() -> Greeting {
    let lanes = Lane::ALL.map(|lane| (lane, (None, 0)));
    Greeting {
        lanes: BTreeMap::from(lanes),
        settled: true,
    }
}

fn welcome() -> v1::Welcome {
    v1::Welcome {
        protocol: 1,
        boot_id: "hub-boot".to_owned(),
        heartbeat_milliseconds: 10_000,
        claim: Some(v1::Claim {
            claimed: true,
            message: String::new(),
        }),
        ..v1::Welcome::default()
    }
}

async fn within<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("in time")
}

#[tokio::test]
async fn session_greets_relays_both_ways_and_says_goodbye() {
    let ca = TestCa::new();
    let mut hub = ScriptedHub::start(&ca).await;
    let mut link = RunningLink::start(&hub, &ca, &ca);

    let frames = link.opened().await;
    let mut end = hub.session().await;
    assert!(!link.readiness.unmet().is_empty());
    let hello = end.welcome().await;
    assert_eq!(hello, super::hello(&facts(), 1, &nothing_held(), None));
    assert!(matches!(link.event().await, LinkEvent::Welcomed(welcomed) if welcomed == welcome()));
    assert_eq!(link.readiness.unmet(), []);

    let Some(Own::Heartbeat(beat)) = end.next().await else {
        panic!("no heartbeat after the welcome");
    };
    assert_eq!((beat.sequence, beat.received, beat.backlog), (1, 1, 7));

    let delta = v1::Delta {
        nonce: 5,
        ..v1::Delta::default()
    };
    end.send(Hubs::Delta(delta.clone())).await;
    assert!(matches!(link.event().await, LinkEvent::Delta(relayed) if relayed == delta));
    let ack = Own::Ack(v1::Ack {
        nonce: 5,
        ..v1::Ack::default()
    });
    frames.send(ToHub::Frame(ack.clone())).await.expect("the link listens");
    assert_eq!(end.next().await, Some(ack));

    link.stop.cancel();
    assert!(matches!(end.next().await, Some(Own::Drain(_))));
    assert_eq!(end.next().await, None);
    drop(end);
    assert!(matches!(link.event().await, LinkEvent::Closed));
    within(link.task.join_next())
        .await
        .expect("one task")
        .expect("no panic");
}

#[tokio::test]
async fn hub_that_drains_is_met_again_with_the_next_connection() {
    let ca = TestCa::new();
    let mut hub = ScriptedHub::start(&ca).await;
    let mut link = RunningLink::start(&hub, &ca, &ca);
    for connection in 1..=3 {
        let _frames = link.opened().await;
        let mut end = hub.session().await;
        assert_eq!(end.welcome().await.connection, connection);
        assert!(matches!(link.event().await, LinkEvent::Welcomed(_)));
        end.send(Hubs::Drain(v1::Drain::default())).await;
        assert!(matches!(link.event().await, LinkEvent::Closed));
    }
    assert_eq!(link.readiness.unmet(), [], "an agent without a hub stays ready");
}

#[tokio::test]
async fn session_that_the_driver_gives_up_is_ended() {
    let ca = TestCa::new();
    let mut hub = ScriptedHub::start(&ca).await;
    let mut link = RunningLink::start(&hub, &ca, &ca);
    let frames = link.opened().await;
    let mut end = hub.session().await;
    end.welcome().await;
    assert!(matches!(link.event().await, LinkEvent::Welcomed(_)));
    let close = ToHub::Close("a frame broke the contract".to_owned());
    frames.send(close).await.expect("the link listens");
    assert!(matches!(link.event().await, LinkEvent::Closed));
    link.opened().await;
}

#[tokio::test]
async fn hub_that_chose_a_protocol_which_was_not_offered_gets_no_session() {
    for protocol in [0, 9] {
        let ca = TestCa::new();
        let mut hub = ScriptedHub::start(&ca).await;
        let mut link = RunningLink::start(&hub, &ca, &ca);
        let _frames = link.opened().await;
        let end = hub.session().await;
        end.send(Hubs::Welcome(v1::Welcome { protocol, ..welcome() })).await;
        let event = link.event().await;
        assert!(matches!(event, LinkEvent::Closed), "{protocol}: {event:?}");
    }
}

/// What one attempt comes to with a hub that never welcomes.
async fn attempt(hub: &ScriptedHub, ca: &TestCa, trusted: &TestCa) -> Ended {
    let (link, mut events, _readiness, _side, _folder) = link(hub.address.clone(), ca, trusted);
    let stop = CancellationToken::new();
    let answering = async {
        while let Some(event) = events.recv().await {
            if let LinkEvent::Opened { greeting, .. } = event {
                // A link that has given up meanwhile needs no answer.
                let _ = greeting.send(nothing_held());
            }
        }
    };
    let (facts, mut connection) = (facts(), 0);
    tokio::select! {
        (ended, _) = within(link.attempt(&hub.address, &facts, &mut connection, &stop)) => ended,
        () = answering => panic!("the link holds the other end"),
    }
}

#[tokio::test]
async fn certificate_of_another_ca_is_a_refusal_with_its_reason() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let hub = ScriptedHub::start(&ca).await;
    let ended = Box::pin(attempt(&hub, &other, &ca)).await;
    assert!(ended.refusal().is_some(), "{ended}");
    assert_eq!(ended.refusal(), Some(Refused::NotKnown));
    assert!(ended.to_string().contains("signed by another CA"), "{ended}");
}

#[tokio::test]
async fn hub_of_another_ca_is_not_reached() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let hub = ScriptedHub::start(&ca).await;
    let ended = Box::pin(attempt(&hub, &ca, &other)).await;
    assert!(matches!(ended, Ended::Untrusted(_)), "{ended:?}");
    assert!(ended.to_string().contains("in the trust bundle"), "{ended}");
}

#[tokio::test]
async fn hub_that_denies_permission_is_not_hammered() {
    let ca = TestCa::new();
    let mut hub = ScriptedHub::start(&ca).await;
    let (link, mut events, _readiness, _side, _folder) = link(hub.address.clone(), &ca, &ca);
    let stop = CancellationToken::new();
    let refusing = async {
        let Some(LinkEvent::Opened { greeting, .. }) = events.recv().await else {
            panic!("no opening");
        };
        greeting.send(nothing_held()).expect("the link listens");
        let end = hub.session().await;
        let refusal = Status::permission_denied("a newer agent holds this session");
        end.outgoing.send(Err(refusal)).await.expect("the stream stands");
        events.recv().await
    };
    let (facts, mut connection) = (facts(), 0);
    let address = hub_address(&link);
    let both = async { tokio::join!(link.attempt(&address, &facts, &mut connection, &stop), refusing) };
    let ((ended, lived), _) = Box::pin(within(both)).await;
    assert!(ended.refusal().is_some(), "{ended:?}");
    assert_eq!(ended.to_string(), "a newer agent holds this session");
    assert_eq!(lived, None);
}

mod moving;
mod returning;

fn hub_address(link: &Link) -> HubAddress {
    link.guide.borrow().hubs.first[0].clone()
}

/// A conversation without a network, so that time can be moved by hand.
struct Bare {
    link: Link,
    hub: mpsc::Sender<Result<v1::HubFrame, Status>>,
    incoming: Option<ReceiverStream<Result<v1::HubFrame, Status>>>,
    outgoing: mpsc::Sender<v1::AgentFrame>,
    opened_at: Instant,
    events: mpsc::Receiver<LinkEvent>,
    frames: Option<mpsc::Receiver<ToHub>>,
    _sent: mpsc::Receiver<v1::AgentFrame>,
    _driver: mpsc::Sender<ToHub>,
    _side: SideEnds,
    _folder: TempDir,
}

fn bare() -> Bare {
    let ca = TestCa::new();
    let address: HubAddress = "localhost:1".parse().expect("an address");
    let (link, events, _readiness, side, folder) = link(address, &ca, &ca);
    let (hub, incoming) = mpsc::channel(64);
    let (outgoing, sent) = mpsc::channel(TRANSPORT_QUEUED);
    let (driver, frames) = mpsc::channel(limits::FRAMES_QUEUED);
    Bare {
        link,
        hub,
        incoming: Some(ReceiverStream::new(incoming)),
        outgoing,
        opened_at: Instant::now(),
        events,
        frames: Some(frames),
        _sent: sent,
        _driver: driver,
        _side: side,
        _folder: folder,
    }
}

impl Bare {
    fn conversation(&mut self) -> (Conversation<'_>, ReceiverStream<Result<v1::HubFrame, Status>>) {
        let frames = self.frames.take().expect("run once");
        let incoming = self.incoming.take().expect("run once");
        (
            Conversation::new(self.outgoing.clone(), frames, &self.link, self.opened_at),
            incoming,
        )
    }

    async fn run(&mut self) -> Ended {
        let address = hub_address(&self.link);
        let (mut conversation, mut incoming) = self.conversation();
        conversation.open(v1::Hello::default());
        let (stop, other) = (CancellationToken::new(), std::future::pending::<()>());
        match conversation.run(&mut incoming, &address, &stop, other).await {
            Turn::Ended(ended) => ended,
            Turn::Other(()) => panic!("there is nothing else"),
        }
    }

    async fn hub_says(&self, frame: Hubs) {
        let frame = v1::HubFrame { frame: Some(frame) };
        self.hub.send(Ok(frame)).await.expect("the conversation listens");
    }
}

#[tokio::test]
async fn hub_that_does_not_welcome_is_left() {
    let mut bare = bare();
    bare.opened_at -= limits::HELLO_DEADLINE;
    assert!(matches!(bare.run().await, Ended::NoWelcome));
}

/// What a conversation says of the time, this long after its welcome.
async fn after_welcome(passed: Duration, and: impl FnOnce(&mut Conversation<'_>)) -> Result<(), Ended> {
    let mut bare = bare();
    let address = hub_address(&bare.link);
    let (mut conversation, _incoming) = bare.conversation();
    conversation
        .welcome(welcome(), &address)
        .await
        .expect("the driver listens");
    conversation.pass(passed);
    and(&mut conversation);
    conversation.time()
}

#[tokio::test]
async fn hub_that_falls_silent_is_left() {
    let ended = after_welcome(limits::HEARTBEAT_DEADLINE + Duration::from_secs(1), |_| {}).await;
    assert_eq!(ended.expect_err("ended").as_str(), "silent");
    after_welcome(limits::HEARTBEAT_DEADLINE / 2, |_| {})
        .await
        .expect("it lives");
}

#[tokio::test]
async fn connection_that_takes_nothing_any_more_is_left() {
    let queue = |conversation: &mut Conversation<'_>| {
        conversation.enqueue(Own::Status(v1::Status::default()), false);
        conversation.pass(limits::SEND_DEADLINE);
        conversation.hear();
    };
    let ended = after_welcome(Duration::ZERO, queue).await;
    assert_eq!(ended.expect_err("ended").as_str(), "stuck");
}

#[tokio::test]
async fn frames_out_of_order_end_the_stream() {
    let mut early = bare();
    early.hub_says(Hubs::Delta(v1::Delta::default())).await;
    assert!(matches!(early.run().await, Ended::Protocol(_)));

    let mut twice = bare();
    twice.hub_says(Hubs::Welcome(welcome())).await;
    twice.hub_says(Hubs::Welcome(welcome())).await;
    assert!(matches!(twice.run().await, Ended::Protocol(_)));
}

#[tokio::test]
async fn unknown_frame_is_ignored() {
    let mut bare = bare();
    bare.hub_says(Hubs::Welcome(welcome())).await;
    bare.hub.send(Ok(v1::HubFrame { frame: None })).await.expect("room");
    bare.hub_says(Hubs::Delta(v1::Delta::default())).await;
    bare.hub_says(Hubs::Drain(v1::Drain::default())).await;
    assert!(matches!(bare.run().await, Ended::Drained(..)));
    assert!(matches!(bare.events.recv().await, Some(LinkEvent::Welcomed(_))));
    assert!(matches!(bare.events.recv().await, Some(LinkEvent::Delta(_))));
}
