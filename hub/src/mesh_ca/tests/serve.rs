use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use remote_istio::enrolment::Pin;
use remote_istio::identity::RemoteName;
use remote_istio::limits;
use remote_istio::tls::{Admission, LeafFacts, NotAdmitted, Peer, TlsSource};
use remote_istio::transport::{handshake_client, handshake_server};
use remote_istio::wire::v1;
use remote_istio::wire::v1::mesh_ca_server::MeshCa as _;
use tokio::io::duplex;
use tonic::{Code, Request, Status};

use super::super::roots::MeshRoots;
use super::super::signer::MeshSigner;
use super::super::test_authorities::{Ca, DAY, root, self_signed};
use super::super::{Deps, MeshCa, MeshCaMetrics, Settings};
use crate::authority::LinkCa;
use crate::authority::certificate::CertificateFacts;
use crate::crd::{JoinToken, JoinTokenStatus, RemoteIdentity, RemoteIdentitySpec, RemoteIstio, Revocation};
use crate::enrolment::{RecordError, Records};
use crate::events::tests::{kept, published};
use crate::events::{Events, Reason, Subject};
use crate::index::{self, Index, MeshCaState, RemoteView};
use crate::state::State;
use crate::test_authority::{RemoteCertificate, TRUST_DOMAIN, authority, link_ca, remote, request};

/// The identities of an API server that may be unreachable.
#[derive(Debug, Default)]
struct Names {
    is_away: AtomicBool,
    is_revoked: AtomicBool,
}

#[tonic::async_trait]
impl Records for Names {
    async fn token(&self, _: &str) -> Result<Option<JoinToken>, RecordError> {
        Err(RecordError::Gone)
    }

    async fn identity(&self, remote: &RemoteName) -> Result<Option<RemoteIdentity>, RecordError> {
        if self.is_away.load(Ordering::Relaxed) {
            return Err(RecordError::Late);
        }
        let at = || Time(jiff::Timestamp::UNIX_EPOCH);
        let spec = RemoteIdentitySpec {
            cluster_uid: "c1".to_owned(),
            joined_at: at(),
            key: String::new(),
            not_before: at(),
            released: false,
            revoked: self.is_revoked.load(Ordering::Relaxed).then(|| Revocation {
                at: at(),
                reason: String::new(),
            }),
        };
        Ok(Some(RemoteIdentity::new(remote.as_str(), spec)))
    }

    async fn write_token(&self, _: &JoinToken, _: JoinTokenStatus) -> Result<JoinToken, RecordError> {
        Err(RecordError::Gone)
    }

    async fn write_identity(&self, _: RemoteIdentity) -> Result<RemoteIdentity, RecordError> {
        Err(RecordError::Gone)
    }

    async fn remove_token(&self, _: &JoinToken) -> Result<(), RecordError> {
        Err(RecordError::Gone)
    }
}

/// Takes everybody, until it does not.
#[derive(Debug, Default)]
struct Door {
    is_shut: AtomicBool,
}

impl Admission for Door {
    fn admit(&self, _: &LeafFacts) -> Result<(), NotAdmitted> {
        if self.is_shut.load(Ordering::Relaxed) {
            return Err(NotAdmitted::Revoked);
        }
        Ok(())
    }

    fn opened(&self, _: &Arc<Peer>) {}
}

struct World {
    link: LinkCa,
    door: Arc<Door>,
    names: Arc<Names>,
    state: Arc<State>,
    events: Arc<Events>,
    ca: Arc<MeshCa>,
}

impl World {
    fn new(is_granted: bool) -> Self {
        let index = Index::new(index::Settings {
            namespace: "istio-system".to_owned(),
            service_namespaces: BTreeSet::from(["istio-system".to_owned()]),
        });
        let index = if is_granted { index.awaiting_mesh_trust() } else { index };
        let (door, names, events) = (Arc::new(Door::default()), Arc::new(Names::default()), kept());
        let state = State::new(index);
        let settings = Settings {
            namespace: "istio-system".to_owned(),
            secret: None,
            lifetime: DAY,
            trust_domain: TRUST_DOMAIN.to_owned(),
            is_granted,
        };
        let deps = Deps {
            admission: Arc::clone(&door) as Arc<dyn Admission>,
            records: Some(Arc::clone(&names) as Arc<dyn Records>),
            link_trust: None,
            state: Arc::clone(&state),
            events: Arc::clone(&events),
            metrics: MeshCaMetrics::default(),
        };
        state.update(|index| {
            let remotes = ["with-citadel", "without"].map(|name| view(name, name == "with-citadel"));
            index.remotes_listed(remotes.into(), 1)
        });
        Self {
            link: link_ca(),
            door,
            names,
            state,
            events,
            ca: MeshCa::new(settings, deps),
        }
    }

    /// With a CA in its Secret.
    fn with(ca: &Ca) -> Self {
        let world = Self::new(true);
        world.finds(ca);
        world
    }

    fn finds(&self, ca: &Ca) {
        let signer = MeshSigner::read(&self_signed(ca), SystemTime::now());
        let signer = signer.expect("good").expect("not empty");
        let roots = MeshRoots::default().with(signer.pin, &signer.roots, jiff::Timestamp::UNIX_EPOCH);
        self.ca.signer.store(Some(Arc::new(signer)));
        self.ca.tell(MeshCaState::Ready, roots.trust());
    }

    /// Who the hub sees at the other end of a connection of this remote.
    async fn peer(&self, name: &str) -> Arc<Peer> {
        let now = SystemTime::now();
        let certificate = RemoteCertificate::new(&self.link, name, now - DAY, now + DAY);
        self.peer_by(&certificate.source(&self.link)).await
    }

    async fn peer_by(&self, source: &TlsSource) -> Arc<Peer> {
        let (near, far) = duplex(64 * 1024);
        let name = "hub.test".try_into().expect("a host name");
        let tls = authority(&self.link, "hub.test:8443").tls();
        let (near, far) = tokio::join!(
            handshake_client(near, source, name, "hub".to_owned()),
            handshake_server(far, &tls, "agent".to_owned()),
        );
        near.expect("connected");
        let far = far.map_err(|(refusal, detail)| format!("{refusal:?} {detail}"));
        Arc::clone(far.expect("accepted").peer())
    }

    async fn sign(&self, peer: Option<&Arc<Peer>>) -> Result<v1::SignResponse, Status> {
        self.sign_for(peer, request().1).await
    }

    async fn sign_for(&self, peer: Option<&Arc<Peer>>, der: Vec<u8>) -> Result<v1::SignResponse, Status> {
        let mut asked = Request::new(v1::SignRequest { request: der });
        if let Some(peer) = peer {
            asked.extensions_mut().insert(Arc::clone(peer));
        }
        self.ca.sign(asked).await.map(tonic::Response::into_inner)
    }

    async fn refusal(&self, remote: &str) -> (Code, String) {
        let peer = self.peer(remote).await;
        let status = self.sign(Some(&peer)).await.expect_err("it is refused");
        (status.code(), status.message().to_owned())
    }
}

fn view(name: &str, has_citadel: bool) -> RemoteView {
    let mut object = RemoteIstio::default();
    object.metadata.name = Some(name.to_owned());
    object.metadata.uid = Some(format!("uid-of-{name}"));
    object.spec.citadel = has_citadel.then(Default::default);
    RemoteView::new(object).expect("a name")
}

#[tokio::test]
async fn remote_with_citadel_is_given_a_ca_of_its_own_name_and_whom_the_mesh_trusts() {
    let mesh = root("mesh");
    let world = World::with(&mesh);
    let peer = world.peer("with-citadel").await;
    let signed = world.sign(Some(&peer)).await.expect("signed");
    let facts = CertificateFacts::read(&signed.chain[0]).expect("a certificate");
    assert_eq!(facts.subject, "O=remote-istio, CN=with-citadel");
    assert_eq!(signed.chain.len(), 1, "the root is no part of the chain");
    let expected = v1::MeshTrust {
        signer: Pin::of_certificate(mesh.der()).expect("a pin").as_bytes().to_vec(),
        roots: vec![mesh.der().to_vec()],
    };
    assert_eq!(signed.trust, Some(expected));
    assert_eq!(world.ca.deps.metrics.intermediates("signed"), 1);
    let events = published(&world.events);
    assert_eq!(events.len(), 1);
    assert_eq!(
        (&events[0].subject, events[0].reason),
        (&Subject::Remote(remote("with-citadel")), Reason::MeshCaSigned)
    );
}

#[tokio::test]
async fn nothing_is_signed_where_it_is_not_granted_and_the_flag_is_named() {
    let world = World::new(false);
    let (code, text) = world.refusal("with-citadel").await;
    assert_eq!(code, Code::PermissionDenied);
    assert!(text.contains("--sign-mesh-ca"), "{text}");
}

#[tokio::test]
async fn remote_without_citadel_or_without_a_remote_istio_is_given_nothing() {
    let world = World::with(&root("mesh"));
    for name in ["without", "unknown"] {
        let (code, text) = world.refusal(name).await;
        assert_eq!(
            (code, text.contains("spec.citadel")),
            (Code::PermissionDenied, true),
            "{text}"
        );
    }
    assert_eq!(world.ca.deps.metrics.intermediates("not_wanted"), 2);
    world
        .state
        .update(|index| index.remote_deleted(&remote("with-citadel")));
    assert_eq!(world.refusal("with-citadel").await.0, Code::PermissionDenied);
}

#[tokio::test]
async fn hub_and_strangers_are_given_nothing() {
    let world = World::with(&root("mesh"));
    assert_eq!(
        world.sign(None).await.expect_err("nobody").code(),
        Code::Unauthenticated
    );
    let hub = authority(&world.link, "hub.test:8443").tls();
    let hub = world.peer_by(&hub).await;
    let status = world.sign(Some(&hub)).await.expect_err("no remote");
    assert_eq!(status.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn remote_that_was_revoked_is_given_nothing_by_a_replica_that_has_not_heard_of_it() {
    let world = World::with(&root("mesh"));
    world.names.is_revoked.store(true, Ordering::Relaxed);
    let (code, text) = world.refusal("with-citadel").await;
    assert_eq!((code, text.as_str()), (Code::PermissionDenied, "certificate revoked"));
    world.names.is_revoked.store(false, Ordering::Relaxed);
    world.names.is_away.store(true, Ordering::Relaxed);
    assert_eq!(world.refusal("with-citadel").await.0, Code::Unavailable);
    world.names.is_away.store(false, Ordering::Relaxed);
    let peer = world.peer("with-citadel").await;
    assert!(world.sign(Some(&peer)).await.is_ok());
    // An open connection of it too.
    world.door.is_shut.store(true, Ordering::Relaxed);
    let status = world.sign(Some(&peer)).await.expect_err("it was cut off");
    assert_eq!(status.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn remote_is_given_ten_in_a_minute() {
    let world = World::with(&root("mesh"));
    let peer = world.peer("with-citadel").await;
    for _ in 0..10 {
        assert!(world.sign(Some(&peer)).await.is_ok());
    }
    let status = world.sign(Some(&peer)).await.expect_err("too many");
    assert_eq!(status.code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn request_that_is_none_is_refused_by_its_fault() {
    let world = World::with(&root("mesh"));
    let peer = world.peer("with-citadel").await;
    for der in [Vec::new(), vec![0; limits::REQUEST_MAX_BYTES + 1]] {
        let status = world.sign_for(Some(&peer), der).await.expect_err("no request");
        assert_eq!(status.code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn why_there_is_no_usable_ca_is_told_to_the_remote() {
    let world = World::new(true);
    assert_eq!(
        world.refusal("with-citadel").await.0,
        Code::Unavailable,
        "nobody has looked yet"
    );
    for state in [
        MeshCaState::Missing("a".to_owned()),
        MeshCaState::CannotSign("a".to_owned()),
    ] {
        world.ca.tell(state, None);
        assert_eq!(
            world.refusal("with-citadel").await,
            (Code::FailedPrecondition, "a".to_owned())
        );
    }
}

#[tokio::test]
async fn replica_whose_ca_is_not_the_one_that_everybody_is_told_of_does_not_sign() {
    let world = World::with(&root("old"));
    let new = root("new");
    let pin = Pin::of_certificate(new.der()).expect("a pin");
    let roots = MeshRoots::default().with(pin, &[new.der().clone()], jiff::Timestamp::UNIX_EPOCH);
    world.ca.tell(MeshCaState::Ready, roots.trust());
    assert_eq!(world.refusal("with-citadel").await.0, Code::Unavailable);
    world.finds(&new);
    let peer = world.peer("with-citadel").await;
    assert!(world.sign(Some(&peer)).await.is_ok());
}
