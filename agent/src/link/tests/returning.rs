//! Coming back after a refusal or an end, and what a second connection is made with.

use remote_istio::identity::RemoteName;

use super::*;

#[tokio::test]
async fn refused_agent_comes_back_at_once_with_a_new_certificate() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let mut hub = ScriptedHub::start(&ca).await;
    let mut link = RunningLink::start(&hub, &other, &ca);
    let _frames = link.opened().await;
    let refused = link.side.refused.wait_for(Option::is_some);
    drop(within(refused).await.expect("the link runs"));
    assert!(matches!(link.event().await, LinkEvent::Closed));

    // The pause after a refusal is longer than the patience of this test.
    link.renew(&ca, &ca);
    let _session = link.connected(&mut hub).await;
    assert_eq!(*link.side.refused.borrow(), None);
}

#[tokio::test]
async fn connection_of_a_session_that_ended_is_offered_to_nobody() {
    let ca = TestCa::new();
    let mut hub = ScriptedHub::start(&ca).await;
    let mut link = RunningLink::start(&hub, &ca, &ca);
    let (_frames, end) = link.connected(&mut hub).await;
    let offered = link.side.channel.wait_for(Option::is_some);
    drop(within(offered).await.expect("the link runs"));
    drop(end);
    assert!(matches!(link.event().await, LinkEvent::Closed));
    assert!(link.side.channel.borrow().is_none());
}

#[tokio::test]
async fn certificate_that_stands_for_another_remote_is_not_shown() {
    let ca = TestCa::new();
    let hub = ScriptedHub::start(&ca).await;
    let (mut link, _events, _readiness, _side, _folder) = link(hub.address.clone(), &ca, &ca);
    link.remote = RemoteName::new("remote-0").expect("a label");
    let (facts, mut connection, stop) = (facts(), 0, CancellationToken::new());
    let attempt = within(link.attempt(&hub.address, &facts, &mut connection, &stop));
    let (ended, _) = Box::pin(attempt).await;
    assert_eq!(ended.refusal(), Some(Refused::Other));
    assert!(ended.to_string().contains("no longer stands for remote-0"), "{ended}");
}

#[tokio::test]
async fn session_moves_to_the_replica_that_has_it_and_says_again_what_it_trusts() {
    let ca = TestCa::new();
    let mut hub = ScriptedHub::start(&ca).await;
    let other = ScriptedHub::start(&ca).await;
    let mut link = RunningLink::start(&hub, &ca, &ca);
    let (_frames, _old) = link.connected(&mut hub).await;
    let digest = ca.trust(3, "hub.test:8444", "hub.test:8443").digest();
    let known = vec![other.address.clone(), hub.address.clone(), other.address.clone()];
    link.side.guide.send_modify(|guide| {
        guide.trust = Some(digest);
        guide.hubs.first = known;
    });
    link.renew(&ca, &ca);
    let mut new = hub.session().await;
    link.prepare().await.send(nothing_held()).expect("the link listens");
    assert_eq!(new.welcome().await.trust_digest, digest.to_vec());
}

#[tokio::test]
async fn session_does_not_move_to_a_hub_that_says_something_else_before_its_welcome() {
    let ca = TestCa::new();
    let mut hub = ScriptedHub::start(&ca).await;
    let mut link = RunningLink::start(&hub, &ca, &ca);
    let (_frames, _old) = link.connected(&mut hub).await;
    link.renew(&ca, &ca);
    let new = hub.session().await;
    link.prepare().await.send(nothing_held()).expect("the link listens");
    new.send(Hubs::Delta(v1::Delta::default())).await;
    assert!(matches!(link.event().await, LinkEvent::Stayed));
}
