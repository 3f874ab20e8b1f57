//! The service behind its real port, as an agent meets it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::SigningKey as _;
use remote_istio::enrolment::proof_input;
use remote_istio::transport::{EnrolmentConnector, EnrolmentTrust, HubAddress, Link, Way, open};
use remote_istio::wire::v1;
use remote_istio::wire::v1::enrolment_client::EnrolmentClient;
use remote_istio::wire::v1::join_response::Outcome;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::world::{World, not_before};
use crate::test_authority::{DAY, RemoteCertificate, TRUST_DOMAIN, request};

/// One wait of a test.
const PATIENCE: Duration = Duration::from_secs(20);

struct Served {
    world: World,
    address: HubAddress,
    stop: CancellationToken,
    tasks: JoinSet<Result<(), tonic::transport::Error>>,
}

async fn served() -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let world = World::at(&address);
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    let serving = Arc::clone(&world.hub.enrolment);
    tasks.spawn(serving.serve(listener, world.authority.tls(), Arc::new(|_| {}), stop.clone()));
    Served {
        world,
        address: address.parse().expect("an address"),
        stop,
        tasks,
    }
}

impl Served {
    async fn connect(&self) -> (EnrolmentClient<tonic::transport::Channel>, Link) {
        let pins = EnrolmentTrust::Pins(vec![self.world.authority.signer()]);
        let connector = EnrolmentConnector::new(pins, TRUST_DOMAIN, Way::Direct).expect("a pin");
        let stream = connector.connect(&self.address).await.expect("connected");
        let link = open(stream, &self.address).await.expect("opened");
        (EnrolmentClient::new(link.channel.clone()), link)
    }
}

#[tokio::test]
async fn agent_joins_over_the_port_by_pin_and_token_and_recovers_over_another_connection() {
    let served = served().await;
    let token = served.world.token("remote-1");
    let (mut client, _link) = served.connect().await;
    let (_, der) = request();
    let join = v1::JoinRequest {
        token: token.reveal(),
        request: der,
        cluster_uid: "cluster-1".to_owned(),
        release: "0.1.0".to_owned(),
    };
    let answer = client.join(join.clone()).await.expect("an answer").into_inner();
    let Some(Outcome::Issued(issued)) = answer.outcome else {
        panic!("{answer:?}");
    };
    let claim = served.world.memory.status(token.id()).claim.expect("a claim");
    assert!(claim.address.starts_with("127.0.0.1:"), "{}", claim.address);

    let (mut client, link) = served.connect().await;
    let ends = SystemTime::now() + DAY;
    let current = RemoteCertificate::new(&served.world.ca, "remote-1", not_before(&issued.chain[0]), ends);
    let (_, der) = request();
    let proof = current
        .key
        .sign(&proof_input(&link.exporter, &der))
        .expect("a signature");
    let recover = v1::RecoverRequest {
        chain: current.chain.clone(),
        request: der,
        proof,
        cluster_uid: "cluster-1".to_owned(),
    };
    client.recover(recover.clone()).await.expect("issued");
    // What was overheard is worth nothing on another connection.
    let (mut thief, _link) = served.connect().await;
    let refused = thief.recover(recover).await.expect_err("another connection");
    assert_eq!(refused.code(), Code::PermissionDenied);

    let wrong = v1::JoinRequest {
        token: "wrong".to_owned(),
        ..join
    };
    let refused = client.join(wrong).await.expect_err("no token");
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn message_over_the_limit_is_refused() {
    let served = served().await;
    let (mut client, _link) = served.connect().await;
    let large = v1::JoinRequest {
        token: "x".repeat(256 * 1024),
        ..v1::JoinRequest::default()
    };
    let refused = client.join(large).await.expect_err("too large");
    assert_eq!(refused.code(), Code::OutOfRange);
}

#[tokio::test]
async fn service_ends_soon_after_it_is_asked_to_although_a_connection_stays() {
    let mut served = served().await;
    let (_client, _link) = served.connect().await;
    served.stop.cancel();
    let ended = tokio::time::timeout(PATIENCE, served.tasks.join_next()).await;
    ended
        .expect("in time")
        .expect("a task")
        .expect("no panic")
        .expect("no failure");
}
