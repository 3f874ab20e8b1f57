//! The hub as a process: command line, logs, runtime, signals, exit code.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use remote_istio::process::{EXIT_CONFIGURATION, EXIT_FAILURE, init_logging, shutdown_signal};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{StartError, central, start};
use crate::args::{self, ArgsError, Command, Config, Operation};
use crate::{commands, crd};

/// A command that does one thing on central; each call of it has a limit of its own.
const COMMAND_DEADLINE: Duration = Duration::from_mins(1);

/// The hub's process: reads the command line and runs to the end.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let config = match args::parse(arguments) {
        Ok(Command::Run(config)) => *config,
        Ok(Command::Crd(name)) => return print(&definitions(name.as_deref())),
        Ok(Command::Operate(operation)) => return operate(&operation),
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

fn definitions(name: Option<&str>) -> String {
    match name {
        None => crd::crd_yaml(),
        Some(name) => crd::crd_files()
            .into_iter()
            .filter(|(file, _)| file.strip_suffix(".yaml") == Some(name))
            .map(|(_, yaml)| yaml)
            .collect(),
    }
}

/// Unlike `print!` it does not panic when the reader is gone.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, EXIT_FAILURE),
    }
}

/// Runs a command that does one thing on central and ends. What goes wrong is said by the answer; there are no logs.
fn operate(operation: &Operation) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, EXIT_FAILURE),
    };
    let done = runtime.block_on(async {
        let client = central::client_for_calls(operation.kubeconfig.as_deref()).await;
        let client = client.map_err(StartError::Configuration)?;
        let mut out = io::stdout();
        let running = commands::run(client, operation, &mut out);
        let ended = timeout(COMMAND_DEADLINE, running).await;
        let ended =
            ended.context("central's API server does not answer in time; what was asked for may be done in part");
        let ended = ended.and_then(|ended| ended.map_err(Into::into));
        ended.map_err(StartError::Other)
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, error.exit_code()),
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
