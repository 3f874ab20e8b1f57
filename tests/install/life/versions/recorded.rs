//! Frames of a real session as they were on the wire when they were recorded, one a line: who, what, hexadecimal bytes.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use prost::Message as _;
use remote_istio::wire::v1::{self, agent_frame};

/// The frames of one release.
pub struct Recorded(Vec<(String, Vec<u8>)>);

fn path(name: &str) -> PathBuf {
    support::release::repository()
        .join("tests/install/recorded")
        .join(format!("{name}.frames"))
}

impl Recorded {
    /// Those that were written under this name.
    pub fn read(name: &str) -> Result<Self> {
        let path = path(name);
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let frames = lines.map(|line| {
            let (what, digits) = line.rsplit_once(' ').context("WHO WHAT BYTES")?;
            Ok((what.to_owned(), bytes(digits)?))
        });
        Ok(Self(frames.collect::<Result<_>>()?))
    }

    /// Writes frames under this name.
    pub fn write(name: &str, release: &str, frames: &[(String, Vec<u8>)]) -> Result<()> {
        let mut text = format!(
            "# Frames of a session of release {release}, as they were on the wire. Never changed: later releases are held to\n\
             # them. Recorded by the ignored test record_a_session_of_this_release.\n"
        );
        for (what, bytes) in frames {
            let digits = bytes.iter().fold(String::new(), |mut digits, byte| {
                // Writing to a String cannot fail.
                let _ = write!(digits, "{byte:02x}");
                digits
            });
            // As above.
            let _ = writeln!(text, "{what} {digits}");
        }
        let path = path(name);
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// The bytes of one frame, as `agent hello`.
    pub fn frame(&self, what: &str) -> Result<Vec<u8>> {
        let found = self.0.iter().find(|(name, _)| name == what);
        Ok(found
            .with_context(|| format!("no frame {what:?} was recorded"))?
            .1
            .clone())
    }

    /// One frame of the agent, read as today.
    pub fn agent(&self, what: &str) -> Result<agent_frame::Frame> {
        let bytes = self.frame(&format!("agent {what}"))?;
        let frame = v1::AgentFrame::decode(bytes.as_slice())?;
        frame
            .frame
            .with_context(|| format!("the recorded {what} is no frame that is known today"))
    }
}

fn bytes(digits: &str) -> Result<Vec<u8>> {
    let pairs = (0..digits.len()).step_by(2);
    let read = pairs.map(|at| {
        let pair = digits.get(at..at + 2).context("digits in pairs")?;
        Ok(u8::from_str_radix(pair, 16)?)
    });
    read.collect()
}
