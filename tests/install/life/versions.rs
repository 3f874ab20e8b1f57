//! A hub with agents of an older and a newer release, and an agent with such hubs.
//!
//! There is one release so far. The older one is played from frames that a session of this release left in
//! `tests/install/recorded`; the newer one by peers who say what this release cannot know.

mod raw_hub;
mod recorded;

use anyhow::{Context as _, Result, bail};
use prost::Message as _;
use remote_istio::wire::v1::{self, agent_frame, hub_frame};
use support::ca::TRUST_DOMAIN;
use support::eventually::{eventually, seen};
use support::peer::{ScriptedAgent, ScriptedHub, hello};

use self::raw_hub::RawHub;
use self::recorded::Recorded;
use crate::cluster::mesh::{Mesh, run};

const PILOT: &[(&str, &str)] = &[("istio-pilot", "istio=pilot")];

/// The namespace of the recorded session: keys carry it.
const NAMESPACE: &str = "recorded";

/// What is read back.
const RELEASE: &str = "protocol-1";

fn lane_name(lane: i32) -> &'static str {
    if lane == i32::from(v1::Lane::Endpoints) {
        "endpoints"
    } else {
        "config"
    }
}

/// Records a session of each end. Run it by hand once for a release: `cargo test -p remote-istio-tests --test install
/// record_a_session -- --ignored`.
#[test]
#[ignore = "writes the recording of this release"]
fn record_a_session_of_this_release() -> Result<()> {
    run(async {
        let mut mesh = Mesh::without_agents(NAMESPACE).await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        let mut frames = Vec::new();
        // The real hub, and an agent that writes down what it is told.
        let mut agent = mesh.scripted_agent(&mesh.remote_name(0), hello("boot", 1)).await?;
        let welcome = agent.welcome().await?;
        let hub_frame = |kind| v1::HubFrame { frame: Some(kind) }.encode_to_vec();
        frames.push(("hub welcome".to_owned(), hub_frame(hub_frame::Frame::Welcome(welcome))));
        let mut deltas = Vec::new();
        for _ in 0..2 {
            let delta = agent.delta().await?;
            agent.accept(&delta).await?;
            let what = format!("hub delta-{}", lane_name(delta.lane));
            frames.push((what, hub_frame(hub_frame::Frame::Delta(delta.clone()))));
            deltas.push(delta);
        }
        drop(agent);
        mesh.terminate_hub().await;
        // The real agent, and a hub that tells it the same.
        let hub = ScriptedHub::start(mesh.hub_certificate(), TRUST_DOMAIN).await?;
        mesh.launch_agent_to(0, hub.address()).await;
        let mut session = hub.welcomed("boot").await?;
        let agent_frame = |kind| v1::AgentFrame { frame: Some(kind) }.encode_to_vec();
        let hello = agent_frame::Frame::Hello(session.hello.clone());
        frames.push(("agent hello".to_owned(), agent_frame(hello)));
        for delta in &deltas {
            session.send(hub_frame::Frame::Delta(delta.clone())).await?;
        }
        let (mut acks, mut entries, mut policy) = (0, std::collections::BTreeMap::new(), false);
        let applied = |entries: &std::collections::BTreeMap<String, v1::Applied>| {
            let wanted = deltas.iter().flat_map(|delta| &delta.upserts);
            let is_applied = |entry: &v1::Applied| entry.state == i32::from(v1::ApplyState::Applied);
            wanted
                .into_iter()
                .all(|upsert| entries.get(&upsert.key).is_some_and(is_applied))
        };
        while acks < 2 || !policy || !applied(&entries) {
            match session.next().await? {
                agent_frame::Frame::Ack(ack) => {
                    acks += 1;
                    let what = format!("agent ack-{}", lane_name(ack.lane));
                    frames.push((what, agent_frame(agent_frame::Frame::Ack(ack))));
                }
                agent_frame::Frame::Policy(said) => {
                    policy = true;
                    frames.push(("agent policy".to_owned(), agent_frame(agent_frame::Frame::Policy(said))));
                }
                agent_frame::Frame::Status(status) => {
                    entries.extend(status.entries.into_iter().map(|entry| (entry.key.clone(), entry)));
                }
                _ => {}
            }
        }
        let status = v1::Status {
            entries: entries.into_values().collect(),
        };
        frames.push((
            "agent status".to_owned(),
            agent_frame(agent_frame::Frame::Status(status)),
        ));
        Recorded::write(RELEASE, env!("CARGO_PKG_VERSION"), &frames)
    })
}

/// Answers two deltas with recorded acks and then says that all is applied, as recorded.
async fn replay(agent: &mut ScriptedAgent, recorded: &Recorded) -> Result<()> {
    let agent_frame::Frame::Status(mut status) = recorded.agent("status")? else {
        bail!("the recorded status is none");
    };
    for _ in 0..2 {
        let delta = agent.delta().await?;
        let agent_frame::Frame::Ack(mut ack) = recorded.agent(&format!("ack-{}", lane_name(delta.lane)))? else {
            bail!("the recorded ack is none");
        };
        // What an agent only repeats.
        ack.nonce = delta.nonce;
        ack.hash.clone_from(&delta.next_hash);
        agent.send(agent_frame::Frame::Ack(ack)).await?;
        for upsert in &delta.upserts {
            let entry = status.entries.iter_mut().find(|entry| entry.key == upsert.key);
            let entry = entry.with_context(|| format!("{} was not applied in the recorded session", upsert.key))?;
            entry.version.clone_from(&upsert.version);
        }
    }
    agent.send(agent_frame::Frame::Status(status)).await
}

/// Hub at N, agent at N-1; then hub at N-1, agent at N.
#[test]
fn session_that_an_earlier_release_recorded_is_understood_by_hub_and_agent() -> Result<()> {
    run(async {
        let recorded = Recorded::read(RELEASE)?;
        let mut mesh = Mesh::without_agents(NAMESPACE).await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        let first = recorded.frame("agent hello")?;
        let mut agent = mesh.scripted_agent_raw(&mesh.remote_name(0), first).await?;
        assert_eq!(agent.welcome().await?.protocol, 1);
        agent.send_raw(recorded.frame("agent policy")?).await?;
        replay(&mut agent, &recorded).await?;
        mesh.until_ready(0).await;
        drop(agent);
        mesh.terminate_hub().await;

        let hub = RawHub::start(mesh.hub_certificate()).await?;
        mesh.launch_agent_to(0, hub.address()).await;
        let mut session = hub.session().await?;
        let agent_frame::Frame::Hello(said) = session.next().await? else {
            bail!("the first frame is no hello");
        };
        assert!(said.protocol_min <= 1 && said.protocol_max >= 1, "{said:?}");
        session.send(recorded.frame("hub welcome")?).await?;
        for lane in ["endpoints", "config"] {
            let bytes = recorded.frame(&format!("hub delta-{lane}"))?;
            let Some(hub_frame::Frame::Delta(delta)) = v1::HubFrame::decode(bytes.as_slice())?.frame else {
                bail!("the recorded delta is none");
            };
            session.send(bytes).await?;
            let ack = session.ack(delta.nonce).await?;
            assert_eq!((ack.hash, ack.nacks), (delta.next_hash, vec![]));
        }
        mesh.remote(0).until_addresses("istio-pilot", &["10.1.0.1"]).await;
        Ok(())
    })
}

/// Fields and frames that no release has yet: a varint and a text, far above the numbers in use.
const UNKNOWN: [u8; 9] = [0xb8, 0x3e, 0x07, 0xc2, 0x3e, 0x03, b'n', b'e', b'w'];

/// A frame of one kind whose message, and the frame itself, have fields of tomorrow.
fn newer(kind: u8, message: &impl prost::Message) -> Vec<u8> {
    let mut inner = message.encode_to_vec();
    inner.extend(UNKNOWN);
    let mut frame = vec![kind << 3 | 2];
    prost::encode_length_delimiter(inner.len(), &mut frame).expect("room");
    frame.extend(inner);
    frame.extend(UNKNOWN);
    frame
}

fn tomorrows_hello(minimum: u32) -> v1::Hello {
    v1::Hello {
        protocol_min: minimum,
        protocol_max: 9,
        release: "9.0.0".to_owned(),
        features: vec!["of-tomorrow".to_owned()],
        ..hello("tomorrow", 7)
    }
}

/// Agent at N+1.
#[test]
fn hub_speaks_with_an_agent_of_a_newer_release_as_far_as_both_know() -> Result<()> {
    run(async {
        let mesh = Mesh::without_agents("newer-agent").await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        let name = mesh.remote_name(0);
        let mut agent = mesh.scripted_agent_raw(&name, newer(1, &tomorrows_hello(1))).await?;
        let welcome = agent.welcome().await?;
        assert_eq!((welcome.protocol, welcome.features), (1, vec![]));
        agent.send_raw(UNKNOWN.to_vec()).await?;
        for _ in 0..2 {
            let delta = agent.delta().await?;
            let ack = v1::Ack {
                lane: delta.lane,
                nonce: delta.nonce,
                hash: delta.next_hash.clone(),
                ..v1::Ack::default()
            };
            agent.send_raw(newer(3, &ack)).await?;
            let applied = delta.upserts.iter().map(|upsert| v1::Applied {
                key: upsert.key.clone(),
                version: upsert.version.clone(),
                state: v1::ApplyState::Applied.into(),
                addresses: 1,
                ..v1::Applied::default()
            });
            let status = v1::Status {
                entries: applied.collect(),
            };
            agent.send_raw(newer(4, &status)).await?;
        }
        mesh.until_ready(0).await;
        let status = mesh.status(0).await;
        assert_eq!(status["agentVersion"], "9.0.0", "{status}");
        drop(agent);

        // One that gave up what this hub speaks is turned away with what to do.
        let reason = match mesh.scripted_agent(&name, tomorrows_hello(8)).await {
            Err(error) => format!("{error:#}"),
            Ok(mut agent) => agent.ended().await?.message().to_owned(),
        };
        assert!(reason.contains("upgrade the older end"), "{reason}");
        Ok(())
    })
}

/// Hub at N+1.
#[test]
fn agent_speaks_with_a_hub_of_a_newer_release_as_far_as_both_know() -> Result<()> {
    run(async {
        let recorded = Recorded::read(RELEASE)?;
        let mut mesh = Mesh::without_hub("newer-hub").await;
        let hub = RawHub::start(mesh.hub_certificate()).await?;
        mesh.launch_agent_to(0, hub.address()).await;
        let mut session = hub.session().await?;
        let Some(hub_frame::Frame::Welcome(mut welcome)) =
            v1::HubFrame::decode(recorded.frame("hub welcome")?.as_slice())?.frame
        else {
            bail!("the recorded welcome is none");
        };
        welcome.release = "9.0.0".to_owned();
        welcome.features = vec!["of-tomorrow".to_owned()];
        session.send(newer(1, &welcome)).await?;
        session.send(UNKNOWN.to_vec()).await?;
        let namespace = mesh.namespace().to_owned();
        for lane in ["endpoints", "config"] {
            let bytes = recorded.frame(&format!("hub delta-{lane}"))?;
            let Some(hub_frame::Frame::Delta(mut delta)) = v1::HubFrame::decode(bytes.as_slice())?.frame else {
                bail!("the recorded delta is none");
            };
            for upsert in &mut delta.upserts {
                upsert.key = upsert.key.replace(&format!("/{NAMESPACE}/"), &format!("/{namespace}/"));
            }
            // The keys are others, so the sum over them is; one delta that is not complete need not agree.
            delta.complete = false;
            session.send(newer(2, &delta)).await?;
            let ack = session.ack(delta.nonce).await?;
            assert_eq!(ack.nacks, []);
        }
        mesh.remote(0).until_addresses("istio-pilot", &["10.1.0.1"]).await;
        eventually("what is not known is counted", || async {
            let counted = mesh.remote(0).metric("frames_unknown_total").await;
            seen(counted >= 1.0, counted)
        })
        .await;
        Ok(())
    })
}
