//! What enrolment counts, under the hub's prefix.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::metrics::PREFIX;

type ByResult = Family<[(&'static str, &'static str); 1], Counter>;

/// Counters of joins, recoveries and renewals by their result. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct EnrolmentMetrics {
    joins: ByResult,
    recoveries: ByResult,
    renewals: ByResult,
}

impl EnrolmentMetrics {
    /// Registers the counters with the hub's prefix; results that everybody hopes for start at zero.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix(PREFIX);
        registry.register("joins", "Joins that were asked for, by result", metrics.joins.clone());
        registry.register(
            "recoveries",
            "Recoveries of ended certificates that were asked for, by result",
            metrics.recoveries.clone(),
        );
        registry.register(
            "renewals",
            "Renewals of certificates that were asked for, by result",
            metrics.renewals.clone(),
        );
        for family in [&metrics.joins, &metrics.recoveries, &metrics.renewals] {
            drop(family.get_or_create(&[("result", "issued")]));
        }
        metrics
    }

    pub(super) fn join(&self, result: &'static str) {
        self.joins.get_or_create(&[("result", result)]).inc();
    }

    pub(super) fn recovery(&self, result: &'static str) {
        self.recoveries.get_or_create(&[("result", result)]).inc();
    }

    pub(super) fn renewal(&self, result: &'static str) {
        self.renewals.get_or_create(&[("result", result)]).inc();
    }

    #[cfg(test)]
    pub(super) fn joins(&self, result: &'static str) -> u64 {
        self.joins.get_or_create(&[("result", result)]).get()
    }
}
