//! Hub and agent as processes: their ends, their logs, and runs that fail before they begin.

use std::process::Stdio;

use support::eventually::eventually;
use support::pair::{Daemon, program};
use tokio::process::Command;

use super::Remote;

impl Remote {
    /// `kill -9`.
    pub async fn kill_agent(&mut self) {
        self.agent.kill().await.expect("killed");
    }

    /// SIGTERM, and the exit code.
    pub async fn terminate_agent(&mut self) -> i32 {
        self.agent.terminate().await.expect("ended")
    }

    /// The exit code of an agent that ends by itself.
    pub async fn agent_exit(&mut self) -> i32 {
        self.agent.wait().await.expect("ended")
    }

    /// One metric of the agent, summed over all series.
    pub async fn metric(&self, name: &str) -> f64 {
        let metrics = self.agent.metrics().await.expect("metrics");
        metrics.sum(&format!("remote_istio_agent_{name}"), &[])
    }
}

/// Waits until a log has these words.
pub(super) async fn until_log_has(daemon: &Daemon, words: &str) {
    eventually(&format!("{} logs {words:?}", daemon.command().name), || {
        // The log is made by the shell that starts the process: it may not be there yet.
        let log = std::fs::read_to_string(daemon.log_path()).unwrap_or_default();
        std::future::ready(if log.contains(words) {
            Ok(())
        } else {
            Err(daemon.command().log_tail())
        })
    })
    .await;
}

/// Runs the hub's program to its end: exit code, and what it printed.
pub async fn run_hub(arguments: &[&str]) -> (i32, String) {
    run_program("remote-istio-hub", arguments).await
}

/// Runs the agent's program to its end: exit code, and what it printed.
pub async fn run_agent(arguments: &[&str]) -> (i32, String) {
    run_program("remote-istio-agent", arguments).await
}

async fn run_program(name: &str, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(program(name).expect("built"))
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(support::eventually::PATIENCE, output).await;
    let output = output.expect("it ends").expect("it starts");
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&said).into_owned(),
    )
}
