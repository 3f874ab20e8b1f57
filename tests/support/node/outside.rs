//! What nodes need of this machine, and how its programs are run.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

use crate::guardian::quote;

/// For one command; an import of an image on a busy machine takes longest.
const COMMAND_DEADLINE: Duration = Duration::from_mins(2);

/// Tries what a node will do, in namespaces that go at once: a mount also loads the module of its file system. Where there is no `ip`, one is fetched later.
const TRIAL: &str = "set -e
mount -t tmpfs trial /mnt
mkdir /mnt/lower /mnt/upper /mnt/work /mnt/all
mount -t overlay trial -o lowerdir=/mnt/lower,upperdir=/mnt/upper,workdir=/mnt/work /mnt/all
command -v ip > /dev/null || exit 0
ip link add trial0 type veth peer name trial1
ip link add trial2 type bridge";

/// Why no node can run on this machine, if so.
#[must_use]
pub fn missing() -> Option<String> {
    if !is_root() {
        return Some("real nodes need root".to_owned());
    }
    if std::process::Command::new("apt-get").arg("--version").output().is_err() {
        return Some("there is no apt-get: real nodes take their container runtime from Debian's packages".to_owned());
    }
    if let Err(error) = super::control_group::Groups::find() {
        return Some(format!("{error:#}"));
    }
    let trial = std::process::Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", TRIAL])
        .output();
    match trial {
        Err(error) => Some(format!("unshare cannot be run ({error}): install Debian's util-linux")),
        Ok(output) if !output.status.success() => Some(format!(
            "namespaces, veth pairs, bridges, tmpfs and overlay mounts are needed, and this machine says: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Ok(_) => None,
    }
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let user = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    user.and_then(|users| users.split_whitespace().nth(1)) == Some("0")
}

/// Runs one command to its end and gives its standard output.
///
/// # Errors
/// It does not start, does not end or fails: the text has what it said.
pub async fn command(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let output = output(command).await.with_context(|| shown.clone())?;
    if !output.status.success() {
        let said = [output.stderr, output.stdout].concat();
        bail!("{shown}: {}", String::from_utf8_lossy(&said).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn output(command: &mut Command) -> Result<Output> {
    command.kill_on_drop(true).stdin(std::process::Stdio::null());
    tokio::time::timeout(COMMAND_DEADLINE, command.output())
        .await
        .with_context(|| format!("no end after {COMMAND_DEADLINE:?}"))?
        .context("it does not start")
}

/// As a person would type it; a path is its last part.
fn shown(command: &Command) -> String {
    let command = command.as_std();
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    let words: Vec<String> = words.map(|word| quote(&word.to_string_lossy())).collect();
    words.join(" ")
}
