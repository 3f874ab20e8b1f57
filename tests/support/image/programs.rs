//! Hub and agent as static programs, built in the tool cache: a fresh clone finds them there when it holds the same
//! sources, and otherwise all but their own code compiled.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;

use super::sources;
use crate::{lock, tools};

/// From one word to a waiting person to the next.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// From one look at the build to the next.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A build that takes longer stands still. A cold one on two cores takes a fifth of this.
const BUILD_LIMIT: Duration = Duration::from_hours(1);

/// What a cold build takes on two cores, for the person who waits.
const USUAL: &str = "10 min";

/// Lines of the build's output that are shown when it fails.
const SHOWN_LINES: usize = 30;

/// What cargo tells those whom it runs, and settings that give other programs than `deploy/build-static` means.
const FOREIGN: [&str; 9] = [
    "CARGO_BUILD_",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
    "LD_LIBRARY_PATH",
    "RUSTC_",
    "RUSTFLAGS",
];

/// Programs that no other process builds anew while this lives.
pub(super) struct Programs {
    folder: PathBuf,
    _lock: File,
}

impl Programs {
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.folder.join("programs").join(name)
    }
}

/// Builds what is stale.
pub(super) fn build(root: &Path) -> Result<Programs> {
    let cache = tools::cache_folder()?;
    let folder = cache.join("static");
    std::fs::create_dir_all(&folder).with_context(|| format!("making the tool cache {}", folder.display()))?;
    let lock = lock::hold(&cache.join("static.lock"), "builds the static hub and agent")?;
    let sources = sources::digest(root)?;
    let stamp = folder.join("programs/sources");
    if std::fs::read_to_string(&stamp).is_ok_and(|built| built == sources) {
        return Ok(Programs { folder, _lock: lock });
    }
    let mut command = Command::new(root.join("deploy/build-static"));
    command.arg(&folder);
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| FOREIGN.iter().any(|foreign| name.starts_with(foreign)))
        {
            command.env_remove(name);
        }
    }
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("running deploy/build-static")?;
    watch(child)?;
    // Whoever edits while it builds gets programs of neither state.
    if sources::digest(root)? == sources {
        std::fs::write(&stamp, sources).with_context(|| format!("writing {}", stamp.display()))?;
    }
    Ok(Programs { folder, _lock: lock })
}

/// The commit that is built, with `-dirty` where files differ from it, and its time in seconds since 1970:
/// `SOURCE_DATE_EPOCH` where that is set. Without git, none and 0.
pub(super) fn revision(root: &Path) -> Result<(Option<String>, i64)> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
    };
    let revision = git(&["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]);
    let time = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(time) if !time.is_empty() => time,
        _ => git(&["log", "-1", "--format=%ct"]).unwrap_or_else(|| "0".to_owned()),
    };
    let time = time
        .parse()
        .with_context(|| format!("SOURCE_DATE_EPOCH is {time:?}: set it to seconds since 1970, or not at all"))?;
    Ok((revision, time))
}

/// Waits for the build and tells how it goes.
fn watch(mut child: Child) -> Result<()> {
    let errors = child.stderr.take().context("the build has no error output")?;
    let progress = Arc::new(Progress::default());
    let reader = {
        let progress = Arc::clone(&progress);
        std::thread::spawn(move || progress.read(errors))
    };
    let started = Instant::now();
    let status = wait(&mut child, started, &progress)?;
    reader
        .join()
        .map_err(|_| anyhow::anyhow!("the reader of the build's output panicked"))?;
    let lines = progress.lines.lock();
    if !status.success() {
        let shown = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
        bail!("building the static hub and agent failed ({status}); this is what was said:\n{shown}");
    }
    let compiled = progress.compiled.load(Ordering::Relaxed);
    if compiled > 0 {
        let seconds = started.elapsed().as_secs();
        say(&format!(
            "built the static hub and agent in {seconds} s, {compiled} crates compiled"
        ));
    }
    Ok(())
}

fn wait(child: &mut Child, started: Instant, progress: &Progress) -> Result<ExitStatus> {
    let mut told = started;
    loop {
        if let Some(status) = child.try_wait().context("waiting for the build")? {
            return Ok(status);
        }
        if started.elapsed() > BUILD_LIMIT {
            child.kill().context("ending the build")?;
            bail!(
                "building the static hub and agent has taken an hour: look whether this machine has memory and network"
            );
        }
        if told.elapsed() > TELL_EVERY {
            told = Instant::now();
            let (seconds, compiled) = (started.elapsed().as_secs(), progress.compiled.load(Ordering::Relaxed));
            say(&format!(
                "building the static hub and agent for {seconds} s ({USUAL} where nothing is compiled yet), {compiled} crates compiled"
            ));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// What the build has said so far.
#[derive(Default)]
struct Progress {
    compiled: AtomicUsize,
    lines: Mutex<Vec<String>>,
}

impl Progress {
    fn read(&self, errors: ChildStderr) {
        for line in BufReader::new(errors).lines().map_while(Result::ok) {
            if line.trim_start().starts_with("Compiling ") {
                self.compiled.fetch_add(1, Ordering::Relaxed);
            } else {
                self.lines.lock().push(line);
            }
        }
    }
}

/// A line for the person who waits; a test's capture of output does not hide it.
fn say(line: &str) {
    // Nobody reads: then nobody waits either.
    let _ = writeln!(std::io::stderr(), "images: {line}");
}
