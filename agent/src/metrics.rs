//! What the agent counts, under `remote_istio_agent_`, and its process under the usual names.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use remote_istio::model::Lane;
use remote_istio::process::ProcessStats;
use remote_istio::tls::TlsSource;

use crate::engine::{Failure, Kind, Outcome, Statistics, Verb};

/// The prefix of every name.
const PREFIX: &str = "remote_istio_agent";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResult {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCall {
    call: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLane {
    lane: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Flow {
    direction: &'static str,
    lane: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Written {
    kind: &'static str,
    verb: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfVerb {
    verb: &'static str,
}

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the hub.
    Received,
    /// To the hub.
    Sent,
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    session_up: Gauge,
    claimed: Gauge,
    sessions_ended: Family<Reason, Counter>,
    frames: Family<Flow, Counter>,
    frame_bytes: Family<Flow, Counter>,
    frames_unknown: Counter,
    questions_dropped: Counter,
    renewals: Family<OfResult, Counter>,
    enrolments: Family<OfCall, Counter>,
    trust_epoch: Gauge,
    mesh_signings: Family<OfResult, Counter>,
    mesh_certificate_expiry: Gauge,
    injector_probes: Family<OfResult, Counter>,
    tls: Arc<OnceLock<Arc<TlsSource>>>,
    hub_clock_ahead: Gauge<f64, AtomicU64>,
    held: Family<OfLane, Gauge>,
    backlog: Gauge,
    nacks: Family<Reason, Counter>,
    merged: Counter,
    drift_repaired: Counter,
    contended: Gauge,
    unreadable_records: Gauge,
    writes: Family<Written, Counter>,
    write_seconds: Family<OfVerb, Histogram>,
    watch_errors: Family<OfKind, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            session_up: Gauge::default(),
            claimed: Gauge::default(),
            sessions_ended: Family::default(),
            frames: Family::default(),
            frame_bytes: Family::default(),
            frames_unknown: Counter::default(),
            questions_dropped: Counter::default(),
            renewals: Family::default(),
            enrolments: Family::default(),
            trust_epoch: Gauge::default(),
            mesh_signings: Family::default(),
            mesh_certificate_expiry: Gauge::default(),
            injector_probes: Family::default(),
            tls: Arc::default(),
            hub_clock_ahead: Gauge::default(),
            held: Family::default(),
            backlog: Gauge::default(),
            nacks: Family::default(),
            merged: Counter::default(),
            drift_repaired: Counter::default(),
            contended: Gauge::default(),
            unreadable_records: Gauge::default(),
            writes: Family::default(),
            // 1 ms to 16 s: the deadline of a write is 10 s.
            write_seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 15))),
            watch_errors: Family::default(),
        }
    }
}

impl Metrics {
    /// The metrics of one process, and the registry that serves them.
    #[must_use]
    pub fn new() -> (Arc<Self>, Registry) {
        let (metrics, mut registry) = (Self::default(), Registry::default());
        registry.register_collector(Box::new(ProcessStats));
        let own = registry.sub_registry_with_prefix(PREFIX);
        metrics.register_link(own);
        metrics.register_identity(own);
        metrics.register_engine(own);
        metrics.register_mesh(own);
        own.register_collector(Box::new(Certificate(Arc::clone(&metrics.tls))));
        (Arc::new(metrics), registry)
    }

    fn register_link(&self, registry: &mut Registry) {
        registry.register(
            "session_up",
            "1 while the hub has welcomed this agent",
            self.session_up.clone(),
        );
        registry.register(
            "claimed",
            "1 while a RemoteIstio stands behind the session",
            self.claimed.clone(),
        );
        let help = "Sessions that ended and attempts that came to none, by reason";
        registry.register("sessions_ended", help, self.sessions_ended.clone());
        registry.register("frames", "Frames by direction and lane", self.frames.clone());
        let help = "Encoded size of the frames by direction and lane";
        registry.register_with_unit("frame", help, Unit::Bytes, self.frame_bytes.clone());
        let help = "Frames of a kind this release does not know, ignored";
        registry.register("frames_unknown", help, self.frames_unknown.clone());
        let help = "The hub's clock minus this one's at the last heartbeat, transit included";
        registry.register_with_unit("hub_clock_ahead", help, Unit::Seconds, self.hub_clock_ahead.clone());
    }

    fn register_identity(&self, registry: &mut Registry) {
        let help = "Attempts to renew the certificate, by result";
        registry.register("certificate_renewals", help, self.renewals.clone());
        let help = "Attempts to join or to recover an ended certificate, by result";
        registry.register("enrolments", help, self.enrolments.clone());
        let help = "Epoch of the trust that is held; 0 where files say whom to trust";
        registry.register("trust_epoch", help, self.trust_epoch.clone());
        let help = "Questions of the hub that found nobody to answer them";
        registry.register("questions_dropped", help, self.questions_dropped.clone());
    }

    fn register_mesh(&self, registry: &mut Registry) {
        let help = "Requests to sign this remote's intermediate CA of the mesh, by result";
        registry.register("mesh_signings", help, self.mesh_signings.clone());
        let help = "End of this remote's intermediate CA, seconds since 1970; 0 while there is none of this agent's";
        let expiry = self.mesh_certificate_expiry.clone();
        registry.register("mesh_certificate_expiry_seconds", help, expiry);
        let help = "Looks whether the injector serves, by result";
        registry.register("injector_probes", help, self.injector_probes.clone());
    }

    fn register_engine(&self, registry: &mut Registry) {
        registry.register("held_objects", "Objects accepted and kept, by lane", self.held.clone());
        registry.register("backlog", "Objects accepted and not applied yet", self.backlog.clone());
        registry.register("nacks", "Objects refused, by reason", self.nacks.clone());
        let help = "Contents replaced by newer ones before they were written";
        registry.register("merged", help, self.merged.clone());
        let help = "Owned objects found changed or gone and put right";
        registry.register("drift_repaired", help, self.drift_repaired.clone());
        registry.register("contended", "Keys that somebody keeps changing", self.contended.clone());
        let help = "Records that cannot be read and are left alone";
        registry.register("unreadable_records", help, self.unreadable_records.clone());
        registry.register(
            "writes",
            "Finished writes by kind, verb and result",
            self.writes.clone(),
        );
        let help = "Duration of writes by verb";
        registry.register_with_unit("write", help, Unit::Seconds, self.write_seconds.clone());
        registry.register("watch_errors", "Errors of watches by kind", self.watch_errors.clone());
    }

    /// Whether the hub has welcomed this agent, and whether a `RemoteIstio` stands behind the session.
    pub fn session(&self, up: bool, claimed: bool) {
        self.session_up.set(i64::from(up));
        self.claimed.set(i64::from(up && claimed));
    }

    /// A session ended, or an attempt came to none.
    pub fn session_ended(&self, reason: &'static str) {
        self.sessions_ended.get_or_create(&Reason { reason }).inc();
    }

    /// A frame went over the link. `lane`: where it is of one.
    pub fn frame(&self, direction: Direction, lane: Option<Lane>, bytes: usize) {
        let direction = match direction {
            Direction::Received => "received",
            Direction::Sent => "sent",
        };
        let flow = Flow {
            direction,
            lane: lane.map_or("none", Lane::as_str),
        };
        self.frames.get_or_create(&flow).inc();
        self.frame_bytes.get_or_create(&flow).inc_by(bytes as u64);
    }

    /// A frame of an unknown kind was ignored.
    pub fn frame_unknown(&self) {
        self.frames_unknown.inc();
    }

    /// A question of the hub found nobody to answer it.
    pub fn question_dropped(&self) {
        self.questions_dropped.inc();
    }

    /// The certificate that is in use from here on, whatever it is replaced by. Only the first one counts.
    pub fn certificate(&self, tls: &Arc<TlsSource>) {
        self.tls.get_or_init(|| Arc::clone(tls));
    }

    /// An attempt to renew the certificate ended.
    pub fn renewal(&self, result: &'static str) {
        self.renewals.get_or_create(&OfResult { result }).inc();
    }

    /// An attempt to join or to recover ended.
    pub fn enrolment(&self, call: &'static str, result: &'static str) {
        self.enrolments.get_or_create(&OfCall { call, result }).inc();
    }

    /// The epoch of the trust that is held.
    pub fn trust_epoch(&self, epoch: u64) {
        self.trust_epoch.set(i64::try_from(epoch).unwrap_or(i64::MAX));
    }

    /// A request to sign this remote's intermediate CA ended.
    pub fn mesh_signing(&self, result: &'static str) {
        self.mesh_signings.get_or_create(&OfResult { result }).inc();
    }

    /// The end of this remote's intermediate CA; nothing while there is none of this agent's.
    pub fn mesh_certificate(&self, until: Option<SystemTime>) {
        // A certificate's end lies after 1970.
        let seconds = until.map(|until| until.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
        let seconds = i64::try_from(seconds.unwrap_or(0)).unwrap_or(i64::MAX);
        self.mesh_certificate_expiry.set(seconds);
    }

    /// It was looked whether the injector serves.
    pub fn injector_probe(&self, result: &'static str) {
        self.injector_probes.get_or_create(&OfResult { result }).inc();
    }

    /// How far the hub's clock is ahead of this one, seconds; negative: behind.
    pub fn hub_clock(&self, ahead_seconds: f64) {
        self.hub_clock_ahead.set(ahead_seconds);
    }

    /// A watch failed.
    pub fn watch_failed(&self, kind: Kind) {
        let kind = kind_word(kind);
        self.watch_errors.get_or_create(&OfKind { kind }).inc();
    }

    /// A write has ended.
    pub fn written(&self, verb: Verb, kind: Kind, outcome: &Outcome, took: Duration) {
        let written = Written {
            kind: kind_word(kind),
            verb: verb.as_str(),
            result: result_word(outcome),
        };
        self.writes.get_or_create(&written).inc();
        let verb = verb.as_str();
        self.write_seconds
            .get_or_create(&OfVerb { verb })
            .observe(took.as_secs_f64());
    }

    /// Takes over what the engine has counted.
    pub fn engine(&self, statistics: &Statistics, backlog: u32) {
        let level = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let total = |counter: &Counter, count: u64| counter.inner().store(count, Ordering::Relaxed);
        self.backlog.set(i64::from(backlog));
        for (lane, count) in &statistics.held {
            let lane = lane.as_str();
            self.held.get_or_create(&OfLane { lane }).set(level(*count));
        }
        for (reason, count) in &statistics.nacks {
            let reason = reason.as_str();
            total(&self.nacks.get_or_create(&Reason { reason }), *count);
        }
        total(&self.merged, statistics.merged);
        total(&self.drift_repaired, statistics.drift_repaired);
        self.contended.set(level(statistics.contended));
        self.unreadable_records.set(level(statistics.unreadable_records.len()));
    }
}

/// The word for a kind in logs and metrics, as the API server calls it.
#[must_use]
pub fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::MutatingWebhook => "mutatingwebhookconfigurations",
        Kind::Deployment => "deployments",
        Kind::Service => "services",
        Kind::EndpointSlice => "endpointslices",
        Kind::Endpoints => "endpoints",
        Kind::Namespace => "namespaces",
        Kind::ConfigMap => "configmaps",
    }
}

/// The word for what became of a write.
#[must_use]
pub fn result_word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done(_) => "done",
        Outcome::Failed(Failure::AlreadyExists) => "already_exists",
        Outcome::Failed(Failure::NotFound) => "not_found",
        Outcome::Failed(Failure::Conflict(_)) => "conflict",
        Outcome::Failed(Failure::NamespaceMissing(_)) => "namespace_missing",
        Outcome::Failed(Failure::Forbidden(_)) => "forbidden",
        Outcome::Failed(Failure::Rejected(_)) => "rejected",
        Outcome::Failed(Failure::Unavailable { .. }) => "unavailable",
    }
}

/// Reads the certificate's state when it is asked for; says nothing while there is none.
#[derive(Debug)]
struct Certificate(Arc<OnceLock<Arc<TlsSource>>>);

impl Collector for Certificate {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Some(tls) = self.0.get() else { return Ok(()) };
        let status = tls.status().borrow().clone();
        // A certificate's end lies after 1970.
        let end = tls.own().not_after.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut write = |name: &str, help: &str, metric: &dyn Encoded| metric.encode(&mut encoder, name, help);
        let help = "End of this agent's certificate, seconds since 1970";
        write("certificate_expiry_seconds", help, &ConstGauge::new(end.as_secs()))?;
        write(
            "tls_reloads",
            "New certificates taken",
            &ConstCounter::new(status.reloads),
        )?;
        write(
            "tls_reloads_refused",
            "New certificates refused",
            &ConstCounter::new(status.refused),
        )
    }
}

/// Hides the type of a value so that one closure can write them all.
trait Encoded {
    fn encode(&self, encoder: &mut DescriptorEncoder, name: &str, help: &str) -> Result<(), fmt::Error>;
}

impl<M: EncodeMetric> Encoded for M {
    fn encode(&self, encoder: &mut DescriptorEncoder, name: &str, help: &str) -> Result<(), fmt::Error> {
        EncodeMetric::encode(self, encoder.encode_descriptor(name, help, None, self.metric_type())?)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;
    use remote_istio::lane::NackReason;

    use super::*;

    #[test]
    fn counters_of_the_engine_are_taken_over_and_not_added_up() {
        let (metrics, mut registry) = (Metrics::default(), Registry::default());
        metrics.register_engine(&mut registry);
        let statistics = Statistics {
            drift_repaired: 3,
            nacks: [(NackReason::Policy, 2)].into(),
            held: [(Lane::Endpoints, 4)].into(),
            ..Statistics::default()
        };
        metrics.engine(&statistics, 5);
        metrics.engine(&statistics, 5);
        let mut page = String::new();
        text::encode(&mut page, &registry).expect("written to memory");
        for line in [
            "drift_repaired_total 3",
            "nacks_total{reason=\"Policy\"} 2",
            "held_objects{lane=\"endpoints\"} 4",
            "backlog 5",
        ] {
            assert!(page.lines().any(|written| written == line), "{line} is not in\n{page}");
        }
    }
}
