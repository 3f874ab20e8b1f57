//! The agent's binary: flags in, exit code out.

use std::process::ExitCode;

use remote_istio_agent::args::Task;
use remote_istio_agent::{app, args};

fn main() -> ExitCode {
    match args::parse(std::env::args_os()) {
        Ok(Task::Run(config)) => app::run(*config),
        Ok(Task::Minted(minted)) => app::run_minted(&minted),
        Ok(Task::Check(check)) => app::run_check(&check),
        Ok(Task::Leave(leave)) => app::run_leave(&leave),
        Err(stopped) => {
            // With neither output left there is nobody to tell.
            let _ = stopped.print();
            ExitCode::from(stopped.exit_code())
        }
    }
}
