//! What the hub counts and measures, under `remote_istio_hub_`.

mod gauges;

use std::iter;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use remote_istio::lane::NackReason;
use remote_istio::model::Lane;
use remote_istio::transport::Refusal;

pub use self::gauges::Gauges;
use crate::link::REVOKED;
use crate::session::Samples;

/// The prefix of all names here.
pub const PREFIX: &str = "remote_istio_hub";

/// Bounds of the latency histograms, seconds: half a millisecond on one machine to a minute behind a bad link.
const LATENCY_SECONDS: [f64; 16] = [
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0,
];

type Labels<const N: usize> = [(&'static str, &'static str); N];
type Counters<const N: usize> = Family<Labels<N>, Counter>;
type Histograms = Family<Labels<1>, Histogram, fn() -> Histogram>;

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From hub to agent.
    Sent,
    /// From agent to hub.
    Received,
}

impl Direction {
    fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Received => "received",
        }
    }
}

/// What came of asking the holder of a session whether it yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// It yielded.
    Yielded,
    /// It stayed: two agents with one identity.
    Stayed,
    /// It said nothing, and a later start replaced it.
    SilentReplaced,
    /// It said nothing, and the other was no later start.
    SilentStayed,
    /// Its session ended meanwhile.
    HolderLeft,
}

impl Challenge {
    const ALL: [Self; 5] = [
        Self::Yielded,
        Self::Stayed,
        Self::SilentReplaced,
        Self::SilentStayed,
        Self::HolderLeft,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Yielded => "yielded",
            Self::Stayed => "stayed",
            Self::SilentReplaced => "silent_replaced",
            Self::SilentStayed => "silent_stayed",
            Self::HolderLeft => "holder_left",
        }
    }
}

/// Counters and histograms of the link. What has a current value is read at each scrape, see [`Gauges`].
#[derive(Debug)]
pub struct Metrics {
    sessions_opened: Counter,
    sessions_ended: Counters<1>,
    handshakes_accepted: Counter,
    handshakes_refused: Counters<1>,
    challenges: Counters<1>,
    frames: Counters<2>,
    frame_bytes: Counters<2>,
    merged: Counters<1>,
    nacks: Counters<1>,
    resyncs: Counters<1>,
    unknown_frames: Counter,
    stale_acks: Counter,
    unread_states: Counter,
    accepted: Histograms,
    applied: Histograms,
}

impl Metrics {
    /// Registers everything with the prefix; labels that are known beforehand start at zero.
    pub fn new(registry: &mut Registry) -> Arc<Self> {
        let metrics = Self {
            sessions_opened: Counter::default(),
            sessions_ended: Family::default(),
            handshakes_accepted: Counter::default(),
            handshakes_refused: Family::default(),
            challenges: Family::default(),
            frames: Family::default(),
            frame_bytes: Family::default(),
            merged: Family::default(),
            nacks: Family::default(),
            resyncs: Family::default(),
            unknown_frames: Counter::default(),
            stale_acks: Counter::default(),
            unread_states: Counter::default(),
            accepted: Family::new_with_constructor(latency_histogram),
            applied: Family::new_with_constructor(latency_histogram),
        };
        metrics.register(registry.sub_registry_with_prefix(PREFIX));
        metrics.start_at_zero();
        Arc::new(metrics)
    }

    fn start_at_zero(&self) {
        drop(self.sessions_ended.get_or_create(&[("reason", REVOKED)]));
        for result in Challenge::ALL {
            drop(self.challenges.get_or_create(&[("result", result.as_str())]));
        }
        for reason in Refusal::ALL {
            drop(self.handshakes_refused.get_or_create(&[("reason", reason.as_str())]));
        }
        for reason in NackReason::ALL {
            drop(self.nacks.get_or_create(&[("reason", reason.as_str())]));
        }
        for lane in Lane::ALL {
            let labels = [("lane", lane.as_str())];
            drop(self.merged.get_or_create(&labels));
            drop(self.resyncs.get_or_create(&labels));
            drop(self.accepted.get_or_create(&labels));
            drop(self.applied.get_or_create(&labels));
        }
    }

    fn register(&self, registry: &mut Registry) {
        let mut counters = |name: &str, help: &str, family: &Counters<1>| registry.register(name, help, family.clone());
        counters(
            "sessions_ended",
            "Sessions ended or not opened, by reason",
            &self.sessions_ended,
        );
        counters(
            "handshakes_refused",
            "Connections refused before any request",
            &self.handshakes_refused,
        );
        counters(
            "challenges",
            "Questions to holders of sessions whether they yield to another agent, by result",
            &self.challenges,
        );
        counters(
            "merged",
            "Changes replaced by a later one before they were sent",
            &self.merged,
        );
        counters("nacks", "Objects that agents refused, by reason", &self.nacks);
        counters(
            "resyncs",
            "Lanes found to be held otherwise than expected",
            &self.resyncs,
        );
        registry.register(
            "handshakes_accepted",
            "Connections whose handshake succeeded",
            self.handshakes_accepted.clone(),
        );
        registry.register("sessions_opened", "Sessions opened", self.sessions_opened.clone());
        registry.register("frames", "Frames by direction and lane", self.frames.clone());
        registry.register(
            "frame_bytes",
            "Bytes of frames by direction and lane",
            self.frame_bytes.clone(),
        );
        registry.register(
            "unknown_frames",
            "Frames of an unknown kind, ignored",
            self.unknown_frames.clone(),
        );
        registry.register(
            "stale_acks",
            "Answers to no delta in flight or to no question, ignored",
            self.stale_acks.clone(),
        );
        registry.register(
            "unread_states",
            "States that agents reported of objects of no known kind or name, ignored",
            self.unread_states.clone(),
        );
        registry.register_with_unit(
            "propagation_accepted",
            "From an event on central to its acceptance by an agent, on the hub's clock",
            Unit::Seconds,
            self.accepted.clone(),
        );
        registry.register_with_unit(
            "propagation_applied",
            "From an event on central to its application in a remote, on the hub's clock",
            Unit::Seconds,
            self.applied.clone(),
        );
    }

    /// A session was opened.
    pub fn session_opened(&self) {
        self.sessions_opened.inc();
    }

    /// A session ended, or was not opened; `reason` from a closed set.
    pub fn session_ended(&self, reason: &'static str) {
        self.sessions_ended.get_or_create(&[("reason", reason)]).inc();
    }

    /// A connection's handshake succeeded.
    pub fn handshake_accepted(&self) {
        self.handshakes_accepted.inc();
    }

    /// The holder of a session was asked whether it yields.
    pub fn challenge(&self, result: Challenge) {
        self.challenges.get_or_create(&[("result", result.as_str())]).inc();
    }

    /// A connection was refused before any request.
    pub fn handshake_refused(&self, refusal: Refusal) {
        self.handshakes_refused
            .get_or_create(&[("reason", refusal.as_str())])
            .inc();
    }

    /// A frame went; `lane` is the word of a lane, or `control`.
    pub fn frame(&self, direction: Direction, lane: &'static str, bytes: usize) {
        let labels = [("direction", direction.as_str()), ("lane", lane)];
        self.frames.get_or_create(&labels).inc();
        self.frame_bytes.get_or_create(&labels).inc_by(bytes as u64);
    }

    /// Adds what a session has counted and measured.
    pub fn take(&self, samples: Samples) {
        let latencies = |histograms: &Histograms, latencies: Vec<(Lane, u64)>| {
            for (lane, nanoseconds) in latencies {
                let seconds = Duration::from_nanos(nanoseconds).as_secs_f64();
                histograms.get_or_create(&[("lane", lane.as_str())]).observe(seconds);
            }
        };
        latencies(&self.accepted, samples.accepted);
        latencies(&self.applied, samples.applied);
        for (reason, count) in samples.nacks {
            self.nacks.get_or_create(&[("reason", reason.as_str())]).inc_by(count);
        }
        let by_lane = iter::once((&self.merged, samples.merged)).chain([(&self.resyncs, samples.resyncs)]);
        for (counters, counts) in by_lane {
            for (lane, count) in counts {
                counters.get_or_create(&[("lane", lane.as_str())]).inc_by(count);
            }
        }
        self.unknown_frames.inc_by(samples.unknown_frames);
        self.stale_acks.inc_by(samples.stale_acks);
        self.unread_states.inc_by(samples.unread_states);
    }
}

fn latency_histogram() -> Histogram {
    Histogram::new(LATENCY_SECONDS)
}
