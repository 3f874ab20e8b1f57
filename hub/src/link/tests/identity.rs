//! Two agents with one identity, revocation, trust and the end of a certificate, over real connections.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use remote_istio::enrolment::{Pin, Trust, TrustDigest};
use remote_istio::tls::{Admission, LeafFacts, NotAdmitted, Peer};
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

use super::super::{Bindings, Hook, NoRecords, Records};
use super::*;
use crate::crd::{RemoteIdentity, RemoteIdentitySpec};
use crate::registry::Party;
use crate::status::conditions::time;

/// Agents are refused at once, or replaced at once, where the holder says nothing.
fn impatient() -> Bounds {
    Bounds {
        yields: Duration::from_millis(50),
        ..Bounds::default()
    }
}

fn party(cluster_uid: &str, start: u64) -> Party {
    Party {
        address: "pipe".to_owned(),
        cluster_uid: cluster_uid.to_owned(),
        start,
    }
}

fn conflict(hub: &Hub) -> Option<(Party, Party)> {
    let conflict = hub.sessions.conflict(&remote_1())?;
    Some((conflict.holder, conflict.challenger))
}

async fn challenges(hub: &Hub, result: &str, count: u32) {
    hub.metric(&format!(
        r#"remote_istio_hub_challenges_total{{result="{result}"}} {count}"#
    ))
    .await;
}

async fn ended(hub: &Hub, reason: &str) {
    hub.metric(&format!(
        r#"remote_istio_hub_sessions_ended_total{{reason="{reason}"}} 1"#
    ))
    .await;
}

#[tokio::test]
async fn agent_of_a_rolling_update_yields_to_its_successor_without_an_alarm() {
    let hub = Hub::start();
    let mut old = hub.join("remote-1", hello(1, "a", 1)).await;
    old.welcome().await;
    let mut new = hub.join("remote-1", hello(2, "b", 1)).await;
    let challenge = old.answer(true).await;
    let expected = v1::Challenge {
        nonce: challenge.nonce,
        session_epoch: 2,
        cluster_uid: "cluster".to_owned(),
        address: "pipe".to_owned(),
    };
    assert_eq!(challenge, expected);
    new.welcome().await;
    assert_eq!(old.end().await.expect_err("superseded").code(), Code::Aborted);
    challenges(&hub, "yielded", 1).await;
    assert_eq!(conflict(&hub), None);
}

#[tokio::test]
async fn twin_is_refused_the_first_stays_and_both_are_named() {
    let hub = Hub::start();
    let (woken_tx, mut woken) = tokio::sync::mpsc::unbounded_channel();
    let mut first = hub.join("remote-1", hello(1, "a", 1)).await;
    first.welcome().await;
    hub.report("remote-1", |_| true).await;
    // A clone that was restarted since has a later start, and the same history before it.
    for start in [1, 2] {
        let mut twin = hub.join("remote-1", hello(start, "b", 1)).await;
        first.answer(false).await;
        let status = twin.end().await.expect_err("refused");
        assert_eq!(status.code(), Code::AlreadyExists);
        let both = format!(
            "another agent holds this session: at pipe (cluster cluster, start 1); this one is at pipe (cluster cluster, \
             start {start})"
        );
        assert!(status.message().starts_with(&both), "{status}");
    }
    challenges(&hub, "stayed", 2).await;
    hub.metric(r#"remote_istio_hub_sessions_ended_total{reason="twin"} 2"#)
        .await;
    assert_eq!(conflict(&hub), Some((party("cluster", 1), party("cluster", 1))));

    // One in another cluster is refused unasked, and wakes whoever shows conflicts.
    hub.sessions.on_change(Box::new(move |remote| {
        // The test may be over.
        let _ = woken_tx.send(remote.clone());
    }));
    let elsewhere = v1::Hello {
        cluster_uid: "another".to_owned(),
        ..hello(9, "c", 1)
    };
    let mut twin = hub.join("remote-1", elsewhere).await;
    assert_eq!(twin.end().await.expect_err("refused").code(), Code::AlreadyExists);
    assert_eq!(conflict(&hub), Some((party("cluster", 1), party("another", 9))));
    assert_eq!(
        timeout(PATIENCE, woken.recv()).await.expect("in time"),
        Some(remote_1())
    );

    hub.enable("remote-1", &["10.0.0.1"]);
    assert!(matches!(first.next().await, Ok(Some(Frame::Claim(claim))) if claim.claimed));
}

#[tokio::test]
async fn agent_that_was_replaced_is_refused_unasked_and_without_an_alarm() {
    let hub = Hub::start();
    let mut first = hub.join("remote-1", hello(2, "a", 1)).await;
    first.welcome().await;
    let mut older = hub.join("remote-1", hello(1, "b", 5)).await;
    assert_eq!(older.end().await.expect_err("refused").code(), Code::FailedPrecondition);
    ended(&hub, "older_agent").await;
    assert_eq!(conflict(&hub), None);
}

#[tokio::test]
async fn holder_that_says_nothing_is_replaced_by_a_later_start_and_by_no_other() {
    let hub = Hub::start_with(impatient());
    let mut first = hub.join("remote-1", hello(1, "a", 1)).await;
    first.welcome().await;
    let mut equal = hub.join("remote-1", hello(1, "b", 1)).await;
    assert_eq!(equal.end().await.expect_err("refused").code(), Code::AlreadyExists);
    challenges(&hub, "silent_stayed", 1).await;
    let mut later = hub.join("remote-1", hello(2, "c", 1)).await;
    later.welcome().await;
    assert_eq!(first.end().await.expect_err("superseded").code(), Code::Aborted);
    challenges(&hub, "silent_replaced", 1).await;
}

#[tokio::test]
async fn holder_that_leaves_while_it_is_asked_makes_room() {
    let hub = Hub::start();
    let mut first = hub.join("remote-1", hello(5, "a", 1)).await;
    first.welcome().await;
    let mut second = hub.join("remote-1", hello(5, "b", 1)).await;
    assert!(matches!(first.next().await, Ok(Some(Frame::Challenge(_)))));
    first.leave();
    second.welcome().await;
    challenges(&hub, "holder_left", 1).await;
    assert_eq!(conflict(&hub), None);
}

#[tokio::test]
async fn challengers_that_come_at_once_are_served_by_one_question() {
    let hub = Hub::start();
    let mut first = hub.join("remote-1", hello(1, "a", 1)).await;
    first.welcome().await;
    let mut twins = Vec::new();
    for boot_id in ["b", "c", "d"] {
        twins.push(hub.join("remote-1", hello(1, boot_id, 1)).await);
        hub.metric(&format!(
            "remote_istio_hub_handshakes_accepted_total {}",
            twins.len() + 1
        ))
        .await;
    }
    first.answer(false).await;
    // Whoever came after the answer asks again.
    let refused = async {
        for twin in &mut twins {
            assert_eq!(twin.end().await.expect_err("refused").code(), Code::AlreadyExists);
        }
    };
    let answering = async {
        loop {
            first.answer(false).await;
        }
    };
    tokio::select! {
        () = refused => {}
        () = answering => {}
    }
    challenges(&hub, "stayed", 3).await;
}

#[tokio::test]
async fn stopping_hub_does_not_wait_for_an_answer() {
    let mut hub = Hub::start();
    let mut first = hub.join("remote-1", hello(1, "a", 1)).await;
    first.welcome().await;
    let mut second = hub.join("remote-1", hello(1, "b", 1)).await;
    assert!(matches!(first.next().await, Ok(Some(Frame::Challenge(_)))));
    hub.stop.cancel();
    assert_eq!(second.end().await.expect_err("ended").code(), Code::Unavailable);
    first.leave();
    let served = timeout(PATIENCE, hub.serving.join_next()).await.expect("in time");
    served.expect("it served").expect("no panic").expect("a good end");
}

/// Records that a test sets.
#[derive(Debug, Default)]
struct Book {
    records: Mutex<BTreeMap<RemoteName, Arc<RemoteIdentity>>>,
    kept: Mutex<Vec<(RemoteName, u64)>>,
    used: Mutex<Vec<(RemoteName, Pin)>>,
}

impl Records for Book {
    fn record(&self, remote: &RemoteName) -> Option<Arc<RemoteIdentity>> {
        self.records.lock().get(remote).cloned()
    }

    fn trust_kept(&self, remote: &RemoteName, epoch: u64) {
        self.kept.lock().push((remote.clone(), epoch));
    }

    fn certificate_used(&self, remote: &RemoteName, signer: Pin) {
        self.used.lock().push((remote.clone(), signer));
    }

    fn on_change(&self, _: Hook) {}
}

fn bound_to(cluster_uid: &str) -> Arc<RemoteIdentity> {
    let spec = RemoteIdentitySpec {
        cluster_uid: cluster_uid.to_owned(),
        joined_at: time(1),
        key: String::new(),
        not_before: time(0),
        released: false,
        revoked: None,
    };
    Arc::new(RemoteIdentity::new("remote-1", spec))
}

#[tokio::test]
async fn agent_in_another_cluster_than_the_name_is_bound_to_is_refused() {
    let book = Arc::new(Book::default());
    book.records.lock().insert(remote_1(), bound_to("cluster"));
    let bindings = Bindings {
        records: book,
        trust: None,
    };
    let hub = Hub::start_as(Bounds::default(), bindings);
    let elsewhere = v1::Hello {
        cluster_uid: "another".to_owned(),
        ..hello(9, "b", 1)
    };
    let status = hub.join("remote-1", elsewhere).await.end().await.expect_err("refused");
    assert_eq!(status.code(), Code::AlreadyExists);
    let words = "the name is bound to cluster cluster, this agent is at pipe (cluster another, start 9)";
    assert!(status.message().starts_with(words), "{status}");
    ended(&hub, "other_cluster").await;
    assert_eq!(conflict(&hub), Some((Party::bound("cluster"), party("another", 9))));
    hub.join("remote-1", hello(1, "a", 1)).await.welcome().await;
}

/// Lets nobody in.
#[derive(Debug)]
struct Closed(NotAdmitted);

impl Admission for Closed {
    fn admit(&self, _: &LeafFacts) -> Result<(), NotAdmitted> {
        Err(self.0)
    }

    fn opened(&self, _: &Arc<Peer>) {}
}

/// Lets everybody in.
#[derive(Debug)]
struct Open;

impl Admission for Open {
    fn admit(&self, _: &LeafFacts) -> Result<(), NotAdmitted> {
        Ok(())
    }

    fn opened(&self, _: &Arc<Peer>) {}
}

#[tokio::test]
async fn revoked_agent_is_told_so_and_cut_in_the_middle_of_a_delta() {
    for (why, words, reason) in [
        (NotAdmitted::Revoked, "certificate revoked; ", "revoked"),
        (NotAdmitted::Unknown, "unknown to this hub; ", "unknown_identity"),
    ] {
        let hub = Hub::start();
        // So much that its parts are still on their way.
        hub.enable_many("remote-1", 8, 15_000);
        let mut agent = hub.join("remote-1", hello(1, "a", 1)).await;
        let mut other = hub.join("remote-2", hello(1, "b", 1)).await;
        agent.welcome().await;
        other.welcome().await;
        hub.report("remote-1", |_| true).await;
        assert!(!hub.sessions.end_unless_admitted(&remote_1(), &Open));
        assert!(hub.sessions.end_unless_admitted(&remote_1(), &Closed(why)));
        let status = agent.end().await.expect_err("ended");
        assert_eq!(status.code(), Code::PermissionDenied);
        assert!(status.message().starts_with(words), "{status}");
        agent.gone().await;
        ended(&hub, reason).await;
        assert!(
            !hub.sessions.end_unless_admitted(&remote_1(), &Closed(why)),
            "it is gone"
        );
        hub.enable("remote-2", &["10.0.0.1"]);
        assert!(matches!(other.next().await, Ok(Some(Frame::Claim(_)))));
    }
}

fn trust(epoch: u64) -> Arc<Trust> {
    Arc::new(Trust {
        epoch,
        signer: Pin::of_key_info(b"a key"),
        roots: vec![CertificateDer::from(vec![1, 2, 3])],
        trust_domain: "mesh.test".to_owned(),
        hubs: vec!["hub.test:8444".parse().expect("an address")],
        enrolments: vec![],
    })
}

#[tokio::test]
async fn trust_reaches_enrolled_agents_and_what_they_keep_is_reported() {
    let (sender, receiver) = watch::channel(trust(3));
    let book = Arc::new(Book::default());
    let records: Arc<dyn Records> = book.clone();
    let bindings = Bindings {
        records,
        trust: Some(receiver),
    };
    let hub = Hub::start_as(Bounds::default(), bindings);
    let holds = |digest: TrustDigest| v1::Hello {
        trust_digest: digest.to_vec(),
        ..hello(1, "a", 1)
    };
    let mut agent = hub.join("remote-1", holds(trust(3).digest())).await;
    agent.welcome().await;
    hub.report("remote-1", |report| report.trust_epoch == Some(3)).await;
    let mut files = hub.join("remote-2", hello(1, "b", 1)).await;
    files.welcome().await;

    sender.send_replace(trust(4));
    assert!(matches!(agent.next().await, Ok(Some(Frame::Trust(sent))) if sent == trust(4).write()));
    let kept = v1::TrustKept {
        epoch: 4,
        digest: trust(4).digest().to_vec(),
        failure: String::new(),
    };
    agent.send(agent_frame::Frame::TrustKept(kept)).await;
    eventually(|| (*book.kept.lock() == [(remote_1(), 3), (remote_1(), 4)]).then_some(())).await;
    assert_eq!(hub.sessions.summary().trust_epochs, BTreeMap::from([(4, 1)]));
    hub.enable("remote-2", &["10.0.0.1"]);
    assert!(
        matches!(files.next().await, Ok(Some(Frame::Claim(_)))),
        "no trust for who was given files"
    );
}

#[tokio::test]
async fn signer_of_the_certificate_that_opened_the_session_is_noted() {
    let (sender, receiver) = watch::channel(trust(3));
    let book = Arc::new(Book::default());
    let records: Arc<dyn Records> = book.clone();
    let bindings = Bindings {
        records,
        trust: Some(receiver),
    };
    let hub = Hub::start_as(Bounds::default(), bindings);
    // Whom the hub would sign by now says nothing of the agent.
    let root = hub.ca.root();
    let signer = Pin::of_certificate(&root).expect("a certificate");
    let mut both = Trust::clone(&trust(4));
    both.roots.push(root);
    sender.send_replace(Arc::new(both));
    hub.join("remote-1", hello(1, "a", 1)).await.welcome().await;
    assert_eq!(*book.used.lock(), [(remote_1(), signer)]);
}

#[tokio::test]
async fn agent_is_asked_to_leave_before_its_certificate_ends_and_is_gone_at_its_end() {
    let hub = Hub::start();
    let life = Duration::from_secs(3);
    let mut agents = Vec::new();
    for leaves in [true, false] {
        let name = if leaves { "remote-1" } else { "remote-2" };
        let tls = hub.ca.source_for(&format!("remote/{name}"), life);
        let mut agent = hub.dial_with(tls).await.expect("a stream");
        agent.send(agent_frame::Frame::Hello(hello(1, name, 1))).await;
        agent.welcome().await;
        agents.push((leaves, agent));
    }
    for (leaves, agent) in &mut agents {
        let drain = match agent.next().await {
            Ok(Some(Frame::Drain(drain))) => drain,
            other => panic!("not a drain: {other:?}"),
        };
        assert_eq!(drain.reason, "certificate ends");
        if *leaves {
            agent.leave();
        }
    }
    for (_, agent) in &mut agents {
        agent.end().await.expect_err("ended");
    }
    eventually(|| hub.sessions.is_empty().then_some(())).await;
    let certificate = hub.sessions.certificate(&remote_1()).expect("seen");
    assert!(certificate.not_after <= crate::clock::unix_seconds() + 3);
}

#[tokio::test]
async fn accepted_handshakes_are_counted() {
    let bindings = Bindings {
        records: Arc::new(NoRecords),
        trust: None,
    };
    let hub = Hub::start_as(Bounds::default(), bindings);
    hub.metric("remote_istio_hub_handshakes_accepted_total 0").await;
    hub.join("remote-1", hello(1, "a", 1)).await.welcome().await;
    hub.metric("remote_istio_hub_handshakes_accepted_total 1").await;
}
