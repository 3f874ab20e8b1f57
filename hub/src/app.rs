//! Puts the parts together: [`start`] for tests and the process alike, [`main`] for the process.

mod central;
mod parts;
mod process;
#[cfg(test)]
mod tests;
mod trust;

use std::net::SocketAddr;
use std::time::Duration;

use remote_istio::process::{Admin, BindError, EXIT_CONFIGURATION, EXIT_FAILURE, TaskError, Tasks};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::central::Clients;
use self::parts::Parts;
pub use self::process::main;
use self::trust::LinkTrust;
use crate::args::{Config, LinkCa};

/// From the wish to stop to the end: sessions drain within it.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(10);

/// Why a hub cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Flags, files or settings that cannot be used: a restart cannot help.
    #[error("{0:#}")]
    Configuration(anyhow::Error),
    /// Anything else.
    #[error("{0:#}")]
    Other(anyhow::Error),
}

impl StartError {
    /// The exit code of the process.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Configuration(_) => EXIT_CONFIGURATION,
            Self::Other(_) => EXIT_FAILURE,
        }
    }
}

/// A hub that runs. Dropping it ends it at once; [`Running::wait`] ends it in good order.
#[derive(Debug)]
pub struct Running {
    sync_address: SocketAddr,
    enrolment_address: Option<SocketAddr>,
    metrics_address: SocketAddr,
    tasks: Tasks,
}

impl Running {
    /// Where agents connect.
    #[must_use]
    pub fn sync_address(&self) -> SocketAddr {
        self.sync_address
    }

    /// Where remotes join; nothing where their certificates come from elsewhere.
    #[must_use]
    pub fn enrolment_address(&self) -> Option<SocketAddr> {
        self.enrolment_address
    }

    /// Where health and metrics are served.
    #[must_use]
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics_address
    }

    /// Cancelling this asks the hub to drain its sessions and end.
    #[must_use]
    pub fn stop(&self) -> CancellationToken {
        self.tasks.stop().clone()
    }

    /// Waits until the hub is asked to stop, then drains it.
    ///
    /// # Errors
    /// A part ended before it was asked to, or did not end in time.
    pub async fn wait(mut self) -> Result<(), TaskError> {
        let asked = self.tasks.wait().await;
        let ended = self.tasks.shutdown(SHUTDOWN_DEADLINE).await;
        asked.and(ended)
    }
}

/// Starts a hub. It returns once its listeners are bound and, where it signs, its CA is read; agents are answered when
/// everything has been listed once.
///
/// # Errors
/// The configuration or the CA cannot be used.
pub async fn start(config: Config) -> Result<Running, StartError> {
    let admin = Admin::bind(config.metrics_address, "--metrics-address").await;
    let admin = admin.map_err(configuration)?;
    let sync = bind("--sync-address", config.sync_address).await?;
    let enrolment = match config.link {
        LinkCa::Files(_) => None,
        LinkCa::Made { .. } | LinkCa::Brought { .. } => {
            Some(bind("--enrolment-address", config.enrolment_address).await?)
        }
    };
    let sync_address = address_of(&sync)?;
    let enrolment_address = enrolment.as_ref().map(address_of).transpose()?;
    let metrics_address = admin.address();
    // Files first: what is wrong with them is nearer than an API server.
    let files = trust::files(&config)?;
    let clients = Clients::new(&config).await.map_err(StartError::Configuration)?;
    let trust = match files {
        Some(tls) => LinkTrust::Files(tls),
        None => LinkTrust::Signed(trust::authority(&config, &clients.calls).await?),
    };

    let replica = config.replica.clone();
    let tasks = Parts::new(config, trust, clients).run(admin, sync, enrolment);
    tracing::info!(%sync_address, ?enrolment_address, %metrics_address, %replica, "hub started");
    Ok(Running {
        sync_address,
        enrolment_address,
        metrics_address,
        tasks,
    })
}

fn address_of(listener: &TcpListener) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|error| StartError::Other(error.into()))
}

fn configuration(error: BindError) -> StartError {
    StartError::Configuration(error.into())
}

async fn bind(flag: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| configuration(BindError { flag, address, source }))
}
