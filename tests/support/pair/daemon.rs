//! What hub and agent have in common as processes: start, end, health, metrics, log.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::guardian::{CommandLine, Guarded, Signal};
use crate::http;

/// From start to ready; on a busy machine.
const READY_DEADLINE: Duration = Duration::from_mins(1);

/// From SIGTERM to the end.
const DRAIN_DEADLINE: Duration = Duration::from_secs(30);

/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The program of this workspace that was built beside the running one.
///
/// # Errors
/// It is not there: the text says what to run.
pub fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("asking for the running program")?;
    let folders = own.ancestors().skip(1).take(2);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| {
        let release = if own.components().any(|part| part.as_os_str() == "release") {
            " --release"
        } else {
            ""
        };
        format!(
            "there is no {name} beside {}: run `cargo build --workspace{release}` first",
            own.display()
        )
    })
}

/// A hub or an agent.
#[derive(Debug)]
pub struct Daemon {
    line: CommandLine,
    metrics_address: SocketAddr,
    process: Option<Guarded>,
}

impl Daemon {
    /// One that does not run yet.
    #[must_use]
    pub fn new(line: CommandLine, metrics_address: SocketAddr) -> Self {
        Self {
            line,
            metrics_address,
            process: None,
        }
    }

    /// How it is started, so that anyone can do it by hand.
    #[must_use]
    pub fn command(&self) -> &CommandLine {
        &self.line
    }

    /// Changes how it is started the next time.
    pub fn command_mut(&mut self) -> &mut CommandLine {
        &mut self.line
    }

    /// Health and metrics.
    #[must_use]
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics_address
    }

    /// Its process while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process
            .as_ref()
            .filter(|process| process.exited().is_none())
            .map(Guarded::pid)
    }

    /// All it has logged so far, over all its lives.
    ///
    /// # Panics
    /// The log cannot be read.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.line.log).expect("the log is there from the start");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Where it logs.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.line.log
    }

    /// Starts it without waiting for anything.
    ///
    /// # Errors
    /// It runs already, or no process can be made.
    pub fn start(&mut self) -> Result<()> {
        if self.pid().is_some() {
            bail!("{} runs already", self.line.name);
        }
        self.process = Some(self.line.start()?);
        Ok(())
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// It ends, or is not ready in time: the text has what is missing and the end of its log.
    pub async fn ready(&self) -> Result<()> {
        let mut last = "no answer yet".to_owned();
        let ready = async {
            loop {
                match http::get(self.metrics_address, "/readyz").await {
                    Ok((200, _)) => return Ok(()),
                    Ok((code, body)) => last = format!("{code}: {}", body.trim()),
                    Err(error) => last = format!("{error:#}"),
                }
                if let Some(code) = self.process.as_ref().and_then(Guarded::exited) {
                    bail!("{} ended with code {code}:\n{}", self.line.name, self.line.log_tail());
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        match tokio::time::timeout(READY_DEADLINE, ready).await {
            Ok(ready) => ready,
            Err(_) => bail!(
                "{} is not ready after {READY_DEADLINE:?}, {last}:\n{}",
                self.line.name,
                self.line.log_tail()
            ),
        }
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// It does not run.
    pub async fn kill(&mut self) -> Result<()> {
        self.running()?.kill().await?;
        self.process = None;
        Ok(())
    }

    /// SIGTERM; gives the exit code.
    ///
    /// # Errors
    /// It does not run, or does not end in time.
    pub async fn terminate(&mut self) -> Result<i32> {
        let code = self.running()?.terminate(DRAIN_DEADLINE).await?;
        self.process = None;
        Ok(code)
    }

    /// Waits for an end that it comes to by itself; gives the exit code.
    ///
    /// # Errors
    /// It does not run, or does not end in time.
    pub async fn wait(&mut self) -> Result<i32> {
        let code = self.running()?.wait(DRAIN_DEADLINE).await?;
        self.process = None;
        Ok(code)
    }

    /// Stops it where it is, or lets it go on.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.running()?.signal(signal)
    }

    /// Kills it if it runs, starts it again and waits until it is ready.
    ///
    /// # Errors
    /// As [`Self::start`] and [`Self::ready`].
    pub async fn restart(&mut self) -> Result<()> {
        if self.pid().is_some() {
            self.kill().await?;
        }
        self.start()?;
        self.ready().await
    }

    /// Its metrics as they are now.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn metrics(&self) -> Result<Metrics> {
        Metrics::scrape(self.metrics_address).await
    }

    fn running(&mut self) -> Result<&mut Guarded> {
        let name = &self.line.name;
        self.process.as_mut().with_context(|| format!("{name} does not run"))
    }
}

/// One scrape.
#[derive(Debug, Clone)]
pub struct Metrics(String);

impl Metrics {
    /// Those of a process that serves them there.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn scrape(address: SocketAddr) -> Result<Self> {
        let (_, text) = http::get(address, "/metrics").await?;
        Ok(Self(text))
    }

    /// The text as it came.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The sum over all series of this name whose labels contain every one of `labels` (as `lane="config"`); 0 if
    /// there is none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let series = self.0.lines().filter(|line| !line.starts_with('#'));
        let named = series.filter_map(|line| line.strip_prefix(name));
        let matching =
            named.filter(|rest| rest.starts_with([' ', '{']) && labels.iter().all(|label| rest.contains(label)));
        matching
            .filter_map(|rest| rest.rsplit('}').next()?.split_whitespace().next()?.parse::<f64>().ok())
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "the numbers are read, not computed")]
    fn series_are_summed_by_name_and_labels() {
        let text = "# TYPE a counter\na_total{lane=\"config\",reason=\"x y\"} 2\na_total{lane=\"endpoints\"} 3 17.5\n\
                    a_total_b 9\nb 4\n# EOF\n";
        let metrics = Metrics(text.to_owned());
        assert_eq!(metrics.sum("a_total", &[]), 5.0);
        assert_eq!(metrics.sum("a_total", &["lane=\"config\""]), 2.0);
        assert_eq!(metrics.sum("b", &[]), 4.0);
        assert_eq!(metrics.sum("c", &[]), 0.0);
    }
}
