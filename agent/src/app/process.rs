//! An agent as a process: logs, runtime, signals, exit code.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use remote_istio::process::{EXIT_CONFIGURATION, EXIT_FAILURE, init_logging, shutdown_signal};
use tokio::task::JoinSet;

use super::cluster::Unsupported;
use super::enrolled::OtherTrustDomain;
use super::{StartError, start};
use crate::args::Config;

/// An agent mostly waits; more threads would only cost memory.
const WORKERS: usize = 2;

/// Name resolution and looks at the certificate files.
const BLOCKING_THREADS: usize = 4;

/// For a name resolution that hangs when the process ends.
const LAST_BREATH: Duration = Duration::from_secs(1);

/// Runs an agent until it is asked to stop or fails.
#[must_use]
pub fn run(config: Config) -> ExitCode {
    if let Err(error) = init_logging(config.log_format, &config.log_level) {
        // Without logs this is the only place to say it.
        eprintln!("error: {error}");
        return ExitCode::from(EXIT_CONFIGURATION);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no threads can be had");
            return ExitCode::from(EXIT_FAILURE);
        }
    };
    let result = runtime.block_on(until_ended(config));
    runtime.shutdown_timeout(LAST_BREATH);
    match result {
        Ok(()) => {
            tracing::info!("agent stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!(%error, "agent failed");
            ExitCode::from(exit_code(&error))
        }
    }
}

/// That of configuration where a restart cannot help.
pub(super) fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(start) = error.downcast_ref::<StartError>() {
        return start.exit_code();
    }
    let cannot_help =
        |cause: &(dyn std::error::Error + 'static)| cause.is::<Unsupported>() || cause.is::<OtherTrustDomain>();
    if error.chain().any(cannot_help) {
        EXIT_CONFIGURATION
    } else {
        EXIT_FAILURE
    }
}

async fn until_ended(config: Config) -> anyhow::Result<()> {
    let mut running = start(config).await?;
    let mut signals = JoinSet::new();
    signals.spawn(shutdown_signal(running.stop_token()).context("signals cannot be caught")?);
    let ended = running.wait().await;
    let stopped = running.stop().await;
    ended.and(stopped)?;
    Ok(())
}
