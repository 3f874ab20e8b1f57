//! Cold start and memory at rest of both programs, in their pods.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use support::deploy::NAMESPACE;
use support::http;
use support::node::Process;

use crate::steps::{HEALTH_PORT, Walk};
use crate::terminal::Shell;
use crate::world::{DEADLINE, megabytes};

/// From one look to the next: how exact a start is measured.
const LOOK_EVERY: Duration = Duration::from_millis(5);

impl Walk<'_> {
    pub(crate) async fn measure(&self) -> Result<()> {
        self.terminal.step("Memory at rest, and how long a start takes");
        for image in [&self.world.images.hub, &self.world.images.agent] {
            let name = image.reference.rsplit('/').next().unwrap_or(&image.reference);
            self.figures
                .note(&format!("{name}: program, bytes"), image.program_bytes);
            self.figures.note(&format!("{name}: image, bytes"), image.image_bytes);
        }
        for (program, shell) in [
            ("remote-istio-hub", self.central()),
            ("remote-istio-agent", self.remote(0)),
        ] {
            let processes = self.world.ground.processes(program);
            ensure!(!processes.is_empty(), "no process of {program} is found");
            for process in &processes {
                let memory = process.memory()?;
                self.terminal
                    .holds(&format!("{program}: {:.1} MB resident", megabytes(memory)));
                self.figures
                    .note(&format!("{program}: resident memory at rest, bytes"), memory);
            }
            let ready = self.restarted(program, shell, &processes).await?;
            let milliseconds = u64::try_from(ready.as_millis()).unwrap_or(u64::MAX);
            self.terminal.holds(&format!(
                "{program}: ready {milliseconds} ms after the start of its process"
            ));
            self.figures.note(
                &format!("{program}: from the start of its process to ready, milliseconds"),
                milliseconds,
            );
            shell
                .run(&format!(
                    "kubectl --namespace {NAMESPACE} rollout status deployment/{program} --timeout=120s"
                ))
                .await?;
        }
        Ok(())
    }

    /// The age of the new process when it is ready first.
    async fn restarted(&self, program: &str, shell: Shell<'_>, old: &[Process]) -> Result<Duration> {
        shell
            .run(&format!(
                "kubectl --namespace {NAMESPACE} rollout restart deployment/{program}"
            ))
            .await?;
        let ready = async {
            loop {
                let processes = self.world.ground.processes(program);
                if let Some(process) = processes.iter().find(|process| !old.contains(process)) {
                    return when_ready(process).await;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        match tokio::time::timeout(DEADLINE, ready).await {
            Ok(ready) => ready,
            Err(_) => bail!("no new process of {program} is ready after {DEADLINE:?}"),
        }
    }
}

async fn when_ready(process: &Process) -> Result<Duration> {
    loop {
        let address = process.address().context("a new process has gone")?;
        let answer = http::get(SocketAddr::new(address.into(), HEALTH_PORT), "/readyz").await;
        if matches!(answer, Ok((200, _))) {
            return process.age();
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
