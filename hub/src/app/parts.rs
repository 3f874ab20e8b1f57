//! The parts of a hub and the tasks they run as.

use std::fmt::Write as _;
use std::sync::Arc;

use kube::Client;
use prometheus_client::registry::Registry;
use remote_istio::process::{Admin, Condition, ProcessStats, Readiness, Tasks, admin_router};
use remote_istio::tls::Admission;
use remote_istio::transport::OnRefused;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::central::{self, Clients};
use super::trust::LinkTrust;
use crate::args::Config;
use crate::enrolment::{self, Enrolment, EnrolmentMetrics, KubeRecords, Renewal};
use crate::events::Events;
use crate::identities::{self, Identities};
use crate::index::{self, Index};
use crate::lease;
use crate::lifecycle::{self, DeletionMetrics, Deletions, Tombstones};
use crate::link::{self, Bindings, Link, Sessions};
use crate::mesh_ca::{self, MeshCa, MeshCaMetrics};
use crate::metrics::{Gauges, Metrics};
use crate::state::State;
use crate::status::{self, StatusMetrics};
use crate::watch::Watches;

/// Everything that several tasks share.
pub(super) struct Parts {
    config: Config,
    trust: LinkTrust,
    clients: Clients,
    state: Arc<State>,
    sessions: Arc<Sessions>,
    readiness: Readiness,
    tasks: Tasks,
}

impl Parts {
    pub(super) fn new(config: Config, trust: LinkTrust, clients: Clients) -> Self {
        let index = Index::new(index::Settings {
            namespace: config.namespace.clone(),
            service_namespaces: config.service_namespaces.clone(),
        });
        let index = if config.mesh_signing.is_some() {
            index.awaiting_mesh_trust()
        } else {
            index
        };
        Self {
            config,
            trust,
            clients,
            state: State::new(index),
            sessions: Sessions::new(),
            readiness: Readiness::default(),
            tasks: Tasks::new(CancellationToken::new()),
        }
    }

    /// Starts all tasks. `enrolment`: where remotes join, if they can.
    pub(super) fn run(mut self, admin: Admin, sync: TcpListener, enrolment: Option<TcpListener>) -> Tasks {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let status_metrics = StatusMetrics::new(&mut registry);
        registry.register_collector(Box::new(ProcessStats));

        self.keep_certificate();
        let events = self.publish_events(&mut registry);
        let identities = self.judge_identities(&events, &mut registry);
        let listed = [self.watch(&mut registry), identities.listed()];
        let leader = self.elect();
        self.guard_deletions(&mut registry);
        self.sweep_tombstones(&events);
        self.write_status(status_metrics, leader, &identities, &events);
        let mesh_ca = self.sign_for_mesh(&identities, &events, &mut registry);
        let beside = match enrolment {
            Some(listener) => self.enrol(listener, &metrics, &identities, events, &mut registry),
            None => Routes::default(),
        };
        let beside = beside.add_service(mesh_ca.service());
        self.serve(sync, metrics, listed, identities, beside);
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
            tls: self.trust.tls(),
            trust: self.trust.handed_out(),
            watches: watches.statistics(),
        };
        gauges.register(registry);
        let listed = watches.listed();
        let (client, condition) = (self.clients.watches.clone(), self.readiness.condition("watches"));
        let watching = watch_central(watches, client, condition, self.stop());
        self.tasks.spawn("watches", watching);
        listed
    }

    /// What is deleted is withdrawn from its remote, unless it must be held.
    fn guard_deletions(&mut self, registry: &mut Registry) {
        let (calls, state) = (self.clients.calls.clone(), Arc::clone(&self.state));
        let metrics = DeletionMetrics::new(registry);
        let deletions = Deletions::new(calls, state, self.config.deletion_limit, metrics);
        let deciding = deletions.run(self.stop());
        self.tasks.spawn("deletions", deciding);
    }

    /// What was left behind in remotes that were away is let go of when they come back.
    fn sweep_tombstones(&mut self, events: &Arc<Events>) {
        let tombstones = Tombstones::new(lifecycle::Deps {
            watches: self.clients.watches.clone(),
            calls: self.clients.calls.clone(),
            namespace: self.config.namespace.clone(),
            state: Arc::clone(&self.state),
            sessions: Arc::clone(&self.sessions),
            events: Arc::clone(events),
        });
        let sweeping = tombstones.run(self.stop());
        self.tasks.spawn("tombstones", sweeping);
    }

    /// Returns whether this replica leads, at each moment.
    fn elect(&mut self) -> watch::Receiver<bool> {
        let (leads, leader) = watch::channel(false);
        let (namespace, replica) = (self.config.namespace.clone(), self.config.replica.clone());
        let election = lease::run(self.clients.calls.clone(), namespace, replica, leads, self.stop());
        self.tasks.spawn("lease", election);
        leader
    }

    /// This hub's own certificate stays fresh, wherever it comes from.
    fn keep_certificate(&mut self) {
        let stop = self.stop();
        match &self.trust {
            LinkTrust::Files(tls) => self.tasks.spawn("certificates", Arc::clone(tls).reload_loop(stop)),
            LinkTrust::Signed(authority) => {
                let running = Arc::clone(authority).run(self.clients.watches.clone(), stop);
                self.tasks.spawn("authority", running);
            }
        }
    }

    fn publish_events(&mut self, registry: &mut Registry) -> Arc<Events> {
        let events = Events::new(&self.config.namespace, &self.config.replica, registry);
        let publishing = Arc::clone(&events).run(self.clients.calls.clone(), self.stop());
        self.tasks.spawn("events", publishing);
        events
    }

    /// Whose certificates count: asked in every handshake from here on.
    fn judge_identities(&mut self, events: &Arc<Events>, registry: &mut Registry) -> Arc<Identities> {
        let settings = identities::Settings {
            namespace: self.config.namespace.clone(),
            unknown_allowed: matches!(self.trust, LinkTrust::Files(_)),
        };
        let identities = Identities::new(settings, Arc::clone(events), registry);
        let (sessions, admission) = (Arc::clone(&self.sessions), Arc::downgrade(&identities));
        identities.on_cut(Box::new(move |remote, _| {
            if let Some(admission) = admission.upgrade() {
                sessions.end_unless_admitted(remote, &*admission);
            }
        }));
        identities.guard(&self.trust.tls());
        let (watches, calls) = (self.clients.watches.clone(), self.clients.calls.clone());
        let running = Arc::clone(&identities).run(watches, calls, self.stop());
        self.tasks.spawn("identities", running);
        identities
    }

    /// Lets remotes join. Returns what is to be served beside sync.
    fn enrol(
        &mut self,
        listener: TcpListener,
        metrics: &Arc<Metrics>,
        identities: &Arc<Identities>,
        events: Arc<Events>,
        registry: &mut Registry,
    ) -> Routes {
        let LinkTrust::Signed(authority) = &self.trust else {
            return Routes::default();
        };
        let (authority, identities) = (Arc::clone(authority), Arc::clone(identities));
        let counted = EnrolmentMetrics::new(registry);
        let lifetime = self.config.certificate_lifetime;
        let records = KubeRecords::new(self.clients.calls.clone(), &self.config.namespace);
        let records: Arc<dyn enrolment::Records> = Arc::new(records);
        let renewal = Renewal::new(
            Arc::clone(&authority),
            Arc::clone(&records),
            Arc::clone(&identities),
            counted.clone(),
            lifetime,
        );
        let (tls, listed) = (authority.tls(), identities.listed());
        let enrolment = Enrolment::new(enrolment::Deps {
            records,
            namespace: self.config.namespace.clone(),
            authority,
            identities,
            events,
            metrics: counted,
        });
        let following = Arc::clone(&enrolment).run(self.clients.watches.clone(), self.stop());
        self.tasks.spawn("tokens", following);
        let (metrics, stop) = (Arc::clone(metrics), self.stop());
        let on_refused: OnRefused = Arc::new(move |refusal| metrics.handshake_refused(refusal));
        self.tasks.spawn("enrolment", async move {
            if until_listed([listed], &stop).await {
                return enrolment.serve(listener, tls, on_refused, stop).await;
            }
            Ok(())
        });
        Routes::new(renewal.service())
    }

    /// Where it is not granted, whoever asks is told so.
    fn sign_for_mesh(
        &mut self,
        identities: &Arc<Identities>,
        events: &Arc<Events>,
        registry: &mut Registry,
    ) -> Arc<MeshCa> {
        let signing = self.config.mesh_signing.clone();
        let is_granted = signing.is_some();
        let records = || KubeRecords::new(self.clients.calls.clone(), &self.config.namespace);
        let records = matches!(self.trust, LinkTrust::Signed(_)).then(records);
        let settings = mesh_ca::Settings {
            namespace: self.config.namespace.clone(),
            secret: signing.as_ref().and_then(|signing| signing.secret.clone()),
            lifetime: signing.map(|signing| signing.lifetime).unwrap_or_default(),
            trust_domain: self.config.trust_domain.clone(),
            is_granted,
        };
        let deps = mesh_ca::Deps {
            admission: Arc::clone(identities) as Arc<dyn Admission>,
            records: records.map(|records| Arc::new(records) as Arc<dyn enrolment::Records>),
            link_trust: self.trust.handed_out(),
            state: Arc::clone(&self.state),
            events: Arc::clone(events),
            metrics: MeshCaMetrics::new(registry, is_granted),
        };
        let mesh_ca = MeshCa::new(settings, deps);
        let (watches, calls) = (self.clients.watches.clone(), self.clients.calls.clone());
        let following = Arc::clone(&mesh_ca).run(watches, calls, self.stop());
        self.tasks.spawn("mesh-ca", following);
        mesh_ca
    }

    fn write_status(
        &mut self,
        metrics: StatusMetrics,
        leader: watch::Receiver<bool>,
        identities: &Arc<Identities>,
        events: &Arc<Events>,
    ) {
        let deps = status::Deps {
            client: self.clients.calls.clone(),
            namespace: self.config.namespace.clone(),
            replica: self.config.replica.clone(),
            state: Arc::clone(&self.state),
            sessions: Arc::clone(&self.sessions),
            records: Arc::clone(identities) as Arc<dyn link::Records>,
            events: Arc::clone(events),
            leader,
            metrics,
        };
        let writing = status::run(deps, self.stop());
        self.tasks.spawn("status", writing);
    }

    fn serve(
        &mut self,
        listener: TcpListener,
        metrics: Arc<Metrics>,
        listed: [watch::Receiver<bool>; 2],
        identities: Arc<Identities>,
        beside: Routes,
    ) {
        let settings = link::Settings {
            namespace: self.config.namespace.clone(),
            replica: self.config.replica.clone(),
            boot_id: boot_id(),
        };
        let bindings = Bindings {
            records: identities,
            trust: self.trust.handed_out(),
        };
        let (state, sessions) = (Arc::clone(&self.state), Arc::clone(&self.sessions));
        let link = Link::new(settings, state, sessions, bindings, metrics, self.stop());
        let (tls, condition, stop) = (self.trust.tls(), self.readiness.condition("link"), self.stop());
        condition.waits_for("the first lists of all watches");
        self.tasks.spawn("link", async move {
            // Agents that dial earlier wait in the kernel's queue: a plan made from half of the lists would take away
            // what the other half holds.
            if !until_listed(listed, &stop).await {
                return Ok(());
            }
            condition.met();
            tracing::info!("everything is listed, agents are served");
            link.serve(listener, tls, beside).await
        });
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

/// Waits until everything has been listed once; false when the hub is asked to stop before.
async fn until_listed<const N: usize>(listed: [watch::Receiver<bool>; N], stop: &CancellationToken) -> bool {
    for mut each in listed {
        tokio::select! {
            () = stop.cancelled() => return false,
            // The sender goes only when the watch ends, and the process with it.
            _ = each.wait_for(|listed| *listed) => {}
        }
    }
    true
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
