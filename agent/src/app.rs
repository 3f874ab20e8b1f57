//! The wiring of an agent: one [`start`] for the binary and for tests.

mod clients;
mod cluster;
mod epoch;
mod process;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use remote_istio::identity::{Identity, RemoteName};
use remote_istio::process::{
    Admin, BindError, Condition, EXIT_CONFIGURATION, EXIT_FAILURE, Readiness, TaskError, Tasks, admin_router,
};
use remote_istio::tls::{TlsError, TlsSource};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::apply::Applier;
use crate::args::Config;
use crate::driver::{self, LINK_EVENTS_QUEUED};
use crate::engine::Settings;
use crate::link::{Facts, Link};
use crate::metrics::Metrics;
use crate::observe::{self, OBSERVED_QUEUED, Scope};
use clients::{ClientError, Clients};
pub use process::run;

/// The agent's release: what it says to the hub, and what it writes into records.
pub const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// For all tasks to end after they were asked to; more than each of their own deadlines.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// Why an agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The certificate files cannot be used.
    #[error(transparent)]
    Certificate(#[from] TlsError),
    /// The certificate is somebody else's.
    #[error(
        "--certificate {path}: stands for {identity}, not for a remote; issue one with the URI \
         spiffe://{trust_domain}/remote/NAME, where NAME is that of the RemoteIstio"
    )]
    NotARemote {
        /// The file.
        path: String,
        /// Whom it stands for, as a URI.
        identity: String,
        /// The configured trust domain.
        trust_domain: String,
    },
    /// The way to the API server cannot be used.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The admin listener cannot be opened.
    #[error(transparent)]
    Listen(#[from] BindError),
}

impl StartError {
    /// The exit code of a process that ends here: that of configuration when a restart cannot help.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Listen(error) if error.source.kind() == std::io::ErrorKind::AddrInUse => EXIT_FAILURE,
            _ => EXIT_CONFIGURATION,
        }
    }
}

/// An agent that runs. Dropping it ends it at once; [`Running::stop`] ends it in good order.
#[derive(Debug)]
pub struct Running {
    metrics_address: SocketAddr,
    remote: RemoteName,
    tasks: Tasks,
}

impl Running {
    /// Where health and metrics are served.
    #[must_use]
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics_address
    }

    /// The remote's name, as the certificate says it.
    #[must_use]
    pub fn remote(&self) -> &RemoteName {
        &self.remote
    }

    /// Whoever cancels it asks the agent to stop.
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.tasks.stop().clone()
    }

    /// Waits until the agent is asked to stop. Safe to drop while it waits.
    ///
    /// # Errors
    /// A part of the agent failed: it should end, with [`Running::stop`].
    pub async fn wait(&mut self) -> Result<(), TaskError> {
        self.tasks.wait().await
    }

    /// Says goodbye to the hub, lets writes in flight end, and ends every task.
    ///
    /// # Errors
    /// A task failed on its way out, or had to be aborted.
    pub async fn stop(self) -> Result<(), TaskError> {
        self.tasks.shutdown(STOP_DEADLINE).await
    }
}

/// Starts an agent. It runs also while the API server or the hub cannot be reached, and says so at `/readyz`.
///
/// # Errors
/// Certificate, way to the API server, or admin address cannot be used.
pub async fn start(config: Config) -> Result<Running, StartError> {
    let tls = TlsSource::load(config.certificates.clone(), &config.trust_domain)?;
    let remote = remote_of(&tls, &config)?;
    let clients = Clients::load(config.kubeconfig.as_deref()).await?;
    let admin = Admin::bind(config.metrics_address, "--metrics-address").await?;
    let metrics_address = admin.address();

    let (readiness, mut tasks) = (Readiness::default(), Tasks::default());
    let conditions = Conditions {
        watches: readiness.condition("watches"),
        hub: readiness.condition("hub"),
    };
    let (metrics, registry) = Metrics::new(Arc::clone(&tls));
    let router = admin_router(readiness, Arc::new(registry));
    tasks.spawn("admin", admin.serve(router, tasks.stop().clone()));
    tasks.spawn("certificates", Arc::clone(&tls).reload_loop(tasks.stop().clone()));
    tracing::info!(
        %remote, release = RELEASE, namespace = %config.namespace, %metrics_address, kubernetes = %clients.url,
        service_namespaces = ?config.service_namespaces, "agent starts"
    );
    spawn_work(&mut tasks, config, &remote, tls, &clients, &metrics, conditions);
    Ok(Running {
        metrics_address,
        remote,
        tasks,
    })
}

struct Conditions {
    watches: Condition,
    hub: Condition,
}

fn remote_of(tls: &TlsSource, config: &Config) -> Result<RemoteName, StartError> {
    match tls.own().identity {
        Identity::Remote(remote) => Ok(remote),
        other => Err(StartError::NotARemote {
            path: config.certificates.certificate.display().to_string(),
            identity: other.uri(&config.trust_domain),
            trust_domain: config.trust_domain.clone(),
        }),
    }
}

/// Watches, engine and link, tied to each other by bounded channels.
fn spawn_work(
    tasks: &mut Tasks,
    config: Config,
    remote: &RemoteName,
    tls: Arc<TlsSource>,
    clients: &Clients,
    metrics: &Arc<Metrics>,
    conditions: Conditions,
) {
    let stop = tasks.stop().clone();
    let scope = Scope {
        namespace: config.namespace.clone(),
        service_namespaces: config.service_namespaces.clone(),
    };
    let (observed_tx, observed) = mpsc::channel(OBSERVED_QUEUED);
    let (events, link_events) = mpsc::channel(LINK_EVENTS_QUEUED);
    let (started_tx, started) = oneshot::channel();
    let backlog = Arc::new(AtomicU32::new(0));

    let driver = driver::Parts {
        settings: Settings {
            trust_domain: config.trust_domain,
            remote: remote.clone(),
            namespace: config.namespace.clone(),
            service_namespaces: config.service_namespaces,
            endpoints_objects: config.endpoints_objects,
            release: RELEASE.to_owned(),
        },
        watches: scope.watches(),
        observed,
        link: link_events,
        started: started_tx,
        applier: Applier::new(clients.calls.clone()),
        backlog: Arc::clone(&backlog),
        metrics: Arc::clone(metrics),
        listed: conditions.watches.clone(),
    };
    tasks.spawn("driver", driver::run(driver, stop.clone()));

    let (calls, watches, condition) = (clients.calls.clone(), clients.watches.clone(), conditions.watches);
    let (watch_metrics, watch_stop) = (Arc::clone(metrics), stop.clone());
    tasks.spawn("watches", async move {
        if cluster::supported(&calls, &condition, &watch_stop).await?.is_none() {
            return Ok(());
        }
        observe::observe(watches, scope, observed_tx, watch_metrics, watch_stop).await?;
        Ok::<(), remote_istio::process::BoxError>(())
    });

    let link = Link {
        hubs: config.hubs,
        tls,
        remote: remote.clone(),
        events,
        backlog,
        metrics: Arc::clone(metrics),
        welcomed: conditions.hub,
    };
    let (calls, namespace) = (clients.calls.clone(), config.namespace);
    tasks.spawn("link", async move {
        if let Some(facts) = facts(&calls, &namespace, started, &link.welcomed, &stop).await {
            link.run(facts, stop.clone()).await;
        }
        // Ends early only together with the driver, which says why.
        stop.cancelled().await;
    });
}

/// What a hello says of the agent, once the engine has started; nothing when the agent is asked to stop before.
async fn facts(
    client: &kube::Client,
    namespace: &str,
    started: oneshot::Receiver<()>,
    hub: &Condition,
    stop: &CancellationToken,
) -> Option<Facts> {
    hub.waits_for("first lists of the watches");
    tokio::select! {
        () = stop.cancelled() => return None,
        started = started => started.ok()?,
    }
    let boot_id = format!("{:032x}", rand::random::<u128>());
    let (kubernetes_version, cluster_uid) = cluster::describe(client, hub, stop).await?;
    let session_epoch = epoch::raised(client, namespace, &boot_id, hub, stop).await?;
    tracing::info!(session_epoch, %boot_id, %cluster_uid, %kubernetes_version, "session epoch raised");
    hub.waits_for("first welcome of a hub");
    Some(Facts {
        cluster_uid,
        boot_id,
        session_epoch,
        kubernetes_version,
        release: RELEASE.to_owned(),
    })
}
