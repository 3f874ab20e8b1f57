//! Tables for the terminal, figures for files.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::json;

use crate::block::Block;
use crate::idle::Idle;
use crate::samples::{Percentiles, Sample, failed, milliseconds};
use crate::silent::Silence;
use crate::system::System;

/// Everything that was measured.
pub struct Report {
    /// Turns in their order.
    pub blocks: Vec<Block>,
    /// Nothing happening.
    pub idle: Idle,
    /// One API server silent.
    pub silence: Silence,
}

/// All turns of one system at one number of remotes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Row {
    system: System,
    remotes: usize,
    changes: usize,
    #[serde(flatten)]
    percentiles: Percentiles,
}

/// Where the files go.
///
/// # Errors
/// The folder cannot be made.
pub fn folder() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    folder.canonicalize().context("the folder for the figures")
}

impl Report {
    /// Changes that never arrived; those of the sequential push beside a silent API server are not among them.
    pub fn failed(&self) -> usize {
        let blocks: usize = self.blocks.iter().map(|block| failed(&block.samples)).sum();
        blocks + self.silence.before.failed + self.silence.beside.failed
    }

    /// Writes the files.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let blocks: Vec<_> = self
            .blocks
            .iter()
            .map(|block| {
                json!({
                    "system": block.system,
                    "remotes": block.remotes,
                    "round": block.round,
                    "samples_ms": block.samples.iter().map(|sample| sample.map(milliseconds)).collect::<Vec<_>>(),
                    "processor_ms_per_change": block.spent,
                    "hub": block.hub,
                    "load_average": block.load_average,
                })
            })
            .collect();
        write(folder, "propagation.json", &self.rows())?;
        write(folder, "samples.json", &blocks)?;
        write(folder, "silent.json", &self.silence)?;
        write(folder, "idle.json", &self.idle)
    }

    /// What a person reads.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.propagation(&mut text);
        self.processors(&mut text);
        self.beside_silence(&mut text);
        self.nothing(&mut text);
        self.goals(&mut text);
        text
    }

    fn rows(&self) -> Vec<Row> {
        let mut numbers: Vec<usize> = self.blocks.iter().map(|block| block.remotes).collect();
        numbers.dedup();
        let keys = numbers
            .into_iter()
            .flat_map(|remotes| System::ALL.map(|system| (remotes, system)));
        keys.filter_map(|(remotes, system)| self.row(remotes, system)).collect()
    }

    fn row(&self, remotes: usize, system: System) -> Option<Row> {
        let samples = self.samples(remotes, system);
        Some(Row {
            system,
            remotes,
            changes: samples.len(),
            percentiles: Percentiles::of(&samples)?,
        })
    }

    fn of(&self, remotes: usize, system: System) -> impl Iterator<Item = &Block> {
        self.blocks
            .iter()
            .filter(move |block| block.remotes == remotes && block.system == system)
    }

    fn samples(&self, remotes: usize, system: System) -> Vec<Sample> {
        self.of(remotes, system)
            .flat_map(|block| block.samples.iter().copied())
            .collect()
    }

    // Writing to a String cannot fail, here and below.
    fn propagation(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "From the PATCH that makes a pod of central ready to its address in every remote, milliseconds\n\n\
             {:<16} {:>7} {:>7} {:>6} {:>8} {:>8} {:>8}   {:>14} {:>21}\n\
             {:<16} {:>7} {:>7} {:>6} {:>8} {:>8} {:>8}   {:>7}{:>7} {:>10}{:>11}",
            "",
            "",
            "",
            "",
            "",
            "",
            "",
            "times floor",
            "sequential / this", //
            "system",
            "remotes",
            "changes",
            "failed",
            "p50",
            "p90",
            "p99",
            "p50",
            "p99",
            "p50",
            "p99",
        );
        for row in self.rows() {
            let (own, remotes) = (row.percentiles, row.remotes);
            let beside = |system| self.row(remotes, system).map_or(own, |row| row.percentiles);
            let (floor, push) = (beside(System::Floor), beside(System::SequentialPush));
            let _ = writeln!(
                text,
                "{:<16} {remotes:>7} {:>7} {:>6} {:>8.1} {:>8.1} {:>8.1}   {:>7.2}{:>7.2} {:>10.2}{:>11.2}",
                row.system.name(),
                row.changes,
                failed(&self.samples(remotes, row.system)),
                own.p50_ms,
                own.p90_ms,
                own.p99_ms,
                own.p50_ms / floor.p50_ms,
                own.p99_ms / floor.p99_ms,
                push.p50_ms / own.p50_ms,
                push.p99_ms / own.p99_ms,
            );
        }
    }

    fn processors(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "\nProcessor time for one change and the quiet around it, milliseconds (and the hub's own means of its \
             histograms)\n\n{:<16} {:>7} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}   {:>8} {:>8}",
            "system", "remotes", "central", "remotes", "etcd", "hub", "agents", "bench", "accepted", "applied",
        );
        for Row { system, remotes, .. } in self.rows() {
            let blocks: Vec<&Block> = self.of(remotes, system).collect();
            let mean = |value: &dyn Fn(&Block) -> f64| {
                let count = f64::from(u32::try_from(blocks.len()).unwrap_or(u32::MAX));
                blocks.iter().map(|block| value(block)).sum::<f64>() / count
            };
            let _ = write!(
                text,
                "{:<16} {remotes:>7} {:>8.1} {:>8.1} {:>8.1} {:>8.1} {:>8.1} {:>8.1}",
                system.name(),
                mean(&|block| block.spent.central),
                mean(&|block| block.spent.remotes),
                mean(&|block| block.spent.etcd),
                mean(&|block| block.spent.hub),
                mean(&|block| block.spent.agents),
                mean(&|block| block.spent.bench),
            );
            let hub =
                |value: fn(&crate::block::HubLatency) -> f64| mean(&|block| block.hub.as_ref().map_or(0.0, value));
            if system == System::RemoteIstio {
                let _ = write!(
                    text,
                    "   {:>8.1} {:>8.1}",
                    hub(|hub| hub.accepted_ms),
                    hub(|hub| hub.applied_ms)
                );
            }
            text.push('\n');
        }
    }

    fn beside_silence(&self, text: &mut String) {
        let Silence {
            silent,
            others,
            before,
            beside,
            sequential_push: push,
        } = &self.silence;
        let _ = writeln!(
            text,
            "\nWith the API server of {silent} silent: last of the other {others}, milliseconds\n"
        );
        for (what, measured) in [("all answer", before), ("one is silent", beside)] {
            let Percentiles { p50_ms, p90_ms, p99_ms } = measured.percentiles;
            let _ = writeln!(
                text,
                "remote-istio, {what:<14} {:>4} changes   failed {}   p50 {p50_ms:>7.1}   p90 {p90_ms:>7.1}   p99 {p99_ms:>7.1}",
                measured.changes, measured.failed,
            );
        }
        let _ = if push.stalled {
            writeln!(
                text,
                "sequential-push, one is silent: stalled after {} changes; waited {} s for the next (time-out of its requests: {})",
                push.arrived_ms.len(),
                push.waited_seconds,
                push.request_timeout
            )
        } else {
            writeln!(
                text,
                "sequential-push, one is silent: {:?} ms, not stalled",
                push.arrived_ms
            )
        };
    }

    fn nothing(&self, text: &mut String) {
        let idle = &self.idle;
        let writes: u64 = idle.writes.values().sum();
        let _ = writeln!(
            text,
            "\nIdle for {} s with {} agents: {writes} writes on all API servers besides {} of leases; hub {:.1} MiB, largest \
             agent {:.1} MiB",
            idle.seconds, idle.remotes, idle.lease_writes, idle.hub_mebibytes, idle.agent_mebibytes_max,
        );
        for (what, count) in &idle.writes {
            let _ = writeln!(text, "  {count} times {what}");
        }
        let spent = idle.processor_ms_per_second;
        let _ = writeln!(
            text,
            "Processor time of an idle second, milliseconds: central {:.1}, remotes {:.1}, etcd {:.1}, hub {:.1}, agents \
             {:.1}, bench {:.1}",
            spent.central, spent.remotes, spent.etcd, spent.hub, spent.agents, spent.bench
        );
    }

    fn goals(&self, text: &mut String) {
        let least = self.blocks.iter().map(|block| block.remotes).min().unwrap_or_default();
        let most = self.blocks.iter().map(|block| block.remotes).max().unwrap_or_default();
        let ratio = |remotes, over, under, of: fn(&Percentiles) -> f64| {
            let value = |system| self.row(remotes, system).map_or(f64::NAN, |row| of(&row.percentiles));
            value(over) / value(under)
        };
        let over_floor = ratio(least, System::RemoteIstio, System::Floor, |own| own.p50_ms);
        let better = ratio(most, System::SequentialPush, System::RemoteIstio, |own| own.p99_ms);
        let silence = &self.silence;
        let moved = silence.beside.percentiles.p50_ms / silence.before.percentiles.p50_ms;
        let writes: u64 = self.idle.writes.values().sum();
        let verdict = |met: bool| if met { "met" } else { "NOT MET" };
        let _ = writeln!(
            text,
            "\nGoals\n  \
             p50 with {least} remote: {over_floor:.2} times the floor's, at most 1.5: {}\n  \
             p99 with {most} remotes: {better:.1} times better than sequential push, at least 5: {}\n  \
             beside a silent API server: p50 {moved:.2} times that without one, at most 1.2, and sequential push stalls: {}\n  \
             idle: {writes} writes besides leases, 0: {}\n  \
             agent: {:.1} MiB, at most 25: {}",
            verdict(over_floor <= 1.5),
            verdict(better >= 5.0),
            verdict(moved <= 1.2 && silence.beside.failed == 0 && silence.sequential_push.stalled),
            verdict(writes == 0),
            self.idle.agent_mebibytes_max,
            verdict(self.idle.agent_mebibytes_max <= 25.0),
        );
    }
}

fn write(folder: &Path, name: &str, value: &impl Serialize) -> Result<()> {
    let path = folder.join(name);
    let text = serde_json::to_string_pretty(value).with_context(|| format!("figures for {name}"))?;
    std::fs::write(&path, text + "\n").with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_has_exactly_the_promised_keys() -> Result<()> {
        let percentiles = Percentiles {
            p50_ms: 1.0,
            p90_ms: 2.0,
            p99_ms: 3.5,
        };
        let row = Row {
            system: System::SequentialPush,
            remotes: 20,
            changes: 300,
            percentiles,
        };
        let expected = json!({
            "system": "sequential-push", "remotes": 20, "changes": 300, "p50_ms": 1.0, "p90_ms": 2.0, "p99_ms": 3.5,
        });
        assert_eq!(serde_json::to_value(row)?, expected);
        Ok(())
    }
}
