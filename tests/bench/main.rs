//! `make bench`: how long a pod's readiness on central takes to be readable in every remote, for the real pair and, in
//! the same run, for what cannot be beaten and for what was there before.

mod arguments;
mod block;
mod changes;
mod idle;
mod prepare;
mod processes;
mod report;
mod rival;
mod rounds;
mod run;
mod samples;
mod sequential;
mod sights;
mod silent;
mod system;
mod world;

use std::process::ExitCode;

use clap::Parser as _;

#[tokio::main]
async fn main() -> ExitCode {
    match run::run(&arguments::Arguments::parse().plan()).await {
        Ok(complete) if complete => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
