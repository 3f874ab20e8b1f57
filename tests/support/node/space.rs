//! Namespaces that live exactly as long as this process: their first process dies with it, and the kernel ends the rest.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

use super::outside::command;
use crate::folder::Folder;
use crate::guardian::{CommandLine, Guarded};
use crate::tools::debian::Debian;

/// From the start to the first process.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A network, a process table and a mount table of their own.
#[derive(Debug)]
pub(super) struct Space {
    name: String,
    /// The first process, as this machine counts.
    pid: u32,
    environment: Vec<(String, String)>,
    _first: Guarded,
}

impl Space {
    /// Makes them, runs `prepare` in them (`$1` and so on are `arguments`), and leaves `waiter` there as their first process.
    pub(super) async fn create(
        name: &str,
        debian: &Debian,
        waiter: &std::path::Path,
        folder: &Folder,
        prepare: &str,
        arguments: &[&str],
    ) -> Result<Self> {
        let waiter = &fs::canonicalize(waiter).with_context(|| format!("finding {}", waiter.display()))?;
        let script = format!("set -e\n{prepare}\nexec \"$0\" wait\n");
        let mut line = CommandLine::new(
            format!("namespaces of {name}"),
            "unshare",
            folder.log(&format!("{name}-space")),
        );
        for argument in [
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child=KILL",
            "--mount-proc",
        ] {
            line = line.argument(argument);
        }
        line = line.argument("sh").argument("-c").argument(script).argument(waiter);
        line = arguments.iter().fold(line, |line, argument| line.argument(*argument));
        line.environment = debian.environment();
        let first = line.start()?;
        let found = async {
            loop {
                if let Some(code) = first.exited() {
                    bail!("{} ended with code {code}:\n{}", line.name, line.log_tail());
                }
                if let Some(pid) = child_of(first.pid()).filter(|pid| runs(*pid, waiter)) {
                    return Ok(pid);
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let pid = tokio::time::timeout(START_DEADLINE, found).await.with_context(|| {
            format!(
                "{} are not there after {START_DEADLINE:?}:\n{}",
                line.name,
                line.log_tail()
            )
        })??;
        Ok(Self {
            name: name.to_owned(),
            pid,
            environment: debian.environment(),
            _first: first,
        })
    }

    /// The network namespace, for `ip link set … netns`.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// A command that runs inside, to be started.
    pub(super) fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(self.entering())
            .arg(program)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// A process that runs inside, to be started.
    pub(super) fn process(&self, what: &str, program: impl Into<PathBuf>, folder: &Folder) -> CommandLine {
        let line = CommandLine::new(
            format!("{what} of {}", self.name),
            "nsenter",
            folder.log(&format!("{}-{what}", self.name)),
        );
        let mut line = self.entering().into_iter().fold(line, CommandLine::argument);
        line = line.argument(program.into());
        line.environment.clone_from(&self.environment);
        line
    }

    /// Runs a shell script inside.
    pub(super) async fn script(&self, script: &str) -> Result<String> {
        command(self.inside("sh").args(["-ec", script]))
            .await
            .with_context(|| format!("in {}", self.name))
    }

    fn entering(&self) -> [String; 5] {
        let pid = self.pid.to_string();
        ["--target", &pid, "--net", "--mount", "--pid"].map(str::to_owned)
    }
}

/// The one child of a process.
fn child_of(parent: u32) -> Option<u32> {
    let entries = fs::read_dir("/proc").ok()?;
    let pids = entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name before it is in brackets and may hold blanks.
        let rest = stat.rsplit(')').next().unwrap_or_default();
        rest.split_whitespace().nth(1) == Some(&parent.to_string())
    };
    let mut children = pids.filter(is_child);
    children.next()
}

/// Whether the process has come to this program.
fn runs(pid: u32, program: &std::path::Path) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|path| path == program)
}
