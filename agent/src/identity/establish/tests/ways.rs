//! Which way an agent takes when several are open: recovery or a join, this token or that.

use super::*;

#[tokio::test]
async fn token_that_was_not_used_stays() {
    let bench = Bench::new(Issuer::always).await;
    bench.lay_token();
    bench.secrets.hold(&bench.kept(Validity::ended()));
    let established = bench.established().await;
    assert_eq!(bench.hub.served.recoveries.lock().len(), 1);
    assert_ne!(established.kept.token.as_deref(), Some(token().id()));
    assert_eq!(fs::read(&bench.token_file).expect("there"), token().reveal().as_bytes());
    assert_eq!(bench.secrets.entries(TOKEN)[TOKEN_KEY], token().reveal().as_bytes());
}

#[tokio::test]
async fn key_in_use_is_not_asked_for_again() {
    let bench = Bench::new(Issuer::always).await;
    bench.lay_token();
    assert!(bench.established().await.next.is_none());
}

#[tokio::test]
async fn recovery_is_tried_again_after_a_join_that_came_to_nothing() {
    let away = |_: Issuer| -> Script { Box::new(|_, _| Err(Status::unavailable("no signer"))) };
    let bench = Bench::new(away).await;
    bench.lay_token();
    bench.secrets.hold(&bench.kept(Validity::ended()));
    *bench.hub.served.refuse_recovery.lock() = Some(Status::permission_denied("certificate revoked"));
    let lifting = async {
        while bench.joins().is_empty() {
            tokio::task::yield_now().await;
        }
        *bench.hub.served.refuse_recovery.lock() = None;
    };
    let (established, ()) = tokio::join!(bench.established(), lifting);
    assert!(established.fresh);
    assert_ne!(established.kept.token.as_deref(), Some(token().id()));
}

#[tokio::test]
async fn new_token_is_not_left_lying_until_the_pause_after_a_refusal_is_over() {
    let bench = Bench::new(Issuer::always).await;
    bench.secrets.hold(&bench.kept(Validity::ended()));
    *bench.hub.served.refuse_recovery.lock() = Some(Status::permission_denied("certificate revoked"));
    let bringing = async {
        while bench
            .readiness
            .unmet()
            .iter()
            .all(|(_, text)| text != "certificate revoked")
        {
            tokio::task::yield_now().await;
        }
        bench.lay_token();
    };
    let both = async { tokio::join!(bench.established(), bringing) };
    // The pause is half a minute and more.
    let both = tokio::time::timeout(Duration::from_secs(25), both).await;
    let (established, ()) = both.expect("before the pause is over");
    assert_eq!(established.kept.token.as_deref(), Some(token().id()));
}

#[tokio::test]
async fn agent_that_trusts_another_ca_than_the_hubs_joins_by_pin_and_new_token() {
    let bench = Bench::new(Issuer::always).await;
    let other = TestCa::new();
    let mut kept = kept_of(&other, Validity::ended());
    kept.trust = other.trust(3, "hub.test:8444", &bench.hub.address.to_string());
    bench.secrets.hold(&kept);
    bench.lay_token();
    let established = bench.established().await;
    assert_eq!(established.kept.token.as_deref(), Some(token().id()));
    assert_eq!(
        established.kept.trust.roots,
        bench.hub.ca.trust(3, "a.test:1", "a.test:1").roots
    );
}
