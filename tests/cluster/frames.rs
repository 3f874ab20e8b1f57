//! Peers that break the contract.

use std::collections::BTreeMap;

use prost::Message as _;
use remote_istio::limits;
use remote_istio::model::{Body, Endpoint, EndpointSet, Key, Lane, Object, ServiceIntent};
use remote_istio::wire::v1::{self, agent_frame, hub_frame};
use support::ca::TRUST_DOMAIN;
use support::eventually::{eventually, seen};
use support::peer::{ScriptedAgent, ScriptedHub, hello};

use crate::mesh::{Mesh, run};

const PILOT: &[(&str, &str)] = &[("istio-pilot", "istio=pilot")];

/// A session as the remote "NAME-x", welcomed; no `RemoteIstio` stands behind it.
async fn stranger(mesh: &Mesh<'_>, boot_id: &str) -> ScriptedAgent {
    let mut agent = mesh
        .scripted_agent("stranger", hello(boot_id, 1))
        .await
        .expect("a session");
    let welcome = agent.welcome().await.expect("welcomed");
    assert!(!welcome.claim.unwrap_or_default().claimed);
    agent
}

#[test]
fn garbage_ends_its_own_session_with_a_reason_and_no_other() {
    run(async {
        let mesh = Mesh::start("garbage").await;
        mesh.enable(PILOT).await;
        mesh.until_ready(0).await;
        let session = mesh.status(0).await["session"].clone();

        let mut agent = stranger(&mesh, "garbage").await;
        agent.send_raw(vec![0xff; 40]).await.expect("sent");
        let status = agent.ended().await.expect("ended");
        assert_ne!(status.message(), "", "{status:?}");

        let mut agent = stranger(&mesh, "oversized").await;
        agent
            .send_raw(vec![0; limits::FRAME_MAX_BYTES + 1])
            .await
            .expect("sent");
        let status = agent.ended().await.expect("ended");
        let limit = limits::FRAME_MAX_BYTES.to_string();
        assert!(status.message().contains(&limit), "the reason is its size: {status:?}");

        let mut agent = stranger(&mesh, "long-text").await;
        let frame = v1::Status {
            entries: vec![v1::Applied {
                key: "service/a/b".to_owned(),
                detail: "x".repeat(limits::DETAIL_MAX_BYTES + 1),
                ..v1::Applied::default()
            }],
        };
        agent.send(agent_frame::Frame::Status(frame)).await.expect("sent");
        let status = agent.ended().await.expect("ended");
        assert!(status.message().contains("detail"), "{status:?}");

        // The others never noticed.
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.remote(0).until_addresses("istio-pilot", &["10.1.0.1"]).await;
        assert_eq!(mesh.status(0).await["session"], session, "the same session as before");
    });
}

#[test]
fn session_must_begin_with_one_hello_of_a_common_protocol() {
    run(async {
        let mesh = Mesh::start("hello").await;
        let first = v1::AgentFrame {
            frame: Some(agent_frame::Frame::Heartbeat(v1::Heartbeat::default())),
        };
        let refused = mesh.scripted_agent_raw("stranger", first.encode_to_vec()).await;
        let reason = match refused {
            Err(error) => format!("{error:#}"),
            Ok(mut agent) => agent.ended().await.expect("ended").message().to_owned(),
        };
        assert!(reason.to_lowercase().contains("hello"), "{reason}");

        let mut agent = stranger(&mesh, "twice").await;
        agent
            .send(agent_frame::Frame::Hello(hello("twice", 1)))
            .await
            .expect("sent");
        let status = agent.ended().await.expect("ended");
        assert!(status.message().to_lowercase().contains("hello"), "{status:?}");

        let newer = v1::Hello {
            protocol_min: 7,
            protocol_max: 9,
            ..hello("newer", 1)
        };
        let reason = match mesh.scripted_agent("stranger", newer).await {
            Err(error) => format!("{error:#}"),
            Ok(mut agent) => agent.ended().await.expect("ended").message().to_owned(),
        };
        assert!(reason.contains("protocol"), "{reason}");
    });
}

#[test]
fn unknown_frames_and_fields_are_ignored_and_counted() {
    run(async {
        let mesh = Mesh::start("unknown").await;
        let before = mesh.hub_metric("unknown_frames_total", &[]).await;
        let mut agent = stranger(&mesh, "unknown").await;
        // Field 99 of the oneof, as a later release may have it.
        agent.send_raw(vec![0x9a, 0x06, 0x02, 0x08, 0x01]).await.expect("sent");
        mesh.create_remote_istio_named("stranger", PILOT).await;
        let delta = agent.delta().await.expect("the session goes on");
        assert!(delta.complete);
        let counted = mesh.hub_metric("unknown_frames_total", &[]).await - before;
        assert!((counted - 1.0).abs() < f64::EPSILON, "counted {counted} times");
    });
}

/// F45. No message names its sender: what a remote says of another's objects is said of itself.
#[test]
fn remote_that_speaks_of_anothers_objects_changes_nothing_there() {
    run(async {
        let mesh = Mesh::start("others-objects").await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.until_ready(0).await;
        mesh.remote(0).until_quiet().await;
        let before = mesh.status(0).await;
        let unread = mesh.hub_metric("unread_states_total", &[]).await;
        let mut agent = mesh
            .scripted_agent("stranger", hello("liar", 1))
            .await
            .expect("a session");
        agent.welcome().await.expect("welcomed");
        let tricks = [
            "service/../others-objects-0",
            "endpoints/a/b/c",
            "",
            "remote/others-objects-0",
            "service/a/B",
        ];
        let own = Key::endpoints(mesh.namespace(), "istio-pilot").to_string();
        let entries = tricks
            .into_iter()
            .map(str::to_owned)
            .chain([own])
            .map(|key| v1::Applied {
                key,
                state: v1::ApplyState::Rejected.into(),
                detail: "the liar says so".to_owned(),
                ..v1::Applied::default()
            });
        let status = v1::Status {
            entries: entries.collect(),
        };
        agent.send(agent_frame::Frame::Status(status)).await.expect("sent");
        eventually("what does not read is counted", || async {
            let now = mesh.hub_metric("unread_states_total", &[]).await;
            seen(now - unread >= 4.0, now - unread)
        })
        .await;
        assert_eq!(mesh.status(0).await, before);
    });
}

/// An endpoint set with these addresses.
pub fn endpoints(addresses: impl IntoIterator<Item = String>) -> Object {
    let endpoints: BTreeMap<_, _> = addresses
        .into_iter()
        .map(|address| (address.parse().expect("an address"), Endpoint::ready()))
        .collect();
    let set = EndpointSet {
        endpoints,
        port_sets: vec![],
    };
    Object::new(1, None, Body::Endpoints(set))
}

/// A service without ports.
pub fn service() -> Object {
    Object::new(1, None, Body::Service(ServiceIntent { ports: vec![] }))
}

/// An agent on a real API server, and a hub that says what the test wants.
async fn scripted(name: &str) -> (Mesh<'static>, ScriptedHub) {
    let mut mesh = Mesh::without_hub(name).await;
    let hub = ScriptedHub::start(mesh.hub_certificate(), TRUST_DOMAIN)
        .await
        .expect("a scripted hub");
    mesh.launch_agent_to(0, hub.address()).await;
    (mesh, hub)
}

#[test]
fn agent_refuses_what_its_own_policy_forbids_and_takes_the_rest() {
    run(async {
        let (mesh, hub) = scripted("policy").await;
        let mut session = hub.welcomed("boot").await.expect("a session");
        let namespace = mesh.namespace();
        let good = Key::service(namespace, "good");
        let elsewhere = Key::service("kube-system", "kube-dns");
        let own = Key::injection(namespace);
        let objects = vec![
            (good.clone(), service()),
            (elsewhere.clone(), service()),
            (own.clone(), Object::new(1, None, Body::Injection)),
        ];
        let nonce = session.snapshot(Lane::Config, objects, false).await.expect("sent");
        let ack = session.ack(nonce).await.expect("answered");
        let mut refused: Vec<_> = ack.nacks.iter().map(|nack| (nack.key.clone(), nack.reason())).collect();
        refused.sort();
        let mut expected = [elsewhere, own].map(|key| (key.to_string(), v1::NackReason::Policy));
        expected.sort();
        assert_eq!(refused, expected);
        assert!(ack.nacks.iter().all(|nack| !nack.detail.is_empty()));
        mesh.remote(0).until_object("Service", "good", |_| true).await;

        let key = Key::endpoints(namespace, "good");
        let loopback = vec![(key, endpoints(["127.0.0.1".to_owned()]))];
        let nonce = session.snapshot(Lane::Endpoints, loopback, false).await.expect("sent");
        let ack = session.ack(nonce).await.expect("answered");
        assert_eq!(ack.nacks.len(), 1, "{ack:?}");
        assert_eq!(ack.nacks[0].reason(), v1::NackReason::Policy);
    });
}

#[test]
fn empty_snapshot_of_a_mistaken_hub_is_held_by_the_guard_until_it_is_released() {
    run(async {
        let (mesh, hub) = scripted("guard").await;
        let mut session = hub.welcomed("boot").await.expect("a session");
        let objects: Vec<_> = (0..12)
            .map(|number| (Key::service(mesh.namespace(), &format!("svc-{number}")), service()))
            .collect();
        let nonce = session.snapshot(Lane::Config, objects, false).await.expect("sent");
        assert_eq!(session.ack(nonce).await.expect("answered").nacks, []);
        let last = Key::service(mesh.namespace(), "svc-11");
        mesh.remote(0).until_object("Service", "svc-11", |_| true).await;

        let nonce = session.snapshot(Lane::Config, vec![], false).await.expect("sent");
        let ack = session.ack(nonce).await.expect("answered");
        assert_eq!(ack.nacks.len(), 12, "{ack:?}");
        assert!(ack.nacks.iter().all(|nack| nack.reason() == v1::NackReason::GuardHeld));
        mesh.remote(0).object("Service", "svc-11").await.expect("stays");

        let nonce = session.snapshot(Lane::Config, vec![], true).await.expect("sent");
        assert_eq!(session.ack(nonce).await.expect("answered").nacks, []);
        session
            .applied(&last, v1::ApplyState::Removed)
            .await
            .expect("it says that it is gone");
        mesh.remote(0).until_absent("Service", "svc-11").await;
    });
}

#[test]
fn large_set_is_packed_into_slices_of_which_a_change_touches_one() {
    run(async {
        let (mesh, hub) = scripted("packing").await;
        let mut session = hub.welcomed("boot").await.expect("a session");
        let key = Key::endpoints(mesh.namespace(), "large");
        let address = |number: usize| format!("10.5.{}.{}", number / 200, number % 200 + 1);
        let all: Vec<String> = (0..250).map(address).collect();
        let set = vec![(key.clone(), endpoints(all.clone()))];
        let nonce = session.snapshot(Lane::Endpoints, set, false).await.expect("sent");
        assert_eq!(session.ack(nonce).await.expect("answered").nacks, []);
        let remote = mesh.remote(0);
        let held = async |addresses: &[String]| {
            let wanted: Vec<&str> = addresses.iter().map(String::as_str).collect();
            remote.until_addresses("large", &wanted).await;
        };
        held(&all).await;
        let before = remote.slices("large").await;
        assert_eq!(before.len(), 3);

        let fewer = &all[1..];
        let set = vec![(key, endpoints(fewer.iter().cloned()))];
        let nonce = session.snapshot(Lane::Endpoints, set, false).await.expect("sent");
        assert_eq!(session.ack(nonce).await.expect("answered").nacks, []);
        held(fewer).await;
        let after = remote.slices("large").await;
        let touched = after.iter().filter(|slice| !before.contains(slice)).count();
        assert_eq!((after.len(), touched), (3, 1));
    });
}

#[test]
fn agent_ignores_frames_it_does_not_know() {
    run(async {
        let (mesh, hub) = scripted("unknown-hub").await;
        let mut session = hub.welcomed("boot").await.expect("a session");
        session
            .send_frame(v1::HubFrame { frame: None })
            .await
            .expect("sent: a kind of a later release reads as none");
        let key = Key::endpoints(mesh.namespace(), "istio-pilot");
        let set = vec![(key, endpoints(["10.5.0.1".to_owned()]))];
        let nonce = session.snapshot(Lane::Endpoints, set, false).await.expect("sent");
        session.ack(nonce).await.expect("the session goes on");
        mesh.remote(0).until_addresses("istio-pilot", &["10.5.0.1"]).await;
    });
}

#[test]
fn agent_leaves_a_hub_that_sends_too_much_and_comes_back() {
    run(async {
        let (mesh, hub) = scripted("too-much").await;
        let first = hub.welcomed("boot").await.expect("a session");
        let claim = v1::Claim {
            claimed: true,
            message: "x".repeat(limits::FRAME_MAX_BYTES + 1),
        };
        first.send(hub_frame::Frame::Claim(claim)).await.expect("sent");
        let mut second = hub.welcomed("boot").await.expect("it comes back");
        assert!(second.hello.connection > first.hello.connection);
        let key = Key::endpoints(mesh.namespace(), "istio-pilot");
        let set = vec![(key, endpoints(["10.5.0.1".to_owned()]))];
        let nonce = second.snapshot(Lane::Endpoints, set, false).await.expect("sent");
        second.ack(nonce).await.expect("it works as before");
    });
}

#[test]
fn agent_told_to_leave_comes_back_by_itself() {
    run(async {
        let (_mesh, hub) = scripted("drained").await;
        let first = hub.welcomed("boot").await.expect("a session");
        let connection = first.hello.connection;
        first
            .send(hub_frame::Frame::Drain(v1::Drain {
                reason: "the test says so".to_owned(),
                reconnect_min_milliseconds: 1,
                reconnect_max_milliseconds: 50,
            }))
            .await
            .expect("sent");
        let second = hub.session().await.expect("it comes back");
        assert_eq!(second.hello.boot_id, first.hello.boot_id);
        assert!(second.hello.connection > connection);
    });
}
