//! The real helm, with nothing of the user's own settings.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::process::Command;

use crate::cluster::Cluster;
use crate::pair::Said;
use crate::release::repository;
use crate::tools::{Tool, Tools};

/// One command; on a busy machine, with hooks.
const DEADLINE: Duration = Duration::from_mins(4);

/// One helm that works on one cluster.
#[derive(Debug, Clone)]
pub struct Helm {
    program: PathBuf,
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    home: PathBuf,
}

impl Helm {
    /// As the administrator of this cluster.
    ///
    /// # Errors
    /// The tools cannot be built, or a folder cannot be written.
    pub async fn of(cluster: &Cluster, helm: Tool) -> Result<Self> {
        let tools = Tools::ready_for(&[Tool::Kubectl, Tool::Helm, Tool::Helm4]).await?;
        let home = cluster.folder().data(&format!("home-of-{helm:?}"));
        let made = Self {
            program: tools.path(helm).to_owned(),
            kubectl: tools.path(Tool::Kubectl).to_owned(),
            kubeconfig: cluster.admin_kubeconfig().to_owned(),
            home,
        };
        made.link_programs().context("making a folder with helm and kubectl")?;
        Ok(made)
    }

    /// As somebody else.
    #[must_use]
    pub fn with_kubeconfig(mut self, kubeconfig: &Path) -> Self {
        kubeconfig.clone_into(&mut self.kubeconfig);
        self
    }

    /// Runs one command to its end.
    ///
    /// # Errors
    /// It does not start or does not end; a command that fails is none.
    pub async fn run(&self, arguments: &[&str]) -> Result<Said> {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        self.output(command, &format!("helm {}", arguments.join(" "))).await
    }

    /// Runs lines of a shell as a person would who was given them: in the root of the tree, with this helm and kubectl.
    ///
    /// # Errors
    /// They do not start or do not end; lines that fail are none.
    pub async fn shell(&self, lines: &str) -> Result<Said> {
        let mut command = Command::new("sh");
        command.args(["-e", "-u", "-c", lines]);
        self.output(command, lines).await
    }

    async fn output(&self, mut command: Command, what: &str) -> Result<Said> {
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .current_dir(repository())
            .env("PATH", format!("{}:{path}", self.programs().display()))
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", &self.home)
            .env("HELM_CACHE_HOME", self.home.join("cache"))
            .env("HELM_CONFIG_HOME", self.home.join("config"))
            .env("HELM_DATA_HOME", self.home.join("data"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = tokio::time::timeout(DEADLINE, command.output())
            .await
            .with_context(|| format!("{what} has not ended after {DEADLINE:?}"))?
            .with_context(|| format!("running {what}"))?;
        Ok(Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    fn programs(&self) -> PathBuf {
        self.home.join("bin")
    }

    /// Under the names that people type: helm 4 is `helm` too.
    fn link_programs(&self) -> std::io::Result<()> {
        std::fs::create_dir_all(self.programs())?;
        for (name, program) in [("helm", &self.program), ("kubectl", &self.kubectl)] {
            match std::os::unix::fs::symlink(program, self.programs().join(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}
