//! Builds the real etcd, Kubernetes, kwok and grpcurl from their Go modules, once per user, into a cache folder.

mod build;
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
}

impl Tool {
    /// All of them, what takes longest first among the needed ones.
    pub const ALL: [Self; 7] = [
        Self::Etcd,
        Self::ApiServer,
        Self::ControllerManager,
        Self::Scheduler,
        Self::Kubectl,
        Self::Kwok,
        Self::Grpcurl,
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
        }
    }

    /// The folder with its go.mod.
    fn module(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer | Self::ControllerManager | Self::Scheduler | Self::Kubectl => "kubernetes",
            Self::Kwok => "kwok",
            Self::Grpcurl => "grpcurl",
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
        }
    }
}

/// Where each program is.
#[derive(Debug, Clone)]
pub struct Tools(BTreeMap<Tool, PathBuf>);

impl Tools {
    /// Finds all tools and builds what is missing; says on standard error what it does and how long it takes.
    ///
    /// # Errors
    /// No Go, no network, no space, or a build that fails: the text says what to do.
    pub fn ensure() -> Result<Self> {
        let cache = cache_folder()?;
        let mut found = BTreeMap::new();
        for tool in Tool::ALL {
            let path = match given::path(tool)? {
                Some(path) => path,
                None => build::ensure(tool, &cache)?,
            };
            found.insert(tool, path);
        }
        Ok(Self(found))
    }

    /// The same, off the async threads.
    ///
    /// # Errors
    /// As [`Self::ensure`].
    pub async fn ready() -> Result<Self> {
        tokio::task::spawn_blocking(Self::ensure)
            .await
            .context("the tool builder panicked")?
    }

    /// The program.
    #[must_use]
    pub fn path(&self, tool: Tool) -> &Path {
        &self.0[&tool]
    }
}

/// `$XDG_CACHE_HOME/remote-istio`, by default `~/.cache/remote-istio`.
fn cache_folder() -> Result<PathBuf> {
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
