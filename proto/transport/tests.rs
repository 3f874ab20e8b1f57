mod admission;
mod clocks;
mod enrolment;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use rcgen::ExtendedKeyUsagePurpose;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion, crypto::aws_lc_rs};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::Service as _;
use tonic::codegen::http::Request;
use tonic::service::Routes;

use super::*;
use crate::limits;
use crate::tls::test_ca::{HUB_NAME, LeafParams, Pair, TRUST_DOMAIN, TestCa, source, source_in};
use crate::tls::{ALPN_HTTP2, Peer, TlsSource};

/// Fails a test that hangs; far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

pub(super) fn hub_name() -> ServerName<'static> {
    ServerName::try_from(HUB_NAME).expect("a DNS name")
}

/// Both ends of one handshake over a pipe in memory.
pub(super) async fn shake(
    hub: &TlsSource,
    agent: &TlsSource,
) -> (
    Result<SecureStream<DuplexStream>, Refusal>,
    Result<SecureStream<DuplexStream>, ConnectError>,
) {
    let (hub_end, agent_end) = duplex(64 * 1024);
    let accepted = async {
        handshake_server(hub_end, hub, "agent".to_owned())
            .await
            .map_err(|(refusal, _)| refusal)
    };
    tokio::join!(
        accepted,
        handshake_client(agent_end, agent, hub_name(), "hub".to_owned())
    )
}

/// A client that does whatever is asked of it, also what a real agent cannot.
fn raw_client(
    ca: &TestCa,
    pair: Option<&Pair>,
    version: &'static SupportedProtocolVersion,
    alpn: &[&[u8]],
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(ca.root()).expect("a CA");
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots);
    let mut config = match pair {
        Some(pair) => builder
            .with_client_auth_cert(vec![pair.certificate_der.clone()], pair.key_der.clone_key())
            .expect("a pair"),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

/// What the hub makes of such a client, and what the client's first read says.
async fn refused(hub: &TlsSource, client: TlsConnector) -> (Refusal, String) {
    let (hub_end, client_end) = duplex(64 * 1024);
    let dial = async {
        let mut stream = client.connect(hub_name(), client_end).await?;
        stream.read_u8().await
    };
    let (accepted, dialled) = tokio::join!(handshake_server(hub_end, hub, "client".to_owned()), dial);
    let heard = dialled.expect_err("the hub sends nothing").to_string();
    (accepted.err().expect("refused").0, heard)
}

async fn refused_leaf(leaf: LeafParams) -> (Refusal, String) {
    let ca = TestCa::new();
    let client = raw_client(&ca, Some(&ca.leaf(leaf)), &TLS13, &[ALPN_HTTP2]);
    refused(&ca.source(LeafParams::hub()), client).await
}

#[tokio::test]
async fn each_end_knows_the_other_by_its_certificate() {
    let ca = TestCa::new();
    let agent = ca.source(LeafParams::remote("remote-1"));
    let (accepted, dialled) = shake(&ca.source(LeafParams::hub()), &agent).await;
    let (mut accepted, mut dialled) = (accepted.expect("accepted"), dialled.expect("dialled"));
    assert_eq!(
        accepted.peer().identity.uri(TRUST_DOMAIN),
        "spiffe://mesh.test/remote/remote-1"
    );
    assert_eq!(accepted.peer().serial, agent.own().serial);
    assert_eq!(accepted.peer().not_after, agent.own().not_after);
    assert_eq!(dialled.peer().identity.uri(TRUST_DOMAIN), "spiffe://mesh.test/hub");
    dialled.write_all(b"ping").await.expect("written");
    dialled.flush().await.expect("flushed");
    let mut read = [0; 4];
    accepted.read_exact(&mut read).await.expect("read");
    assert_eq!(&read, b"ping");
}

#[tokio::test]
async fn client_without_certificate_is_refused_and_told() {
    let ca = TestCa::new();
    let client = raw_client(&ca, None, &TLS13, &[ALPN_HTTP2]);
    let (refusal, heard) = refused(&ca.source(LeafParams::hub()), client).await;
    assert_eq!(refusal, Refusal::NoCertificate);
    assert!(heard.contains("CertificateRequired"), "{heard}");
}

#[tokio::test]
async fn certificate_that_does_not_fit_is_refused_by_reason_and_told() {
    let remote = || LeafParams::remote("remote-1");
    let uris = |uris: &[&str]| LeafParams {
        uris: uris.iter().map(ToString::to_string).collect(),
        ..remote()
    };
    let usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let two = ["spiffe://mesh.test/remote/a", "spiffe://mesh.test/remote/b"];
    let identity = "CertificateUnknown";
    for (leaf, reason, alert) in [
        (remote().expired(), Refusal::Expired, "CertificateExpired"),
        (
            LeafParams { usages, ..remote() },
            Refusal::UnusableCertificate,
            "UnsupportedCertificate",
        ),
        (uris(&[]), Refusal::NoIdentity, identity),
        (uris(&two), Refusal::SeveralIdentities, identity),
        (
            uris(&["spiffe://other.test/remote/a"]),
            Refusal::ForeignTrustDomain,
            identity,
        ),
        (
            uris(&["spiffe://MESH.TEST/remote/a"]),
            Refusal::ForeignTrustDomain,
            identity,
        ),
        (uris(&["spiffe://*/remote/a"]), Refusal::ForeignTrustDomain, identity),
        (
            uris(&["spiffe://mesh.test/remote/Remote-1"]),
            Refusal::MalformedIdentity,
            identity,
        ),
        (
            uris(&["spiffe://mesh.test/remote/*"]),
            Refusal::MalformedIdentity,
            identity,
        ),
        (uris(&["spiffe://mesh.test/HUB"]), Refusal::MalformedIdentity, identity),
        (
            LeafParams {
                common_name: Some("spiffe://mesh.test/remote/a".to_owned()),
                ..uris(&[])
            },
            Refusal::NoIdentity,
            identity,
        ),
        (
            LeafParams {
                names: vec!["remote-1".to_owned()],
                ..uris(&[])
            },
            Refusal::NoIdentity,
            identity,
        ),
    ] {
        let (refusal, heard) = refused_leaf(leaf).await;
        assert_eq!(refusal, reason);
        assert!(heard.contains(alert), "{reason:?}: {heard}");
    }
}

#[tokio::test]
async fn no_ticket_is_given_and_no_session_resumed() {
    let ca = TestCa::new();
    let hub = ca.source(LeafParams::hub());
    let client = raw_client(
        &ca,
        Some(&ca.leaf(LeafParams::remote("remote-1"))),
        &TLS13,
        &[ALPN_HTTP2],
    );
    for _ in 0..2 {
        let (hub_end, client_end) = duplex(64 * 1024);
        let (accepted, dialled) = tokio::join!(
            handshake_server(hub_end, &hub, "client".to_owned()),
            client.connect(hub_name(), client_end)
        );
        expect_no_ticket(accepted.expect("accepted"), dialled.expect("dialled")).await;
    }
}

/// Tickets come before the first byte, if they come.
async fn expect_no_ticket<E: FarEnd>(
    mut accepted: SecureStream<DuplexStream, E>,
    mut dialled: tokio_rustls::client::TlsStream<DuplexStream>,
) {
    accepted.write_all(b"x").await.expect("written");
    accepted.flush().await.expect("flushed");
    dialled.read_u8().await.expect("read");
    let (_, connection) = dialled.get_ref();
    assert_eq!(connection.tls13_tickets_received(), 0);
    assert_eq!(connection.handshake_kind(), Some(HandshakeKind::Full));
}

#[tokio::test]
async fn older_tls_and_other_protocols_are_refused() {
    let ca = TestCa::new();
    let (hub, pair) = (ca.source(LeafParams::hub()), ca.leaf(LeafParams::remote("remote-1")));
    let client = |version, alpn: &[&[u8]]| raw_client(&ca, Some(&pair), version, alpn);
    assert_eq!(
        refused(&hub, client(&TLS12, &[ALPN_HTTP2])).await.0,
        Refusal::Incompatible
    );
    assert_eq!(
        refused(&hub, client(&TLS13, &[b"http/1.1"])).await.0,
        Refusal::UnknownProtocol
    );
    assert_eq!(refused(&hub, client(&TLS13, &[])).await.0, Refusal::UnknownProtocol);
}

#[tokio::test]
async fn what_is_not_tls_is_told_from_what_goes_away() {
    let ca = TestCa::new();
    let hub = ca.source(LeafParams::hub());
    for (bytes, expected) in [
        (b"GET / HTTP/1.1\r\n\r\n".as_slice(), Refusal::NotTls),
        (b"", Refusal::Closed),
    ] {
        let (hub_end, mut client_end) = duplex(1024);
        client_end.write_all(bytes).await.expect("written");
        drop(client_end);
        let (refusal, _) = handshake_server(hub_end, &hub, String::new())
            .await
            .err()
            .expect("refused");
        assert_eq!(refusal, expected);
    }
}

#[tokio::test]
async fn agent_refuses_whoever_is_not_its_hub() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let agent = ca.source(LeafParams::remote("remote-1"));
    let refusal = async |hub: Arc<TlsSource>| shake(&hub, &agent).await.1.err().expect("refused");

    let error = refusal(source(&other.leaf(LeafParams::hub()), &ca.bundle())).await;
    assert!(matches!(error, ConnectError::UnknownCa(_)), "{error}");
    assert!(
        error
            .to_string()
            .contains("signed by another CA: none in the trust bundle this agent holds")
    );

    let named = |name: &str, leaf: LeafParams| LeafParams {
        names: vec![name.to_owned()],
        ..leaf
    };
    let error = refusal(ca.source(named("elsewhere.test", LeafParams::hub()))).await;
    assert!(matches!(&error, ConnectError::WrongName { presented, .. } if presented.contains("elsewhere.test")));

    let error = refusal(ca.source(LeafParams::hub().expired())).await;
    assert!(matches!(error, ConnectError::Expired { .. }), "{error}");

    let error = refusal(ca.source(named(HUB_NAME, LeafParams::remote("remote-2")))).await;
    assert_eq!(
        error.to_string(),
        "hub is not a hub: its certificate stands for spiffe://mesh.test/remote/remote-2"
    );

    let leaf = LeafParams {
        uris: vec!["spiffe://other.test/hub".to_owned()],
        ..LeafParams::hub()
    };
    let error = refusal(source_in(&ca.leaf(leaf), &ca.bundle(), "other.test")).await;
    assert!(matches!(error, ConnectError::Identity { .. }), "{error}");
}

#[tokio::test]
async fn connection_that_is_cut_fails_at_both_ends() {
    let ca = TestCa::new();
    let (accepted, dialled) = shake(
        &ca.source(LeafParams::hub()),
        &ca.source(LeafParams::remote("remote-1")),
    )
    .await;
    let (mut accepted, mut dialled) = (accepted.expect("accepted"), dialled.expect("dialled"));
    let (peer, error) = (Arc::clone(accepted.peer()), accepted.link_error());
    let reading = tokio::spawn(async move { accepted.read_u8().await });
    tokio::task::yield_now().await;
    peer.cut();
    let kind = reading.await.expect("no panic").expect_err("cut").kind();
    assert_eq!(kind, io::ErrorKind::ConnectionAborted);
    assert_eq!(error.explain().as_deref(), Some("the connection was cut"));
    dialled.read_u8().await.expect_err("the other end is gone");
    assert!(dialled.link_error().explain().is_some());
}

/// A hub on TCP that answers `/whoami` with the identity it sees.
pub(super) struct Hub {
    pub(super) address: HubAddress,
    socket: SocketAddr,
    refusals: mpsc::UnboundedReceiver<Refusal>,
    _tasks: JoinSet<()>,
}

pub(super) async fn start_hub(tls: Arc<TlsSource>) -> Hub {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let socket = listener.local_addr().expect("bound");
    let (refusal_tx, refusals) = mpsc::unbounded_channel();
    let on_refused: OnRefused = Arc::new(move |refusal| refusal_tx.send(refusal).expect("the test listens"));
    let (ready, running) = accept_loop(listener, tls, CancellationToken::new(), on_refused);
    let whoami = async |Extension(peer): Extension<Arc<Peer>>| peer.identity.uri(TRUST_DOMAIN);
    let mut tasks = JoinSet::new();
    tasks.spawn(running);
    tasks.spawn(serve(ready, axum::routing::get(whoami)));
    Hub {
        address: localhost(socket),
        socket,
        refusals,
        _tasks: tasks,
    }
}

fn localhost(socket: SocketAddr) -> HubAddress {
    format!("localhost:{}", socket.port()).parse().expect("an address")
}

/// Answers `/whoami` on the connections that are ready.
async fn serve<E: FarEnd>(
    ready: impl tokio_stream::Stream<Item = io::Result<SecureStream<TcpStream, E>>>,
    whoami: axum::routing::MethodRouter,
) {
    server_builder()
        .add_routes(Routes::from(axum::Router::new().route("/whoami", whoami)))
        .serve_with_incoming(ready)
        .await
        .expect("the server runs");
}

/// The body of the answer, or what the channel says.
pub(super) async fn whoami(link: &mut Link) -> Result<String, tonic::transport::Error> {
    std::future::poll_fn(|context| link.channel.poll_ready(context)).await?;
    let request = Request::get("/whoami").body(Body::empty()).expect("a request");
    let answer = link.channel.call(request).await?;
    let body = axum::body::to_bytes(axum::body::Body::new(answer.into_body()), 1024)
        .await
        .expect("a body");
    Ok(String::from_utf8(body.to_vec()).expect("text"))
}

#[tokio::test]
async fn request_over_a_link_shows_its_peer_to_the_handler() {
    let ca = TestCa::new();
    let hub = start_hub(ca.source(LeafParams::hub())).await;
    let connector = Connector::new(ca.source(LeafParams::remote("remote-1")));
    let stream = timeout(PATIENCE, connector.connect(&hub.address))
        .await
        .expect("in time")
        .expect("a stream");
    let mut link = open(stream, &hub.address).await.expect("a link");
    assert_eq!(
        whoami(&mut link).await.expect("answered"),
        "spiffe://mesh.test/remote/remote-1"
    );
    link.peer.cut();
    timeout(PATIENCE, async { while whoami(&mut link).await.is_ok() {} })
        .await
        .expect("a cut link stays dead");
    assert!(link.error.explain().is_some());
}

#[tokio::test]
async fn agent_of_another_ca_learns_why_it_is_refused() {
    let ca = TestCa::new();
    let mut hub = start_hub(ca.source(LeafParams::hub())).await;
    for other in [TestCa::new(), TestCa::named("another CA")] {
        let agent = source(&other.leaf(LeafParams::remote("remote-1")), &ca.bundle());
        let stream = Connector::new(agent)
            .connect(&hub.address)
            .await
            .expect("TLS 1.3 tells the client late");
        let error = stream.link_error();
        if let Ok(mut link) = open(stream, &hub.address).await {
            whoami(&mut link).await.expect_err("refused");
        }
        let text = error.explain().expect("the reason was kept");
        assert!(text.starts_with("the hub does not trust the CA"), "{text}");
        assert!(
            text.contains("signed by another CA") && text.contains("join again with a new token"),
            "{text}"
        );
        assert!(error.is_refusal());
        assert_eq!(hub.refusals.recv().await, Some(Refusal::UnknownCa));
    }
}

#[tokio::test]
async fn silent_connections_do_not_hold_up_others() {
    let ca = TestCa::new();
    let hub = start_hub(ca.source(LeafParams::hub())).await;
    let mut silent = Vec::new();
    // All from one address, which has a share of the places and no more.
    for _ in 0..limits::HANDSHAKES_IN_FLIGHT / limits::SOURCE_SHARE / 2 {
        silent.push(TcpStream::connect(hub.socket).await.expect("it listens"));
    }
    let connector = Connector::new(ca.source(LeafParams::remote("remote-1")));
    let stream = connector.connect(&hub.address).await.expect("not held up");
    let mut link = open(stream, &hub.address).await.expect("a link");
    whoami(&mut link).await.expect("answered");
}

#[tokio::test]
async fn address_where_nobody_listens_is_refused() {
    let ca = TestCa::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener
        .local_addr()
        .expect("bound")
        .to_string()
        .parse()
        .expect("an address");
    drop(listener);
    let connector = Connector::new(ca.source(LeafParams::remote("remote-1")));
    let error = connector.connect(&address).await.err().expect("nobody listens");
    assert!(matches!(error, ConnectError::Refused(_)), "{error}");
}
