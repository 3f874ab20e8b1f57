//! The hub's commands as a person at central would run them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use super::daemon::program;

/// One command; on a busy machine.
const DEADLINE: Duration = Duration::from_mins(1);

/// Runs commands of the hub's program on one namespace of central.
#[derive(Debug, Clone)]
pub struct Operator {
    program: PathBuf,
    kubeconfig: PathBuf,
    namespace: String,
}

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Said {
    /// Exit code.
    pub code: i32,
    /// What it printed.
    pub out: String,
    /// What went wrong.
    pub err: String,
}

impl Said {
    /// Whether it ended well.
    ///
    /// # Errors
    /// It did not: the text has all it said.
    pub fn success(&self, what: &str) -> Result<()> {
        let Self { code, out, err } = self;
        ensure!(*code == 0, "{what} ended with {code}: {err}{out}");
        Ok(())
    }

    /// All it printed, wherever to.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}{}", self.out, self.err)
    }
}

/// What a remote needs to join.
#[derive(Debug, Clone)]
pub struct Invitation {
    /// `id.secret`.
    pub token: String,
    /// Pins of the CA.
    pub pins: Vec<String>,
    /// Where it joins, as HOST:PORT.
    pub enrolments: Vec<String>,
}

impl Operator {
    /// One who has this kubeconfig.
    ///
    /// # Errors
    /// The program is not built.
    pub fn new(namespace: &str, kubeconfig: &Path) -> Result<Self> {
        Ok(Self {
            program: program("remote-istio-hub")?,
            kubeconfig: kubeconfig.to_owned(),
            namespace: namespace.to_owned(),
        })
    }

    /// Runs one command to its end.
    ///
    /// # Errors
    /// It does not start or does not end; a command that fails is none.
    pub async fn run(&self, arguments: &[&str]) -> Result<Said> {
        let running = Command::new(&self.program)
            .args(arguments)
            .arg("--namespace")
            .arg(&self.namespace)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(DEADLINE, running)
            .await
            .with_context(|| format!("{arguments:?} has not ended after {DEADLINE:?}"))?
            .with_context(|| format!("running {}", self.program.display()))?;
        Ok(Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs one command that must succeed, and gives what it printed.
    ///
    /// # Errors
    /// It fails.
    pub async fn succeed(&self, arguments: &[&str]) -> Result<String> {
        let said = self.run(arguments).await?;
        ensure!(said.code == 0, "{arguments:?} ended with {}: {}", said.code, said.err);
        Ok(said.out)
    }

    /// A token for a remote; `more` are further arguments of `token create`.
    ///
    /// # Errors
    /// None is made, or it is printed in another shape than documented.
    pub async fn invite(&self, remote: &str, more: &[&str]) -> Result<Invitation> {
        let arguments = [&["token", "create", remote, "--output", "json"], more].concat();
        let printed = self.succeed(&arguments).await?;
        Invitation::read(&printed).with_context(|| format!("reading what {arguments:?} printed"))
    }

    /// Where it works.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
}

impl Invitation {
    fn read(printed: &str) -> Result<Self> {
        let json: Value = serde_json::from_str(printed).context("JSON")?;
        let list = |name: &str| {
            let listed = json[name].as_array().with_context(|| format!("{name} is no list"))?;
            let texts = listed.iter().map(|text| text.as_str().map(str::to_owned));
            texts
                .collect::<Option<Vec<_>>>()
                .with_context(|| format!("{name} is no list of texts"))
        };
        Ok(Self {
            token: json["token"].as_str().context("no token")?.to_owned(),
            pins: list("pins")?,
            enrolments: list("enrolments")?,
        })
    }

    /// The public half of the token: the name of its record.
    #[must_use]
    pub fn id(&self) -> &str {
        self.token.split('.').next().unwrap_or_default()
    }
}
