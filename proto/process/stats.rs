//! What the process uses, read from `/proc` at each scrape under Prometheus' usual names.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Clock ticks a second in `/proc`: a constant of Linux' interface, whatever the kernel's own clock.
const TICKS_PER_SECOND: f64 = 100.0;

/// `process_resident_memory_bytes`, `process_open_fds`, `process_start_time_seconds`, `process_cpu_seconds_total`.
/// A value that cannot be read is left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessStats;

impl Collector for ProcessStats {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (status, stat) = (read("/proc/self/status"), read("/proc/self/stat"));
        let mut metric = |name: &str, help: &str, value: &dyn Value| value.encode(&mut encoder, name, help);
        if let Some(bytes) = resident_bytes(&status) {
            metric(
                "process_resident_memory_bytes",
                "Resident memory, bytes",
                &ConstGauge::new(bytes),
            )?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // The directory being read is one of them.
            let open = u64::try_from(open.count()).unwrap_or(u64::MAX).saturating_sub(1);
            metric("process_open_fds", "Open file descriptors", &ConstGauge::new(open))?;
        }
        if let Some(seconds) = cpu_seconds(&stat) {
            metric(
                "process_cpu_seconds",
                "User and system CPU time, seconds",
                &ConstCounter::new(seconds),
            )?;
        }
        if let Some(seconds) = start_seconds(&stat, &read("/proc/stat")) {
            let help = "Start of the process, seconds since 1970";
            metric("process_start_time_seconds", help, &ConstGauge::new(seconds))?;
        }
        Ok(())
    }
}

/// Hides the type of a value so that one closure can write them all.
trait Value {
    fn encode(&self, encoder: &mut DescriptorEncoder, name: &str, help: &str) -> Result<(), fmt::Error>;
}

impl<M: EncodeMetric> Value for M {
    fn encode(&self, encoder: &mut DescriptorEncoder, name: &str, help: &str) -> Result<(), fmt::Error> {
        EncodeMetric::encode(self, encoder.encode_descriptor(name, help, None, self.metric_type())?)
    }
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kibibytes| kibibytes * 1024)
}

/// The fields of `/proc/self/stat` from the third on: the second, the command's name, may hold blanks and brackets.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields
        .split_ascii_whitespace()
        .nth(number.checked_sub(3)?)?
        .parse()
        .ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((stat_field(stat, 14)? + stat_field(stat, 15)?) / TICKS_PER_SECOND)
}

fn start_seconds(stat: &str, system_stat: &str) -> Option<f64> {
    let boot: f64 = system_stat
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()?;
    Some(boot + stat_field(stat, 22)? / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str =
        "7 (a (b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 12345 1000 200 18446744073709551615";

    #[test]
    fn values_are_read_from_their_fields() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2_097_152));
        assert_eq!(cpu_seconds(STAT), Some(3.0));
        assert_eq!(start_seconds(STAT, "cpu 1 2\nbtime 1000\n"), Some(1123.45));
    }

    #[test]
    fn value_that_cannot_be_read_is_none() {
        assert_eq!(resident_bytes(""), None);
        assert_eq!(cpu_seconds("7 (a) S 1"), None);
        assert_eq!(start_seconds(STAT, ""), None);
    }
}
