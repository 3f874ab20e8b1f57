//! A temporary folder that goes away with the process that made it, however that process ends.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Once, Weak};

use anyhow::{Context as _, Result};
use parking_lot::Mutex;

/// Sweeps `$1` when its standard input ends. Whoever still writes there dies at the same moment, so it tries for a
/// while. After the word `keep`, only `data` goes, logs stay.
const SWEEPER: &str = r#"
keep=
while read -r word; do keep=$word; done
round=0
while [ -d "$1" ] && [ "$round" -lt 50 ]; do
    if [ -n "$keep" ]; then
        rm -rf "$1/data" "$1/access" 2>/dev/null && exit 0
    else
        rm -rf "$1" 2>/dev/null
    fi
    [ -d "$1" ] && sleep 0.1
    round=$((round + 1))
done
"#;

/// Folders whose logs a panic anywhere keeps.
static FOLDERS: Mutex<Vec<Weak<Folder>>> = Mutex::new(Vec::new());

/// A folder under the system's temporary folder, with `data`, `logs` and `access` (kubeconfigs, certificates) in it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    sweeper: Mutex<Sweeper>,
}

#[derive(Debug)]
struct Sweeper {
    process: Child,
    words: Option<ChildStdin>,
    keep: bool,
}

impl Folder {
    /// Makes one; `name` is for the reader of a listing.
    ///
    /// # Errors
    /// The temporary folder cannot be written.
    pub fn create(name: &str) -> Result<Arc<Self>> {
        let path = tempfile::Builder::new()
            .prefix(&format!("remote-istio-{name}-"))
            .tempdir()
            .context("making a temporary folder; is the disk full?")?
            .keep();
        for part in ["data", "logs", "access"] {
            let part = path.join(part);
            std::fs::create_dir(&part).with_context(|| format!("making the folder {}", part.display()))?;
        }
        let mut process = Command::new("sh")
            .args(["-c", SWEEPER, "sweeper"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group_of_its_own()
            .spawn()
            .context("starting sh")?;
        let words = process.stdin.take();
        let sweeper = Mutex::new(Sweeper {
            process,
            words,
            keep: false,
        });
        Ok(Arc::new(Self { path, sweeper }))
    }

    /// Keeps the logs when anything in this process panics: for what stands in a static and is never dropped.
    pub fn keep_logs_on_panic(self: &Arc<Self>) {
        FOLDERS.lock().push(Arc::downgrade(self));
        install_hook();
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What only lives as long as the folder.
    #[must_use]
    pub fn data(&self, name: &str) -> PathBuf {
        self.path.join("data").join(name)
    }

    /// A log file; it stays when a test fails.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.path.join("logs").join(format!("{name}.log"))
    }

    /// A kubeconfig, certificate or key.
    #[must_use]
    pub fn access(&self, name: &str) -> PathBuf {
        self.path.join("access").join(name)
    }

    /// Keeps the logs when the folder goes.
    pub fn keep_logs(&self) {
        let mut sweeper = self.sweeper.lock();
        if sweeper.keep {
            return;
        }
        sweeper.keep = true;
        if let Some(words) = &mut sweeper.words
            && writeln!(words, "keep").is_ok()
        {
            eprintln!("the logs are kept in {}", self.path.join("logs").display());
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep_logs();
        }
        let sweeper = self.sweeper.get_mut();
        drop(sweeper.words.take());
        if let Err(error) = sweeper.process.wait() {
            eprintln!("waiting for the removal of {}: {error}", self.path.display());
        }
    }
}

/// Drop sees a panic only on its own thread.
fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            before(info);
            // A panic while the list is locked must not stand still here.
            if let Some(folders) = FOLDERS.try_lock() {
                folders
                    .iter()
                    .filter_map(Weak::upgrade)
                    .for_each(|folder| folder.keep_logs());
            }
        }));
    });
}

/// Ctrl-C in a terminal goes to the whole foreground group: what must outlive it for an orderly end stands outside.
pub(crate) trait ProcessGroup {
    /// Puts the process into a group of its own.
    fn process_group_of_its_own(&mut self) -> &mut Self;
}

impl ProcessGroup for Command {
    fn process_group_of_its_own(&mut self) -> &mut Self {
        std::os::unix::process::CommandExt::process_group(self, 0)
    }
}
