//! The wiring of an agent: one [`start`] for the binary and for tests.

mod check;
mod clients;
mod cluster;
mod components;
mod enrolled;
mod epoch;
mod leave;
mod minted;
mod process;
#[cfg(test)]
mod tests;
mod work;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use remote_istio::identity::{Identity, RemoteName};
use remote_istio::process::{
    Admin, BindError, EXIT_CONFIGURATION, EXIT_FAILURE, Readiness, TaskError, Tasks, admin_router,
};
use remote_istio::tls::{CertificateFiles, TlsError, TlsSource};
use tokio_util::sync::CancellationToken;

use crate::args::{Config, Source};
use crate::metrics::Metrics;
use crate::policy::{self, PolicyFileError};
pub use check::run_check;
use clients::{ClientError, Clients};
pub use leave::run_leave;
pub use minted::run_minted;
pub use process::run;
use work::{Conditions, Work};

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
    /// The policy file cannot be used.
    #[error(transparent)]
    Policy(#[from] PolicyFileError),
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
    remote: Arc<OnceLock<RemoteName>>,
    tasks: Tasks,
}

impl Running {
    /// Where health and metrics are served.
    #[must_use]
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics_address
    }

    /// The remote's name, as the certificate says it; nothing while there is no certificate.
    #[must_use]
    pub fn remote(&self) -> Option<&RemoteName> {
        self.remote.get()
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
/// Certificate files, way to the API server, or admin address cannot be used.
pub async fn start(config: Config) -> Result<Running, StartError> {
    let files = match &config.identity {
        Source::Files(files) => Some(from_files(files, &config)?),
        Source::Enrolled(_) => None,
    };
    let rules = policy::Source {
        file: config.policy.clone(),
        service_namespaces: config.service_namespaces.clone(),
    };
    let policy = rules.read()?;
    let clients = Clients::load(config.kubeconfig.as_deref()).await?;
    let admin = Admin::bind(config.metrics_address, "--metrics-address").await?;
    let metrics_address = admin.address();

    let (readiness, mut tasks) = (Readiness::default(), Tasks::default());
    let identity = files.is_none().then(|| readiness.condition("identity"));
    let conditions = Conditions {
        watches: readiness.condition("watches"),
        policy: readiness.condition("policy"),
        hub: readiness.condition("hub"),
    };
    let (metrics, registry) = Metrics::new();
    let router = admin_router(readiness, Arc::new(registry));
    tasks.spawn("admin", admin.serve(router, tasks.stop().clone()));
    tracing::info!(
        release = RELEASE, namespace = %config.namespace, %metrics_address, kubernetes = %clients.url,
        service_namespaces = ?config.service_namespaces, policy = ?config.policy, "agent starts"
    );
    let remote = Arc::new(OnceLock::new());
    let work = Work {
        config,
        rules,
        policy,
        clients,
        metrics,
        conditions,
    };
    match (files, identity) {
        (Some((tls, name)), _) => {
            tracing::info!(remote = %name, "identity from files");
            remote.get_or_init(|| name.clone());
            tasks.spawn("certificates", Arc::clone(&tls).reload_loop(tasks.stop().clone()));
            let guide = work.guide_of_flags();
            let (side, ends) = work::side();
            work.spawn(&mut tasks, &name, tls, guide, side, ends.challenges);
        }
        (None, Some(condition)) => {
            let (name, stop) = (Arc::clone(&remote), tasks.stop().clone());
            tasks.spawn("enrolled", enrolled::run(work, condition, name, stop));
        }
        (None, None) => {}
    }
    Ok(Running {
        metrics_address,
        remote,
        tasks,
    })
}

fn from_files(files: &CertificateFiles, config: &Config) -> Result<(Arc<TlsSource>, RemoteName), StartError> {
    let trust_domain = config.trust_domain_or_default();
    let tls = TlsSource::load(files.clone(), trust_domain)?;
    match tls.own().identity {
        Identity::Remote(remote) => Ok((tls, remote)),
        other => Err(StartError::NotARemote {
            path: files.certificate.display().to_string(),
            identity: other.uri(trust_domain),
            trust_domain: trust_domain.to_owned(),
        }),
    }
}
