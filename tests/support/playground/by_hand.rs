//! Processes of a playground that a person started by hand with its exported command lines.

use std::path::Path;
use std::process::Command;

/// Asks every process to end whose command line names a file under `folder`; says which.
pub(super) fn end(folder: &Path) {
    for pid in pids(folder) {
        println!("playground: ending pid {pid}, which was started by hand");
        match Command::new("kill").arg(pid.to_string()).status() {
            Ok(status) if status.success() => {}
            Ok(_) => eprintln!("playground: pid {pid} could not be ended"),
            Err(error) => eprintln!("playground: running kill: {error}"),
        }
    }
}

/// Each has a kubeconfig of its cluster, whose folder has a random name and stands in no other playground's lines.
fn pids(folder: &Path) -> Vec<u32> {
    let needle = format!("={}/access/", folder.display());
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let numbered = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    numbered
        .filter(|pid| *pid != std::process::id())
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
            // A guardian of an own process names the log before the program; it ends with its process.
            words.first().is_some_and(|program| is_ours(program)) && String::from_utf8_lossy(&line).contains(&needle)
        })
        .collect()
}

/// A hub or an agent.
fn is_ours(program: &[u8]) -> bool {
    let path = String::from_utf8_lossy(program);
    let name = Path::new(path.as_ref()).file_name().unwrap_or_default();
    name == "remote-istio-hub" || name == "remote-istio-agent"
}
