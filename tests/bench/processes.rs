//! Processor time and memory of processes, as the kernel counts them.

use anyhow::{Context as _, Result};
use serde::Serialize;

/// Length of a tick of /proc/PID/stat, milliseconds; the same on every machine that Linux runs on today.
const TICK_MILLISECONDS: f64 = 10.0;

/// Processor time, milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Spent {
    /// API server of central.
    pub central: f64,
    /// API servers of all remotes.
    pub remotes: f64,
    /// The etcd under all of them.
    pub etcd: f64,
    /// The hub.
    pub hub: f64,
    /// All agents.
    pub agents: f64,
    /// The bench itself: the watches that see changes arrive, floor and sequential push.
    pub bench: f64,
}

impl Spent {
    /// What was spent since `before`, for each of `changes`.
    pub fn since(self, before: Self, changes: usize) -> Self {
        let changes = f64::from(u32::try_from(changes).unwrap_or(u32::MAX));
        let each = |now: f64, before: f64| ((now - before) / changes * 100.0).round() / 100.0;
        Self {
            central: each(self.central, before.central),
            remotes: each(self.remotes, before.remotes),
            etcd: each(self.etcd, before.etcd),
            hub: each(self.hub, before.hub),
            agents: each(self.agents, before.agents),
            bench: each(self.bench, before.bench),
        }
    }
}

/// Processor time of one process since its start, milliseconds.
///
/// # Errors
/// There is no such process.
pub fn processor_time(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    ticks(&text)
        .map(|ticks| ticks * TICK_MILLISECONDS)
        .with_context(|| format!("{path} is not understood"))
}

/// User and system time. The name of the program may have spaces and brackets in it.
fn ticks(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some(number(11)? + number(12)?)
}

/// Resident memory, MiB.
///
/// # Errors
/// There is no such process.
pub fn resident_mebibytes(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .with_context(|| format!("no VmRSS in {path}"))?;
    let kibibytes: f64 = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .with_context(|| format!("VmRSS in {path}"))?;
    Ok((kibibytes / 1024.0 * 10.0).round() / 10.0)
}

/// The machine's load average of the last minute.
pub fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_read_past_a_name_with_brackets() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 21 9 0 0 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat), Some(30.0));
        assert_eq!(ticks("7 (short) S 1"), None);
    }

    #[test]
    fn this_process_has_memory() {
        assert!(resident_mebibytes(std::process::id()).is_ok_and(|mebibytes| mebibytes > 0.1));
    }
}
