//! The hub as a process: command line, logs, runtime, signals, exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context as _;
use remote_istio::process::{EXIT_CONFIGURATION, init_logging, shutdown_signal};
use tokio::task::JoinSet;

use super::{StartError, start};
use crate::args::{self, ArgsError, Command, Config};
use crate::crd;

/// The hub's process: reads the command line and runs to the end.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let config = match args::parse(arguments) {
        Ok(Command::Run(config)) => *config,
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
