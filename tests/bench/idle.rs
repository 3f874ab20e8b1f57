//! What all of it costs when nothing happens: writes, as the API servers count them, and memory.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use support::Cluster;
use tokio::time::{sleep, sleep_until};

use crate::processes::{Spent, resident_mebibytes};
use crate::system::System;
use crate::world::World;

/// Counts in a status are written at most once a minute: so long after the last change they have been.
const DEFERRED: Duration = Duration::from_secs(65);

/// Verbs of requests that change something.
const WRITES: [&str; 6] = ["POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"];

/// What was found.
#[derive(Debug, Serialize)]
pub struct Idle {
    /// Agents connected.
    pub remotes: usize,
    /// Length of the time in which nothing happened.
    pub seconds: u64,
    /// Writes besides those of leases, by cluster and "verb resource"; of anybody, not only of hub and agents.
    pub writes: BTreeMap<String, u64>,
    /// Writes of leases.
    pub lease_writes: u64,
    /// Resident memory of the hub.
    pub hub_mebibytes: f64,
    /// That of the largest agent.
    pub agent_mebibytes_max: f64,
    /// Processor time of one second in which nothing happens, milliseconds.
    pub processor_ms_per_second: Spent,
}

/// Waits until what was deferred is written, then lets nothing happen for `length`.
///
/// # Errors
/// A process is gone, or an API server does not tell its metrics.
pub async fn measure(world: &mut World, length: Duration) -> Result<Idle> {
    let last = world.changes_of(System::RemoteIstio)?.last();
    sleep_until(last + DEFERRED).await;
    println!("bench: nothing happens for {length:?}");
    let before = writes(world).await?;
    let spent = world.spent()?;
    sleep(length).await;
    let seconds = usize::try_from(length.as_secs()).unwrap_or(usize::MAX);
    let processor_ms_per_second = world.spent()?.since(spent, seconds);
    let after = writes(world).await?;
    let mut idle = Idle {
        remotes: world.remotes.len(),
        seconds: length.as_secs(),
        writes: BTreeMap::new(),
        lease_writes: 0,
        hub_mebibytes: resident_mebibytes(world.hub.pid().context("the hub has ended")?)?,
        agent_mebibytes_max: 0.0,
        processor_ms_per_second,
    };
    for (what, count) in after {
        let new = count - before.get(&what).copied().unwrap_or_default();
        if what.ends_with(" leases") {
            idle.lease_writes += new;
        } else if new > 0 {
            idle.writes.insert(what, new);
        }
    }
    for remote in &world.remotes {
        let pid = remote
            .agent
            .pid()
            .with_context(|| format!("the agent of {} has ended", remote.name))?;
        idle.agent_mebibytes_max = idle.agent_mebibytes_max.max(resident_mebibytes(pid)?);
    }
    Ok(idle)
}

async fn writes(world: &World) -> Result<BTreeMap<String, u64>> {
    let mut all = BTreeMap::new();
    for cluster in world.clusters() {
        let text = metrics(cluster)
            .await
            .with_context(|| format!("metrics of {}", cluster.name()))?;
        for (what, count) in text.lines().filter_map(write) {
            *all.entry(format!("{} {what}", cluster.name())).or_default() += count;
        }
    }
    Ok(all)
}

async fn metrics(cluster: &Cluster) -> Result<String> {
    let request = http::Request::get("/metrics").body(Vec::new()).context("a request")?;
    Ok(cluster.admin().request_text(request).await?)
}

/// "verb resource" or "verb resource/subresource", and how often, if the line counts writes.
fn write(line: &str) -> Option<(String, u64)> {
    let (labels, count) = line.strip_prefix("apiserver_request_total{")?.rsplit_once("} ")?;
    let label = |name: &str| {
        labels
            .split("\",")
            .find_map(|label| label.strip_prefix(name)?.strip_prefix("=\""))
            .map(|text| text.trim_end_matches('"'))
    };
    let verb = label("verb").filter(|verb| WRITES.contains(verb))?;
    let subresource = label("subresource").filter(|name| !name.is_empty());
    let resource = label("resource").unwrap_or_default();
    let what = match subresource {
        Some(subresource) => format!("{verb} {resource}/{subresource}"),
        None => format!("{verb} {resource}"),
    };
    // Counters are written as floats, large ones with an exponent.
    let count = count.parse::<f64>().ok()?.round();
    Some((what, format!("{count}").parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(verb: &str, resource: &str, subresource: &str, count: &str) -> String {
        format!(
            "apiserver_request_total{{code=\"200\",component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"{resource}\",\
             scope=\"resource\",subresource=\"{subresource}\",verb=\"{verb}\",version=\"v1\"}} {count}"
        )
    }

    #[test]
    fn only_writes_are_counted() {
        assert_eq!(
            write(&line("APPLY", "endpoints", "", "7")),
            Some(("APPLY endpoints".to_owned(), 7))
        );
        let status = write(&line("PATCH", "remoteistios", "status", "1.5e+03"));
        assert_eq!(status, Some(("PATCH remoteistios/status".to_owned(), 1500)));
        assert_eq!(write(&line("GET", "endpoints", "", "7")), None);
        assert_eq!(write("apiserver_request_duration_seconds_count{verb=\"PUT\"} 7"), None);
    }
}
