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
        let text = run(at, arguments).await?;
        self.shown(at.context, shown, &text);
        Ok(text)
    }

    fn line(&mut self, text: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{text}");
    }
}

/// Runs kubectl without a word of it on the page. That nothing is found is said on the other stream.
pub(crate) async fn run(at: At<'_>, arguments: &str) -> Result<String> {
    let running = Command::new(at.kubectl)
        .arg("--kubeconfig")
        .arg(at.kubeconfig)
        .args(words(arguments))
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(COMMAND_DEADLINE, running)
        .await
        .with_context(|| format!("kubectl {arguments}: no end after {COMMAND_DEADLINE:?}"))?
        .with_context(|| format!("running {}", at.kubectl.display()))?;
    let others = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("kubectl {arguments}: {}", others.trim());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !text.trim().is_empty() {
        return Ok(text);
    }
    let said: Vec<&str> = others.lines().filter(|line| !line.starts_with("Warning:")).collect();
    Ok(said.join("\n"))
}

/// As a shell would part them: blanks within single quotes part nothing.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (index, piece) in line.split('\'').enumerate() {
        let is_quoted = index % 2 == 1;
        let parted = if is_quoted {
            vec![piece]
        } else {
            piece.split(' ').collect()
        };
        for (number, word) in parted.into_iter().enumerate() {
            if number > 0 {
                words.push(String::new());
            }
            if let Some(last) = words.last_mut() {
                last.push_str(word);
            }
        }
    }
    words
}
