//! The clusters, the real hub and the real agents.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use futures::future::try_join_all;
use kube::Client;
use support::etcd::Etcd;
use support::pair::{Agent, AgentOptions, Hub, HubOptions, Link};
use support::{Cluster, ClusterOptions};

use crate::block::HubLatency;
use crate::changes::Changes;
use crate::prepare;
use crate::processes::{Spent, processor_time};
use crate::system::System;

/// API servers that start at once; each takes some five seconds of a processor.
const GROUP: usize = 4;

/// A remote with its agent.
#[derive(Debug)]
pub struct Remote {
    /// `remote-N`.
    pub name: String,
    /// The agent; it ends before its cluster.
    pub agent: Agent,
    /// The cluster.
    pub cluster: Cluster,
}

/// All of it; it ends with the handle.
pub struct World {
    /// Pods of each system and what is seen of them; the watches end before what they watch.
    pub changes: BTreeMap<System, Changes>,
    /// The hub.
    pub hub: Hub,
    /// The remotes so far.
    pub remotes: Vec<Remote>,
    /// Where pods change.
    pub central: Cluster,
    link: Link,
    etcd: Arc<Etcd>,
}

impl World {
    /// Central with its pods and the hub; no remote yet.
    ///
    /// # Errors
    /// A part does not start.
    pub async fn start() -> Result<Self> {
        let etcd = Etcd::start().await?;
        let central = Cluster::start(ClusterOptions::named("central").on(&etcd)).await?;
        prepare::central(&central.admin()).await?;
        let link = Link::create("bench")?;
        let mut options = HubOptions::new(System::RemoteIstio.namespace(), link.hub()?, link.folder());
        "info".clone_into(&mut options.log_level);
        let hub = Hub::start(&central, options).await?;
        let changes = System::ALL
            .into_iter()
            .map(|system| (system, Changes::of(system, central.admin())))
            .collect();
        Ok(Self {
            hub,
            remotes: Vec::new(),
            changes,
            central,
            link,
            etcd,
        })
    }

    /// Starts remotes until there are so many, and waits until every one holds what it should.
    ///
    /// # Errors
    /// A part does not start, or a remote does not get its services.
    pub async fn grow(&mut self, remotes: usize) -> Result<()> {
        while self.remotes.len() < remotes {
            let first = self.remotes.len();
            let group = first..remotes.min(first + GROUP);
            println!(
                "bench: starting remotes {} to {} of {remotes}",
                group.start + 1,
                group.end
            );
            let started = try_join_all(group.map(|index| self.start_remote(index))).await?;
            for remote in started {
                let index = self.remotes.len();
                self.changes
                    .values_mut()
                    .for_each(|changes| changes.sights.watch(index, remote.cluster.admin()));
                self.remotes.push(remote);
            }
        }
        let all: Vec<usize> = (0..self.remotes.len()).collect();
        self.changes_of(System::RemoteIstio)?.converge(&all).await
    }

    async fn start_remote(&self, index: usize) -> Result<Remote> {
        let name = format!("remote-{}", index + 1);
        let cluster = Cluster::start(ClusterOptions::named(&name).on(&self.etcd)).await?;
        prepare::remote(&cluster.admin())
            .await
            .with_context(|| format!("preparing {name}"))?;
        prepare::remote_istio(&self.central.admin(), &name).await?;
        let (files, namespace) = (self.link.remote(&name)?, System::RemoteIstio.namespace());
        let mut options = AgentOptions::new(&name, namespace, self.hub.sync_address(), files, self.link.folder());
        "info".clone_into(&mut options.log_level);
        let agent = Agent::start(&cluster, options).await?;
        Ok(Remote { name, agent, cluster })
    }

    /// The pods of one system.
    ///
    /// # Errors
    /// Never: there are pods of each.
    pub fn changes_of(&mut self, system: System) -> Result<&mut Changes> {
        self.changes
            .get_mut(&system)
            .with_context(|| format!("no pods of {}", system.name()))
    }

    /// A client for every remote.
    pub fn clients(&self) -> Vec<Client> {
        self.remotes.iter().map(|remote| remote.cluster.admin()).collect()
    }

    /// All API servers, central first.
    pub fn clusters(&self) -> impl Iterator<Item = &Cluster> {
        std::iter::once(&self.central).chain(self.remotes.iter().map(|remote| &remote.cluster))
    }

    /// Keeps the logs for whoever looks for what went wrong.
    pub fn keep_logs(&self) {
        self.link.folder().keep_logs();
    }

    /// Processor time so far.
    ///
    /// # Errors
    /// A process is gone.
    pub fn spent(&self) -> Result<Spent> {
        let of = |name: &str, pid: Option<u32>| processor_time(pid.with_context(|| format!("{name} has ended"))?);
        let (mut remotes, mut agents) = (0.0, 0.0);
        for remote in &self.remotes {
            remotes += of(&remote.name, remote.cluster.pid())?;
            agents += of(&remote.name, remote.agent.pid())?;
        }
        Ok(Spent {
            central: of("central", self.central.pid())?,
            remotes,
            etcd: processor_time(self.etcd.pid())?,
            hub: of("the hub", self.hub.pid())?,
            agents,
            bench: processor_time(std::process::id())?,
        })
    }

    /// Sums and counts of the hub's histograms.
    ///
    /// # Errors
    /// The hub does not answer.
    pub async fn hub_latency(&self) -> Result<HubTotals> {
        let metrics = self.hub.metrics().await?;
        let total = |name: &str| {
            let of = |what: &str| {
                let series = format!("remote_istio_hub_propagation_{name}_seconds_{what}");
                metrics.sum(&series, &["lane=\"endpoints\""])
            };
            (of("sum"), of("count"))
        };
        Ok(HubTotals {
            accepted: total("accepted"),
            applied: total("applied"),
        })
    }
}

/// Sum of seconds and count of two histograms.
#[derive(Debug, Clone, Copy)]
pub struct HubTotals {
    accepted: (f64, f64),
    applied: (f64, f64),
}

impl HubTotals {
    /// Means of what came since `before`.
    pub fn since(self, before: Self) -> HubLatency {
        let mean = |now: (f64, f64), before: (f64, f64)| {
            let (sum, count) = (now.0 - before.0, now.1 - before.1);
            if count > 0.0 {
                (sum / count * 1e6).round() / 1e3
            } else {
                0.0
            }
        };
        HubLatency {
            accepted_ms: mean(self.accepted, before.accepted),
            applied_ms: mean(self.applied, before.applied),
        }
    }
}
