//! Child processes that never outlive this one, also after a panic, Ctrl-C or `kill -9`.
//!
//! Each runs under a small shell that holds the other end of a pipe: words on the pipe are signals to pass on, the
//! end of the pipe (this process is gone, or has dropped its end) kills the child.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::sync::watch;

use crate::folder::ProcessGroup as _;

/// `$1` is the log, the rest the command. Says the child's pid, then its exit code.
const GUARDIAN: &str = r#"
exec 3<&0
log=$1
shift
"$@" 3<&- </dev/null >>"$log" 2>&1 &
child=$!
echo "$child"
{
    while read -r word <&3; do kill -s "$word" "$child"; done
    kill -s KILL "$child"
} >/dev/null 2>&1 &
listener=$!
exec 3<&-
wait "$child" 2>/dev/null
echo "$?"
kill "$listener" 2>/dev/null
"#;

/// From KILL to the end of a process.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// What a process can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Asks for an orderly end.
    Term,
    /// Ends it at once.
    Kill,
    /// Stops it where it is.
    Stop,
    /// Goes on after a stop.
    Continue,
}

impl Signal {
    fn word(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
        }
    }
}

/// A command line with its environment and log, so that a process can be started again as it was.
#[derive(Debug, Clone)]
pub struct CommandLine {
    /// What it is, for messages.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables besides the inherited ones.
    pub environment: Vec<(String, String)>,
    /// Standard output and error are appended here.
    pub log: PathBuf,
}

impl CommandLine {
    /// A command without arguments.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            log: log.into(),
        }
    }

    /// Adds `--name=value`.
    #[must_use]
    pub fn flag(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let mut argument = OsString::from(format!("--{name}="));
        argument.push(value);
        self.arguments.push(argument);
        self
    }

    /// Adds one argument as it is.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Replaces every `--name=…` by these, or takes the flag away.
    pub fn set_flag<V: AsRef<OsStr>>(&mut self, name: &str, values: impl IntoIterator<Item = V>) {
        let start = format!("--{name}=");
        self.arguments
            .retain(|argument| !argument.to_string_lossy().starts_with(&start));
        let flags = values.into_iter().map(|value| {
            let mut argument = OsString::from(start.clone());
            argument.push(value);
            argument
        });
        self.arguments.extend(flags);
    }

    /// Sets a variable of its environment.
    pub fn set_variable(&mut self, name: &str, value: impl Into<String>) {
        self.environment.retain(|(present, _)| present != name);
        self.environment.push((name.to_owned(), value.into()));
    }

    /// The whole line as a person would type it.
    #[must_use]
    pub fn shell(&self) -> String {
        let words = std::iter::once(self.program.as_os_str()).chain(self.arguments.iter().map(OsString::as_os_str));
        let quoted: Vec<String> = words.map(|word| quote(&word.to_string_lossy())).collect();
        quoted.join(" ")
    }

    /// Starts it.
    ///
    /// # Errors
    /// There is no `sh`, or no process can be made.
    pub fn start(&self) -> Result<Guarded> {
        Guarded::start(self)
    }

    /// The end of the log, for messages.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }
}

/// The last lines of a log.
#[must_use]
pub fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(15);
    lines[from..].join("\n")
}

/// One shell word.
#[must_use]
pub fn quote(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_=./:,@+".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A running process; dropping it kills it.
#[derive(Debug)]
pub struct Guarded {
    name: String,
    pid: u32,
    guardian: Child,
    words: Option<ChildStdin>,
    exit: watch::Receiver<Option<i32>>,
}

impl Guarded {
    fn start(line: &CommandLine) -> Result<Self> {
        let mut guardian = Command::new("sh")
            .args(["-c", GUARDIAN, "guardian"])
            .arg(&line.log)
            .arg(&line.program)
            .args(&line.arguments)
            .envs(line.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group_of_its_own()
            .spawn()
            .with_context(|| format!("starting {}", line.name))?;
        let words = guardian.stdin.take();
        let mut said = BufReader::new(guardian.stdout.take().context("the guardian has no output")?).lines();
        let pid = match said.next() {
            Some(Ok(pid)) => pid.parse().with_context(|| format!("{}: pid {pid:?}", line.name))?,
            _ => bail!("{} did not start: {}", line.name, line.shell()),
        };
        let (sender, exit) = watch::channel(None);
        std::thread::Builder::new()
            .name(format!("wait-{}", line.name))
            .spawn(move || {
                let code = said.next().and_then(Result::ok).and_then(|code| code.parse().ok());
                sender.send_replace(Some(code.unwrap_or(-1)));
            })
            .context("starting a thread")?;
        Ok(Self {
            name: line.name.clone(),
            pid,
            guardian,
            words,
            exit,
        })
    }

    /// The process itself, not its guardian.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its exit code if it has ended: 128 and the number for a signal.
    #[must_use]
    pub fn exited(&self) -> Option<i32> {
        *self.exit.borrow()
    }

    /// Passes a signal on.
    ///
    /// # Errors
    /// The process has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        let words = self
            .words
            .as_mut()
            .with_context(|| format!("{} has ended", self.name))?;
        writeln!(words, "{}", signal.word()).with_context(|| format!("{} has ended", self.name))
    }

    /// Waits for its end and gives the exit code.
    ///
    /// # Errors
    /// It does not end within `limit`.
    pub async fn wait(&mut self, limit: Duration) -> Result<i32> {
        let ended = tokio::time::timeout(limit, self.exit.wait_for(Option::is_some)).await;
        match ended {
            Ok(Ok(code)) => Ok(code.unwrap_or(-1)),
            Ok(Err(_)) => Ok(-1),
            Err(_) => bail!("{} has not ended within {limit:?}", self.name),
        }
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// It does not go.
    pub async fn kill(&mut self) -> Result<i32> {
        if self.exited().is_none()
            && let Err(error) = self.signal(Signal::Kill)
        {
            tracing::debug!(%error, "killing a process that has ended");
        }
        self.wait(KILL_DEADLINE).await
    }

    /// SIGTERM, and the exit code.
    ///
    /// # Errors
    /// It does not end within `limit`.
    pub async fn terminate(&mut self, limit: Duration) -> Result<i32> {
        self.signal(Signal::Term)?;
        self.wait(limit).await
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.words.take());
        if let Err(error) = self.guardian.wait() {
            eprintln!("waiting for the end of {}: {error}", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;

    fn sleeper(folder: &Folder) -> CommandLine {
        CommandLine::new("sleeper", "sleep", folder.log("sleeper")).argument("600")
    }

    fn runs(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    #[test]
    fn dropping_the_handle_ends_the_process() -> Result<()> {
        let folder = Folder::create("guardian")?;
        let process = sleeper(&folder).start()?;
        let pid = process.pid();
        assert!(runs(pid));
        drop(process);
        assert!(!runs(pid));
        Ok(())
    }

    #[tokio::test]
    async fn exit_codes_and_signals_are_told() -> Result<()> {
        let folder = Folder::create("guardian")?;
        let mut seven = CommandLine::new("seven", "sh", folder.log("seven"))
            .argument("-c")
            .argument("echo out; exit 7")
            .start()?;
        assert_eq!(seven.wait(KILL_DEADLINE).await?, 7);
        assert_eq!(tail(&folder.log("seven")), "out");
        let mut process = sleeper(&folder).start()?;
        assert_eq!(process.terminate(KILL_DEADLINE).await?, 128 + 15);
        let mut process = sleeper(&folder).start()?;
        assert_eq!(process.kill().await?, 128 + 9);
        assert!(process.signal(Signal::Term).is_err() || process.exited().is_some());
        Ok(())
    }

    #[test]
    fn folder_goes_with_its_handle_and_logs_stay_when_asked() -> Result<()> {
        let folder = Folder::create("sweeper")?;
        let path = folder.path().to_owned();
        std::fs::write(folder.data("big"), "data")?;
        drop(folder);
        assert!(!path.exists());
        let folder = Folder::create("sweeper")?;
        std::fs::write(folder.data("big"), "data")?;
        std::fs::write(folder.log("small"), "log")?;
        let (log, data, path) = (folder.log("small"), folder.data("big"), folder.path().to_owned());
        folder.keep_logs();
        drop(folder);
        assert!(log.exists() && !data.exists());
        std::fs::remove_dir_all(path)?;
        Ok(())
    }

    #[test]
    fn flags_are_replaced_and_taken_away() {
        let mut line = CommandLine::new("agent", "agent", "log")
            .argument("run")
            .flag("hub", "a")
            .flag("hubs", "b");
        line.set_flag("hub", ["c", "d"]);
        assert_eq!(line.shell(), "agent run --hubs=b --hub=c --hub=d");
        line.set_flag("hub", [""; 0]);
        assert_eq!(line.shell(), "agent run --hubs=b");
    }

    #[test]
    fn shell_words_are_quoted_only_where_needed() {
        assert_eq!(quote("--a=/b:1"), "--a=/b:1");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
    }
}
