//! A world to desire and an agent that holds what it is sent, for the tests of the session.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use remote_istio::convert;
use remote_istio::enrolment::{Trust, TrustDigest};
use remote_istio::identity::RemoteName;
use remote_istio::lane::{Assembly, Inbox, NackReason};
use remote_istio::limits;
use remote_istio::model::{
    ApplyState, Body, Endpoint, EndpointSet, Key, Lane, LaneHash, Object, ServiceIntent, Snapshot, Version,
};
use remote_istio::wire::v1;
use remote_istio::wire::v1::hub_frame::Frame;

use super::super::{Opening, Session};
use crate::index::Desired;
use crate::report::CertificateReport;

pub(super) const MILLISECOND: u64 = 1_000_000;
pub(super) const SECOND: u64 = 1_000 * MILLISECOND;

/// When sessions open, seconds since 1970.
pub(super) const OPENED_AT: i64 = 1_700_000_000;

/// What central says.
#[derive(Clone, Debug)]
pub(super) struct World {
    bodies: BTreeMap<Key, (Body, u64)>,
    fresh: Vec<Key>,
    lanes: Vec<Lane>,
    deleting: bool,
    released: bool,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            bodies: BTreeMap::new(),
            fresh: Vec::new(),
            lanes: Lane::ALL.to_vec(),
            deleting: false,
            released: false,
        }
    }

    pub(super) fn set(mut self, name: &str, addresses: &[u8]) -> Self {
        let address = |last: &u8| (IpAddr::V4(Ipv4Addr::new(10, 0, 0, *last)), Endpoint::ready());
        let set = EndpointSet {
            endpoints: addresses.iter().map(address).collect(),
            port_sets: vec![],
        };
        self.put(Key::endpoints("istio-system", name), Body::Endpoints(set));
        self
    }

    pub(super) fn service(mut self, name: &str) -> Self {
        self.put(
            Key::service("istio-system", name),
            Body::Service(ServiceIntent::default()),
        );
        self
    }

    pub(super) fn toggle_service(mut self, name: &str) -> Self {
        let key = Key::service("istio-system", name);
        if self.bodies.remove(&key).is_none() {
            self = self.service(name);
        }
        self
    }

    fn put(&mut self, key: Key, body: Body) {
        self.bodies.insert(key.clone(), (body, 0));
        self.fresh.push(key);
    }

    /// What was put since the last call was caused at this time.
    pub(super) fn at(mut self, caused_at: u64) -> Self {
        for key in std::mem::take(&mut self.fresh) {
            if let Some((_, at)) = self.bodies.get_mut(&key) {
                *at = caused_at;
            }
        }
        self
    }

    /// The lane is not known yet.
    pub(super) fn without(mut self, lane: Lane) -> Self {
        self.lanes.retain(|known| *known != lane);
        self
    }

    pub(super) fn deleting(mut self) -> Self {
        self.deleting = true;
        self.released()
    }

    /// Removals pass the guard.
    pub(super) fn released(mut self) -> Self {
        self.released = true;
        self
    }

    fn snapshot(&self, lane: Lane) -> Arc<Snapshot> {
        let object = |(key, (body, at)): (&Key, &(Body, u64))| {
            // The time is a good position too: it rises with each change.
            (key.clone(), Arc::new(Object::new(*at, Some(*at), body.clone())))
        };
        let of_lane = self.bodies.iter().filter(|(key, _)| key.lane() == lane);
        Arc::new(Snapshot::new(of_lane.map(object).collect(), self.released))
    }

    pub(super) fn desired(&self) -> Arc<Desired> {
        Arc::new(Desired {
            uid: "uid".to_owned(),
            generation: 1,
            deleting: self.deleting,
            deletion: None,
            lanes: self.lanes.iter().map(|lane| (*lane, self.snapshot(*lane))).collect(),
            problems: vec![],
            services: vec![],
            mesh_ca: None,
            tombstone: None,
        })
    }

    pub(super) fn hashes(&self) -> BTreeMap<Lane, LaneHash> {
        Lane::ALL
            .into_iter()
            .map(|lane| (lane, self.snapshot(lane).hash()))
            .collect()
    }

    pub(super) fn version(&self, key: &Key) -> Version {
        self.snapshot(key.lane()).objects()[key].version
    }
}

/// How a session starts.
pub(super) struct Start {
    desired: Option<Arc<Desired>>,
    settled: bool,
    at: u64,
    certificate: CertificateReport,
    trust: Option<Arc<Trust>>,
    holds: Option<TrustDigest>,
}

impl Start {
    pub(super) fn claimed(world: &World) -> Self {
        Self {
            desired: Some(world.desired()),
            ..Self::unclaimed()
        }
    }

    pub(super) fn unclaimed() -> Self {
        Self {
            desired: None,
            settled: false,
            at: 0,
            certificate: CertificateReport {
                not_before: OPENED_AT - 900,
                not_after: OPENED_AT + 86_400,
            },
            trust: None,
            holds: None,
        }
    }

    /// The certificate ends so many seconds after the session opens.
    pub(super) fn ends_in(mut self, seconds: i64) -> Self {
        self.certificate.not_after = OPENED_AT + seconds;
        self
    }

    /// Agents should trust this, and this one says that it keeps something.
    pub(super) fn trust(self, trust: &Arc<Trust>, holds: Option<TrustDigest>) -> Self {
        let trust = Some(Arc::clone(trust));
        Self { trust, holds, ..self }
    }

    pub(super) fn settled(self) -> Self {
        Self { settled: true, ..self }
    }

    pub(super) fn at(self, at: u64) -> Self {
        Self { at, ..self }
    }
}

/// Holds what it is sent, in memory.
#[derive(Default)]
pub(super) struct Agent {
    lanes: BTreeMap<Lane, (Inbox, Assembly)>,
    answers: Vec<v1::Ack>,
    pub(super) refuses: Option<Key>,
}

pub(super) fn hello(lanes: BTreeMap<Lane, LaneHash>, settled: bool) -> convert::SessionHello {
    convert::SessionHello {
        protocol: 1,
        release: "0.1.0".to_owned(),
        features: vec![],
        cluster_uid: "cluster".to_owned(),
        boot_id: "boot".to_owned(),
        session_epoch: 3,
        connection: 1,
        lanes,
        kubernetes_version: "v1.36.0".to_owned(),
        settled,
        trust_digest: None,
    }
}

impl Agent {
    pub(super) fn open(&mut self, start: Start) -> Session {
        for lane in Lane::ALL {
            self.lanes.entry(lane).or_default().1 = Assembly::default();
        }
        let opening = Opening {
            now: start.at,
            unix_seconds: OPENED_AT,
            remote: RemoteName::new("remote-1").expect("a DNS label"),
            namespace: "istio-system".to_owned(),
            address: "10.0.0.1:1".to_owned(),
            replica: "hub-0".to_owned(),
            boot_id: "hub boot".to_owned(),
            heartbeat: limits::HEARTBEAT_INTERVAL,
            certificate: start.certificate,
            trust: start.trust,
        };
        let hello = convert::SessionHello {
            trust_digest: start.holds,
            ..hello(self.hashes(), start.settled)
        };
        Session::new(hello, opening, start.desired, true)
    }

    /// A session that has sent and settled everything.
    pub(super) fn connected(&mut self, world: &World) -> Session {
        let mut session = self.open(Start::claimed(world));
        let sent = frames(&mut session, 0);
        self.take_all(&mut session, sent, 0);
        session
    }

    pub(super) fn catch_up(&mut self, world: &World) {
        self.connected(world);
        assert_eq!(self.hashes(), world.hashes());
    }

    /// Takes the frames, answers, and goes on with whatever comes for it.
    pub(super) fn take_all(&mut self, session: &mut Session, sent: Vec<v1::HubFrame>, now: u64) {
        for frame in sent {
            self.take(frame);
        }
        loop {
            self.answer(session, now);
            let more = frames(session, now);
            if more.is_empty() {
                return;
            }
            for frame in more {
                self.take(frame);
            }
        }
    }

    pub(super) fn take(&mut self, frame: v1::HubFrame) {
        let Some(Frame::Delta(delta)) = frame.frame else { return };
        let part = convert::read_delta(delta).expect("a good delta");
        let (inbox, assembly) = self.lanes.get_mut(&part.lane).expect("both lanes");
        assembly
            .add(part.nonce, part.part, part.upserts, part.removals, part.unread)
            .expect("parts in order");
        let Some(end) = part.end else {
            return;
        };
        let (change, unread) = assembly.finish(end);
        let admit = |key: &Key, _: &Object| {
            let refused = self.refuses.as_ref() == Some(key);
            if refused {
                Err((NackReason::Policy, "not here".to_owned()))
            } else {
                Ok(())
            }
        };
        let judged = inbox.judge(&change, unread, "hub boot", admit).expect("a good change");
        inbox.commit(&judged, "hub boot");
        let answer = convert::ack_frames(part.lane, judged.nonce, inbox.hash(), &judged.nacks);
        self.answers.extend(answer);
    }

    pub(super) fn answer(&mut self, session: &mut Session, now: u64) {
        for ack in self.answers.drain(..) {
            let frame = Some(v1::agent_frame::Frame::Ack(ack));
            session.frame(v1::AgentFrame { frame }, now, 0).expect("a good frame");
        }
    }

    pub(super) fn forget_answers(&mut self) {
        self.answers.clear();
    }

    /// The most answers that wait in one lane: each stands for a delta in flight.
    pub(super) fn most_unanswered(&self) -> usize {
        let of = |lane: v1::Lane| self.answers.iter().filter(|ack| ack.lane() == lane).count();
        of(v1::Lane::Endpoints).max(of(v1::Lane::Config))
    }

    pub(super) fn hashes(&self) -> BTreeMap<Lane, LaneHash> {
        self.lanes
            .iter()
            .map(|(lane, (inbox, _))| (*lane, inbox.hash()))
            .collect()
    }

    pub(super) fn held(&self) -> usize {
        self.lanes.values().map(|(inbox, _)| inbox.len()).sum()
    }
}

/// Everything the session has to send now.
pub(super) fn frames(session: &mut Session, now: u64) -> Vec<v1::HubFrame> {
    std::iter::from_fn(|| session.next_frame(now)).collect()
}

pub(super) fn deltas(frames: &[v1::HubFrame]) -> usize {
    frames.iter().filter(|frame| kind(frame) == "delta").count()
}

pub(super) fn kind(frame: &v1::HubFrame) -> &'static str {
    match frame.frame.as_ref().expect("a kind") {
        Frame::Welcome(_) => "welcome",
        Frame::Delta(_) => "delta",
        Frame::Ack(_) => "ack",
        Frame::Heartbeat(_) => "heartbeat",
        Frame::Drain(_) => "drain",
        Frame::Claim(_) => "claim",
        Frame::Trust(_) => "trust",
        Frame::Challenge(_) => "challenge",
    }
}

pub(super) fn delta(frame: &v1::HubFrame) -> &v1::Delta {
    match &frame.frame {
        Some(Frame::Delta(delta)) => delta,
        other => panic!("not a delta: {other:?}"),
    }
}

pub(super) fn welcome(frame: &v1::HubFrame) -> &v1::Welcome {
    match &frame.frame {
        Some(Frame::Welcome(welcome)) => welcome,
        other => panic!("not a welcome: {other:?}"),
    }
}

pub(super) fn status(key: &Key, version: Option<Version>, state: ApplyState) -> v1::AgentFrame {
    let applied = remote_istio::model::Applied {
        version,
        state,
        detail: String::new(),
        addresses: 1,
        replicas: None,
    };
    let frame = convert::status_frames([(key, &applied)]).pop().expect("one entry");
    v1::AgentFrame {
        frame: Some(v1::agent_frame::Frame::Status(frame)),
    }
}

pub(super) fn heartbeat(received: u64, unix_milliseconds: u64) -> v1::AgentFrame {
    v1::AgentFrame {
        frame: Some(v1::agent_frame::Frame::Heartbeat(v1::Heartbeat {
            sequence: 1,
            received,
            unix_milliseconds,
            backlog: 0,
        })),
    }
}
