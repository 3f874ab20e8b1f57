//! The clusters under a mesh: those that all tests share, more of them, or ones that a test may restart.

use std::sync::Arc;

use support::etcd::Etcd;
use support::{Cluster, ClusterOptions};
use tokio::sync::OnceCell;

/// A central and some remotes.
pub struct Clusters {
    shared: Option<&'static support::Clusters>,
    /// Whether the shared remotes come before the own ones.
    with_shared_remotes: bool,
    central: Option<Cluster>,
    remotes: Vec<Cluster>,
}

impl Clusters {
    /// Those that all tests share.
    pub async fn shared() -> Self {
        Self {
            shared: Some(Box::pin(support::Clusters::shared()).await),
            with_shared_remotes: true,
            central: None,
            remotes: Vec::new(),
        }
    }

    /// The shared central and a remote where Deployments become pods, shared by all tests that need one.
    pub async fn with_pods() -> &'static Self {
        static SHARED: OnceCell<Clusters> = OnceCell::const_new();
        let start_all = || async {
            let mut clusters = Self::shared().await;
            clusters.with_shared_remotes = false;
            let options = ClusterOptions {
                pod_cidr: "10.48.0.0/16".to_owned(),
                service_cidr: "10.96.0.0/16".to_owned(),
                controllers: true,
                audit_log: true,
                ..ClusterOptions::named("remote-with-pods").on(clusters.central().etcd())
            };
            let remote = Box::pin(Cluster::start(options)).await.expect("a cluster");
            remote.folder().keep_logs_on_panic();
            clusters.remotes.push(remote);
            clusters
        };
        SHARED.get_or_init(start_all).await
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
            with_shared_remotes: false,
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
        self.shared_remotes().len() + self.remotes.len()
    }

    /// One remote.
    pub fn remote(&self, index: usize) -> &Cluster {
        let shared = self.shared_remotes();
        shared.get(index).unwrap_or_else(|| &self.remotes[index - shared.len()])
    }

    fn shared_remotes(&self) -> &[Cluster] {
        match self.shared {
            Some(shared) if self.with_shared_remotes => &shared.remotes,
            _ => &[],
        }
    }
}

async fn start(etcd: &Arc<Etcd>, name: String) -> Cluster {
    let options = ClusterOptions {
        audit_log: true,
        ..ClusterOptions::named(&name).on(etcd)
    };
    Cluster::start(options).await.expect("a cluster")
}
