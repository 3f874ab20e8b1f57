//! Debian packages unpacked into the tool cache: what real nodes need and no Go module gives. Nothing is installed, and
//! the machine's own package lists stay as they are.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{cache_folder, say};

/// What is unpacked, with what it needs and this machine does not have. What is installed already is taken from where
/// it is.
const PACKAGES: [&str; 6] = [
    "containerd",
    "runc",
    "containernetworking-plugins",
    "iptables",
    "conntrack",
    "iproute2",
];

/// Names that Debian gives iptables when it installs it.
const IPTABLES: [&str; 6] = [
    "iptables",
    "iptables-save",
    "iptables-restore",
    "ip6tables",
    "ip6tables-save",
    "ip6tables-restore",
];

/// Where programs are under a root.
const PROGRAM_FOLDERS: [&str; 4] = ["usr/sbin", "usr/bin", "sbin", "bin"];

/// The unpacked packages.
#[derive(Debug, Clone)]
pub struct Debian {
    root: PathBuf,
}

impl Debian {
    /// Finds them and fetches what is missing; says on standard error what it does.
    ///
    /// # Errors
    /// There is no apt-get, no network, or no space: the text says what to do.
    pub fn ensure() -> Result<Self> {
        let cache = cache_folder()?.join("debian");
        let root = cache.join(digest(&release()));
        if !root.exists() {
            fs::create_dir_all(&cache).with_context(|| format!("making the tool cache {}", cache.display()))?;
            let unfinished = tempfile::Builder::new()
                .prefix("unfinished-")
                .tempdir_in(&cache)
                .with_context(|| format!("making a folder in {}", cache.display()))?;
            fetch(unfinished.path(), &cache.join("apt"))?;
            let moved = fs::rename(unfinished.path().join("root"), &root);
            // Another process was faster.
            if !root.exists() {
                moved.with_context(|| format!("moving {} into place", root.display()))?;
            }
        }
        Ok(Self { root })
    }

    /// A program of the packages, or of the machine where the package is installed.
    ///
    /// # Errors
    /// It is nowhere.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let found = std::env::split_paths(&self.path())
            .map(|folder| folder.join(name))
            .find(|path| path.exists());
        found.with_context(|| format!("{name} is neither under {} nor on the PATH", self.root.display()))
    }

    /// The folder with the plugins that make a pod's network.
    #[must_use]
    pub fn network_plugins(&self) -> PathBuf {
        let own = self.root.join("usr/lib/cni");
        if own.exists() {
            own
        } else {
            PathBuf::from("/usr/lib/cni")
        }
    }

    /// The variables under which the programs find each other and their libraries.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let text = |value: &OsStr| value.to_string_lossy().into_owned();
        let mut variables = vec![("PATH".to_owned(), text(&self.path()))];
        let libraries = self.library_folders();
        if let Ok(joined) = std::env::join_paths(&libraries)
            && !libraries.is_empty()
        {
            variables.push(("LD_LIBRARY_PATH".to_owned(), text(&joined)));
        }
        let extensions = libraries.iter().map(|folder| folder.join("xtables"));
        if let Some(extensions) = extensions.into_iter().find(|folder| folder.exists()) {
            variables.push(("XTABLES_LIBDIR".to_owned(), text(extensions.as_os_str())));
        }
        variables
    }

    fn path(&self) -> OsString {
        let own = PROGRAM_FOLDERS.iter().map(|folder| self.root.join(folder));
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        let inherited: Vec<PathBuf> = std::env::split_paths(&inherited).collect();
        let system = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
        std::env::join_paths(own.chain(inherited).chain(system)).unwrap_or_default()
    }

    /// `usr/lib/TRIPLE` and `lib/TRIPLE`.
    fn library_folders(&self) -> Vec<PathBuf> {
        ["usr/lib", "lib"]
            .iter()
            .filter_map(|folder| fs::read_dir(self.root.join(folder)).ok())
            .flatten()
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_string_lossy().contains("-linux-gnu"))
            .map(|entry| entry.path())
            .collect()
    }
}

/// Fetches and unpacks into `folder/root`; `apt` keeps package lists of our own where the machine has none.
fn fetch(folder: &Path, apt: &Path) -> Result<()> {
    say(&format!(
        "fetching Debian packages for real nodes: {}",
        PACKAGES.join(" ")
    ));
    let mut options: Vec<OsString> = ["-q", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root"]
        .map(OsString::from)
        .to_vec();
    let missing = match missing(&options) {
        Ok(missing) => missing,
        Err(first) => {
            say("the machine's package lists do not do, fetching others into the tool cache");
            options.extend(own_lists(apt)?);
            run(apt_get(&options).arg("update"))
                .with_context(|| format!("fetching package lists, after the machine's did not do: {first:#}"))?;
            missing(&options)?
        }
    };
    let (packages, root) = (folder.join("packages"), folder.join("root"));
    for folder in [&packages, &root] {
        fs::create_dir(folder).with_context(|| format!("making the folder {}", folder.display()))?;
    }
    if !missing.is_empty() {
        run(apt_get(&options).arg("download").args(&missing).current_dir(&packages))?;
    }
    for entry in fs::read_dir(&packages).context("reading the folder of packages")? {
        let package = entry.context("reading the folder of packages")?.path();
        run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&root))?;
    }
    link_iptables(&root)?;
    say(&format!(
        "unpacked {} Debian packages; nothing was installed",
        missing.len()
    ));
    Ok(())
}

/// Names of the packages that would have to be installed here.
fn missing(options: &[OsString]) -> Result<Vec<String>> {
    let said = run(apt_get(options)
        .args(["install", "--yes", "--print-uris", "--no-install-recommends"])
        .args(PACKAGES))?;
    Ok(packages_of(&said))
}

/// The packages in what `apt-get --print-uris` says: `'URI' NAME_VERSION_ARCHITECTURE.deb SIZE HASH`.
fn packages_of(said: &str) -> Vec<String> {
    said.lines()
        .filter(|line| line.starts_with('\''))
        .filter_map(|line| line.split_whitespace().nth(1))
        .filter_map(|file| file.split('_').next())
        .map(str::to_owned)
        .collect()
}

fn own_lists(apt: &Path) -> Result<Vec<OsString>> {
    let mut options = Vec::new();
    for (option, part) in [
        ("Dir::State::lists", "lists/partial"),
        ("Dir::Cache", "cache/archives/partial"),
    ] {
        let folder = apt.join(part);
        fs::create_dir_all(&folder).with_context(|| format!("making the folder {}", folder.display()))?;
        let top = apt.join(part.split('/').next().unwrap_or(part));
        options.push(OsString::from("-o"));
        options.push(OsString::from(format!("{option}={}", top.display())));
    }
    Ok(options)
}

fn apt_get(options: &[OsString]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(options).env("LC_ALL", "C");
    command
}

fn run(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = command
        .output()
        .with_context(|| format!("running {shown}; real nodes need a Debian"))?;
    if !output.status.success() {
        bail!("{shown}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Debian links these when it installs iptables.
fn link_iptables(root: &Path) -> Result<()> {
    let folder = root.join("usr/sbin");
    if !folder.join("xtables-nft-multi").exists() {
        return Ok(());
    }
    for name in IPTABLES {
        let link = folder.join(name);
        symlink("xtables-nft-multi", &link).with_context(|| format!("linking {}", link.display()))?;
    }
    Ok(())
}

/// What packages are of: another release is another folder.
fn release() -> String {
    fs::read_to_string("/etc/os-release").unwrap_or_default()
}

fn digest(release: &str) -> String {
    let all = format!("{release}\n{}", PACKAGES.join("\n"));
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, all.as_bytes());
    digest.as_ref()[..8]
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_read_from_what_apt_says() {
        let said = "Reading package lists...\n\
                    'http://deb.test/pool/r/runc_1.1.5+ds1-1_amd64.deb' runc_1.1.5+ds1-1_amd64.deb 2709960 SHA256:00\n\
                    'http://deb.test/pool/c/conntrack_1.4.7-1_amd64.deb' conntrack_1%3a1.4.7-1_amd64.deb 35240 SHA256:00\n";
        assert_eq!(packages_of(said), ["runc", "conntrack"]);
        assert!(packages_of("Reading package lists...\n0 upgraded\n").is_empty());
    }

    #[test]
    fn another_release_has_a_folder_of_its_own() {
        assert_ne!(digest("VERSION_CODENAME=bookworm"), digest("VERSION_CODENAME=trixie"));
    }
}
