//! The engine against a model of an API server. The model is for schedules, it claims nothing about the real one.

mod applying;
mod components;
mod faults;
mod injection;
mod leaving;
mod model;
mod moving;
mod policy;
mod recovery;
mod stale;

use std::collections::BTreeMap;
use std::net::IpAddr;

use remote_istio::convert;
use remote_istio::identity::RemoteName;
use remote_istio::lane::{Change, Nack, Payload};
use remote_istio::model::{Body, Component, Endpoint, EndpointSet, Object, Port, Protocol, ServiceIntent, lane_hash};
use remote_istio::wire::v1::agent_frame::Frame;

use super::*;
use model::Remote;

const SECOND: u64 = 1_000_000_000;

pub(super) fn settings() -> Settings {
    Settings {
        owner: owner_of("remote-istio.local", &RemoteName::new("remote-1").unwrap()),
        namespace: "istio-system".to_owned(),
        service_namespaces: ["istio-system".to_owned()].into(),
        policy: Arc::new(Policy {
            components: remote_istio::policy::Runs::ALL.into(),
            namespaces: ["istio-system", "default", "later"].map(str::to_owned).into(),
            ..Policy::default()
        }),
        endpoints_objects: true,
        release: "1".to_owned(),
    }
}

fn pilot() -> Key {
    Key::endpoints("istio-system", "istio-pilot")
}

fn pilot_service() -> Key {
    Key::service("istio-system", "istio-pilot")
}

fn port(number: u16) -> Port {
    Port {
        name: "grpc".to_owned(),
        number,
        protocol: Protocol::Tcp,
        app_protocol: String::new(),
    }
}

fn set(addresses: &[&str]) -> EndpointSet {
    let endpoints = addresses
        .iter()
        .map(|address| (address.parse().unwrap(), Endpoint::ready()))
        .collect();
    EndpointSet {
        endpoints,
        port_sets: vec![vec![port(15_010)]],
    }
}

fn endpoints(addresses: &[&str]) -> Arc<Object> {
    Arc::new(Object::new(1, None, Body::Endpoints(set(addresses))))
}

fn numbered(count: u32) -> Arc<Object> {
    let addresses: Vec<String> = (0..count)
        .map(|index| format!("10.1.{}.{}", index / 200, index % 200 + 1))
        .collect();
    endpoints(&addresses.iter().map(String::as_str).collect::<Vec<_>>())
}

fn service(ports: &[u16]) -> Arc<Object> {
    let ports = ports
        .iter()
        .map(|number| Port {
            name: format!("p{number}"),
            ..port(*number)
        })
        .collect();
    Arc::new(Object::new(1, None, Body::Service(ServiceIntent { ports })))
}

/// An engine, its remote, and a hub that only sends.
struct Bench {
    engine: Engine,
    remote: Remote,
    now: u64,
    nonce: u64,
    /// The next change lets go of what it removes.
    orphaned: bool,
    frames: Vec<Frame>,
    /// What it was told of the remote's policy, which says nothing of what is held.
    policies: Vec<v1::Policy>,
    /// The hub's view of what is held.
    held: BTreeMap<Key, Arc<Object>>,
    /// Writes still to be answered.
    pending: Vec<(WriteId, Write)>,
}

impl Bench {
    fn new() -> Self {
        Self::on(Remote::new(), settings())
    }

    /// A new agent on what is there.
    fn on(remote: Remote, settings: Settings) -> Self {
        let engine = Engine::new(settings, remote.list(), 7, 0);
        let mut bench = Self {
            engine,
            remote,
            now: 0,
            nonce: 0,
            orphaned: false,
            frames: vec![],
            policies: vec![],
            held: BTreeMap::new(),
            pending: vec![],
        };
        bench.remote.events.clear();
        bench
    }

    /// Connected to a hub.
    fn connected() -> Self {
        let mut bench = Self::new();
        bench.connect("hub-1");
        bench
    }

    fn connect(&mut self, boot_id: &str) -> Greeting {
        let greeting = self.engine.greet(self.now);
        self.engine.welcomed(
            &v1::Welcome {
                boot_id: boot_id.to_owned(),
                ..v1::Welcome::default()
            },
            self.now,
        );
        greeting
    }

    fn send(&mut self, upserts: &[(Key, Arc<Object>)], removals: &[Key]) {
        self.send_change(upserts, removals, false, false);
    }

    /// What is removed is let go of and stays.
    fn orphan(&mut self, removals: &[Key]) {
        self.orphaned = true;
        self.send_change(&[], removals, false, true);
        self.orphaned = false;
    }

    fn snapshot(&mut self, lane: Lane, upserts: &[(Key, Arc<Object>)]) {
        self.held.retain(|key, _| key.lane() != lane);
        self.send_change(upserts, &[], true, false);
    }

    fn send_change(&mut self, upserts: &[(Key, Arc<Object>)], removals: &[Key], complete: bool, released: bool) {
        let lane = upserts
            .iter()
            .map(|(key, _)| key)
            .chain(removals)
            .next()
            .unwrap()
            .lane();
        self.held.extend(upserts.iter().cloned());
        self.held.retain(|key, _| !removals.contains(key));
        let of_lane = self.held.iter().filter(|(key, _)| key.lane() == lane);
        let next_hash = lane_hash(of_lane.map(|(key, object)| (key, object.version)));
        self.nonce += 1;
        let change = Change {
            nonce: self.nonce,
            complete,
            released,
            orphaned: self.orphaned,
            upserts: upserts
                .iter()
                .map(|(key, object)| (key.clone(), Payload::Full(Arc::clone(object))))
                .collect(),
            removals: removals.to_vec(),
            next_hash,
        };
        for part in convert::delta_parts(lane, &change) {
            self.engine.delta(part, self.now).unwrap();
        }
    }

    /// Takes outputs without answering any write.
    fn collect(&mut self) {
        while let Some(output) = self.engine.next_output() {
            match output {
                Output::Send(Frame::Policy(policy)) => self.policies.push(policy),
                Output::Send(frame) => self.frames.push(frame),
                Output::Write(id, write) => self.pending.push((id, write)),
            }
        }
    }

    /// Answers the first pending write; whether there was one.
    fn answer(&mut self) -> bool {
        self.collect();
        if self.pending.is_empty() {
            return false;
        }
        let (id, write) = self.pending.remove(0);
        let outcome = self.remote.write(&write);
        self.engine.written(id, outcome, self.now);
        self.watch();
        true
    }

    /// Shows the engine what the watches saw.
    fn watch(&mut self) {
        for seen in std::mem::take(&mut self.remote.events) {
            self.engine.seen(seen, self.now);
        }
    }

    /// Until nothing is left to do at this moment.
    fn settle(&mut self) {
        self.watch();
        for _ in 0..10_000 {
            if !self.answer() {
                return;
            }
        }
        panic!("the engine never comes to rest");
    }

    /// Lets time pass, waking the engine whenever it asks for it.
    fn pass(&mut self, seconds: u64) {
        let end = self.now + seconds * SECOND;
        self.settle();
        let mut wakes = 0;
        while let Some(wake) = self.engine.next_wake().filter(|wake| *wake <= end) {
            self.now = self.now.max(wake);
            self.engine.tick(self.now);
            self.settle();
            wakes += 1;
            assert!(wakes < 10_000, "the engine wakes without end");
        }
        self.now = end;
        self.engine.tick(end);
        self.settle();
    }

    /// Acks so far, each with its nacks.
    fn acks(&self) -> Vec<(u64, Vec<Nack>)> {
        let ack = |frame: &Frame| match frame {
            Frame::Ack(ack) => Some(
                convert::read_ack(ack.clone())
                    .map(|(_, nonce, _, nacks, _)| (nonce, nacks))
                    .unwrap(),
            ),
            _ => None,
        };
        self.frames.iter().filter_map(ack).collect()
    }

    /// What the hub was told last of a key.
    fn told(&self, key: &Key) -> Option<Applied> {
        let entries = |frame: &Frame| match frame {
            Frame::Status(status) => convert::read_status(status.clone()).unwrap(),
            _ => vec![],
        };
        let of_key = |(told, applied): (Key, Applied)| (told == *key).then_some(applied);
        self.frames.iter().flat_map(entries).filter_map(of_key).next_back()
    }

    fn told_state(&self, key: &Key) -> Option<ApplyState> {
        self.told(key).map(|applied| applied.state)
    }

    /// Ends the agent and starts another on what it left.
    fn restart(self, settings: Settings) -> Self {
        let held = self.held;
        Self {
            held,
            ..Self::on(self.remote, settings)
        }
    }

    fn addresses(&self) -> Vec<IpAddr> {
        self.remote.addresses("istio-pilot")
    }
}
