//! The clusters under a mesh: those that all tests share, more of them, or ones that a test may restart.

use std::sync::Arc;

use support::etcd::Etcd;
use support::{Cluster, ClusterOptions};

/// A central and some remotes.
pub struct Clusters {
    shared: Option<&'static support::Clusters>,
    central: Option<Cluster>,
    remotes: Vec<Cluster>,
}

impl Clusters {
    /// Those that all tests share.
    pub async fn shared() -> Self {
        Self {
            shared: Some(Box::pin(support::Clusters::shared()).await),
            central: None,
            remotes: Vec::new(),
        }
    }

    /// The shared ones and as many more remotes as are asked for.
    pub async fn with_remotes(name: &str, remotes: usize) -> Self {
        let mut clusters = Self::shared().await;
        let etcd = Arc::clone(clusters.central().etcd());
        let more = (clusters.remotes()..remotes).map(|index| start(&etcd, format!("{name}-{index}")));
        clusters.remotes = futures::future::join_all(more).await;
        clusters
    }

    /// A central and one remote of this test alone.
    pub async fn private(name: &str) -> Self {
        let etcd = Etcd::start().await.expect("etcd");
        let (central, remote) = tokio::join!(
            start(&etcd, format!("{name}-central")),
            start(&etcd, format!("{name}-remote"))
        );
        Self {
            shared: None,
            central: Some(central),
            remotes: vec![remote],
        }
    }

    /// Central.
    pub fn central(&self) -> &Cluster {
        match (&self.central, self.shared) {
            (Some(own), _) => own,
            (None, Some(shared)) => &shared.central,
            (None, None) => unreachable!("clusters have a central of their own or a shared one"),
        }
    }

    /// How many remotes there are.
    pub fn remotes(&self) -> usize {
        self.shared.map_or(0, |shared| shared.remotes.len()) + self.remotes.len()
    }

    /// One remote.
    pub fn remote(&self, index: usize) -> &Cluster {
        let shared = self.shared.map_or(&[][..], |shared| &shared.remotes[..]);
        shared.get(index).unwrap_or_else(|| &self.remotes[index - shared.len()])
    }
}

async fn start(etcd: &Arc<Etcd>, name: String) -> Cluster {
    let options = ClusterOptions {
        audit_log: true,
        ..ClusterOptions::named(&name).on(etcd)
    };
    Cluster::start(options).await.expect("a cluster")
}
