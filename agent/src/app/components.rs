//! The tasks beside the engine that look after what components need.

use std::collections::BTreeMap;
use std::sync::Arc;

use remote_istio::process::Tasks;
use tokio::sync::{mpsc, watch};
use tonic::transport::Channel;

use super::clients::Clients;
use crate::driver::Finding;
use crate::engine::Wants;
use crate::metrics::Metrics;
use crate::{injector_probe, mesh_trust, roles};

/// What the tasks are made of.
pub(super) struct Beside {
    pub(super) clients: Clients,
    pub(super) namespace: String,
    /// The labels that every object of this agent carries.
    pub(super) labels: BTreeMap<String, String>,
    pub(super) wants: watch::Receiver<Wants>,
    /// The connection of the session that stands.
    pub(super) channel: watch::Receiver<Option<Channel>>,
    pub(super) findings: mpsc::Sender<Finding>,
    pub(super) metrics: Arc<Metrics>,
}

impl Beside {
    pub(super) fn spawn(self, tasks: &mut Tasks) {
        let Self {
            clients,
            namespace,
            labels,
            wants,
            channel,
            findings,
            metrics,
        } = self;
        let stop = tasks.stop().clone();
        let looking = roles::run(
            clients.calls.clone(),
            namespace.clone(),
            wants.clone(),
            findings.clone(),
            stop.clone(),
        );
        tasks.spawn("roles", looking);
        let probing = injector_probe::run(
            clients.calls.clone(),
            namespace.clone(),
            wants.clone(),
            findings.clone(),
            Arc::clone(&metrics),
            stop.clone(),
        );
        tasks.spawn("injector_probe", probing);
        let keeper = mesh_trust::Keeper::new(mesh_trust::KeeperParts {
            calls: clients.calls,
            watches: clients.watches,
            namespace,
            labels,
            wants,
            channel,
            findings,
            metrics,
        });
        tasks.spawn("mesh_trust", keeper.run(stop));
    }
}
