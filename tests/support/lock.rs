//! One process at a time in a folder that several share.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// From one word to a waiting person to the next.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// From one try to the next.
const TRY_EVERY: Duration = Duration::from_millis(200);

/// Whoever holds it longer stands still: a cold Kubernetes on one slow core takes a quarter of this.
const LIMIT: Duration = Duration::from_hours(1);

/// Holds a lock file for this process until it is closed; `does` says on standard error what another one does that has
/// it.
///
/// # Errors
/// The file cannot be made, or another process has held it for an hour.
pub fn hold(path: &Path, does: &str) -> Result<File> {
    let file = File::create(path).with_context(|| format!("making {}", path.display()))?;
    let started = Instant::now();
    let mut told = started;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", path.display()));
            }
            Err(TryLockError::WouldBlock) if started.elapsed() > LIMIT => {
                bail!("another process has held {} for an hour: end it", path.display())
            }
            Err(TryLockError::WouldBlock) => {
                if told.elapsed() > TELL_EVERY {
                    told = Instant::now();
                    eprintln!("another process {does}, waiting");
                }
                std::thread::sleep(TRY_EVERY);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_holder_waits_for_the_first() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("lock");
        let first = hold(&path, "tests")?;
        let second = File::create(&path)?;
        assert!(matches!(second.try_lock(), Err(TryLockError::WouldBlock)));
        drop(first);
        hold(&path, "tests")?;
        Ok(())
    }
}
