//! Who leads, decided from what a Lease says and this process's own monotonic clock. Pure.
//!
//! A candidate takes over only a Lease that it has itself seen unchanged for the whole duration; a leader stops
//! [`RENEW_DEADLINE`] after the *start* of its last successful write. As that write can only have taken effect later
//! than it started, two candidates never lead at the same time, however wrong their wall clocks are.

use std::time::Duration;

/// A candidate may take the Lease over when it has seen it unchanged for so long.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);

/// A leader that has not renewed for so long stops leading by itself.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// Between two attempts of a leader or a candidate, before jitter of a fifth.
pub const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// What a Lease says. Times are microseconds since 1970 and only for people; nothing is decided by them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Who leads; nobody when empty.
    pub holder: String,
    /// Seconds a candidate must see the Lease unchanged.
    pub duration_seconds: i32,
    /// When the holder took it.
    pub acquired_at: i64,
    /// When the holder last wrote it.
    pub renewed_at: i64,
    /// How often the holder has changed.
    pub transitions: i32,
}

/// A Lease as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// `metadata.resourceVersion`: changes with each write.
    pub resource_version: String,
    /// Its content.
    pub record: Record,
}

/// What to write now. Whoever writes must let the API server compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Replace this resource version, or create the Lease when there is none.
    pub replaces: Option<String>,
    /// The content.
    pub record: Record,
}

/// What came of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// Done; the Lease now has this resource version.
    Done(String),
    /// Somebody else wrote first.
    Lost,
    /// No answer, or an error: it may or may not have been done.
    Unknown,
}

/// One candidate. Times are nanoseconds on its own monotonic clock.
#[derive(Clone, Debug)]
pub struct Election {
    identity: String,
    /// The newest Lease seen, when that resource version was first seen, and whether it is surely still the newest.
    seen: Option<Seen>,
    leads_until: Option<u64>,
}

#[derive(Clone, Debug)]
struct Seen {
    found: Found,
    since: u64,
    is_own_write: bool,
}

impl Election {
    /// A candidate that has seen nothing yet. `identity` must be unique to this process, not only to its host.
    #[must_use]
    pub fn new(identity: String) -> Self {
        Self {
            identity,
            seen: None,
            leads_until: None,
        }
    }

    /// Until when this process leads if it writes nothing more; `None` while it does not lead.
    #[must_use]
    pub fn leads_until(&self, now: u64) -> Option<u64> {
        self.leads_until.filter(|until| now < *until)
    }

    /// The write that renews without reading first: only for a leader whose last write was answered.
    #[must_use]
    pub fn renewal(&self, now: u64, wall_microseconds: i64) -> Option<Write> {
        self.leads_until(now)?;
        let seen = self.seen.as_ref().filter(|seen| seen.is_own_write)?;
        Some(self.renewed(&seen.found, wall_microseconds))
    }

    /// Takes in the Lease as it was just read, `None` when there is none: what to write, if anything. `now` must be
    /// taken after the answer arrived.
    pub fn judge(&mut self, found: Option<Found>, now: u64, wall_microseconds: i64) -> Option<Write> {
        let Some(found) = found else {
            self.seen = None;
            self.leads_until = None;
            return Some(Write {
                replaces: None,
                record: self.taken(0, wall_microseconds),
            });
        };
        let since = match &self.seen {
            Some(seen) if seen.found.resource_version == found.resource_version => seen.since,
            _ => now,
        };
        let write = if found.record.holder == self.identity {
            Some(self.renewed(&found, wall_microseconds))
        } else {
            self.leads_until = None;
            let expired = now >= since.saturating_add(expires_after(&found.record));
            (found.record.holder.is_empty() || expired).then(|| Write {
                replaces: Some(found.resource_version.clone()),
                record: self.taken(found.record.transitions.saturating_add(1), wall_microseconds),
            })
        };
        self.seen = Some(Seen {
            found,
            since,
            is_own_write: false,
        });
        write
    }

    /// Takes in what came of a write. `started` must be taken before the request was sent.
    pub fn written(&mut self, write: Write, outcome: Written, started: u64) {
        match outcome {
            Written::Done(resource_version) => {
                self.leads_until = Some(started.saturating_add(nanoseconds(RENEW_DEADLINE)));
                let found = Found {
                    resource_version,
                    record: write.record,
                };
                self.seen = Some(Seen {
                    found,
                    since: started,
                    is_own_write: true,
                });
            }
            Written::Lost => {
                self.seen = None;
                self.leads_until = None;
            }
            // Reading comes first then; a leader goes on until its deadline.
            Written::Unknown => self.seen = None,
        }
    }

    /// The write with which a leader steps down in good order, so that the next one need not wait. It no longer leads
    /// from this moment on, whatever comes of the write.
    pub fn release(&mut self, now: u64, wall_microseconds: i64) -> Option<Write> {
        let renewal = self.renewal(now, wall_microseconds);
        self.leads_until = None;
        let mut write = renewal?;
        write.record.holder = String::new();
        write.record.duration_seconds = 1;
        Some(write)
    }

    fn renewed(&self, found: &Found, wall_microseconds: i64) -> Write {
        Write {
            replaces: Some(found.resource_version.clone()),
            record: Record {
                acquired_at: found.record.acquired_at,
                ..self.taken(found.record.transitions, wall_microseconds)
            },
        }
    }

    fn taken(&self, transitions: i32, wall_microseconds: i64) -> Record {
        Record {
            holder: self.identity.clone(),
            duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).unwrap_or(i32::MAX),
            acquired_at: wall_microseconds,
            renewed_at: wall_microseconds,
            transitions,
        }
    }
}

/// A holder of another release may have asked for longer; a nonsensical value must not stop the election for good.
fn expires_after(record: &Record) -> u64 {
    let asked = Duration::from_secs(u64::try_from(record.duration_seconds).unwrap_or(0));
    nanoseconds(asked.clamp(LEASE_DURATION, 4 * LEASE_DURATION))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
