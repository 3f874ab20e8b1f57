//! The control groups of the nodes: one folder for this process, one for each node in it, under every controller.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// What the folders of all runs begin with.
const PREFIX: &str = "remote-istio-";

/// Rounds of removal while the kernel still ends the last processes.
const ROUNDS: usize = 50;

/// From one round to the next.
const ROUND_EVERY: Duration = Duration::from_millis(100);

/// The folder of this process.
#[derive(Debug)]
pub(super) struct Groups {
    hierarchies: Vec<PathBuf>,
    name: String,
}

impl Groups {
    /// Where this machine has them; nothing is made.
    pub(super) fn find() -> Result<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let mut hierarchies = Vec::new();
        if root.join("cgroup.controllers").exists() {
            hierarchies.push(root.to_owned());
        } else {
            let found = fs::read_dir(root).context("reading /sys/fs/cgroup: are control groups mounted?")?;
            let found = found.filter_map(Result::ok).map(|entry| entry.path());
            // A link is a second name.
            hierarchies.extend(found.filter(|path| !path.is_symlink() && path.join("cgroup.procs").exists()));
            if !hierarchies.iter().any(|path| path.ends_with("memory")) {
                bail!("there is no control group for memory under /sys/fs/cgroup");
            }
        }
        let name = format!("{PREFIX}{}", std::process::id());
        let groups = Self { hierarchies, name };
        let trial = groups.hierarchies[0].join(format!("{}-trial", groups.name));
        fs::create_dir(&trial)
            .and_then(|()| fs::remove_dir(&trial))
            .with_context(|| format!("no control group can be made: {}", trial.display()))?;
        Ok(groups)
    }

    /// Makes the group of one node and gives its name, as a kubelet takes it.
    pub(super) fn node(&self, name: &str) -> Result<String> {
        for hierarchy in &self.hierarchies {
            let folder = hierarchy.join(&self.name).join(name);
            fs::create_dir_all(&folder).with_context(|| format!("making the control group {}", folder.display()))?;
        }
        Ok(format!("/{}/{name}", self.name))
    }

    /// What all groups of this process are below.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Takes away what runs that were killed have left: groups without processes.
    pub(super) fn sweep(&self) {
        for hierarchy in &self.hierarchies {
            let Ok(entries) = fs::read_dir(hierarchy) else { continue };
            for entry in entries.filter_map(Result::ok) {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                let pid = name.strip_prefix(PREFIX).and_then(|pid| pid.parse::<u32>().ok());
                if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                    remove(&entry.path());
                }
            }
        }
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for _ in 0..ROUNDS {
            let left: Vec<PathBuf> = self
                .hierarchies
                .iter()
                .map(|hierarchy| hierarchy.join(&self.name))
                .filter(|path| path.exists())
                .collect();
            if left.is_empty() {
                return;
            }
            for path in &left {
                remove(path);
            }
            std::thread::sleep(ROUND_EVERY);
        }
        eprintln!(
            "control groups named {} are left: processes in them have not ended",
            self.name
        );
    }
}

/// Leaves first; a group with a process stays.
fn remove(group: &Path) {
    if let Ok(entries) = fs::read_dir(group) {
        for entry in entries.filter_map(Result::ok) {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove(&entry.path());
            }
        }
    }
    // The caller looks whether it is gone, and tries again.
    let _ = fs::remove_dir(group);
}
