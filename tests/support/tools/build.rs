//! One build: locked against a second process, told while it runs, moved into place when it is whole.

use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;

use super::{Tool, say};
use crate::lock;

/// From one word to a waiting person to the next.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// From one look at the build to the next.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A build that takes longer stands still. A cold Kubernetes on one slow core takes a quarter of this.
const BUILD_LIMIT: Duration = Duration::from_hours(1);

/// Lines of the build's errors that are shown.
const SHOWN_LINES: usize = 15;

/// The program in the cache, built if it is not there.
pub(super) fn ensure(tool: Tool, cache: &Path) -> Result<PathBuf> {
    let recipe = Recipe::of(tool)?;
    let path = cache.join("bin").join(&recipe.digest).join(tool.name());
    if path.exists() {
        return Ok(path);
    }
    let folder = path.parent().context("a path with a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("making the tool cache {}", folder.display()))?;
    let lock = cache.join(format!("{}.lock", tool.module()));
    let _lock = lock::hold(&lock, &format!("builds {}", tool.name()))?;
    if path.exists() {
        return Ok(path);
    }
    check_go()?;
    let unfinished = folder.join(format!("{}.unfinished", tool.name()));
    recipe.build(&unfinished)?;
    fs::rename(&unfinished, &path).with_context(|| format!("moving {} into place", path.display()))?;
    Ok(path)
}

/// A Go that can fetch the toolchain that the modules ask for.
fn check_go() -> Result<()> {
    let output = Command::new("go").arg("version").current_dir("/").output();
    let said = match output {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => {
            bail!("go cannot be run ({error}): install Go 1.26 or newer from https://go.dev/dl and put it on the PATH")
        }
    };
    if go_minor(&said).is_some_and(|minor| minor >= 21) {
        return Ok(());
    }
    bail!(
        "{:?} is too old: install Go 1.26 or newer from https://go.dev/dl and put it first on the PATH",
        said.trim()
    )
}

/// The N of `go version go1.N.P …`.
fn go_minor(said: &str) -> Option<u32> {
    let digits = said.split_whitespace().nth(2)?.strip_prefix("go1.")?;
    digits
        .split(|letter: char| !letter.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

/// All that decides what a build gives.
struct Recipe {
    tool: Tool,
    folder: PathBuf,
    flags: Vec<String>,
    digest: String,
}

impl Recipe {
    fn of(tool: Tool) -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tools/go")
            .join(tool.module());
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        let (modules, sums) = (read("go.mod")?, read("go.sum")?);
        let mut flags: Vec<String> = ["-mod=readonly", "-trimpath", "-buildvcs=false"]
            .map(String::from)
            .to_vec();
        flags.push(format!("-ldflags=-s -w{}", stamps(tool, &modules)));
        let mut all = [&modules, &sums, &flags.join(" "), tool.package()].join("\n");
        // A program of this tree.
        if tool.package() == "." {
            all.push_str(&read("main.go")?);
        }
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, all.as_bytes());
        let digest = digest.as_ref()[..8]
            .iter()
            .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        Ok(Self {
            tool,
            folder,
            flags,
            digest,
        })
    }

    fn build(&self, output: &Path) -> Result<()> {
        let name = self.tool.name();
        let usual = duration(self.tool.usual_seconds());
        say(&format!(
            "building {name} from its Go module, once; usually {usual} on two cores"
        ));
        let mut child = Command::new("go")
            .args(["build", "-v"])
            .args(&self.flags)
            .arg("-o")
            .arg(output)
            .arg(self.tool.package())
            .current_dir(&self.folder)
            .env("CGO_ENABLED", "0")
            .env("GOWORK", "off")
            .env("GOFLAGS", "")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("running go")?;
        let errors = child.stderr.take().context("go has no error output")?;
        let progress = Arc::new(Progress::default());
        let reader = {
            let progress = Arc::clone(&progress);
            std::thread::spawn(move || progress.read(BufReader::new(errors)))
        };
        let started = Instant::now();
        let mut told = started;
        let status = loop {
            if let Some(status) = child.try_wait().context("waiting for go")? {
                break status;
            }
            if started.elapsed() > BUILD_LIMIT {
                child.kill().context("ending go")?;
                bail!(
                    "building {name} has taken an hour; look whether this machine has memory and network, then try again"
                );
            }
            if told.elapsed() > TELL_EVERY {
                told = Instant::now();
                say(&format!(
                    "building {name}: {} of about {usual}, {}",
                    duration(started.elapsed().as_secs()),
                    progress.words()
                ));
            }
            std::thread::sleep(LOOK_EVERY);
        };
        reader
            .join()
            .map_err(|_| anyhow::anyhow!("the reader of go's output panicked"))?;
        if !status.success() {
            bail!("building {name} failed: {}", explain(&progress.lines.lock()));
        }
        say(&format!("built {name} in {}", duration(started.elapsed().as_secs())));
        Ok(())
    }
}

/// The versions that programs say of themselves; without, clients see v0.0.0, and Helm 3 renders for Kubernetes 1.20.
fn stamps(tool: Tool, modules: &str) -> String {
    let stamp = |name: String, value: &str| format!(" -X {name}={value}");
    match tool.module() {
        "kubernetes" | "kubelet" => {
            let version = required(modules, "k8s.io/kubernetes");
            ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"]
                .map(|package| {
                    stamp(format!("{package}.gitVersion"), version)
                        + &stamp(format!("{package}.gitMajor"), "1")
                        + &stamp(format!("{package}.gitMinor"), minor(version))
                })
                .concat()
        }
        "helm" => {
            let kubernetes = ["helm.sh/helm/v3/pkg/lint/rules", "helm.sh/helm/v3/pkg/chartutil"].map(|package| {
                stamp(format!("{package}.k8sVersionMajor"), "1")
                    + &stamp(
                        format!("{package}.k8sVersionMinor"),
                        minor(required(modules, "k8s.io/client-go")),
                    )
            });
            let version = required(modules, "helm.sh/helm/v3");
            stamp("helm.sh/helm/v3/internal/version.version".to_owned(), version) + &kubernetes.concat()
        }
        "helm4" => stamp(
            "helm.sh/helm/v4/internal/version.version".to_owned(),
            required(modules, "helm.sh/helm/v4"),
        ),
        _ => String::new(),
    }
}

/// The version of a module that a go.mod requires.
fn required<'a>(modules: &'a str, module: &str) -> &'a str {
    modules
        .lines()
        .filter_map(|line| {
            let line = line.trim();
            line.strip_prefix("require ").unwrap_or(line).strip_prefix(module)
        })
        .find_map(|rest| rest.strip_prefix(' '))
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap_or("v0.0.0")
}

/// The N of vM.N.P.
fn minor(version: &str) -> &str {
    version.split('.').nth(1).unwrap_or("0")
}

/// What the build has said so far.
#[derive(Default)]
struct Progress {
    downloaded: AtomicUsize,
    compiled: AtomicUsize,
    lines: Mutex<Vec<String>>,
}

impl Progress {
    fn read(&self, errors: impl std::io::BufRead) {
        for line in errors.lines().map_while(Result::ok) {
            if line.starts_with("go: downloading ") {
                self.downloaded.fetch_add(1, Ordering::Relaxed);
            } else if is_package(&line) {
                self.compiled.fetch_add(1, Ordering::Relaxed);
            } else {
                self.lines.lock().push(line);
            }
        }
    }

    fn words(&self) -> String {
        let (downloaded, compiled) = (
            self.downloaded.load(Ordering::Relaxed),
            self.compiled.load(Ordering::Relaxed),
        );
        match (downloaded, compiled) {
            (0, 0) => "starting".to_owned(),
            (downloaded, 0) => format!("{downloaded} modules downloaded"),
            (_, compiled) => format!("{compiled} packages compiled"),
        }
    }
}

/// A line of `go build -v` that names a package, and nothing else.
fn is_package(line: &str) -> bool {
    !line.contains([' ', ':', '#']) && !line.is_empty()
}

/// The last lines, and what to do where they are known.
fn explain(lines: &[String]) -> String {
    let text = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let advice = if has(&["no space left"]) {
        "the disk is full: the build needs about 3 GB for Go's own caches (see `go env GOCACHE GOMODCACHE`)"
    } else if has(&["GOTOOLCHAIN=local", "toolchain not available"]) {
        "this Go is older than the module asks for and may not fetch a newer one: install Go 1.26 or newer, or unset GOTOOLCHAIN"
    } else if has(&[
        "dial tcp",
        "no such host",
        "i/o timeout",
        "connection refused",
        "TLS handshake",
        "proxyconnect",
        "disabled by GOPROXY",
    ]) {
        "the Go module proxy cannot be reached: check the network and `go env GOPROXY`, or set KUBEBUILDER_ASSETS for what you have"
    } else if has(&["signal: killed", "cannot allocate memory"]) {
        "the compiler was killed: it needs about 4 GB of memory; try again with GOMAXPROCS=1"
    } else {
        "this is what go said"
    };
    format!("{advice}\n{text}")
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        _ => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_has_a_recipe_of_its_own() -> Result<()> {
        let mut digests = Vec::new();
        for tool in Tool::ALL {
            digests.push(Recipe::of(tool)?.digest);
        }
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), Tool::ALL.len());
        Ok(())
    }

    #[test]
    fn kubernetes_is_stamped_with_the_version_of_its_module() {
        let stamped = stamps(Tool::ApiServer, "module x\n\nrequire k8s.io/kubernetes v1.37.2\n");
        assert!(
            stamped.contains("k8s.io/component-base/version.gitVersion=v1.37.2 "),
            "{stamped}"
        );
        assert!(stamped.contains("gitMinor=37"), "{stamped}");
        assert_eq!(stamps(Tool::Etcd, "require k8s.io/kubernetes v1.37.2"), "");
    }

    #[test]
    fn helm_3_is_stamped_with_the_kubernetes_of_its_client() {
        let modules = "require (\n\thelm.sh/helm/v3 v3.21.4 // indirect\n\tk8s.io/client-go v0.36.1 // indirect\n)\n";
        let stamped = stamps(Tool::Helm, modules);
        for expected in [
            "version.version=v3.21.4",
            "chartutil.k8sVersionMinor=36",
            "rules.k8sVersionMinor=36",
        ] {
            assert!(stamped.contains(expected), "{stamped}");
        }
    }

    #[test]
    fn go_versions_are_read() {
        assert_eq!(go_minor("go version go1.26.8 linux/amd64"), Some(26));
        assert_eq!(go_minor("go version go1.27rc1 linux/arm64"), Some(27));
        assert_eq!(go_minor("nonsense"), None);
    }

    #[test]
    fn failures_say_what_to_do() {
        let said = |line: &str| explain(&[line.to_owned()]);
        assert!(said("write x: no space left on device").contains("disk is full"));
        assert!(said("dial tcp: lookup host: no such host").contains("module proxy"));
        assert!(said("go: go.mod requires go >= 1.26.8 (running go 1.24; GOTOOLCHAIN=local)").contains("install Go"));
        assert!(said("x.go:1:1: undefined: y").contains("undefined: y"));
    }

    #[test]
    fn package_lines_are_told_from_errors() {
        assert!(is_package("k8s.io/api/core/v1"));
        assert!(!is_package("# k8s.io/api/core/v1"));
        assert!(!is_package("main.go:3:1: syntax error"));
    }
}
