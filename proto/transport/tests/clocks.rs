//! Clocks that are wrong: ten minutes work, a day is told in words.

use super::*;
use crate::enrolment::Pin;
use crate::tls::test_ca::{WrongBy, source_wrong_by};

const TEN_MINUTES: i64 = 600;
const DAY: i64 = 24 * 3600;

#[tokio::test]
async fn clocks_ten_minutes_apart_take_each_others_fresh_certificates() {
    let ca = TestCa::new();
    let (hub, agent) = (
        ca.leaf(LeafParams::hub().fresh()),
        ca.leaf(LeafParams::remote("remote-1").fresh()),
    );
    for seconds in [-TEN_MINUTES, TEN_MINUTES] {
        let (accepted, dialled) = shake(
            &source(&hub, &ca.bundle()),
            &source_wrong_by(&agent, &ca.bundle(), seconds),
        )
        .await;
        accepted.expect("accepted");
        dialled.expect("dialled");
        join(&ca, &hub, seconds).await.expect("joined");
    }
}

/// An agent with a wrong clock dials the enrolment port.
async fn join(ca: &TestCa, hub: &Pair, seconds: i64) -> Result<SecureStream<DuplexStream>, ConnectError> {
    let pin = Pin::of_certificate(&ca.root()).expect("a certificate");
    let clock = Arc::new(WrongBy(seconds));
    let connector =
        EnrolmentConnector::new_at(EnrolmentTrust::Pins(vec![pin]), TRUST_DOMAIN, Way::Direct, clock).expect("a pin");
    let (hub_end, agent_end) = duplex(64 * 1024);
    let hub = source(hub, &ca.bundle());
    let (_, dialled) = tokio::join!(
        handshake_anonymous(hub_end, &hub, "agent".to_owned()),
        connector.handshake(agent_end, hub_name(), "hub".to_owned())
    );
    dialled
}

#[tokio::test]
async fn agent_a_day_behind_reads_that_the_hubs_certificate_is_not_valid_yet() {
    let ca = TestCa::new();
    let error = join(&ca, &ca.leaf(LeafParams::hub().fresh()), -DAY)
        .await
        .err()
        .expect("too early");
    assert!(matches!(error, ConnectError::NotYetValid { .. }), "{error}");
    let text = error.to_string();
    let words = "the certificate of hub is not valid yet by this machine's clock (now ";
    assert!(
        text.starts_with(words) && text.ends_with("): correct the clock"),
        "{text}"
    );
    assert!(text.contains(", valid from "), "{text}");
}

#[tokio::test]
async fn agent_two_days_ahead_reads_that_the_hubs_certificate_has_expired() {
    let ca = TestCa::new();
    let error = join(&ca, &ca.leaf(LeafParams::hub().fresh()), 2 * DAY)
        .await
        .err()
        .expect("too late");
    assert!(matches!(error, ConnectError::Expired { .. }), "{error}");
    let words = "the certificate of hub has expired by this machine's clock (now ";
    assert!(error.to_string().starts_with(words), "{error}");
}

#[tokio::test]
async fn hub_a_day_behind_tells_the_agent_to_compare_the_clocks() {
    let ca = TestCa::new();
    let hub = source_wrong_by(&ca.leaf(LeafParams::hub()), &ca.bundle(), -DAY);
    let agent = ca.source(LeafParams::remote("remote-1").fresh());
    let (accepted, dialled) = shake(&hub, &agent).await;
    assert_eq!(accepted.err(), Some(Refusal::NotYetValid));
    let mut dialled = dialled.expect("TLS 1.3 tells the client late");
    dialled.read_u8().await.expect_err("refused");
    let text = dialled.link_error().explain().expect("noted");
    assert!(
        text.contains("not valid yet by the hub's clock") && text.contains("compare the clocks"),
        "{text}"
    );
}

#[tokio::test]
async fn agent_two_days_ahead_judges_the_sync_port_by_its_own_clock() {
    let ca = TestCa::new();
    let long_lived = LeafParams {
        not_after: std::time::SystemTime::now() + Duration::from_hours(24 * 100),
        ..LeafParams::remote("remote-1")
    };
    let agent = source_wrong_by(&ca.leaf(long_lived), &ca.bundle(), 2 * DAY);
    let (_, dialled) = shake(&ca.source(LeafParams::hub().fresh()), &agent).await;
    let error = dialled.err().expect("too late");
    assert!(matches!(error, ConnectError::Expired { .. }), "{error}");
}
