//! The clusters that all tests of one process share; each test works in namespaces of its own.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::sync::OnceCell;

use super::{AuditLog, Cluster, ClusterOptions};
use crate::etcd::Etcd;

/// A central and two remotes on one etcd, with audit logs, without controllers: pods are what a test says they are.
#[derive(Debug)]
pub struct Clusters {
    /// Where the control plane's pods are.
    pub central: Cluster,
    /// The others.
    pub remotes: [Cluster; 2],
}

impl Clusters {
    /// Those of this process, started once.
    ///
    /// # Panics
    /// They cannot be started: the message says why.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Clusters> = OnceCell::const_new();
        SHARED
            .get_or_init(async || match Box::pin(Self::start()).await {
                Ok(clusters) => {
                    clusters.central.etcd().folder().keep_logs_on_panic();
                    clusters.central.folder().keep_logs_on_panic();
                    clusters
                        .remotes
                        .iter()
                        .for_each(|remote| remote.folder().keep_logs_on_panic());
                    clusters
                }
                Err(error) => panic!("the shared clusters cannot be started: {error:#}"),
            })
            .await
    }

    /// Fresh ones, for a test that stops or breaks them.
    ///
    /// # Errors
    /// They cannot be started: the text says why.
    pub async fn start() -> Result<Self> {
        let etcd = Etcd::start().await?;
        let start = |number: usize, name: &str| {
            let options = ClusterOptions {
                pod_cidr: format!("10.{}.0.0/16", 24 + 4 * number),
                service_cidr: format!("10.{}.0.0/16", 90 + number),
                audit: AuditLog::Writes,
                etcd: Some(Arc::clone(&etcd)),
                ..ClusterOptions::named(name)
            };
            Cluster::start(options)
        };
        let (central, first, second) = tokio::join!(start(0, "central"), start(1, "remote-1"), start(2, "remote-2"));
        Ok(Self {
            central: central.context("starting central")?,
            remotes: [
                first.context("starting remote-1")?,
                second.context("starting remote-2")?,
            ],
        })
    }
}
