//! Builds the real etcd, Kubernetes, kwok, grpcurl and Helm from their Go modules, once per user, into a cache folder.

mod build;
pub mod debian;
mod given;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// A program that tests, playground and demo run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// The store of API servers.
    Etcd,
    /// The API server.
    ApiServer,
    /// Deployments, garbage collection, tokens.
    ControllerManager,
    /// Finds a node for each pod.
    Scheduler,
    /// For a person who looks around.
    Kubectl,
    /// Nodes and pods without containers.
    Kwok,
    /// Shows a stream.
    Grpcurl,
    /// Installs charts: Helm 3.
    Helm,
    /// Installs charts: Helm 4.
    Helm4,
    /// Runs pods on a real node, of a version that Debian's container runtime serves.
    Kubelet,
    /// Makes the addresses of Services work on a real node.
    KubeProxy,
    /// A cluster's name server, static, for an image.
    CoreDns,
    /// What the pods of a real node run, static, for an image: it waits, listens or asks.
    Pod,
}

impl Tool {
    /// What clusters without containers need.
    pub const CLUSTER: [Self; 7] = [
        Self::Etcd,
        Self::ApiServer,
        Self::ControllerManager,
        Self::Scheduler,
        Self::Kubectl,
        Self::Kwok,
        Self::Grpcurl,
    ];

    /// What clusters with real nodes need, and the charts on them.
    pub const NODES: [Self; 10] = [
        Self::Etcd,
        Self::ApiServer,
        Self::ControllerManager,
        Self::Scheduler,
        Self::Kubectl,
        Self::Kubelet,
        Self::KubeProxy,
        Self::CoreDns,
        Self::Pod,
        Self::Helm,
    ];

    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Etcd,
        Self::ApiServer,
        Self::ControllerManager,
        Self::Scheduler,
        Self::Kubectl,
        Self::Kwok,
        Self::Grpcurl,
        Self::Helm,
        Self::Helm4,
        Self::Kubelet,
        Self::KubeProxy,
        Self::CoreDns,
        Self::Pod,
    ];

    /// The program's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kubectl => "kubectl",
            Self::Kwok => "kwok",
            Self::Grpcurl => "grpcurl",
            Self::Helm => "helm",
            Self::Helm4 => "helm4",
            Self::Kubelet => "kubelet",
            Self::KubeProxy => "kube-proxy",
            Self::CoreDns => "coredns",
            Self::Pod => "pod",
        }
    }

    /// The folder with its go.mod.
    fn module(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer | Self::ControllerManager | Self::Scheduler | Self::Kubectl => "kubernetes",
            Self::Kwok => "kwok",
            Self::Grpcurl => "grpcurl",
            Self::Helm => "helm",
            Self::Helm4 => "helm4",
            Self::Kubelet | Self::KubeProxy => "kubelet",
            Self::CoreDns => "coredns",
            Self::Pod => "pod",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::Etcd => "go.etcd.io/etcd/server/v3",
            Self::ApiServer => "k8s.io/kubernetes/cmd/kube-apiserver",
            Self::ControllerManager => "k8s.io/kubernetes/cmd/kube-controller-manager",
            Self::Scheduler => "k8s.io/kubernetes/cmd/kube-scheduler",
            Self::Kubectl => "k8s.io/kubernetes/cmd/kubectl",
            Self::Kwok => "sigs.k8s.io/kwok/cmd/kwok",
            Self::Grpcurl => "github.com/fullstorydev/grpcurl/cmd/grpcurl",
            Self::Helm => "helm.sh/helm/v3/cmd/helm",
            Self::Helm4 => "helm.sh/helm/v4/cmd/helm",
            Self::Kubelet => "k8s.io/kubernetes/cmd/kubelet",
            Self::KubeProxy => "k8s.io/kubernetes/cmd/kube-proxy",
            Self::CoreDns | Self::Pod => ".",
        }
    }

    /// Seconds of a cold build on two cores, in the order of [`Self::ALL`].
    fn usual_seconds(self) -> u64 {
        match self {
            Self::Etcd => 35,
            Self::ApiServer => 270,
            Self::ControllerManager | Self::Kwok => 90,
            Self::Kubectl => 25,
            Self::Scheduler | Self::Grpcurl => 30,
            Self::Helm | Self::Helm4 => 65,
            Self::Kubelet => 190,
            Self::KubeProxy => 10,
            Self::CoreDns => 60,
            Self::Pod => 5,
        }
    }
}

/// Where each program is.
#[derive(Debug, Clone)]
pub struct Tools(BTreeMap<Tool, PathBuf>);

impl Tools {
    /// Finds these tools and builds what is missing; says on standard error what it does and how long it takes.
    ///
    /// # Errors
    /// No Go, no network, no space, or a build that fails: the text says what to do.
    pub fn ensure(wanted: &[Tool]) -> Result<Self> {
        let cache = cache_folder()?;
        let mut found = BTreeMap::new();
        for &tool in wanted {
            let path = match given::path(tool)? {
                Some(path) => path,
                None => build::ensure(tool, &cache)?,
            };
            found.insert(tool, path);
        }
        Ok(Self(found))
    }

    /// Those of [`Tool::CLUSTER`], off the async threads.
    ///
    /// # Errors
    /// As [`Self::ensure`].
    pub async fn ready() -> Result<Self> {
        Self::ready_for(&Tool::CLUSTER).await
    }

    /// These, off the async threads.
    ///
    /// # Errors
    /// As [`Self::ensure`].
    pub async fn ready_for(wanted: &'static [Tool]) -> Result<Self> {
        tokio::task::spawn_blocking(|| Self::ensure(wanted))
            .await
            .context("the tool builder panicked")?
    }

    /// The program.
    ///
    /// # Panics
    /// It was not asked for.
    #[must_use]
    pub fn path(&self, tool: Tool) -> &Path {
        &self.0[&tool]
    }
}

/// `$XDG_CACHE_HOME/remote-istio`, by default `~/.cache/remote-istio`.
pub(crate) fn cache_folder() -> Result<PathBuf> {
    let from = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let base = from("XDG_CACHE_HOME").or_else(|| from("HOME").map(|home| home.join(".cache")));
    let base = base.context("neither XDG_CACHE_HOME nor HOME is set: set one, the tools are built there")?;
    Ok(base.join("remote-istio"))
}

/// A line for the person who waits; a test's capture of output does not hide it.
fn say(line: &str) {
    // Nobody reads: then nobody waits either.
    let _ = writeln!(std::io::stderr(), "tools: {line}");
}
