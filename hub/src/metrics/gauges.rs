//! What has a current value, read at each scrape.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use remote_istio::enrolment::Trust;
use remote_istio::model::Lane;
use remote_istio::tls::TlsSource;
use tokio::sync::watch;

use super::PREFIX;
use crate::clock;
use crate::link::{Sessions, Summary};
use crate::watch::{Statistics, WatchStatistics};

/// Sessions, pending changes, clocks, watches and certificates as they are at the moment of a scrape.
#[derive(Debug)]
pub struct Gauges {
    /// The sessions of this replica.
    pub sessions: Arc<Sessions>,
    /// The hub's certificates.
    pub tls: Arc<TlsSource>,
    /// Whom agents should trust; nothing where certificates come from elsewhere.
    pub trust: Option<watch::Receiver<Arc<Trust>>>,
    /// What the watches have seen.
    pub watches: Arc<Statistics>,
}

impl Gauges {
    /// Registers the gauges.
    pub fn register(self, registry: &mut Registry) {
        registry
            .sub_registry_with_prefix(PREFIX)
            .register_collector(Box::new(self));
    }
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let summary = self.sessions.summary();
        let mut gauge = |name: &str, help: &str, value: f64| {
            let metric = ConstGauge::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        gauge("sessions", "Sessions that stand", count(summary.sessions))?;
        gauge(
            "unclaimed_sessions",
            "Sessions without a RemoteIstio",
            count(summary.unclaimed),
        )?;
        gauge(
            "backlog",
            "Objects accepted by agents and not applied yet",
            count(usize::try_from(summary.backlog).unwrap_or(usize::MAX)),
        )?;
        let skew = Duration::from_millis(summary.clock_skew_milliseconds);
        gauge(
            "clock_skew_max_seconds",
            "Largest clock skew of an agent",
            skew.as_secs_f64(),
        )?;
        let expiry = self.tls.own().not_after.duration_since(UNIX_EPOCH).unwrap_or_default();
        gauge(
            "certificate_expiry_timestamp_seconds",
            "End of the hub's certificate, seconds since 1970",
            expiry.as_secs_f64(),
        )?;
        if let Some(trust) = &self.trust {
            let epoch = trust.borrow().epoch;
            gauge(
                "trust_epoch",
                "Epoch of the roots that agents should trust",
                epoch_value(epoch),
            )?;
        }
        trust_epochs(&summary, &mut encoder)?;
        pending(&summary, &mut encoder)?;
        watches(&self.watches, &mut encoder)?;
        let reloads = self.tls.status().borrow().clone();
        let mut counter = |name: &str, help: &str, value: u64| {
            let metric = ConstCounter::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        counter("tls_reloads", "New certificate files taken", reloads.reloads)?;
        counter(
            "tls_reloads_refused",
            "Changed certificate files refused",
            reloads.refused,
        )
    }
}

fn pending(summary: &Summary, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
    let help = "Objects that agents have not accepted yet, by lane";
    let kind = ConstGauge::new(0_u64).metric_type();
    let mut family = encoder.encode_descriptor("pending", help, None, kind)?;
    for lane in Lane::ALL {
        let pending = summary.pending.get(&lane).copied().unwrap_or(0);
        let metric = ConstGauge::new(count(pending));
        metric.encode(family.encode_family(&[("lane", lane.as_str())])?)?;
    }
    Ok(())
}

fn trust_epochs(summary: &Summary, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
    let help = "Sessions by the epoch of the trust that the agent keeps; those given files keep none";
    let kind = ConstGauge::new(0_u64).metric_type();
    let mut family = encoder.encode_descriptor("sessions_by_trust_epoch", help, None, kind)?;
    for (epoch, sessions) in &summary.trust_epochs {
        let metric = ConstGauge::new(count(*sessions));
        metric.encode(family.encode_family(&[("epoch", epoch.to_string())])?)?;
    }
    Ok(())
}

fn watches(watches: &Statistics, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
    type Value = fn(&WatchStatistics) -> u64;
    let counters: [(&str, &str, Value); 3] = [
        (
            "watch_events",
            "Events of each watch, without bookmarks",
            WatchStatistics::events,
        ),
        (
            "watch_lists",
            "Lists finished, more than one is a relist",
            WatchStatistics::lists,
        ),
        (
            "watch_failures",
            "Lists and watches that failed",
            WatchStatistics::failures,
        ),
    ];
    for (name, help, value) in counters {
        let kind = ConstCounter::new(0_u64).metric_type();
        let mut family = encoder.encode_descriptor(name, help, None, kind)?;
        for watch in watches.watches() {
            let labels = [("kind", watch.kind()), ("namespace", watch.namespace())];
            ConstCounter::new(value(watch)).encode(family.encode_family(&labels)?)?;
        }
    }
    let help = "Since the API server last said anything on a watch, bookmarks included";
    let kind = ConstGauge::new(0_u64).metric_type();
    let mut family = encoder.encode_descriptor("watch_age_seconds", help, None, kind)?;
    let now = clock::now();
    for watch in watches.watches().iter().filter(|watch| watch.is_listed()) {
        let labels = [("kind", watch.kind()), ("namespace", watch.namespace())];
        let age = Duration::from_nanos(now.saturating_sub(watch.heard_at()));
        ConstGauge::new(age.as_secs_f64()).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn epoch_value(epoch: u64) -> f64 {
    count(usize::try_from(epoch).unwrap_or(usize::MAX))
}

/// A count as a gauge's value; exact up to 2^32, far above any here.
fn count(value: usize) -> f64 {
    f64::from(u32::try_from(value).unwrap_or(u32::MAX))
}
