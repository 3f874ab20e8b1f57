//! The enrolment port: pins, anonymous connections, and their bounds.

use super::super::door::{Anonymous, shake_hands};
use super::*;
use crate::enrolment::Pin;

type Accepted = Result<SecureStream<DuplexStream, Caller>, Refusal>;

fn connector(trust: EnrolmentTrust) -> EnrolmentConnector {
    EnrolmentConnector::new(trust, TRUST_DOMAIN, Way::Direct).expect("something to trust")
}

/// Both ends of one anonymous handshake over a pipe in memory.
async fn join(hub: &TlsSource, trust: EnrolmentTrust) -> (Accepted, Result<SecureStream<DuplexStream>, ConnectError>) {
    let (hub_end, agent_end) = duplex(64 * 1024);
    let accepted = async {
        handshake_anonymous(hub_end, hub, "agent".to_owned())
            .await
            .map_err(|(refusal, _)| refusal)
    };
    let connector = connector(trust);
    tokio::join!(accepted, connector.handshake(agent_end, hub_name(), "hub".to_owned()))
}

async fn join_by_pin(hub: &TlsSource, pin: Pin) -> Result<(), ConnectError> {
    join(hub, EnrolmentTrust::Pins(vec![pin])).await.1.map(drop)
}

/// The words of a pin that does not fit.
async fn mismatch(hub: &TlsSource, pin: Pin) -> String {
    match join_by_pin(hub, pin).await.expect_err("refused") {
        ConnectError::PinMismatch { detail, .. } => detail,
        other => panic!("{other}"),
    }
}

fn pin_of(pair: &Pair) -> Pin {
    Pin::of_certificate(&pair.certificate_der).expect("a certificate")
}

#[tokio::test]
async fn connection_by_pin_has_its_own_exported_key_at_both_ends() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let hub = ca.source(LeafParams::hub());
    let mut exporters = Vec::new();
    for _ in 0..2 {
        let (accepted, dialled) = join(&hub, EnrolmentTrust::Pins(vec![other.pin(), ca.pin()])).await;
        let (accepted, dialled) = (accepted.expect("accepted"), dialled.expect("one of the pins fits"));
        assert_eq!(dialled.peer().identity.uri(TRUST_DOMAIN), "spiffe://mesh.test/hub");
        assert_eq!(accepted.caller().address, "agent");
        assert_eq!(accepted.caller().exporter, dialled.exporter());
        exporters.push(dialled.exporter());
    }
    assert_ne!(exporters[0], exporters[1]);
    assert_ne!(exporters[0], [0; 32]);
}

#[tokio::test]
async fn wrong_pin_with_the_right_host_is_refused_and_both_are_shown() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let text = mismatch(&ca.source(LeafParams::hub()), other.pin()).await;
    assert!(
        text.contains(&ca.pin().to_string()) && text.contains(&other.pin().to_string()),
        "{text}"
    );
}

#[tokio::test]
async fn right_pin_with_the_wrong_host_is_refused() {
    let ca = TestCa::new();
    let leaf = |names: &[&str]| LeafParams {
        names: names.iter().map(ToString::to_string).collect(),
        ..LeafParams::hub()
    };
    let named_in_common_name_alone = LeafParams {
        common_name: Some(HUB_NAME.to_owned()),
        ..leaf(&[])
    };
    for leaf in [
        leaf(&["elsewhere.test"]),
        leaf(&["*.hub.test"]),
        named_in_common_name_alone,
    ] {
        let error = join_by_pin(&ca.source(leaf), ca.pin()).await.expect_err("refused");
        assert!(matches!(error, ConnectError::WrongName { .. }), "{error}");
    }
}

#[tokio::test]
async fn pinned_root_that_is_missing_from_the_chain_is_refused() {
    let (ca, other) = (TestCa::new(), TestCa::named("another CA"));
    let hub = source(&ca.leaf(LeafParams::hub()), &other.bundle());
    let text = mismatch(&hub, ca.pin()).await;
    assert!(
        text.starts_with(&format!("it shows CAs with the pins {}, ", other.pin())),
        "{text}"
    );
}

#[tokio::test]
async fn intermediate_in_between_must_lead_to_the_pinned_root() {
    let ca = TestCa::new();
    let (between, beside) = (ca.intermediate("between"), ca.intermediate("beside"));
    let leaf = || between.leaf(LeafParams::hub());
    let whole = source(&leaf().below(&between), &ca.bundle());
    join_by_pin(&whole, ca.pin()).await.expect("valid up to the root");

    let gap = source(&leaf(), &ca.bundle());
    let text = mismatch(&gap, ca.pin()).await;
    assert!(text.contains("not signed below it"), "{text}");

    let wrong = source(&leaf().below(&beside), &ca.bundle());
    let text = mismatch(&wrong, ca.pin()).await;
    assert!(text.contains("not signed below it"), "{text}");
}

#[tokio::test]
async fn pin_of_an_intermediate_fits_what_is_signed_below_it() {
    let ca = TestCa::new();
    let (between, beside) = (ca.intermediate("between"), ca.intermediate("beside"));
    let hub = source(
        &between.leaf(LeafParams::hub()).below(&between).below(&beside),
        &ca.bundle(),
    );
    join_by_pin(&hub, between.pin())
        .await
        .expect("valid up to the intermediate");
    let text = mismatch(&hub, beside.pin()).await;
    assert!(text.contains("not signed below it"), "{text}");
}

#[tokio::test]
async fn pin_of_the_hubs_own_certificate_is_refused() {
    let ca = TestCa::new();
    let pair = ca.leaf(LeafParams::hub());
    let pin = pin_of(&pair);
    let hub = source(&pair, &ca.bundle());
    for pins in [vec![pin], vec![ca.pin(), pin]] {
        let error = join(&hub, EnrolmentTrust::Pins(pins)).await.1.err().expect("refused");
        assert!(error.to_string().contains("the hub's own certificate"), "{error}");
    }
}

#[tokio::test]
async fn pin_of_somebodys_certificate_that_is_shown_along_is_refused() {
    let ca = TestCa::new();
    let agent = ca.leaf(LeafParams::remote("remote-1"));
    let mut pair = ca.leaf(LeafParams::hub());
    pair.certificate.push_str(&agent.certificate);
    let text = mismatch(&source(&pair, &ca.bundle()), pin_of(&agent)).await;
    assert!(text.contains("no CA's"), "{text}");
}

#[tokio::test]
async fn pinned_ca_does_not_make_a_hub_of_anybody() {
    let ca = TestCa::new();
    let named = |leaf: LeafParams| LeafParams {
        names: vec![HUB_NAME.to_owned()],
        ..leaf
    };
    let refused = async |leaf: LeafParams, trust_domain: &str| {
        let hub = source_in(&ca.leaf(named(leaf)), &ca.bundle(), trust_domain);
        join_by_pin(&hub, ca.pin()).await.expect_err("refused")
    };
    for leaf in [LeafParams::remote("remote-1"), LeafParams::uri("operator/ann")] {
        let error = refused(leaf, TRUST_DOMAIN).await;
        assert!(matches!(error, ConnectError::NotTheHub { .. }), "{error}");
    }
    let foreign = LeafParams {
        uris: vec!["spiffe://other.test/hub".to_owned()],
        ..LeafParams::hub()
    };
    let error = refused(foreign, "other.test").await;
    assert!(matches!(error, ConnectError::Identity { .. }), "{error}");
    let for_clients = LeafParams {
        usages: vec![ExtendedKeyUsagePurpose::ClientAuth],
        ..LeafParams::hub()
    };
    let error = refused(for_clients, TRUST_DOMAIN).await;
    assert!(matches!(error, ConnectError::Certificate { .. }), "{error}");
    let error = refused(LeafParams::hub().expired(), TRUST_DOMAIN).await;
    assert!(matches!(error, ConnectError::Expired { .. }), "{error}");
}

#[tokio::test]
async fn roots_that_are_held_do_as_well_as_pins() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let hub = ca.source(LeafParams::hub());
    let by_root = async |root| join(&hub, EnrolmentTrust::Roots(vec![root])).await.1;
    by_root(ca.root()).await.expect("joined");
    let error = by_root(other.root()).await.err().expect("refused");
    assert!(matches!(error, ConnectError::UnknownCa(_)), "{error}");
}

#[test]
fn nothing_to_trust_is_an_error_and_never_trust_in_all() {
    let error = |trust| EnrolmentConnector::new(trust, TRUST_DOMAIN, Way::Direct).expect_err("nothing to trust");
    assert_eq!(error(EnrolmentTrust::Pins(Vec::new())), EnrolmentTrustError::NoPin);
    assert_eq!(error(EnrolmentTrust::Roots(Vec::new())), EnrolmentTrustError::NoRoot);
    let garbage = error(EnrolmentTrust::Roots(vec![vec![1, 2, 3].into()]));
    assert!(matches!(garbage, EnrolmentTrustError::NotACa(_)), "{garbage}");
}

#[tokio::test]
async fn enrolment_port_gives_no_tickets_and_speaks_nothing_else() {
    let ca = TestCa::new();
    let hub = ca.source(LeafParams::hub());
    let client = |version, alpn: &[&[u8]]| raw_client(&ca, None, version, alpn);
    let good = client(&TLS13, &[ALPN_HTTP2]);
    for _ in 0..2 {
        let (hub_end, client_end) = duplex(64 * 1024);
        let (accepted, dialled) = tokio::join!(
            handshake_anonymous(hub_end, &hub, "client".to_owned()),
            good.connect(hub_name(), client_end)
        );
        expect_no_ticket(accepted.expect("accepted"), dialled.expect("dialled")).await;
    }
    for (client, expected) in [
        (client(&TLS12, &[ALPN_HTTP2]), Refusal::Incompatible),
        (client(&TLS13, &[b"http/1.1"]), Refusal::UnknownProtocol),
        (client(&TLS13, &[]), Refusal::UnknownProtocol),
    ] {
        let (hub_end, client_end) = duplex(64 * 1024);
        let dial = async {
            let mut stream = client.connect(hub_name(), client_end).await?;
            stream.read_u8().await
        };
        let (accepted, _) = tokio::join!(handshake_anonymous(hub_end, &hub, "client".to_owned()), dial);
        assert_eq!(accepted.err().expect("refused").0, expected);
    }
}

#[tokio::test]
async fn sync_port_tells_who_wants_to_join_that_it_is_the_wrong_port() {
    let ca = TestCa::new();
    let hub = ca.source(LeafParams::hub());
    let (hub_end, agent_end) = duplex(64 * 1024);
    let connector = connector(EnrolmentTrust::Roots(vec![ca.root()]));
    let (accepted, dialled) = tokio::join!(
        handshake_server(hub_end, &hub, "agent".to_owned()),
        connector.handshake(agent_end, hub_name(), "hub".to_owned())
    );
    assert_eq!(accepted.err().expect("refused").0, Refusal::NoCertificate);
    let mut dialled = dialled.expect("TLS 1.3 tells the client late");
    dialled.read_u8().await.expect_err("refused");
    let text = dialled.link_error().explain().expect("noted");
    assert!(text.contains("is this the enrolment port?"), "{text}");
}

/// An enrolment port on TCP that answers `/whoami` with the caller's exported key.
async fn start_enrolment(tls: Arc<TlsSource>, bounds: AcceptBounds) -> (HubAddress, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = localhost(listener.local_addr().expect("bound"));
    let (ready, running) = accept_anonymous_loop(listener, tls, CancellationToken::new(), Arc::new(|_| ()), bounds);
    let exporter = async |Extension(caller): Extension<Arc<Caller>>| format!("{:?}", caller.exporter);
    let mut tasks = JoinSet::new();
    tasks.spawn(running);
    tasks.spawn(serve(ready, axum::routing::get(exporter)));
    (address, tasks)
}

#[tokio::test]
async fn request_on_the_enrolment_port_shows_its_caller_to_the_handler() {
    let ca = TestCa::new();
    let (address, _tasks) = start_enrolment(ca.source(LeafParams::hub()), AcceptBounds::ENROLMENT).await;
    let connector = connector(EnrolmentTrust::Pins(vec![ca.pin()]));
    let stream = connector.connect(&address).await.expect("a stream");
    let mut link = open(stream, &address).await.expect("a link");
    let exporter = format!("{:?}", link.exporter);
    assert_eq!(whoami(&mut link).await.expect("answered"), exporter);
}

#[tokio::test]
async fn connection_that_is_kept_busy_is_cut_after_its_time_too() {
    let ca = TestCa::new();
    let bounds = AcceptBounds {
        lifetime: Duration::from_millis(500),
        ..AcceptBounds::ENROLMENT
    };
    let (address, _tasks) = start_enrolment(ca.source(LeafParams::hub()), bounds).await;
    let connector = connector(EnrolmentTrust::Pins(vec![ca.pin()]));
    let stream = connector.connect(&address).await.expect("a stream");
    // On a slow machine its time may be up before the first request.
    if let Ok(mut link) = open(stream, &address).await {
        timeout(PATIENCE, async { while whoami(&mut link).await.is_ok() {} })
            .await
            .expect("cut");
    }
}

#[tokio::test]
async fn connection_without_a_word_is_cut_after_its_time() {
    let ca = TestCa::new();
    let bounds = AcceptBounds {
        lifetime: Duration::from_millis(300),
        ..AcceptBounds::ENROLMENT
    };
    let hub = ca.source(LeafParams::hub());
    let (hub_end, agent_end) = duplex(64 * 1024);
    let connector = connector(EnrolmentTrust::Pins(vec![ca.pin()]));
    let (accepted, dialled) = tokio::join!(
        shake_hands::<_, Anonymous>(&bounds, hub_end, &hub, String::new()),
        connector.handshake(agent_end, hub_name(), "hub".to_owned())
    );
    let (mut accepted, _dialled) = (accepted.expect("accepted"), dialled.expect("dialled"));
    let error = timeout(PATIENCE, accepted.read_u8())
        .await
        .expect("in time")
        .expect_err("nobody has said anything");
    assert_eq!(error.to_string(), <Caller as FarEnd>::TIME_IS_UP);
    assert!(accepted.caller().cut_token().is_cancelled());
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_for_a_place() {
    let ca = TestCa::new();
    let bounds = AcceptBounds {
        connections: 2,
        ..AcceptBounds::ENROLMENT
    };
    let (address, _tasks) = start_enrolment(ca.source(LeafParams::hub()), bounds).await;
    let connector = connector(EnrolmentTrust::Pins(vec![ca.pin()]));
    let first = connector.connect(&address).await.expect("a stream");
    let _second = connector.connect(&address).await.expect("a stream");
    let third = connector.connect(&address);
    tokio::pin!(third);
    // The kernel takes the connection; nobody shakes hands on it.
    timeout(Duration::from_millis(200), &mut third)
        .await
        .err()
        .expect("no place is free");
    drop(first);
    timeout(PATIENCE, third)
        .await
        .expect("in time")
        .expect("a place was freed");
}
