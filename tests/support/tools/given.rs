//! Programs that the user has already: the folder that `KUBEBUILDER_ASSETS` names.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use anyhow::{Context as _, Result, bail};

use super::{Tool, say};

/// The oldest Kubernetes that hub and agent support.
const OLDEST_MINOR: u32 = 33;

/// The given program, if the folder is named and has it.
pub(super) fn path(tool: Tool) -> Result<Option<PathBuf>> {
    static SAID: Once = Once::new();
    let Some(folder) = std::env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty()) else {
        return Ok(None);
    };
    if !matches!(tool, Tool::Etcd | Tool::ApiServer | Tool::Kubectl) {
        return Ok(None);
    }
    let path = Path::new(&folder).join(tool.name());
    if !path.exists() {
        return Ok(None);
    }
    SAID.call_once(|| {
        say(&format!(
            "etcd, kube-apiserver and kubectl are taken from KUBEBUILDER_ASSETS where they are there: {}",
            Path::new(&folder).display()
        ));
    });
    if tool == Tool::ApiServer {
        check(&path)?;
    }
    Ok(Some(path))
}

fn check(path: &Path) -> Result<()> {
    let output = Command::new(path)
        .arg("--version")
        .output()
        .with_context(|| format!("running {} --version", path.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    match minor(&said) {
        Some(minor) if minor >= OLDEST_MINOR => Ok(()),
        _ => bail!(
            "KUBEBUILDER_ASSETS: {} says {:?}, but 1.{OLDEST_MINOR} or newer is needed; unset KUBEBUILDER_ASSETS to build one",
            path.display(),
            said.trim()
        ),
    }
}

/// The N of `Kubernetes v1.N.P`.
fn minor(said: &str) -> Option<u32> {
    said.trim()
        .strip_prefix("Kubernetes v1.")?
        .split('.')
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minor_version_is_read_from_what_the_server_says() {
        assert_eq!(minor("Kubernetes v1.37.2\n"), Some(37));
        assert_eq!(minor("Kubernetes v1.33.0-rc.1"), Some(33));
        assert_eq!(minor("flag provided but not defined"), None);
    }
}
