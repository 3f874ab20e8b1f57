//! The walk of the 2019 blog on real clusters, to be read in a terminal. Exits with 1 if a step is not as said.

mod recorder;
mod remote;
mod stage;
mod steps;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use support::playground::Playground;

use crate::stage::Stage;

/// As in the blog, and one more.
const REMOTES: usize = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let started = Instant::now();
    let stage = Stage::new();
    // A Ctrl-C needs no handler: the processes end with this one.
    match walk(&stage).await {
        Ok(()) => {
            stage.line(&format!("\nAll as said, in {} s.", started.elapsed().as_secs()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            stage.failed(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn walk(stage: &Stage) -> Result<()> {
    stage.step("A central cluster with Istio's control plane and a hub, and two remotes that know nothing of it");
    let mut playground = Playground::start(REMOTES, |what| stage.line(what)).await?;
    let walked = steps::all(stage, &mut playground).await;
    if walked.is_err() {
        playground.folder.keep_logs();
    }
    walked?;
    playground.stop().await
}
