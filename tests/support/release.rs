//! The charts of `deploy/charts`, installed by the real helm into a [`Cluster`], and what they would run run as
//! processes: the programs, arguments and environment of the chart's own pods under the chart's own `ServiceAccount`s.
//!
//! What no test here shows is what only a kubelet does: pulling images, mounting, security contexts, probes.

mod container;
mod helm;
mod hooks;
mod mounts;
mod pod;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use kube::Client;
use serde_json::Value;

pub use self::helm::Helm;
pub use self::hooks::HookRun;
pub use self::pod::Pod;
use crate::cluster::Cluster;
use crate::folder::Folder;
use crate::pair::Said;
use crate::tools::Tool;

/// One of the two charts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chart {
    /// `remote-istio-hub`.
    Hub,
    /// `remote-istio-agent`.
    Agent,
}

impl Chart {
    /// Its name, also that of its Deployment, account and program.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hub => "remote-istio-hub",
            Self::Agent => "remote-istio-agent",
        }
    }

    /// Its folder.
    #[must_use]
    pub fn path(self) -> PathBuf {
        repository().join("deploy/charts").join(self.name())
    }
}

/// The root of the tree, where printed commands are run.
#[must_use]
pub fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}

/// One release of a chart in one namespace of a cluster, and its pod once [`Release::launch`] has run.
#[derive(Debug)]
pub struct Release<'a> {
    cluster: &'a Cluster,
    helm: Helm,
    chart: Chart,
    path: PathBuf,
    name: String,
    namespace: String,
    folder: Arc<Folder>,
    pod: Option<Pod>,
}

impl<'a> Release<'a> {
    /// A release of the usual name that is not installed by this.
    ///
    /// # Errors
    /// The tools cannot be built.
    pub async fn of(cluster: &'a Cluster, chart: Chart, namespace: &str, helm: Tool) -> Result<Self> {
        Ok(Self {
            cluster,
            helm: Helm::of(cluster, helm).await?,
            chart,
            path: chart.path(),
            name: chart.name().to_owned(),
            namespace: namespace.to_owned(),
            folder: Arc::clone(cluster.folder()),
            pod: None,
        })
    }

    /// `helm install` in a namespace that is made if it is missing; its pod does not run yet.
    ///
    /// # Errors
    /// Helm refuses: the text has its words.
    pub async fn install(
        cluster: &'a Cluster,
        chart: Chart,
        namespace: &str,
        values: &Value,
        helm: Tool,
    ) -> Result<Self> {
        let release = Self::of(cluster, chart, namespace, helm).await?;
        let said = release.try_install(values).await?;
        said.success("helm install")?;
        Ok(release)
    }

    /// Goes on with another helm, as a person who upgrades helm does.
    ///
    /// # Errors
    /// The tools cannot be built.
    pub async fn by(&mut self, helm: Tool) -> Result<()> {
        self.helm = Helm::of(self.cluster, helm).await?;
        Ok(())
    }

    /// Another name than that of the chart.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Another chart, as an older version of this one.
    pub fn use_chart(&mut self, path: &Path) {
        path.clone_into(&mut self.path);
    }

    /// As whom helm works.
    #[must_use]
    pub fn as_user(mut self, kubeconfig: &Path) -> Self {
        self.helm = self.helm.with_kubeconfig(kubeconfig);
        self
    }

    /// The helm that it is worked by.
    #[must_use]
    pub fn helm(&self) -> &Helm {
        &self.helm
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The administrator of its cluster.
    #[must_use]
    pub fn client(&self) -> Client {
        self.cluster.admin()
    }

    /// `helm install`, however it ends.
    ///
    /// # Errors
    /// Helm cannot be run.
    pub async fn try_install(&self, values: &Value) -> Result<Said> {
        self.with_values("install", &["--create-namespace"], values).await
    }

    /// `helm upgrade` with these values and no others, however it ends.
    ///
    /// # Errors
    /// Helm cannot be run.
    pub async fn try_upgrade(&self, values: &Value) -> Result<Said> {
        self.with_values("upgrade", &["--reset-values"], values).await
    }

    /// `helm upgrade --install` with these values and no others, however it ends.
    ///
    /// # Errors
    /// Helm cannot be run.
    pub async fn try_upgrade_or_install(&self, values: &Value) -> Result<Said> {
        self.with_values("upgrade", &["--install", "--reset-values"], values)
            .await
    }

    /// `helm upgrade` with these values and no others; a running pod goes on or is replaced, as its Deployment says.
    ///
    /// # Errors
    /// Helm refuses, or the pod does not become ready.
    pub async fn upgrade(&mut self, values: &Value) -> Result<()> {
        self.try_upgrade(values).await?.success("helm upgrade")?;
        self.roll().await
    }

    /// `helm rollback` to a revision; the pod follows.
    ///
    /// # Errors
    /// Helm refuses, or the pod does not become ready.
    pub async fn rollback(&mut self, revision: u32) -> Result<()> {
        let revision = revision.to_string();
        let arguments = ["rollback", &self.name, &revision, "--namespace", &self.namespace];
        self.helm.run(&arguments).await?.success("helm rollback")?;
        self.roll().await
    }

    /// `helm uninstall` with its hooks; the pod is stopped as soon as its Deployment is gone. Gives how the hooks ran.
    ///
    /// # Errors
    /// Helm or a hook fails, or the pod does not stop.
    pub async fn uninstall(&mut self) -> Result<Vec<HookRun>> {
        let (said, runs) = self.with_hooks("uninstall", &[]).await?;
        said.success("helm uninstall")?;
        Ok(runs)
    }

    /// `helm test`, however it ends, and how its pods ran.
    ///
    /// # Errors
    /// Helm cannot be run.
    pub async fn test(&mut self) -> Result<(Said, Vec<HookRun>)> {
        self.with_hooks("test", &["--timeout", "60s"]).await
    }

    /// What helm says of the release's newest revision.
    ///
    /// # Errors
    /// There is none.
    pub async fn status(&self) -> Result<Value> {
        let arguments = ["status", &self.name, "--namespace", &self.namespace, "--output", "json"];
        let said = self.helm.run(&arguments).await?;
        said.success("helm status")?;
        serde_json::from_str(&said.out).context("reading what helm status printed")
    }

    /// Starts what the Deployment of the release says, and waits until it is ready.
    ///
    /// # Errors
    /// There is no such Deployment, or its program does not become ready.
    pub async fn launch(&mut self) -> Result<()> {
        self.start().await?;
        self.pod()?.ready().await
    }

    /// Starts what the Deployment of the release says.
    ///
    /// # Errors
    /// There is no such Deployment, or its program does not start.
    pub async fn start(&mut self) -> Result<()> {
        let mut pod = Pod::of_deployment(self.cluster, &self.namespace, self.chart.name(), &self.folder).await?;
        pod.start()?;
        self.pod = Some(pod);
        Ok(())
    }

    /// Goes on from a Deployment that may have changed: a changed template starts anew, changed mounts are only
    /// written. Nothing where nothing runs.
    ///
    /// # Errors
    /// The program does not become ready.
    pub async fn roll(&mut self) -> Result<()> {
        match &mut self.pod {
            Some(pod) => pod.roll(self.cluster).await,
            None => Ok(()),
        }
    }

    /// The running pod.
    ///
    /// # Errors
    /// Nothing was launched.
    pub fn pod(&self) -> Result<&Pod> {
        self.pod
            .as_ref()
            .with_context(|| format!("{} was not launched", self.name))
    }

    /// The running pod, to be stopped or started.
    ///
    /// # Errors
    /// Nothing was launched.
    pub fn pod_mut(&mut self) -> Result<&mut Pod> {
        let name = &self.name;
        self.pod.as_mut().with_context(|| format!("{name} was not launched"))
    }

    async fn with_values(&self, command: &str, more: &[&str], values: &Value) -> Result<Said> {
        let file = self.folder.access(&format!("{}-{}.json", self.namespace, self.name));
        std::fs::write(&file, values.to_string()).with_context(|| format!("writing {}", file.display()))?;
        let (path, file) = (self.path.to_string_lossy(), file.to_string_lossy());
        let arguments = [
            command,
            &self.name,
            &path,
            "--namespace",
            &self.namespace,
            "--values",
            &file,
        ];
        self.helm.run(&[&arguments, more].concat()).await
    }

    async fn with_hooks(&mut self, command: &str, more: &[&str]) -> Result<(Said, Vec<HookRun>)> {
        let arguments = [command, &self.name, "--namespace", &self.namespace];
        let running = hooks::Hooks {
            cluster: self.cluster,
            namespace: &self.namespace,
            deployment: self.chart.name(),
            folder: &self.folder,
        };
        running
            .along(&self.helm, &[&arguments, more].concat(), &mut self.pod)
            .await
    }
}
