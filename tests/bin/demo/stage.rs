//! What the reader sees: numbered steps, commands with their real output, and what was found true.

use std::cell::Cell;
use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

/// For one kubectl.
const COMMAND_DEADLINE: Duration = Duration::from_secs(70);

/// The terminal.
pub(crate) struct Stage {
    step: Cell<u32>,
    coloured: bool,
}

/// One cluster as the reader knows it, with what kubectl needs.
#[derive(Clone, Copy)]
pub(crate) struct Prompt<'a> {
    pub(crate) cluster: &'a str,
    pub(crate) kubectl: &'a Path,
    pub(crate) kubeconfig: &'a Path,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self {
            step: Cell::new(0),
            coloured: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        }
    }

    /// The next step.
    pub(crate) fn step(&self, title: &str) {
        self.step.set(self.step.get() + 1);
        println!("\n{}", self.paint("1", &format!("{}. {title}", self.step.get())));
    }

    /// Any line.
    #[expect(clippy::unused_self, reason = "the stage is the one way to the terminal")]
    pub(crate) fn line(&self, text: &str) {
        println!("{text}");
    }

    /// Something that was checked and holds.
    pub(crate) fn holds(&self, text: &str) {
        println!("{} {text}", self.paint("32", "   ok"));
    }

    /// The end when a step is not as said.
    pub(crate) fn failed(&self, text: &str) {
        println!("{} {text}", self.paint("31", "   NOT AS SAID:"));
    }

    /// Shows a command of ours; what it does is said by the caller.
    pub(crate) fn command(&self, cluster: &str, line: &str) {
        println!("{}", self.paint("36", &format!("[{cluster}] $ {line}")));
    }

    /// Shows a kubectl command and its output; a command that fails ends the demo.
    pub(crate) async fn kubectl(&self, at: Prompt<'_>, arguments: &str) -> Result<String> {
        let prompt = format!("[{}] $ kubectl {arguments}", at.cluster);
        println!("{}", self.paint("36", &prompt));
        let running = Command::new(at.kubectl)
            .arg("--kubeconfig")
            .arg(at.kubeconfig)
            .args(["--warnings-as-errors=false", "--namespace", support::deploy::NAMESPACE])
            .args(arguments.split(' '))
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(COMMAND_DEADLINE, running)
            .await
            .with_context(|| format!("{prompt}: no end after {COMMAND_DEADLINE:?}"))?
            .with_context(|| format!("running {}", at.kubectl.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        print!("{text}");
        if !output.status.success() {
            bail!("{prompt}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.coloured {
            return format!("\u{1b}[{code}m{text}\u{1b}[0m");
        }
        text.to_owned()
    }
}
