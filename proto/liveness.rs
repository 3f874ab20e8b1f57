//! Whether the peer of a stream still works: it must speak, and what it says it has read must move. Pure.
//!
//! A ping proves that a proxy is alive; only a heartbeat with progress in it proves the peer. Times are
//! nanoseconds on the owner's monotonic clock.

use std::time::Duration;

use crate::limits;

/// Watches one stream from one end.
#[derive(Debug)]
pub struct Liveness {
    interval: u64,
    heard_at: u64,
    beat_at: u64,
    beats: u64,
    sent: u64,
    received: u64,
    read_by_peer: u64,
    unread_since: Option<u64>,
}

/// Why a peer counts as dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dead {
    /// Nothing was heard of it for too long.
    Silent,
    /// It speaks, but does not read what is sent to it.
    NotReading,
}

impl Dead {
    /// The word used in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::NotReading => "not reading",
        }
    }
}

/// What the next heartbeat says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// 1, 2, 3 …
    pub sequence: u64,
    /// Frames received from the peer so far.
    pub received: u64,
}

impl Liveness {
    /// A stream that opened at `now`. `interval`: between two heartbeats of this end.
    #[must_use]
    pub fn new(now: u64, interval: Duration) -> Self {
        Self {
            interval: nanoseconds(interval),
            heard_at: now,
            beat_at: now,
            beats: 0,
            sent: 0,
            received: 0,
            read_by_peer: 0,
            unread_since: None,
        }
    }

    /// A frame was handed to the transport.
    pub fn sent(&mut self, now: u64) {
        self.sent += 1;
        self.unread_since.get_or_insert(now);
    }

    /// A frame came.
    pub fn received(&mut self, now: u64) {
        self.received += 1;
        self.heard_at = now;
    }

    /// The peer's heartbeat says how many frames it has read.
    pub fn peer_has_read(&mut self, frames: u64, now: u64) {
        if frames > self.read_by_peer {
            self.read_by_peer = frames.min(self.sent);
            self.unread_since = (self.read_by_peer < self.sent).then_some(now);
        }
    }

    /// The heartbeat that is due, if one is. `jitter` from 0 to 1 spreads the next by a tenth either way.
    pub fn beat(&mut self, now: u64, jitter: f64) -> Option<Beat> {
        if now < self.beat_at {
            return None;
        }
        let factor = 0.9 + 0.2 * jitter.clamp(0.0, 1.0);
        let pause = Duration::from_nanos(self.interval).mul_f64(factor);
        self.beat_at = now + nanoseconds(pause);
        self.beats += 1;
        Some(Beat {
            sequence: self.beats,
            received: self.received,
        })
    }

    /// When [`Liveness::beat`] has something to say next.
    #[must_use]
    pub fn next_beat_at(&self) -> u64 {
        self.beat_at
    }

    /// Whether the peer is dead.
    #[must_use]
    pub fn dead(&self, now: u64) -> Option<Dead> {
        let longer = |since: u64, limit: Duration| now.saturating_sub(since) > nanoseconds(limit);
        if longer(self.heard_at, limits::HEARTBEAT_DEADLINE) {
            return Some(Dead::Silent);
        }
        let unread = self
            .unread_since
            .is_some_and(|since| longer(since, limits::PROGRESS_DEADLINE));
        unread.then_some(Dead::NotReading)
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn stream() -> Liveness {
        Liveness::new(0, limits::HEARTBEAT_INTERVAL)
    }

    #[test]
    fn peer_that_says_nothing_is_silent() {
        let mut stream = stream();
        stream.received(5 * SECOND);
        assert_eq!(stream.dead(29 * SECOND), None);
        assert_eq!(stream.dead(31 * SECOND), Some(Dead::Silent));
    }

    #[test]
    fn peer_that_speaks_and_does_not_read_is_found() {
        let mut stream = stream();
        stream.sent(SECOND);
        for second in (2..=24).step_by(2) {
            stream.received(second * SECOND);
            stream.peer_has_read(0, second * SECOND);
        }
        assert_eq!(stream.dead(24 * SECOND), Some(Dead::NotReading));
    }

    #[test]
    fn peer_that_reads_slowly_lives() {
        let mut stream = stream();
        for second in 1..200 {
            stream.sent(second * SECOND);
            if second % 10 == 0 {
                stream.received(second * SECOND);
                stream.peer_has_read(second / 2, second * SECOND);
            }
            assert_eq!(stream.dead(second * SECOND), None);
        }
    }

    #[test]
    fn heartbeat_comes_at_once_and_then_in_its_interval() {
        let mut stream = stream();
        assert_eq!(
            stream.beat(0, 0.5),
            Some(Beat {
                sequence: 1,
                received: 0
            })
        );
        assert_eq!(stream.beat(9 * SECOND, 0.5), None);
        assert_eq!(
            stream.beat(10 * SECOND, 0.5),
            Some(Beat {
                sequence: 2,
                received: 0
            })
        );
    }
}
