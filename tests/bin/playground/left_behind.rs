//! One playground at a time: the file with its pid, and how to end one that was left behind.

use std::fs::{self, File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// From the request to the end of everything.
const END_DEADLINE: Duration = Duration::from_mins(1);

/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Held while a playground runs; the kernel lets go of it whatever happens to the process.
#[derive(Debug)]
pub(crate) struct Mark {
    _file: File,
}

impl Mark {
    /// Marks this process as the playground.
    pub(crate) fn set(folder: &Path) -> Result<Self> {
        let mut file = open(folder)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("a playground runs already: `make playground-down` ends it"),
            Err(TryLockError::Error(error)) => return Err(error).context("locking the pid file"),
        }
        file.set_len(0).context("emptying the pid file")?;
        file.rewind().context("rewinding the pid file")?;
        write!(file, "{}", std::process::id()).context("writing the pid file")?;
        // Those of an earlier one lead nowhere.
        match fs::remove_file(folder.join("env")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("removing old exports"),
            _ => Ok(Self { _file: file }),
        }
    }
}

/// Ends the playground that runs, if one does; all that belongs to it ends with it.
pub(crate) fn end(folder: &Path) -> Result<()> {
    let mut file = open(folder)?;
    if file.try_lock().is_ok() {
        println!("no playground runs");
        return Ok(());
    }
    let mut pid = String::new();
    file.read_to_string(&mut pid).context("reading the pid file")?;
    let pid: u32 = pid
        .trim()
        .parse()
        .context("the pid file has no pid; is a playground just starting?")?;
    println!("ending the playground with pid {pid}");
    let told = Command::new("kill")
        .arg(pid.to_string())
        .status()
        .context("running kill")?;
    if !told.success() {
        bail!("kill {pid} failed: end the process by hand");
    }
    let started = Instant::now();
    while file.try_lock().is_err() {
        if started.elapsed() > END_DEADLINE {
            bail!(
                "pid {pid} has not ended within {END_DEADLINE:?}: `kill -9 {pid}` ends it, and all of its processes with it"
            );
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

fn open(folder: &Path) -> Result<File> {
    let path = folder.join("pid");
    let opened = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    opened.with_context(|| format!("opening {}", path.display()))
}
