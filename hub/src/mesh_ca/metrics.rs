//! What signing for the mesh counts, under the hub's prefix.

use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::metrics::PREFIX;

/// Intermediates by what became of the request, and the CA. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct MeshCaMetrics {
    intermediates: Family<[(&'static str, &'static str); 1], Counter>,
    expiry: Gauge<f64, AtomicU64>,
    usable: Gauge,
}

impl MeshCaMetrics {
    /// Registers with the hub's prefix; `is_granted`: whether this hub may sign, for else there is no CA to speak of.
    #[must_use]
    pub fn new(registry: &mut Registry, is_granted: bool) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix(PREFIX);
        registry.register(
            "mesh_intermediates",
            "Intermediate CAs of the mesh that remotes asked for, by result",
            metrics.intermediates.clone(),
        );
        drop(metrics.intermediates.get_or_create(&[("result", "signed")]));
        if is_granted {
            registry.register(
                "mesh_ca_expiry_timestamp_seconds",
                "When central's mesh CA or one above it ends, seconds since 1970; 0 where none is held",
                metrics.expiry.clone(),
            );
            registry.register(
                "mesh_ca_usable",
                "Whether what stands in the Secret of central's mesh CA can sign: 1 or 0",
                metrics.usable.clone(),
            );
        }
        metrics
    }

    pub(super) fn intermediate(&self, result: &'static str) {
        self.intermediates.get_or_create(&[("result", result)]).inc();
    }

    pub(super) fn holds(&self, not_after: SystemTime) {
        let end = not_after.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.expiry.set(end.as_secs_f64());
    }

    pub(super) fn usable(&self, is_usable: bool) {
        self.usable.set(i64::from(is_usable));
    }

    #[cfg(test)]
    pub(super) fn intermediates(&self, result: &'static str) -> u64 {
        self.intermediates.get_or_create(&[("result", result)]).get()
    }
}
