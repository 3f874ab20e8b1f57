//! The parts of a hub and the tasks they run as.

use std::fmt::Write as _;
use std::sync::Arc;

use kube::Client;
use prometheus_client::registry::Registry;
use remote_istio::process::{Admin, Condition, ProcessStats, Readiness, Tasks, admin_router};
use remote_istio::tls::TlsSource;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::central::{self, Clients};
use crate::args::Config;
use crate::index::{self, Index};
use crate::lease;
use crate::link::{self, Link, Sessions};
use crate::metrics::{Gauges, Metrics};
use crate::state::State;
use crate::status::{self, StatusMetrics};
use crate::watch::Watches;

/// Everything that several tasks share.
pub(super) struct Parts {
    config: Config,
    tls: Arc<TlsSource>,
    clients: Clients,
    state: Arc<State>,
    sessions: Arc<Sessions>,
    readiness: Readiness,
    tasks: Tasks,
}

impl Parts {
    pub(super) fn new(config: Config, tls: Arc<TlsSource>, clients: Clients) -> Self {
        let index = Index::new(index::Settings {
            namespace: config.namespace.clone(),
            service_namespaces: config.service_namespaces.clone(),
        });
        Self {
            config,
            tls,
            clients,
            state: State::new(index),
            sessions: Sessions::new(),
            readiness: Readiness::default(),
            tasks: Tasks::new(CancellationToken::new()),
        }
    }

    /// Starts all tasks.
    pub(super) fn run(mut self, admin: Admin, listener: TcpListener) -> Tasks {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let status_metrics = StatusMetrics::new(&mut registry);
        registry.register_collector(Box::new(ProcessStats));

        let reloading = Arc::clone(&self.tls).reload_loop(self.stop());
        self.tasks.spawn("certificates", reloading);
        let listed = self.watch(&mut registry);
        let leader = self.elect();
        self.write_status(status_metrics, leader);
        self.serve(listener, metrics, listed);
        let router = admin_router(self.readiness.clone(), Arc::new(registry));
        let serving = admin.serve(router, self.stop());
        self.tasks.spawn("admin", serving);
        self.tasks
    }

    fn stop(&self) -> CancellationToken {
        self.tasks.stop().clone()
    }

    /// Returns what becomes true once every watch has finished its first list.
    fn watch(&mut self, registry: &mut Registry) -> watch::Receiver<bool> {
        let Config {
            namespace,
            service_namespaces,
            ..
        } = &self.config;
        let watches = Watches::new(namespace.clone(), service_namespaces.clone(), Arc::clone(&self.state));
        let gauges = Gauges {
            sessions: Arc::clone(&self.sessions),
            tls: Arc::clone(&self.tls),
            watches: watches.statistics(),
        };
        gauges.register(registry);
        let listed = watches.listed();
        let (client, condition) = (self.clients.watches.clone(), self.readiness.condition("watches"));
        let watching = watch_central(watches, client, condition, self.stop());
        self.tasks.spawn("watches", watching);
        listed
    }

    /// Returns whether this replica leads, at each moment.
    fn elect(&mut self) -> watch::Receiver<bool> {
        let (leads, leader) = watch::channel(false);
        let (namespace, replica) = (self.config.namespace.clone(), self.config.replica.clone());
        let election = lease::run(self.clients.calls.clone(), namespace, replica, leads, self.stop());
        self.tasks.spawn("lease", election);
        leader
    }

    fn write_status(&mut self, metrics: StatusMetrics, leader: watch::Receiver<bool>) {
        let deps = status::Deps {
            client: self.clients.calls.clone(),
            namespace: self.config.namespace.clone(),
            replica: self.config.replica.clone(),
            state: Arc::clone(&self.state),
            sessions: Arc::clone(&self.sessions),
            leader,
            metrics,
        };
        let writing = status::run(deps, self.stop());
        self.tasks.spawn("status", writing);
    }

    fn serve(&mut self, listener: TcpListener, metrics: Arc<Metrics>, listed: watch::Receiver<bool>) {
        let settings = link::Settings {
            namespace: self.config.namespace.clone(),
            replica: self.config.replica.clone(),
            boot_id: boot_id(),
        };
        let (state, sessions) = (Arc::clone(&self.state), Arc::clone(&self.sessions));
        let link = Link::new(settings, state, sessions, metrics, self.stop());
        let (tls, condition) = (Arc::clone(&self.tls), self.readiness.condition("link"));
        let serving = serve_when_listed(link, listener, tls, listed, condition, self.stop());
        self.tasks.spawn("link", serving);
    }
}

async fn watch_central(
    watches: Watches,
    client: Client,
    condition: Condition,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    condition.waits_for("an answer of central's API server");
    central::check_version(&client, &stop).await?;
    watches.run(client, condition, stop).await;
    Ok(())
}

/// Agents that dial earlier wait in the kernel's queue: a plan made from half of the lists would take away what the
/// other half holds.
async fn serve_when_listed(
    link: Arc<Link>,
    listener: TcpListener,
    tls: Arc<TlsSource>,
    mut listed: watch::Receiver<bool>,
    condition: Condition,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    condition.waits_for("the first lists of all watches");
    tokio::select! {
        () = stop.cancelled() => return Ok(()),
        // The sender goes only when the watches end, and the process with them.
        _ = listed.wait_for(|listed| *listed) => {}
    }
    condition.met();
    tracing::info!("everything is listed, agents are served");
    link.serve(listener, tls).await
}

/// Names this process among all hubs that ever ran.
fn boot_id() -> String {
    let random: [u8; 16] = rand::random();
    random.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
