//! Puts the parts together: [`start`] for tests and the process alike, [`main`] for the process.

mod central;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kube::Client;
use prometheus_client::registry::Registry;
use remote_istio::identity::Identity;
use remote_istio::process::{
    Admin, BindError, Condition, EXIT_CONFIGURATION, EXIT_FAILURE, ProcessStats, Readiness, TaskError, Tasks,
    admin_router, init_logging, shutdown_signal,
};
use remote_istio::tls::TlsSource;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::central::Clients;
use crate::args::{self, ArgsError, Command, Config};
use crate::crd;
use crate::index::{self, Index};
use crate::lease;
use crate::link::{self, Link, Sessions};
use crate::metrics::{Gauges, Metrics};
use crate::state::State;
use crate::status::{self, StatusMetrics};
use crate::watch::Watches;

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
    metrics_address: SocketAddr,
    tasks: Tasks,
}

impl Running {
    /// Where agents connect.
    #[must_use]
    pub fn sync_address(&self) -> SocketAddr {
        self.sync_address
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

/// Starts a hub. It returns once both listeners are bound; agents are answered when everything has been listed once.
///
/// # Errors
/// The configuration cannot be used.
pub async fn start(config: Config) -> Result<Running, StartError> {
    let mut tasks = Tasks::new(CancellationToken::new());
    let stop = tasks.stop().clone();
    let readiness = Readiness::default();
    let mut registry = Registry::default();

    let admin = Admin::bind(config.metrics_address, "--metrics-address").await;
    let admin = admin.map_err(configuration)?;
    let listener = bind(config.sync_address).await.map_err(configuration)?;
    let sync_address = listener.local_addr().map_err(|error| StartError::Other(error.into()))?;
    let metrics_address = admin.address();

    let tls = load_certificates(&config)?;
    let state = State::new(Index::new(index::Settings {
        namespace: config.namespace.clone(),
        service_namespaces: config.service_namespaces.clone(),
    }));
    let watches = Watches::new(
        config.namespace.clone(),
        config.service_namespaces.clone(),
        Arc::clone(&state),
    );
    let sessions = Sessions::new();
    let metrics = Metrics::new(&mut registry);
    let status_metrics = StatusMetrics::new(&mut registry);
    registry.register_collector(Box::new(ProcessStats));
    Gauges {
        sessions: Arc::clone(&sessions),
        tls: Arc::clone(&tls),
        watches: watches.statistics(),
    }
    .register(&mut registry);

    let clients = Clients::new(&config).await.map_err(StartError::Configuration)?;
    let listed = watches.listed();
    let condition = readiness.condition("watches");
    tasks.spawn(
        "watches",
        watch_central(watches, clients.watches, condition, stop.clone()),
    );
    let leader = elect(&mut tasks, &clients.calls, &config);
    let deps = status::Deps {
        client: clients.calls,
        namespace: config.namespace.clone(),
        replica: config.replica.clone(),
        state: Arc::clone(&state),
        sessions: Arc::clone(&sessions),
        leader,
        metrics: status_metrics,
    };
    tasks.spawn("status", status::run(deps, stop.clone()));
    tasks.spawn("certificates", Arc::clone(&tls).reload_loop(stop.clone()));
    let settings = link::Settings {
        namespace: config.namespace.clone(),
        replica: config.replica.clone(),
        boot_id: boot_id(),
    };
    let link = Link::new(settings, state, sessions, metrics, stop.clone());
    let condition = readiness.condition("link");
    tasks.spawn(
        "link",
        serve_when_listed(link, listener, tls, listed, condition, stop.clone()),
    );
    tasks.spawn("admin", admin.serve(admin_router(readiness, Arc::new(registry)), stop));
    tracing::info!(%sync_address, %metrics_address, replica = %config.replica, "hub started");
    Ok(Running {
        sync_address,
        metrics_address,
        tasks,
    })
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

fn elect(tasks: &mut Tasks, client: &Client, config: &Config) -> watch::Receiver<bool> {
    let (leads, leader) = watch::channel(false);
    let (client, stop) = (client.clone(), tasks.stop().clone());
    let election = lease::run(client, config.namespace.clone(), config.replica.clone(), leads, stop);
    tasks.spawn("lease", election);
    leader
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

fn configuration(error: BindError) -> StartError {
    StartError::Configuration(error.into())
}

async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    let flag = "--sync-address";
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| BindError { flag, address, source })
}

fn load_certificates(config: &Config) -> Result<Arc<TlsSource>, StartError> {
    let loaded = TlsSource::load(config.certificate_files.clone(), &config.trust_domain);
    let tls = loaded.map_err(|error| StartError::Configuration(error.into()))?;
    let identity = tls.own().identity;
    if identity == Identity::Hub {
        return Ok(tls);
    }
    Err(StartError::Configuration(anyhow::anyhow!(
        "--certificate {} stands for {}, a hub's must stand for {}",
        config.certificate_files.certificate.display(),
        identity.uri(&config.trust_domain),
        Identity::Hub.uri(&config.trust_domain),
    )))
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

/// The hub's process: reads the command line and runs to the end.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let config = match args::parse(arguments) {
        Ok(Command::Run(config)) => config,
        Ok(Command::Crd) => {
            print!("{}", crd::crd_yaml());
            return ExitCode::SUCCESS;
        }
        Err(ArgsError::Usage(error)) => {
            let wrong = error.use_stderr();
            // Nobody is left to tell if the terminal is gone.
            let _ = error.print();
            return if wrong {
                EXIT_CONFIGURATION.into()
            } else {
                ExitCode::SUCCESS
            };
        }
        Err(error) => return fail(&error, EXIT_CONFIGURATION),
    };
    if let Err(error) = init_logging(config.log_format, &config.log_level) {
        return fail(&error, EXIT_CONFIGURATION);
    }
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "hub failed");
            error.exit_code().into()
        }
    }
}

fn fail(error: &dyn std::error::Error, code: u8) -> ExitCode {
    eprintln!("remote-istio-hub: {error}");
    code.into()
}

fn run(config: Config) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime
        .context("the runtime cannot be started")
        .map_err(StartError::Other)?;
    runtime.block_on(async {
        let running = start(config).await?;
        let signals = shutdown_signal(running.stop())
            .context("signals cannot be caught")
            .map_err(StartError::Other)?;
        let mut watching = JoinSet::new();
        watching.spawn(signals);
        running.wait().await.map_err(|error| StartError::Other(error.into()))?;
        tracing::info!("hub stopped");
        Ok(())
    })
}
