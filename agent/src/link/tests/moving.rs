//! A session that moves to a new connection, and what the hub asks beside the driver.

use remote_istio::enrolment::Trust;

use super::*;

fn delta(nonce: u64) -> Hubs {
    Hubs::Delta(v1::Delta {
        nonce,
        ..v1::Delta::default()
    })
}

fn status() -> Own {
    Own::Status(v1::Status::default())
}

#[tokio::test]
async fn renewed_certificate_moves_the_session_without_a_gap() {
    let ca = TestCa::new();
    let mut hub = ScriptedHub::start(&ca).await;
    let mut link = RunningLink::start(&hub, &ca, &ca);
    let (_frames, mut old) = link.connected(&mut hub).await;

    link.renew(&ca, &ca);
    // The second connection is there, and the first goes on.
    let mut new = hub.session().await;
    let greeting = link.prepare().await;
    // What the hub still says on the first is no longer taken: the hello would not be true.
    old.send(delta(1)).await;
    greeting.send(nothing_held()).expect("the link listens");
    let hello = new.welcome().await;
    assert_eq!((hello.connection, hello.boot_id.as_str()), (2, "boot"));

    // The frame that the hub sends behind its welcome comes right behind it, with no end of a session in between.
    new.send(delta(2)).await;
    let LinkEvent::Moved { frames } = link.event().await else {
        panic!("the session has not moved")
    };
    assert!(matches!(link.event().await, LinkEvent::Welcomed(_)));
    assert_eq!(link.delta().await, 2);
    assert!(matches!(new.next().await, Some(Own::Heartbeat(_))));
    frames.send(ToHub::Frame(status())).await.expect("the link listens");
    assert_eq!(new.next().await, Some(status()));
    let ended = within(old.incoming.next()).await;
    assert!(!matches!(ended, Some(Ok(_))), "the first connection is left: {ended:?}");
}

#[tokio::test]
async fn session_goes_on_while_the_second_connection_comes_about() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let mut hub = ScriptedHub::start(&ca).await;
    let mut link = RunningLink::start(&hub, &ca, &ca);
    let (frames, mut old) = link.connected(&mut hub).await;

    // The hub refuses this certificate, each time.
    link.renew(&other, &ca);
    within(hub.refused.recv()).await.expect("the hub runs");
    old.send(delta(1)).await;
    assert_eq!(link.delta().await, 1);
    frames.send(ToHub::Frame(status())).await.expect("the link listens");
    assert_eq!(old.next().await, Some(status()));

    // With a good one the session moves.
    link.renew(&ca, &ca);
    let mut new = hub.session().await;
    link.prepare().await.send(nothing_held()).expect("the link listens");
    new.welcome().await;
    assert!(matches!(link.event().await, LinkEvent::Moved { .. }));
}

#[tokio::test]
async fn session_stays_when_the_hub_does_not_welcome_its_second_connection_and_moves_later() {
    let ca = TestCa::new();
    let mut hub = ScriptedHub::start(&ca).await;
    let mut link = RunningLink::start(&hub, &ca, &ca);
    let (_frames, mut old) = link.connected(&mut hub).await;

    link.renew(&ca, &ca);
    let new = hub.session().await;
    let greeting = link.prepare().await;
    old.send(delta(1)).await;
    greeting.send(nothing_held()).expect("the link listens");
    let refusal = Status::unavailable("this replica is not ready");
    new.outgoing.send(Err(refusal)).await.expect("the stream stands");
    assert!(matches!(link.event().await, LinkEvent::Stayed));
    // Nothing of what was said meanwhile is lost.
    assert_eq!(link.delta().await, 1);

    let mut again = hub.session().await;
    link.prepare().await.send(nothing_held()).expect("the link listens");
    assert_eq!(again.welcome().await.connection, 3);
    assert!(matches!(link.event().await, LinkEvent::Moved { .. }));
    assert!(matches!(link.event().await, LinkEvent::Welcomed(_)));
    drop(old.incoming.next().await);
}

#[tokio::test]
async fn questions_of_the_hub_go_to_who_can_answer_and_the_answers_come_back() {
    let ca = TestCa::new();
    let mut hub = ScriptedHub::start(&ca).await;
    let mut link = RunningLink::start(&hub, &ca, &ca);
    let trust: Trust = ca.trust(3, "hub.test:8444", "hub.test:8443");
    let digest = trust.digest();
    link.side.guide.send_modify(|guide| guide.trust = Some(digest));
    let _frames = link.opened().await;
    let mut end = hub.session().await;
    assert_eq!(end.welcome().await.trust_digest, digest.to_vec());
    assert!(matches!(end.next().await, Some(Own::Heartbeat(_))));
    within(link.side.channel.wait_for(Option::is_some))
        .await
        .expect("the link runs");

    end.send(Hubs::Trust(trust.write())).await;
    let question = within(link.side.trusts.recv()).await.expect("the link runs");
    assert_eq!(question.asked, trust.write());
    let kept = Own::TrustKept(v1::TrustKept::default());
    question.answers.send(kept.clone()).await.expect("the stream stands");
    assert_eq!(end.next().await, Some(kept));

    let challenge = v1::Challenge {
        nonce: 9,
        ..v1::Challenge::default()
    };
    end.send(Hubs::Challenge(challenge.clone())).await;
    let question = within(link.side.challenges.recv()).await.expect("the link runs");
    assert_eq!(question.asked, challenge);
    let yields = Own::Yield(v1::Yield { nonce: 9, yields: true });
    question.answers.send(yields.clone()).await.expect("the stream stands");
    assert_eq!(end.next().await, Some(yields));
}

#[tokio::test]
async fn reason_of_a_refusal_is_told_to_who_looks_after_the_identity() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let hub = ScriptedHub::start(&ca).await;
    let mut link = RunningLink::start(&hub, &other, &ca);
    let _frames = link.opened().await;
    let refused = within(link.side.refused.wait_for(Option::is_some))
        .await
        .expect("the link runs");
    assert_eq!(*refused, Some(Refused::NotKnown));
}
