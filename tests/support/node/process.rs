//! What a program in a pod of a node is to this machine: its memory, its age, its address.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// The kernel counts the start of a process in hundredths of a second.
const TICKS_A_SECOND: u64 = 100;

/// The kernel keeps so many letters of a program's name.
const NAME_LETTERS: usize = 15;

/// A process in a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// As this machine counts.
    pub pid: u32,
}

impl Process {
    /// All processes of this program in the control group of this name or below.
    pub(super) fn all(program: &str, group: &str) -> Vec<Self> {
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        let pids = entries
            .filter_map(Result::ok)
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| is_of(*pid, program, group))
            .map(|pid| Self { pid })
            .collect()
    }

    /// Resident memory in bytes: all that is its own or mapped from its file.
    ///
    /// # Errors
    /// It has ended.
    pub fn memory(&self) -> Result<u64> {
        let status = read(self.pid, "status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kibibytes.context("a process without VmRSS")? * 1024)
    }

    /// The time since its start, to the hundredth of a second.
    ///
    /// # Errors
    /// It has ended.
    pub fn age(&self) -> Result<Duration> {
        let stat = read(self.pid, "stat")?;
        // The name before it is in brackets and may hold blanks; the start is the 22nd of all, the name the 2nd.
        let rest = stat.rsplit(')').next().unwrap_or_default();
        let ticks: u64 = rest
            .split_whitespace()
            .nth(19)
            .context("a stat without a start")?
            .parse()?;
        let started = Duration::from_millis(ticks * (1000 / TICKS_A_SECOND));
        let up = fs::read_to_string("/proc/uptime").context("reading /proc/uptime")?;
        let up: f64 = up.split_whitespace().next().context("an empty uptime")?.parse()?;
        Ok(Duration::from_secs_f64(up).saturating_sub(started))
    }

    /// The address of its pod.
    ///
    /// # Errors
    /// It has ended, or its pod has none.
    pub fn address(&self) -> Result<Ipv4Addr> {
        let routes = read(self.pid, "net/fib_trie")?;
        address_in(&routes).context("a pod without an address")
    }
}

/// The first address of its own that is not a loopback one: an entry is followed by a line that says what it is.
fn address_in(routes: &str) -> Option<Ipv4Addr> {
    let lines: Vec<&str> = routes.lines().map(str::trim).collect();
    let local = lines.windows(2).filter(|pair| pair[1] == "/32 host LOCAL");
    local
        .filter_map(|pair| pair[0].strip_prefix("|-- ")?.parse::<Ipv4Addr>().ok())
        .find(|address| !address.is_loopback())
}

fn is_of(pid: u32, program: &str, group: &str) -> bool {
    let name = read(pid, "comm").unwrap_or_default();
    let program = program.get(..NAME_LETTERS).unwrap_or(program);
    let within = format!("/{group}/");
    name.trim() == program && read(pid, "cgroup").is_ok_and(|groups| groups.contains(&within))
}

fn read(pid: u32, what: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{what}");
    fs::read_to_string(&path).with_context(|| format!("reading {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_address_is_told_from_networks_and_loopback() {
        let routes = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.77.0.0\n        /24 link UNICAST\n     |-- 10.77.0.5\n        \
                      /32 host LOCAL\nLocal:\n     |-- 127.0.0.1\n        /32 host LOCAL\n";
        assert_eq!(address_in(routes), Some(Ipv4Addr::new(10, 77, 0, 5)));
        assert_eq!(address_in("|-- 127.0.0.1\n/32 host LOCAL\n"), None);
    }

    #[test]
    fn a_process_knows_its_age_and_memory() -> Result<()> {
        let own = Process {
            pid: std::process::id(),
        };
        assert!(own.memory()? > 100_000);
        assert!(own.age()? < Duration::from_hours(1));
        Ok(())
    }
}
