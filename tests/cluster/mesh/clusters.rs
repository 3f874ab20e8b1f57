//! The clusters under a mesh: those that all tests share, more of them, or ones that a test may restart.

use std::sync::Arc;

use support::etcd::Etcd;
use support::{AuditLog, Cluster, ClusterOptions};
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
                audit: AuditLog::Writes,
                ..ClusterOptions::named("remote-with-pods").on(clusters.central().etcd())
            };
            let remote = Box::pin(Cluster::start(options)).await.expect("a cluster");
            remote.folder().keep_logs_on_panic();
            clusters.remotes.push(remote);
            clusters
        };
        SHARED.get_or_init(start_all).await
    }

    /// The shared central and a remote whose Services have these ranges; the first says in which family its API server
    /// stands.
    pub async fn with_service_ranges(name: &str, ranges: &str) -> Self {
        let mut clusters = Self::shared().await;
        clusters.with_shared_remotes = false;
        let own = if ranges.starts_with("fd") {
            "fd00::1"
        } else {
            "127.0.0.1"
        };
        let options = ClusterOptions {
            service_cidr: ranges.to_owned(),
            audit: AuditLog::Writes,
            flags: vec![format!("--advertise-address={own}")],
            ..ClusterOptions::named(name).on(clusters.central().etcd())
        };
        clusters.remotes.push(Cluster::start(options).await.expect("a cluster"));
        clusters
    }

    /// The shared ones and as many more remotes as are asked for.
    pub async fn with_remotes(name: &str, remotes: usize) -> Self {
        let mut clusters = Self::shared().await;
        let etcd = Arc::clone(clusters.central().etcd());
        let more = (clusters.remotes()..remotes).map(|index| start(&etcd, format!("{name}-{index}"), AuditLog::Writes));
        clusters.remotes = futures::future::join_all(more).await;
        clusters
    }

    /// A central and one remote of this test alone.
    pub async fn private(name: &str) -> Self {
        Self::audited(name, AuditLog::Writes).await
    }

    /// As [`Self::private`] with this in the audit logs.
    pub async fn audited(name: &str, audit: AuditLog) -> Self {
        let etcd = Etcd::start().await.expect("etcd");
        let (central, remote) = tokio::join!(
            start(&etcd, format!("{name}-central"), audit),
            start(&etcd, format!("{name}-remote"), audit)
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

async fn start(etcd: &Arc<Etcd>, name: String, audit: AuditLog) -> Cluster {
    let options = ClusterOptions {
        audit,
        ..ClusterOptions::named(&name).on(etcd)
    };
    Cluster::start(options).await.expect("a cluster")
}
