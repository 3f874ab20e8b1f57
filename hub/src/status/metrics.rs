//! What the status writer counts, under the hub's prefix.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::metrics::PREFIX;

/// Counters of the status writer. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct StatusMetrics {
    /// Writes of a status or of finalizers that were done.
    pub(super) writes: Counter,
    /// Writes that another writer came before.
    pub(super) conflicts: Counter,
    /// Writes that failed otherwise, by HTTP status code; `none` where no answer came.
    pub(super) failures: Family<[(&'static str, String); 1], Counter>,
}

impl StatusMetrics {
    /// Registers the counters with the hub's prefix.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix(PREFIX);
        registry.register(
            "status_writes",
            "Writes of statuses and finalizers of RemoteIstio resources",
            metrics.writes.clone(),
        );
        registry.register(
            "status_write_conflicts",
            "Such writes that another writer came before; they are decided anew",
            metrics.conflicts.clone(),
        );
        registry.register(
            "status_write_failures",
            "Such writes that failed, by HTTP status code; tried again",
            metrics.failures.clone(),
        );
        metrics
    }

    pub(super) fn failed(&self, code: u16) {
        let code = if code == 0 { "none".to_owned() } else { code.to_string() };
        self.failures.get_or_create(&[("code", code)]).inc();
    }
}
