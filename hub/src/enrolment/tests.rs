mod guards;
mod recover;
mod renewal;
mod wire;
mod world;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use remote_istio::identity::{Identity, from_certificate};
use remote_istio::wire::v1::join_response::Outcome;
use tonic::Code;

use self::world::{Fault, World, agent, issued, not_before, refused, state};
use crate::crd::{Approval, Revocation, TokenState};
use crate::events::{Reason, Subject};
use crate::test_authority::{TRUST_DOMAIN, remote};

#[tokio::test]
async fn token_turns_into_the_certificate_of_its_name_and_into_a_record() {
    let world = World::new();
    let agent = agent("192.0.2.1:5", "cluster-1");
    let token = world.token("remote-1");
    let issued = issued(world.hub.join(&agent, &token).await);
    let identity = from_certificate(&issued.chain[0], TRUST_DOMAIN).expect("an identity");
    assert_eq!(identity, Identity::Remote(remote("remote-1")));
    assert_eq!(issued.trust, Some(world.authority.trust().borrow().write()));
    let status = world.memory.status(token.id());
    assert_eq!(status.state, TokenState::Used);
    assert_eq!(status.claim.expect("a claim").address, "192.0.2.1:5");
    let names = world.memory.names();
    assert_eq!(names.len(), 1);
    assert_eq!(names[0].spec.cluster_uid, "cluster-1");
    assert!(world.hub.admits(&issued, "remote-1"));
    assert_eq!(
        world.hub.told(),
        [(Subject::Remote(remote("remote-1")), Reason::Joined)]
    );
    assert_eq!(world.hub.metrics.joins("issued"), 1);
}

#[tokio::test]
async fn f31_crash_between_any_two_steps_is_gone_on_from_with_the_same_token_and_key() {
    for (fault, writes_of_token) in [
        (Fault::TokenLost, 2),
        (Fault::TokenUnanswered, 1),
        (Fault::IdentityLost, 1),
        (Fault::IdentityUnanswered, 1),
    ] {
        let world = World::new();
        let agent = agent("192.0.2.1:5", "cluster-1");
        let token = world.token("remote-1");
        world.memory.breaks(fault);
        let (code, _) = refused(world.hub.join(&agent, &token).await);
        assert_eq!(code, Code::Unavailable, "{fault:?}");
        let kept = world.memory.status(token.id()).certificate;
        // The hub is gone; another replica goes on.
        let other = world.another_replica();
        let issued = issued(other.join(&agent, &token).await);
        let status = world.memory.status(token.id());
        if writes_of_token == 1 {
            assert_eq!(status.certificate, kept, "{fault:?}: one certificate");
        }
        assert_eq!(world.memory.names().len(), 1, "{fault:?}: one identity");
        let bound = world.memory.names()[0].spec.not_before.0;
        assert_eq!(
            bound,
            crate::identities::timestamp(not_before(&issued.chain[0])),
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn f36_lost_answer_is_given_again_to_the_same_key_by_every_replica() {
    let world = World::new();
    let agent = agent("192.0.2.1:5", "cluster-1");
    let token = world.token("remote-1");
    let first = issued(world.hub.join(&agent, &token).await);
    assert_eq!(issued(world.hub.join(&agent, &token).await), first);
    assert_eq!(issued(world.another_replica().join(&agent, &token).await), first);
}

#[tokio::test]
async fn f35_of_two_keys_at_two_replicas_one_wins_and_the_other_gets_the_reply_of_all_losers() {
    let world = World::new();
    let token = world.token("remote-1");
    let (slow, fast) = (agent("192.0.2.1:5", "cluster-1"), agent("192.0.2.2:5", "cluster-1"));
    let other = Arc::new(world.another_replica());
    let (won, winner) = tokio::sync::oneshot::channel();
    let (joining, text) = (Arc::clone(&other), token.clone());
    world.memory.before_token(Box::pin(async move {
        // Fails only if the test is over.
        let _ = won.send(issued(joining.join(&fast, &text).await));
    }));
    let loser = refused(world.hub.join(&slow, &token).await);
    let winner = winner.await.expect("the other replica answered");
    assert_eq!(loser.0, Code::Unauthenticated);
    assert_eq!(loser, refused(world.hub.join_with(&slow, "no token").await));
    assert_eq!(state(&world, &token), TokenState::Dead);
    assert_eq!(
        world.hub.told(),
        [
            (Subject::Token(token.id().to_owned()), Reason::TokenReplayed),
            (Subject::Remote(remote("remote-1")), Reason::TokenReplayed),
        ]
    );
    assert!(other.admits(&winner, "remote-1"), "the winner keeps its name");
    assert_eq!(world.memory.names().len(), 1);
}

#[tokio::test]
async fn one_key_at_two_replicas_gets_one_certificate() {
    let world = World::new();
    let token = world.token("remote-1");
    let agent = agent("192.0.2.1:5", "cluster-1");
    let other = Arc::new(world.another_replica());
    let (sent, received) = tokio::sync::oneshot::channel();
    let (joining, same, text) = (Arc::clone(&other), agent.clone(), token.clone());
    world.memory.before_token(Box::pin(async move {
        // Fails only if the test is over.
        let _ = sent.send(issued(joining.join(&same, &text).await));
    }));
    let one = issued(world.hub.join(&agent, &token).await);
    assert_eq!(received.await.expect("an answer"), one);
    assert_eq!(state(&world, &token), TokenState::Used);
}

#[tokio::test]
async fn f35_every_bad_token_gets_the_same_reply_and_a_wrong_one_costs_no_write() {
    let world = World::new();
    let past = Time(Timestamp::now() - SignedDuration::from_secs(1));
    let expired = world.token_with("remote-1", |spec| spec.expires_at = past);
    let other_cluster = world.token_with("remote-1", |spec| spec.cluster_uid = Some("cluster-9".to_owned()));
    let dead = world.token("remote-1");
    world.memory.edit_token(dead.id(), |token| {
        token.status = Some(crate::crd::JoinTokenStatus {
            state: TokenState::Dead,
            ..Default::default()
        });
    });
    let good = world.token("remote-1");
    let wrong_secret = remote_istio::enrolment::Token::new([0; 5], [1; 32]).reveal();
    let wrong_secret = format!("{}{}", good.id(), &wrong_secret[8..]);
    let unknown = remote_istio::enrolment::Token::new([9; 5], [1; 32]).reveal();
    let tokens = [
        String::new(),
        "no token".to_owned(),
        unknown,
        wrong_secret,
        expired.reveal(),
        other_cluster.reveal(),
        dead.reveal(),
    ];
    let (_, writes_before) = world.memory.reads_and_writes();
    let mut replies = Vec::new();
    for (number, token) in tokens.iter().enumerate() {
        // The limit of questions for unknown tokens is not what is shown here.
        *world.hub.enrolment.fetches.lock() = super::Rate::new(100);
        let mut stranger = agent("192.0.2.1:5", "cluster-1");
        stranger.address = ["192.0.2.1:5", "192.0.2.2:5"][number % 2];
        replies.push(refused(world.hub.join_with(&stranger, token).await));
    }
    assert_eq!(replies[0].0, Code::Unauthenticated);
    replies.dedup();
    assert_eq!(replies.len(), 1, "{replies:?}");
    assert_eq!(world.memory.reads_and_writes().1, writes_before);
    assert_eq!(state(&world, &good), TokenState::Unused);
}

#[tokio::test]
async fn flood_of_unknown_tokens_asks_central_a_few_times_a_second_and_counts_by_source() {
    let world = World::new();
    let begun = std::time::Instant::now();
    let mut stranger = agent("192.0.2.1:5", "cluster-1");
    let mut limited = 0;
    for number in 0..10_000_u32 {
        stranger.address = ["192.0.2.1:5", "192.0.2.2:5", "192.0.2.3:5", "[2001:db8::1]:5"][(number % 4) as usize];
        let token = remote_istio::enrolment::Token::new([7, 7, 7, 7, (number % 250) as u8], [1; 32]);
        let (code, _) = refused(world.hub.join(&stranger, &token).await);
        // Unavailable: the questions of this second are used up.
        limited += usize::from(matches!(code, Code::ResourceExhausted | Code::Unavailable));
    }
    let seconds = usize::try_from(begun.elapsed().as_secs()).expect("a short while") + 1;
    let (reads, writes) = world.memory.reads_and_writes();
    assert!(reads <= 5 * seconds + 5, "{reads} reads in {seconds} s");
    assert_eq!(writes, 0);
    assert!(limited >= 9_900, "{limited} limited");
    // Who comes from elsewhere with a token the watch has shown is served.
    let token = world.token("remote-1");
    let kept = super::Records::token(&*world.memory, token.id()).await.expect("read");
    world.hub.enrolment.tokens.seen(kept.expect("a token"));
    issued(world.hub.join(&agent("198.51.100.1:5", "cluster-1"), &token).await);
}

#[tokio::test]
async fn source_that_failed_five_times_waits_unless_it_brings_a_token_that_is_known_to_be_right() {
    let world = World::new();
    let (token, dead) = (world.token("remote-1"), world.token("remote-2"));
    let stranger = agent("192.0.2.1:5", "cluster-1");
    for _ in 0..5 {
        let (code, _) = refused(world.hub.join_with(&stranger, "no token").await);
        assert_eq!(code, Code::Unauthenticated);
    }
    let (code, _) = refused(world.hub.join(&stranger, &token).await);
    assert_eq!(code, Code::ResourceExhausted, "the watch has not shown it yet");
    assert_eq!(state(&world, &token), TokenState::Unused);
    world.memory.edit_token(dead.id(), |token| {
        token.status.get_or_insert_default().state = TokenState::Dead;
    });
    for token in [&token, &dead] {
        let kept = super::Records::token(&*world.memory, token.id()).await.expect("read");
        world.hub.enrolment.tokens.seen(kept.expect("a token"));
    }
    let (reads, _) = world.memory.reads_and_writes();
    let (code, _) = refused(world.hub.join(&stranger, &dead).await);
    assert_eq!(code, Code::ResourceExhausted, "worth nothing");
    let mut wrong = token.id().to_owned();
    wrong.push_str(&dead.reveal()[8..]);
    let (code, _) = refused(world.hub.join_with(&stranger, &wrong).await);
    assert_eq!(code, Code::ResourceExhausted, "the secret is another");
    assert_eq!(world.memory.reads_and_writes().0, reads, "central was not asked");
    issued(world.hub.join(&stranger, &token).await);
}

#[tokio::test]
async fn manual_approval_pends_until_a_person_decides() {
    let world = World::new();
    let agent = agent("192.0.2.1:5", "cluster-1");
    let manual = |world: &World| world.token_with("remote-1", |spec| spec.approval = Approval::Manual);
    let decide = |id: &str, state| {
        world.memory.edit_token(id, |token| {
            token.status.as_mut().expect("a status").state = state;
        });
    };
    let token = manual(&world);
    for _ in 0..2 {
        let Outcome::Pending(pending) = world.hub.join(&agent, &token).await.expect("an answer") else {
            panic!("not approved yet");
        };
        assert!(pending.message.contains("join approve remote-1"), "{}", pending.message);
        assert_eq!(pending.retry_milliseconds, 2_000);
    }
    assert_eq!(
        world.hub.told(),
        [(Subject::Remote(remote("remote-1")), Reason::JoinPending)]
    );
    assert_eq!(world.memory.names(), []);
    decide(token.id(), TokenState::Approved);
    issued(world.hub.join(&agent, &token).await);

    let token = manual(&world);
    world.hub.join(&agent, &token).await.expect("pending");
    decide(token.id(), TokenState::Denied);
    let (code, _) = refused(world.hub.join(&agent, &token).await);
    assert_eq!(code, Code::PermissionDenied);
}

#[tokio::test]
async fn f34_name_of_a_living_cluster_is_kept_until_it_is_released() {
    let world = World::new();
    let first = world.joined("remote-1", &agent("192.0.2.1:5", "cluster-1")).await;
    let second = agent("192.0.2.2:5", "cluster-2");
    let token = world.token("remote-1");
    let (code, text) = refused(world.hub.join(&second, &token).await);
    assert_eq!(code, Code::FailedPrecondition);
    assert!(text.contains("remote-istio-hub release remote-1"), "{text}");
    assert_eq!(state(&world, &token), TokenState::Unused, "the token is not used up");
    assert!(world.hub.admits(&first, "remote-1"));

    world.memory.edit_name("remote-1", |record| record.spec.released = true);
    let second = issued(world.hub.join(&second, &token).await);
    assert_eq!(world.memory.names()[0].spec.cluster_uid, "cluster-2");
    assert!(!world.memory.names()[0].spec.released);
    assert!(world.hub.admits(&second, "remote-1"));
    assert!(
        !world.hub.admits(&first, "remote-1"),
        "the first cluster's certificate is over"
    );
}

#[tokio::test]
async fn same_cluster_joins_anew_with_another_token_and_its_old_certificate_is_over() {
    let world = World::new();
    let first = world.joined("remote-1", &agent("192.0.2.1:5", "cluster-1")).await;
    let second = world.joined("remote-1", &agent("192.0.2.1:5", "cluster-1")).await;
    assert!(world.hub.admits(&second, "remote-1"));
    assert!(!world.hub.admits(&first, "remote-1"));
}

#[tokio::test]
async fn revoked_name_comes_back_by_a_token_made_afterwards_only() {
    let world = World::new();
    let before = world.token("remote-1");
    let first = world.joined("remote-1", &agent("192.0.2.1:5", "cluster-1")).await;
    let revoked = world.memory.edit_name("remote-1", |record| {
        record.spec.revoked = Some(Revocation {
            at: Time(Timestamp::now() + SignedDuration::from_secs(2)),
            reason: "stolen".to_owned(),
        });
    });
    world.hub.identities.wrote(revoked);
    assert!(!world.hub.admits(&first, "remote-1"));
    let again = agent("192.0.2.1:5", "cluster-1");
    let (code, _) = refused(world.hub.join(&again, &before).await);
    assert_eq!(code, Code::Unauthenticated);

    let after = world.token("remote-1");
    world.memory.edit_token(after.id(), |token| {
        token.metadata.creation_timestamp = Some(Time(Timestamp::now() + SignedDuration::from_secs(4)));
    });
    let second = issued(world.hub.join(&again, &after).await);
    assert!(world.hub.admits(&second, "remote-1"));
    assert!(!world.hub.admits(&first, "remote-1"));
}

#[tokio::test]
async fn bad_request_says_what_is_wrong_and_uses_no_token_up() {
    let world = World::new();
    let token = world.token("remote-1");
    let good = agent("192.0.2.1:5", "cluster-1");
    let mut broken = good.clone();
    broken.request = b"no request".to_vec();
    let nameless = world::Agent {
        cluster_uid: "",
        ..good.clone()
    };
    for bad in [broken, nameless] {
        let (code, text) = refused(world.hub.join(&bad, &token).await);
        assert_eq!(code, Code::InvalidArgument, "{text}");
    }
    assert_eq!(state(&world, &token), TokenState::Unused);
    issued(world.hub.join(&good, &token).await);
}

#[tokio::test]
async fn token_that_was_taken_back_is_refused_although_the_watch_still_shows_it() {
    let world = World::new();
    let token = world.token("remote-1");
    let kept = super::Records::token(&*world.memory, token.id())
        .await
        .expect("read")
        .expect("a token");
    world.hub.enrolment.tokens.seen(kept.clone());
    super::Records::remove_token(&*world.memory, &kept)
        .await
        .expect("removed");
    let (code, _) = refused(world.hub.join(&agent("192.0.2.1:5", "cluster-1"), &token).await);
    assert_eq!(code, Code::Unauthenticated);
    assert_eq!(world.memory.names(), []);
}
