//! CRDs of other people's kinds that the charts can make objects of: from their authors' Go modules, as the tools are.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Each module, and the files in it.
const FILES: [(&str, &[&str]); 2] = [
    (
        "github.com/prometheus-operator/prometheus-operator",
        &[
            "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
            "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
        ],
    ),
    (
        // The experimental one, which serves the earlier versions too.
        "sigs.k8s.io/gateway-api",
        &["config/crd/experimental/gateway.networking.k8s.io_tlsroutes.yaml"],
    ),
];

/// `PodMonitor` and `ServiceMonitor` of the Prometheus operator, `TLSRoute` of the gateway API: a YAML text each.
///
/// # Errors
/// No Go or no network, the first time; later they lie in Go's own cache.
pub fn all() -> Result<Vec<String>> {
    let mut all = Vec::new();
    for (module, files) in FILES {
        let folder = download(module)?;
        for file in files {
            let path = folder.join(file);
            all.push(std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?);
        }
    }
    Ok(all)
}

/// The folder with the module of the version in `tests/tools/go/foreign-crds`, held to its checksum there.
fn download(module: &str) -> Result<PathBuf> {
    let output = Command::new("go")
        .args(["mod", "download", "-json", module])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/go/foreign-crds"))
        .env("GOWORK", "off")
        .env("GOFLAGS", "-mod=readonly")
        .stdin(Stdio::null())
        .output()
        .context("running go; install Go 1.26 or newer")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "downloading the Go module {module}: {said}{}; check the network and `go env GOPROXY`",
        String::from_utf8_lossy(&output.stderr)
    );
    let told: Value = serde_json::from_str(&said).context("reading what go says")?;
    let folder = told["Dir"].as_str().context("go names no folder")?;
    Ok(PathBuf::from(folder))
}
