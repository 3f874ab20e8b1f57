mod identity;
mod pair;
mod raw;

use std::sync::Arc;
use std::time::Duration;

use remote_istio::identity::RemoteName;
use remote_istio::limits;
use remote_istio::model::Lane;
use remote_istio::wire::v1;
use remote_istio::wire::v1::agent_frame;
use remote_istio::wire::v1::hub_frame::Frame;
use tokio::time::timeout;
use tonic::Code;

use self::pair::{Hub, PATIENCE, eventually, hello};
use super::stream::Bounds;

fn remote_1() -> RemoteName {
    RemoteName::new("remote-1").expect("a DNS label")
}

#[tokio::test]
async fn agent_is_welcomed_sent_its_state_and_every_change() {
    let hub = Hub::start();
    hub.enable("remote-1", &["10.0.0.1"]);
    let mut agent = hub.join("remote-1", hello(1, "a", 1)).await;
    let welcome = agent.welcome().await;
    assert_eq!(
        (welcome.replica.as_str(), welcome.boot_id.as_str()),
        ("hub-0", "hub boot")
    );
    assert_eq!(
        welcome.claim,
        Some(v1::Claim {
            claimed: true,
            message: String::new()
        })
    );
    assert_eq!(agent.accept().await.lane(), v1::Lane::Endpoints);
    assert_eq!(agent.accept().await.lane(), v1::Lane::Config);
    let in_sync = |report: &crate::report::SessionReport| report.lanes.values().all(|lane| lane.in_sync);
    let report = hub.report("remote-1", in_sync).await;
    assert_eq!(report.desired, Some(("uid of remote-1".to_owned(), 1)));

    hub.enable("remote-1", &["10.0.0.1", "10.0.0.2"]);
    let delta = agent.accept().await;
    assert_eq!(
        (delta.lane(), delta.complete, delta.upserts.len()),
        (v1::Lane::Endpoints, false, 1)
    );
    hub.report("remote-1", in_sync).await;
    hub.metric(r#"remote_istio_hub_propagation_accepted_seconds_count{lane="endpoints"} 1"#)
        .await;

    agent.leave();
    eventually(|| hub.sessions.is_empty().then_some(())).await;
    assert_eq!(hub.sessions.report(&remote_1()), None);
    assert!(hub.sessions.disconnected_at(&remote_1()).is_some());
    hub.metric(r#"remote_istio_hub_sessions_ended_total{reason="agent_closed"} 1"#)
        .await;
}

#[tokio::test]
async fn remote_without_a_resource_waits_unclaimed_until_it_is_created() {
    let hub = Hub::start();
    let mut agent = hub.join("remote-1", hello(1, "a", 1)).await;
    let claim = agent.welcome().await.claim.expect("a claim");
    assert_eq!(
        claim.message,
        "create RemoteIstio remote-1 in namespace istio-system on central"
    );
    hub.report("remote-1", |report| !report.claimed).await;
    assert_eq!(hub.sessions.summary().unclaimed, 1);
    hub.enable("remote-1", &["10.0.0.1"]);
    assert!(matches!(agent.next().await, Ok(Some(Frame::Claim(claim))) if claim.claimed));
    assert_eq!(agent.accept().await.lane(), v1::Lane::Endpoints);
}

#[tokio::test]
async fn connection_of_the_session_that_stands_is_known_by_it() {
    let hub = Hub::start();
    let peer = || {
        hub.sessions
            .inner
            .lock()
            .live
            .get(&remote_1())
            .map(|live| Arc::clone(&live.peer))
    };
    let mut first = hub.join("remote-1", hello(1, "a", 1)).await;
    first.welcome().await;
    let first_peer = peer().expect("a session");
    assert!(first_peer.is_in_session());
    let mut second = hub.join("remote-1", hello(1, "a", 2)).await;
    second.welcome().await;
    let second_peer = peer().expect("a session");
    assert_eq!((first_peer.is_in_session(), second_peer.is_in_session()), (false, true));
    second.leave();
    eventually(|| hub.sessions.is_empty().then_some(())).await;
    assert!(!second_peer.is_in_session());
}

#[tokio::test]
async fn change_of_a_report_wakes_whoever_asked() {
    let hub = Hub::start();
    let (woken_tx, mut woken) = tokio::sync::mpsc::unbounded_channel();
    hub.sessions.on_change(Box::new(move |remote| {
        // The test may be over.
        let _ = woken_tx.send(remote.clone());
    }));
    let mut agent = hub.join("remote-1", hello(1, "a", 1)).await;
    agent.welcome().await;
    assert_eq!(
        timeout(PATIENCE, woken.recv()).await.expect("in time"),
        Some(remote_1())
    );
    let beat = v1::Heartbeat {
        sequence: 1,
        received: 1,
        backlog: 7,
        ..v1::Heartbeat::default()
    };
    agent.send(agent_frame::Frame::Heartbeat(beat)).await;
    hub.report("remote-1", |report| report.backlog == 7).await;
    assert_eq!(
        timeout(PATIENCE, woken.recv()).await.expect("in time"),
        Some(remote_1())
    );
}

#[tokio::test]
async fn garbage_and_oversized_frames_end_the_stream_and_nothing_else() {
    let hub = Hub::start();
    let mut other = hub.join("remote-2", hello(1, "b", 1)).await;
    other.welcome().await;
    for (bytes, reason) in [
        (vec![0xff; 100], "garbage_frame"),
        (vec![0; limits::FRAME_MAX_BYTES + 1], "oversized_frame"),
    ] {
        let mut agent = hub.join("remote-1", hello(1, reason, 1)).await;
        agent.welcome().await;
        agent.send_bytes(bytes).await;
        assert_eq!(agent.end().await.expect_err(reason).code(), Code::InvalidArgument);
        hub.metric(&format!(
            r#"remote_istio_hub_sessions_ended_total{{reason="{reason}"}} 1"#
        ))
        .await;
        eventually(|| (hub.sessions.len() == 1).then_some(())).await;
    }
    hub.enable("remote-2", &["10.0.0.1"]);
    assert!(matches!(other.next().await, Ok(Some(Frame::Claim(_)))));
}

#[tokio::test]
async fn unknown_frames_are_ignored_and_counted() {
    let hub = Hub::start();
    hub.enable("remote-1", &["10.0.0.1"]);
    let mut agent = hub.join("remote-1", hello(1, "a", 1)).await;
    agent.welcome().await;
    // Field 999, of a kind that a later release may have.
    agent.send_bytes(vec![0xba, 0x3e, 0x01, 0x00]).await;
    hub.metric("remote_istio_hub_unknown_frames_total 1").await;
    assert_eq!(agent.accept().await.lane(), v1::Lane::Endpoints);
}

#[tokio::test]
async fn agent_whose_connection_breaks_is_gone_at_once() {
    let hub = Hub::start();
    let mut agent = hub.join("remote-1", hello(1, "a", 1)).await;
    agent.welcome().await;
    agent.cut();
    eventually(|| hub.sessions.is_empty().then_some(())).await;
    hub.metric(r#"remote_istio_hub_sessions_ended_total{reason="connection_lost"} 1"#)
        .await;
}

#[tokio::test]
async fn agent_that_reads_nothing_is_ended_and_holds_up_nobody() {
    let hub = Hub::start_with(Bounds {
        send: Duration::from_millis(200),
        frames_queued: 2,
        ..Bounds::default()
    });
    hub.enable_many("remote-1", 8, 15_000);
    let stuck = hub.join("remote-1", hello(1, "a", 1)).await;
    hub.enable("remote-2", &["10.0.0.1"]);
    let mut other = hub.join("remote-2", hello(1, "b", 1)).await;
    other.welcome().await;
    assert_eq!(other.accept().await.lane(), v1::Lane::Endpoints);
    hub.metric(r#"remote_istio_hub_sessions_ended_total{reason="stuck"} 1"#)
        .await;
    hub.enable("remote-2", &["10.0.0.2"]);
    assert_eq!(other.accept().await.lane(), v1::Lane::Config);
    assert_eq!(other.accept().await.lane(), v1::Lane::Endpoints);
    drop(stuck);
}

#[tokio::test]
async fn frame_before_the_hello_is_refused() {
    let hub = Hub::start();
    let mut agent = hub.dial("remote/remote-1").await.expect("a stream");
    agent
        .send(agent_frame::Frame::Heartbeat(v1::Heartbeat::default()))
        .await;
    let status = agent.end().await.expect_err("refused");
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "the first frame was not a hello")
    );
    assert!(hub.sessions.is_empty());
}

#[tokio::test]
async fn hello_of_another_protocol_is_refused_with_both_ranges() {
    let hub = Hub::start();
    let newer = v1::Hello {
        protocol_min: 8,
        protocol_max: 9,
        ..hello(1, "a", 1)
    };
    let status = hub.join("remote-1", newer).await.end().await.expect_err("refused");
    assert!(status.message().contains("8 to 9, this release 1 to 1"), "{status}");
}

#[tokio::test]
async fn agent_that_says_nothing_is_ended_at_the_deadline() {
    let hello = Duration::from_millis(50);
    let hub = Hub::start_with(Bounds {
        hello,
        ..Bounds::default()
    });
    let mut agent = hub.dial("remote/remote-1").await.expect("a stream");
    let status = agent.end().await.expect_err("ended");
    assert_eq!(
        (status.code(), status.message()),
        (Code::DeadlineExceeded, "no hello came within 50ms")
    );
    hub.metric(r#"remote_istio_hub_sessions_ended_total{reason="hello_missing"} 1"#)
        .await;
}

#[tokio::test]
async fn only_a_remote_may_open_a_session() {
    let hub = Hub::start();
    for path in ["hub", "operator/ann"] {
        let status = hub.dial(path).await.err().expect(path);
        assert_eq!(status.code(), Code::PermissionDenied, "{path}");
    }
    hub.metric(r#"remote_istio_hub_sessions_ended_total{reason="not_a_remote"} 2"#)
        .await;
}

#[tokio::test]
async fn reconnect_takes_the_place_of_the_session_before() {
    let hub = Hub::start();
    let mut first = hub.join("remote-1", hello(1, "a", 1)).await;
    first.welcome().await;
    let mut second = hub.join("remote-1", hello(1, "a", 2)).await;
    second.welcome().await;
    assert_eq!(first.end().await.expect_err("superseded").code(), Code::Aborted);
    hub.metric(r#"remote_istio_hub_sessions_ended_total{reason="superseded"} 1"#)
        .await;
    let report = hub.report("remote-1", |report| report.epoch.connection == 2).await;
    assert_eq!(report.epoch.start, 1);
    assert_eq!(hub.sessions.len(), 1);
    assert_eq!(hub.sessions.disconnected_at(&remote_1()), None);
}

#[tokio::test]
async fn stopping_hub_asks_agents_to_leave_and_ends() {
    let mut hub = Hub::start();
    hub.enable("remote-1", &["10.0.0.1"]);
    let mut agent = hub.join("remote-1", hello(1, "a", 1)).await;
    agent.welcome().await;
    for _ in Lane::ALL {
        agent.accept().await;
    }
    hub.stop.cancel();
    let drain = match agent.next().await {
        Ok(Some(Frame::Drain(drain))) => drain,
        other => panic!("not a drain: {other:?}"),
    };
    assert!(drain.reconnect_min_milliseconds < drain.reconnect_max_milliseconds);
    agent.leave();
    let status = agent.end().await.expect_err("the hub's last word");
    assert_eq!(status.code(), Code::Unavailable);
    drop(agent);
    let served = timeout(PATIENCE, hub.serving.join_next()).await.expect("in time");
    served.expect("it served").expect("no panic").expect("a good end");
    assert!(hub.sessions.is_empty());
}

#[tokio::test]
async fn agent_that_does_not_leave_does_not_hold_the_end_up() {
    let leave = Duration::from_millis(50);
    let mut hub = Hub::start_with(Bounds {
        leave,
        ..Bounds::default()
    });
    let mut agent = hub.join("remote-1", hello(1, "a", 1)).await;
    agent.welcome().await;
    hub.stop.cancel();
    let served = timeout(PATIENCE, hub.serving.join_next()).await.expect("in time");
    served.expect("it served").expect("no panic").expect("a good end");
}
