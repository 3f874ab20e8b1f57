//! An agent that leaves its remote: everything it made goes, without the hub, and at last its identity.

mod engine;
mod owner;
mod pods;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::DeleteParams;
use kube::{Api, Client};
use remote_istio::process::{EXIT_CONFIGURATION, EXIT_FAILURE, init_logging};
use tokio::time::Instant;

use super::clients::{ClientError, Clients};
use super::epoch::LEASE;
use crate::apply::explain;
use crate::args::Leave;
use crate::engine::Left;
use crate::identity::{Store, StoreError};

/// For a name resolution that hangs when the process ends.
const LAST_BREATH: Duration = Duration::from_secs(1);

/// This agent cannot leave, or not wholly.
#[derive(Debug, thiserror::Error)]
enum LeaveError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Owner(#[from] owner::OwnerError),
    #[error(
        "an agent still runs in namespace {0}, and would put everything back: {1}; take it away first (helm uninstall, or \
         kubectl --namespace {0} scale deployment/remote-istio-agent --replicas=0)"
    )]
    Running(String, String),
    #[error("not everything is gone: {}", shown(.0))]
    Left(Vec<Left>),
    #[error("not everything was seen in time: {0}")]
    Unseen(String),
    #[error(
        "everything was gone, and came back: {}; an agent of this remote still runs somewhere: stop it, then leave again",
        shown(.0)
    )]
    PutBack(Vec<Left>),
    #[error("nothing is left but the identity: {0}; empty that Secret by hand")]
    Identity(#[from] StoreError),
    #[error("a part of the agent failed: {0}")]
    Task(#[from] remote_istio::process::TaskError),
    #[error("no output: {0}")]
    Output(#[from] io::Error),
}

impl LeaveError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Client(_) | Self::Owner(owner::OwnerError::Several(..)) => EXIT_CONFIGURATION,
            _ => EXIT_FAILURE,
        })
    }
}

fn shown(left: &[Left]) -> String {
    let line = |left: &Left| match left.why.as_str() {
        "" => format!("{} (on its way)", left.what),
        why => format!("{} ({why})", left.what),
    };
    left.iter().map(line).collect::<Vec<_>>().join("; ")
}

/// Lets go of everything that the agent made.
#[must_use]
pub fn run_leave(leave: &Leave) -> ExitCode {
    if let Err(error) = init_logging(leave.log_format, &leave.log_level) {
        eprintln!("error: {error}");
        return ExitCode::from(EXIT_CONFIGURATION);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no threads can be had: {error}");
            return ExitCode::from(EXIT_FAILURE);
        }
    };
    let result = runtime.block_on(carry_out(leave));
    runtime.shutdown_timeout(LAST_BREATH);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            error.exit_code()
        }
    }
}

async fn carry_out(leave: &Leave) -> Result<(), LeaveError> {
    let deadline = Instant::now() + leave.timeout;
    let clients = Clients::load(leave.kubeconfig.as_deref()).await?;
    // No token is read or blanked.
    let store = Store::new(clients.calls.clone(), &leave.namespace, &leave.identity_secret, "");
    let found = owner::find(&clients.calls, leave, &store).await?;
    if !pods::until_gone(&clients.calls, &leave.namespace, deadline).await? {
        say("cannot see whether an agent still runs here: this account may not list pods")?;
    }
    match &found {
        Some(owner) => {
            say(&format!("letting go of everything of {} in this cluster", owner.shown))?;
            let clients = clients.clone();
            engine::let_go(clients, leave, owner.label.clone(), deadline).await?;
            say("nothing is left")?;
        }
        None => say("no agent has anything here")?,
    }
    release_lease(&clients.calls, &leave.namespace).await?;
    give_up_identity(leave, &store, found.as_ref().is_some_and(|owner| owner.joined)).await?;
    if let Some(name) = found.and_then(|owner| owner.name) {
        say(&format!(
            "on central, if it is not to come back: kubectl delete remoteistio {name}; remote-istio-hub revoke {name}"
        ))?;
    }
    Ok(())
}

/// Last, so that whoever leaves again still knows whose objects are to go.
async fn give_up_identity(leave: &Leave, store: &Store, joined: bool) -> Result<(), LeaveError> {
    if leave.keep_identity {
        return say(&format!("the identity stays in {}", store.origin()));
    }
    match store.clear().await {
        Ok(true) => say(&format!(
            "{} is empty: to come back, this remote needs a new token",
            store.origin()
        )),
        Ok(false) => Ok(()),
        Err(error @ StoreError::Forbidden(..)) if !joined => say(&format!("the identity stays as it is: {error}")),
        Err(error) => Err(error.into()),
    }
}

/// The Lease orders the starts of agents; with none left it is of no use, and harms nobody where it stays.
async fn release_lease(client: &Client, namespace: &str) -> Result<(), LeaveError> {
    let leases = Api::<Lease>::namespaced(client.clone(), namespace);
    match leases.delete(LEASE, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => say(&format!("the Lease {namespace}/{LEASE} stays: {}", explain(&error))),
    }
}

fn say(text: &str) -> Result<(), LeaveError> {
    Ok(writeln!(io::stdout(), "{text}")?)
}
