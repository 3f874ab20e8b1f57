//! What the reader sees: numbered steps, commands with their real output, and what was found true.

use std::cell::Cell;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

/// For one command: a `helm install` that waits for a pod on a busy machine.
const COMMAND_DEADLINE: Duration = Duration::from_mins(4);

/// The terminal.
pub(crate) struct Terminal {
    step: Cell<u32>,
    coloured: bool,
    started: Instant,
}

impl Terminal {
    pub(crate) fn new() -> Self {
        Self {
            step: Cell::new(0),
            coloured: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
            started: Instant::now(),
        }
    }

    /// The next step.
    pub(crate) fn step(&self, title: &str) {
        self.step.set(self.step.get() + 1);
        let title = format!("{}. {title}", self.step.get());
        println!(
            "\n{}  ({} s)",
            self.paint("1", &title),
            self.started.elapsed().as_secs()
        );
    }

    /// Any line.
    #[expect(clippy::unused_self, reason = "the terminal is the one way to the reader")]
    pub(crate) fn line(&self, text: &str) {
        println!("      {text}");
    }

    /// Something that was checked and holds.
    pub(crate) fn holds(&self, text: &str) {
        println!("{} {text}", self.paint("32", "   ok"));
    }

    /// The end when a step is not as said.
    pub(crate) fn failed(&self, text: &str) {
        println!("{} {text}", self.paint("31", "   NOT AS SAID:"));
    }

    /// Seconds since the start.
    pub(crate) fn seconds(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.coloured {
            return format!("\u{1b}[{code}m{text}\u{1b}[0m");
        }
        text.to_owned()
    }
}

/// A shell of a person who is the administrator of one cluster.
#[derive(Clone, Copy)]
pub(crate) struct Shell<'a> {
    pub(crate) terminal: &'a Terminal,
    pub(crate) cluster: &'a str,
    pub(crate) kubeconfig: &'a Path,
    /// With helm and kubectl in it.
    pub(crate) programs: &'a Path,
    /// What helm would keep in the person's home.
    pub(crate) home: &'a Path,
}

impl Shell<'_> {
    /// Shows a line and its output, and gives the output; a line that fails ends the run.
    pub(crate) async fn run(&self, line: &str) -> Result<String> {
        self.show(line, line).await
    }

    /// The same, with a secret in the line that nobody shall see.
    pub(crate) async fn run_hiding(&self, line: &str, secret: &str) -> Result<String> {
        self.show(line, &line.replace(secret, "TOKEN")).await
    }

    /// Shows a line as if it was run.
    pub(crate) fn announce(&self, line: &str) {
        let prompt = format!("[{}] $ {line}", self.cluster);
        println!("{}", self.terminal.paint("36", &prompt));
    }

    async fn show(&self, line: &str, shown: &str) -> Result<String> {
        self.announce(shown);
        let said = self.output(line, shown).await?;
        for line in said.lines() {
            self.terminal.line(line);
        }
        Ok(said)
    }

    /// Runs a line without showing it.
    pub(crate) async fn quietly(&self, line: &str) -> Result<String> {
        self.output(line, line).await
    }

    async fn output(&self, line: &str, shown: &str) -> Result<String> {
        let inherited = std::env::var("PATH").unwrap_or_default();
        let running = Command::new("bash")
            .args(["-o", "pipefail", "-ec", line])
            .current_dir(root())
            .env("PATH", format!("{}:{inherited}", self.programs.display()))
            .env("KUBECONFIG", self.kubeconfig)
            .env("HOME", self.home)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(COMMAND_DEADLINE, running)
            .await
            .with_context(|| format!("{shown}: no end after {COMMAND_DEADLINE:?}"))?
            .context("running bash")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!(
                "[{}] $ {shown}\n{text}{}",
                self.cluster,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(text)
    }
}

/// The tree, where a person types.
pub(crate) fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}
