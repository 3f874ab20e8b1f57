//! What helm makes of the charts by itself, without a cluster.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::manifest::documents;
use crate::pair::Said;
use crate::release::{Chart, repository};
use crate::tools::{Tool, Tools};

/// One helm, with nothing of the user's own settings.
#[derive(Debug)]
pub struct Renderer {
    helm: PathBuf,
    home: tempfile::TempDir,
}

/// One object of a rendered chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its template, as `templates/roles.yaml`.
    pub template: String,
    /// Its text, comments and all.
    pub text: String,
    /// The object.
    pub object: Value,
}

impl Document {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.object["kind"].as_str().unwrap_or_default()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// Its namespace; none of what is cluster-wide.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.object["metadata"]["namespace"].as_str()
    }

    /// When helm makes it beside the release, as `pre-install,pre-upgrade`.
    #[must_use]
    pub fn hook(&self) -> Option<&str> {
        self.object["metadata"]["annotations"]["helm.sh/hook"].as_str()
    }
}

impl Renderer {
    /// Helm 3 or 4.
    ///
    /// # Errors
    /// The tool cannot be built, or there is no temporary folder.
    pub fn new(helm: Tool) -> Result<Self> {
        Ok(Self {
            helm: Tools::ensure(&[helm])?.path(helm).to_owned(),
            home: tempfile::tempdir().context("making a temporary folder")?,
        })
    }

    /// `helm lint --strict` with these values, a YAML text.
    ///
    /// # Errors
    /// Helm does not start; what it finds fault with is no error.
    pub fn lint(&self, chart: Chart, values: &str) -> Result<Said> {
        self.run(&["lint", "--strict", &folder(chart)], values)
    }

    /// `helm template` with these values, a YAML text, and these flags.
    ///
    /// # Errors
    /// Helm does not start; what it refuses is no error.
    pub fn template(&self, chart: Chart, namespace: &str, values: &str, flags: &[&str]) -> Result<Said> {
        let folder = folder(chart);
        let arguments = ["template", chart.name(), &folder, "--namespace", namespace];
        self.run(&[&arguments, flags].concat(), values)
    }

    /// The objects that [`Self::template`] prints.
    ///
    /// # Errors
    /// Helm refuses, or prints what is not YAML.
    pub fn documents(&self, chart: Chart, namespace: &str, values: &str) -> Result<Vec<Document>> {
        self.documents_with(chart, namespace, values, &[])
    }

    /// The same, with these flags.
    ///
    /// # Errors
    /// As [`Self::documents`].
    pub fn documents_with(&self, chart: Chart, namespace: &str, values: &str, flags: &[&str]) -> Result<Vec<Document>> {
        let said = self.template(chart, namespace, values, flags)?;
        said.success("helm template")?;
        split(&said.out)
    }

    fn run(&self, arguments: &[&str], values: &str) -> Result<Said> {
        let file = tempfile::NamedTempFile::new_in(&self.home).context("making a file of values")?;
        std::fs::write(&file, values).context("writing the values")?;
        let output = Command::new(&self.helm)
            .args(arguments)
            .arg("--values")
            .arg(file.path())
            .env("HOME", self.home.path())
            .env("HELM_CACHE_HOME", self.home.path().join("cache"))
            .env("HELM_CONFIG_HOME", self.home.path().join("config"))
            .env("HELM_DATA_HOME", self.home.path().join("data"))
            .env("KUBECONFIG", self.home.path().join("none"))
            .stdin(Stdio::null())
            .current_dir(repository())
            .output()
            .with_context(|| format!("running helm {}", arguments.join(" ")))?;
        Ok(Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// The chart's folder, seen from the root of the tree.
fn folder(chart: Chart) -> String {
    format!("deploy/charts/{}", chart.name())
}

/// The objects of what `helm template` printed.
///
/// # Errors
/// It is not YAML.
pub fn split(text: &str) -> Result<Vec<Document>> {
    let mut all = Vec::new();
    for part in text.split("---\n").filter(|part| !part.trim().is_empty()) {
        let source = part.lines().find_map(|line| line.strip_prefix("# Source: "));
        let template = source.and_then(|source| source.split_once('/')).map(|(_, path)| path);
        let lines = part.lines().filter(|line| !line.starts_with("# Source: "));
        let text = lines.fold(String::new(), |text, line| text + line + "\n");
        // Helm 4 puts an empty line after some objects.
        let text = format!("{}\n", text.trim_end());
        for object in documents(part).with_context(|| format!("reading an object of {template:?}"))? {
            all.push(Document {
                template: template.unwrap_or_default().to_owned(),
                text: text.clone(),
                object,
            });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_are_split_with_their_comments_and_templates() -> Result<()> {
        let text = "---\n# Source: hub/templates/a.yaml\n# Why.\nkind: A\n---\n# Source: hub/templates/b.yaml\nkind: B\n\n---\n";
        let document = |template: &str, text: &str, kind: &str| Document {
            template: template.to_owned(),
            text: text.to_owned(),
            object: json!({"kind": kind}),
        };
        assert_eq!(
            split(text)?,
            [
                document("templates/a.yaml", "# Why.\nkind: A\n", "A"),
                document("templates/b.yaml", "kind: B\n", "B"),
            ]
        );
        Ok(())
    }
}
