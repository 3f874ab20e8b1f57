//! The page: what was typed where, and what came of it.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

/// For one command.
const COMMAND_DEADLINE: Duration = Duration::from_secs(70);

/// A page of Markdown in the making.
#[derive(Debug, Default)]
pub(crate) struct Page(String);

/// A cluster, as the reader knows it, with what kubectl needs.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) context: &'a str,
    pub(crate) kubectl: &'a Path,
    pub(crate) kubeconfig: &'a Path,
}

impl Page {
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// A paragraph, or a heading.
    pub(crate) fn say(&mut self, text: &str) {
        self.line(&format!("{text}\n"));
    }

    /// A command and its output.
    pub(crate) fn shown(&mut self, context: &str, command: &str, output: &str) {
        self.line(&format!(
            "```text\n[context:{context}] ❯ {command}\n{}\n```\n",
            output.trim_end()
        ));
    }

    /// Runs kubectl as it is shown, and gives its output.
    pub(crate) async fn kubectl(&mut self, at: At<'_>, arguments: &str) -> Result<String> {
        self.kubectl_shown_as(at, arguments, &format!("kubectl {arguments}"))
            .await
    }

    /// Runs kubectl; files are named as the reader finds them.
    pub(crate) async fn kubectl_shown_as(&mut self, at: At<'_>, arguments: &str, shown: &str) -> Result<String> {
        let running = Command::new(at.kubectl)
            .arg("--kubeconfig")
            .arg(at.kubeconfig)
            .args(arguments.split(' '))
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(COMMAND_DEADLINE, running)
            .await
            .with_context(|| format!("{shown}: no end after {COMMAND_DEADLINE:?}"))?
            .with_context(|| format!("running {}", at.kubectl.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!("{shown}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        self.shown(at.context, shown, &text);
        Ok(text)
    }

    fn line(&mut self, text: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{text}");
    }
}
