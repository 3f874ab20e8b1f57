//! One piece of work at a time: what is tried, what is left, what is safe.

use std::time::SystemTime;

use remote_istio::enrolment::TOKEN_KEY;

use super::*;
use crate::identity::store::tests::TOKEN;

async fn idle(change: impl FnOnce(&mut Kept, &mut Trust)) -> (Bench, Keeper) {
    let (bench, keeper) = Bench::idle(Validity::fresh(), change, Issuer::always).await;
    bench.secrets.put(TOKEN, TOKEN_KEY, token().reveal().as_bytes());
    fs::write(&bench.token_file, token().reveal()).expect("written");
    (bench, keeper)
}

impl Bench {
    fn recoveries(&self) -> usize {
        self.hub.served.recoveries.lock().len()
    }

    /// What is left of the token, in its file and in its Secret.
    fn token_left(&self) -> [Vec<u8>; 2] {
        let file = fs::read(&self.token_file).expect("there");
        [file, self.secrets.entries(TOKEN)[TOKEN_KEY].clone()]
    }
}

#[tokio::test]
async fn certificate_that_ends_while_it_is_in_use_is_recovered_once() {
    let (bench, mut keeper) = idle(|_, _| {}).await;
    keeper.kept.certificate.not_after = SystemTime::now();
    for _ in 0..2 {
        keeper.work().await.expect("no other name");
        assert_eq!(bench.recoveries(), 1);
    }
    assert_ne!(bench.tls.own().serial, bench.serial);
}

#[tokio::test]
async fn hub_that_calls_the_certificate_expired_is_not_asked_again_after_the_recovery() {
    let (bench, mut keeper) = idle(|_, _| {}).await;
    keeper.refused = Some(Refused::Expired);
    for _ in 0..2 {
        keeper.work().await.expect("no other name");
        assert_eq!(bench.recoveries(), 1);
    }
}

#[tokio::test]
async fn recovery_that_is_denied_while_running_is_followed_by_a_join_with_a_new_token() {
    let (bench, mut keeper) = idle(|_, _| {}).await;
    keeper.refused = Some(Refused::Expired);
    *bench.hub.served.refuse_recovery.lock() = Some(Status::permission_denied("certificate revoked"));
    keeper.work().await.expect("no other name");
    assert_eq!((bench.recoveries(), bench.hub.served.joins.lock().len()), (1, 1));
    assert_eq!(bench.kept().await.token.as_deref(), Some(token().id()));
}

#[tokio::test]
async fn token_is_blanked_once_it_was_used_and_not_before() {
    let (bench, mut keeper) = idle(|_, _| {}).await;
    let whole = token().reveal().as_bytes().to_vec();
    keeper.save().await;
    assert_eq!(bench.token_left(), [whole.clone(), whole]);
    keeper.rejoin().await.expect("no other name");
    assert_eq!(bench.token_left(), [Vec::<u8>::new(), Vec::new()]);
}

#[tokio::test]
async fn identity_of_another_name_is_safe_before_the_agent_starts_anew() {
    let other = |kept: &mut Kept, _: &mut Trust| {
        kept.certificate.remote = remote_istio::identity::RemoteName::new("remote-0").expect("a label");
    };
    let (bench, mut keeper) = idle(other).await;
    assert!(keeper.rejoin().await.is_err());
    assert_eq!(bench.kept().await.token.as_deref(), Some(token().id()));
}

#[tokio::test]
async fn certificate_that_cannot_be_kept_is_used_and_kept_later_and_until_then_no_trust_is_claimed() {
    let (bench, mut keeper) = idle(|kept, _| kept.trust.epoch = 2).await;
    let safe = keeper.kept.trust.digest();
    keeper.tools.next_key(&mut keeper.next).await.expect("kept");
    bench.secrets.fail(507, 1);
    keeper.rejoin().await.expect("no other name");
    assert_ne!(bench.tls.own().serial, bench.serial);
    assert_ne!(bench.kept().await.token.as_deref(), Some(token().id()));
    assert_eq!(bench.guide.borrow().trust, Some(safe));
    assert_ne!(bench.token_left()[0], b"", "it may be needed once more");

    keeper.save.not_before = Instant::now();
    keeper.work().await.expect("no other name");
    assert_eq!(bench.kept().await.token.as_deref(), Some(token().id()));
    assert_eq!(bench.guide.borrow().trust, Some(keeper.kept.trust.digest()));
    assert_eq!(bench.token_left()[0], b"");
}

#[tokio::test]
async fn hub_that_asks_again_does_not_wait_for_the_next_attempt_to_keep_its_trust() {
    let (bench, mut keeper) = idle(|_, _| {}).await;
    keeper.saved = false;
    keeper.save.not_before = Instant::now() + Duration::from_hours(1);
    let (answers, mut answered) = mpsc::channel(1);
    keeper.trust(Question {
        asked: bench.renewals.trust.write(),
        answers,
    });
    keeper.work().await.expect("no other name");
    assert_eq!(next_answer(&mut answered).await.failure, "");
}

#[tokio::test]
async fn renewal_that_failed_is_not_tried_again_at_once() {
    let (mut bench, mut keeper) = Bench::idle(old(), |_, _| {}, Issuer::always).await;
    *bench.renewals.refuse.lock() = Some(Status::unavailable("no signer"));
    bench.connect().await;
    let before = Instant::now();
    keeper.work().await.expect("no other name");
    assert_eq!(bench.requests(), 1);
    assert!(keeper.renewal.not_before >= before + Duration::from_millis(200));
}
