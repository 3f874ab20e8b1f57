mod cuts;

use std::future::poll_fn;
use std::task::Poll;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::object::HasSpec as _;
use remote_istio::limits;
use remote_istio::transport::{ConnectError, Refusal, SecureStream, handshake_client, handshake_server};
use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};

use super::*;
use crate::authority::{Authority, LinkCa};
use crate::crd::{RemoteIdentitySpec, Revocation};
use crate::events;
use crate::test_authority::{DAY, RemoteCertificate, authority, link_ca, remote};
use crate::watch::Sink as _;

/// One wait of a test.
const PATIENCE: Duration = Duration::from_secs(20);

/// A hub's identities behind its sync port.
struct Hub {
    ca: LinkCa,
    authority: Arc<Authority>,
    tls: Arc<remote_istio::tls::TlsSource>,
    identities: Arc<Identities>,
    registry: Registry,
    version: std::cell::Cell<u64>,
}

impl Hub {
    fn new(unknown_allowed: bool) -> Self {
        let ca = link_ca();
        let authority = authority(&ca, "hub.test:8443");
        let tls = authority.tls();
        let mut registry = Registry::default();
        let settings = Settings {
            namespace: "istio-system".to_owned(),
            unknown_allowed,
        };
        let identities = Identities::new(settings, events::tests::kept(), &mut registry);
        identities.guard(&tls);
        identities.listed.send_replace(true);
        Self {
            ca,
            authority,
            tls,
            identities,
            registry,
            version: std::cell::Cell::new(1),
        }
    }

    /// Central's next word on a name.
    fn record(&self, name: &str, spec: RemoteIdentitySpec) -> RemoteIdentity {
        self.version.set(self.version.get() + 1);
        let mut record = RemoteIdentity::new(name, spec);
        record.metadata.resource_version = Some(self.version.get().to_string());
        record.metadata.uid = Some(format!("uid of {name}"));
        record
    }

    fn bind(&self, name: &str, not_before: SystemTime) {
        self.identities.wrote(self.record(name, bound(not_before)));
    }

    fn revoke(&self, name: &str, reason: &str) {
        let mut spec = bound(SystemTime::UNIX_EPOCH);
        spec.revoked = Some(Revocation {
            at: Time(timestamp(SystemTime::now())),
            reason: reason.to_owned(),
        });
        self.identities.wrote(self.record(name, spec));
    }

    fn certificate(&self, name: &str, begins: SystemTime) -> RemoteCertificate {
        RemoteCertificate::new(&self.ca, name, begins, SystemTime::now() + DAY)
    }

    /// Both ends of a connection that was tried.
    async fn connect(&self, certificate: &RemoteCertificate) -> (Result<Near, ConnectError>, Result<Far, Refusal>) {
        let source = certificate.source(&self.ca);
        let (near, far) = duplex(64 * 1024);
        let name = "hub.test".try_into().expect("a host name");
        let (near, far) = tokio::join!(
            handshake_client(near, &source, name, "hub".to_owned()),
            handshake_server(far, &self.tls, "agent".to_owned()),
        );
        (near, far.map_err(|(refusal, _)| refusal))
    }

    async fn connected(&self, certificate: &RemoteCertificate) -> (Near, Far) {
        let (near, far) = self.connect(certificate).await;
        (near.expect("connected"), far.expect("accepted"))
    }

    fn metric(&self, line: &str) -> bool {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("a text");
        text.lines().any(|found| found == line)
    }

    /// Whom the hook was told of, from now on.
    fn cut(&self) -> Arc<Mutex<Vec<(RemoteName, NotAdmitted)>>> {
        let told: Arc<Mutex<Vec<_>>> = Arc::default();
        let hook = Arc::clone(&told);
        self.identities.on_cut(Box::new(move |remote, reason| {
            hook.lock().push((remote.clone(), reason));
        }));
        told
    }
}

type Near = SecureStream<DuplexStream>;
type Far = SecureStream<DuplexStream>;

fn bound(not_before: SystemTime) -> RemoteIdentitySpec {
    RemoteIdentitySpec {
        cluster_uid: "cluster-1".to_owned(),
        joined_at: Time(timestamp(not_before)),
        key: String::new(),
        not_before: Time(timestamp(not_before)),
        released: false,
        revoked: None,
    }
}

fn minutes_ago(minutes: u64) -> SystemTime {
    SystemTime::now() - Duration::from_mins(minutes)
}

/// Polls once: whether the connection was cut.
async fn is_cut(far: &Far) -> bool {
    let cut = far.peer().cut_token().clone();
    let mut cancelled = std::pin::pin!(cut.cancelled());
    poll_fn(|context| Poll::Ready(cancelled.as_mut().poll(context).is_ready())).await
}

#[tokio::test]
async fn unknown_remote_is_refused_in_the_handshake_where_remotes_join() {
    let hub = Hub::new(false);
    let certificate = hub.certificate("remote-1", minutes_ago(15));
    let (_, far) = hub.connect(&certificate).await;
    assert_eq!(far.err(), Some(Refusal::UnknownIdentity));
    hub.bind("remote-1", minutes_ago(15));
    hub.connected(&certificate).await;
}

#[tokio::test]
async fn unknown_remote_is_let_in_where_certificates_come_from_elsewhere_until_it_is_revoked() {
    let hub = Hub::new(true);
    let certificate = hub.certificate("remote-1", minutes_ago(15));
    hub.connected(&certificate).await;
    hub.revoke("remote-1", "stolen");
    let (_, far) = hub.connect(&certificate).await;
    assert_eq!(far.err(), Some(Refusal::Revoked));
}

#[tokio::test]
async fn revocation_ends_sessions_first_and_then_cuts_every_connection_of_that_remote_alone() {
    let hub = Hub::new(false);
    hub.bind("remote-1", minutes_ago(60));
    hub.bind("remote-2", minutes_ago(60));
    let first = hub.certificate("remote-1", minutes_ago(15));
    let (mut near, far) = hub.connected(&first).await;
    let (_near, second) = hub.connected(&hub.certificate("remote-1", minutes_ago(15))).await;
    let (_near, other) = hub.connected(&hub.certificate("remote-2", minutes_ago(15))).await;
    let told = hub.cut();

    let cutting = Arc::clone(&hub.identities);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { cutting.cut_when_due().await });
    // It has nothing to do yet, and must be woken.
    tokio::task::yield_now().await;
    hub.revoke("remote-1", "stolen");
    assert_eq!(*told.lock(), [(remote("remote-1"), NotAdmitted::Revoked)]);
    assert!(!is_cut(&far).await, "the session has a moment to say why");

    for cut in [&far, &second] {
        tokio::time::timeout(PATIENCE, cut.peer().cut_token().cancelled())
            .await
            .expect("it is cut");
    }
    assert!(!is_cut(&other).await);
    drop(far);
    let read = tokio::time::timeout(PATIENCE, near.read_u8()).await;
    assert!(read.expect("the other end learns of it").is_err());
    assert!(hub.metric("remote_istio_hub_identities_revoked 1"));
}

#[tokio::test]
async fn record_that_is_removed_makes_its_remote_unknown_at_once() {
    let hub = Hub::new(false);
    hub.bind("remote-1", minutes_ago(60));
    let (_near, far) = hub.connected(&hub.certificate("remote-1", minutes_ago(15))).await;
    let told = hub.cut();
    let sink = RecordSink(Arc::clone(&hub.identities));
    let last = hub.record("remote-1", bound(minutes_ago(60)));
    sink.deleted(&DeserializeGuard(Ok(last)), 0);
    assert_eq!(*told.lock(), [(remote("remote-1"), NotAdmitted::Unknown)]);
    drop(far);
}

#[tokio::test]
async fn join_anew_cuts_what_is_left_from_before_and_leaves_the_new_session_alone() {
    let hub = Hub::new(false);
    hub.bind("remote-1", minutes_ago(60));
    let (_near, old) = hub.connected(&hub.certificate("remote-1", minutes_ago(30))).await;
    // Another replica took the join: the new certificate may be here before the news.
    let (_near, new) = hub.connected(&hub.certificate("remote-1", minutes_ago(11))).await;
    let told = hub.cut();
    hub.bind("remote-1", minutes_ago(11));
    assert_eq!(*told.lock(), []);
    let due = Instant::now() + CUT_AFTER;
    hub.identities.connections.lock().cut_due(due);
    assert_eq!((is_cut(&old).await, is_cut(&new).await), (true, false));

    // Without a new session the old one is told.
    drop((old, new));
    let (_near, old) = hub.connected(&hub.certificate("remote-1", minutes_ago(11))).await;
    hub.bind("remote-1", minutes_ago(5));
    assert_eq!(*told.lock(), [(remote("remote-1"), NotAdmitted::Revoked)]);
    drop(old);
}

#[tokio::test]
async fn remote_with_too_many_connections_loses_the_oldest_that_holds_no_session() {
    let hub = Hub::new(false);
    hub.bind("remote-1", minutes_ago(60));
    hub.bind("remote-2", minutes_ago(60));
    let certificate = hub.certificate("remote-1", minutes_ago(15));
    let (_near, other) = hub.connected(&hub.certificate("remote-2", minutes_ago(15))).await;
    let mut open = Vec::new();
    for _ in 0..limits::CONNECTIONS_PER_REMOTE {
        open.push(hub.connected(&certificate).await);
    }
    open[0].1.peer().holds_session(true);
    let cut = async |open: &[(Near, Far)]| {
        let mut places = Vec::new();
        for (place, (_, far)) in open.iter().enumerate() {
            places.extend(is_cut(far).await.then_some(place));
        }
        places
    };
    assert_eq!(cut(&open).await, [0; 0]);
    open.push(hub.connected(&certificate).await);
    assert_eq!(cut(&open).await, [1]);
    open.push(hub.connected(&certificate).await);
    assert_eq!(cut(&open).await, [1, 2]);

    // One that left has made room.
    drop(open.remove(3));
    open.push(hub.connected(&certificate).await);
    assert_eq!(cut(&open).await, [1, 2]);
    assert!(!is_cut(&other).await, "another remote");
}

#[tokio::test]
async fn connections_of_a_ca_that_was_dropped_are_ended_and_cut() {
    let mut hub = Hub::new(false);
    hub.bind("remote-1", minutes_ago(60));
    hub.bind("remote-2", minutes_ago(60));
    // By the old CA, and for longer than any certificate of ours.
    let stolen = RemoteCertificate::new(&hub.ca, "remote-1", minutes_ago(15), SystemTime::now() + 3650 * DAY);
    let (_near, held) = hub.connected(&stolen).await;
    let told = hub.cut();
    let (cutting, following) = (Arc::clone(&hub.identities), Arc::clone(&hub.identities));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { cutting.cut_when_due().await });
    tasks.spawn(async move { following.cut_when_roots_change().await });

    let begun = hub.ca.begin(SystemTime::now()).expect("begun");
    hub.ca = begun.switch().expect("switched");
    hub.authority.finds(hub.ca.clone());
    let (_near, renewed) = hub.connected(&hub.certificate("remote-2", minutes_ago(15))).await;
    assert!(!is_cut(&held).await, "both roots are trusted");
    assert_eq!(hub.identities.admit_open(held.peer()), Ok(()));

    hub.authority.finds(hub.ca.drop_old().expect("dropped"));
    tokio::time::timeout(PATIENCE, held.peer().cut_token().cancelled())
        .await
        .expect("it is cut");
    assert_eq!(*told.lock(), [(remote("remote-1"), NotAdmitted::AnotherCa)]);
    assert!(!is_cut(&renewed).await);
    assert_eq!(hub.identities.admit_open(renewed.peer()), Ok(()));
}

#[tokio::test]
async fn connections_that_ended_are_forgotten() {
    let hub = Hub::new(false);
    hub.bind("remote-1", minutes_ago(60));
    let (_near, far) = hub.connected(&hub.certificate("remote-1", minutes_ago(15))).await;
    let mut connections = Connections::default();
    for number in 0..2_000 {
        let gone = Arc::new(Peer::clone(far.peer()));
        connections.opened(&remote(&format!("remote-{number}")), &gone);
        let again = Arc::new(Peer::clone(far.peer()));
        connections.opened(&remote("remote-0"), &again);
    }
    assert!(connections.held() <= 256, "{} are held", connections.held());
}

#[tokio::test]
async fn revocation_is_told_once_and_not_at_the_first_list() {
    let hub = Hub::new(false);
    hub.identities.listed.send_replace(false);
    let sink = RecordSink(Arc::clone(&hub.identities));
    let mut spec = bound(minutes_ago(60));
    spec.revoked = Some(Revocation {
        at: Time(timestamp(minutes_ago(1))),
        reason: "old".to_owned(),
    });
    let old = hub.record("remote-0", spec);
    sink.listed(vec![DeserializeGuard(Ok(old.clone()))], 0, 0);
    assert!(*hub.identities.listed().borrow());
    assert_eq!(events::tests::published(&hub.identities.events), []);

    hub.bind("remote-1", minutes_ago(60));
    hub.revoke("remote-1", "stolen");
    hub.revoke("remote-1", "stolen indeed");
    let told = events::tests::published(&hub.identities.events);
    let record = hub.identities.record(&remote("remote-1")).expect("a record");
    let at = record.spec().revoked.as_ref().expect("revoked").at.0.as_second();
    let expected = events::Event {
        subject: Subject::Remote(remote("remote-1")),
        kind: Kind::Warning,
        reason: Reason::Revoked,
        note: "the certificates of remote remote-1 count no longer: stolen".to_owned(),
        once: Some(format!("remote-1.revoked.{at:x}")),
    };
    // The second revocation may lie in the next second; it is no news either way.
    assert_eq!(told.len(), 1);
    assert_eq!(
        events::Event {
            once: expected.once.clone(),
            ..told[0].clone()
        },
        expected
    );
    assert!(hub.metric("remote_istio_hub_identities_revoked 2"));
}

#[test]
fn missing_definition_holds_nobody_up_where_certificates_come_from_elsewhere() {
    for unknown_allowed in [false, true] {
        let hub = Hub::new(unknown_allowed);
        hub.identities.listed.send_replace(false);
        RecordSink(Arc::clone(&hub.identities)).unknown();
        assert_eq!(*hub.identities.listed().borrow(), unknown_allowed);
    }
}

#[test]
fn change_wakes_whoever_asked() {
    let hub = Hub::new(false);
    let woken: Arc<Mutex<Vec<_>>> = Arc::default();
    let hook = Arc::clone(&woken);
    hub.identities
        .on_change(Box::new(move |remote| hook.lock().push(remote.clone())));
    hub.bind("remote-1", minutes_ago(1));
    assert_eq!(*woken.lock(), [remote("remote-1")]);
}

#[test]
fn hubs_and_operators_need_no_record() {
    let hub = Hub::new(false);
    for identity in [Identity::Hub, Identity::Operator("ann".to_owned())] {
        let leaf = LeafFacts {
            identity,
            serial: "1".to_owned(),
            not_before: SystemTime::UNIX_EPOCH,
            not_after: SystemTime::now(),
        };
        assert_eq!(hub.identities.admit(&leaf), Ok(()));
    }
}
