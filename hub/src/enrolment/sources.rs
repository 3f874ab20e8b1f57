//! Failures by where they come from: after a few in a minute a source must wait until the minute is over. Pure.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

/// Failures one source has in a minute.
const FAILURES_MAX: u32 = 5;

/// A minute, nanoseconds.
const WINDOW: u64 = 60_000_000_000;

/// Sources that are remembered; the one that failed first is forgotten first.
const SOURCES_MAX: usize = 4_096;

/// Where somebody comes from. An IPv6 user has a whole /64.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    V4([u8; 4]),
    V6([u8; 8]),
    /// Not an address: a simulated network.
    Named(String),
}

impl Source {
    pub(super) fn of(address: &str) -> Self {
        let Ok(address) = address.parse::<SocketAddr>() else {
            return Self::Named(address.chars().take(100).collect());
        };
        match address.ip().to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let mut network = [0; 8];
                network.copy_from_slice(&address.octets()[..8]);
                Self::V6(network)
            }
        }
    }
}

/// Who failed how often in its last minute.
#[derive(Debug, Default)]
pub(super) struct Sources {
    failures: HashMap<Source, u32>,
    /// By the moment of the first failure: the same sources as above.
    since: VecDeque<(u64, Source)>,
}

impl Sources {
    /// Whether the source must wait. `now`: nanoseconds on a monotonic clock.
    pub(super) fn must_wait(&mut self, source: &Source, now: u64) -> bool {
        self.forget(now);
        self.failures
            .get(source)
            .is_some_and(|failures| *failures >= FAILURES_MAX)
    }

    /// Counts a failure.
    pub(super) fn failed(&mut self, source: Source, now: u64) {
        self.forget(now);
        if let Some(failures) = self.failures.get_mut(&source) {
            *failures = failures.saturating_add(1);
            return;
        }
        if self.since.len() >= SOURCES_MAX
            && let Some((_, oldest)) = self.since.pop_front()
        {
            self.failures.remove(&oldest);
        }
        self.since.push_back((now, source.clone()));
        self.failures.insert(source, 1);
    }

    fn forget(&mut self, now: u64) {
        while let Some((since, source)) = self.since.front() {
            if now.saturating_sub(*since) < WINDOW {
                return;
            }
            self.failures.remove(source);
            self.since.pop_front();
        }
    }
}

/// So many a second and no more, whoever asks. Pure.
#[derive(Debug)]
pub(super) struct Rate {
    per_second: u32,
    left: u32,
    since: u64,
}

impl Rate {
    pub(super) fn new(per_second: u32) -> Self {
        Self {
            per_second,
            left: per_second,
            since: 0,
        }
    }

    /// Takes one, if there is one left in this second. `now`: nanoseconds on a monotonic clock.
    pub(super) fn take(&mut self, now: u64) -> bool {
        if now.saturating_sub(self.since) >= 1_000_000_000 {
            self.since = now;
            self.left = self.per_second;
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_waits_from_its_sixth_try_to_the_end_of_the_minute() {
        let mut sources = Sources::default();
        let (bad, good) = (Source::of("192.0.2.1:7"), Source::of("192.0.2.2:7"));
        for second in 0..5 {
            assert!(!sources.must_wait(&bad, second));
            sources.failed(bad.clone(), second);
        }
        assert!(sources.must_wait(&bad, WINDOW - 1));
        assert!(!sources.must_wait(&good, WINDOW - 1));
        assert!(!sources.must_wait(&bad, WINDOW));
    }

    #[test]
    fn port_does_not_count_nor_does_the_lower_half_of_an_ipv6_address() {
        let of = Source::of;
        assert_eq!(of("192.0.2.1:7"), of("192.0.2.1:8"));
        assert_eq!(of("192.0.2.1:7"), of("[::ffff:192.0.2.1]:7"));
        assert_eq!(of("[2001:db8::1]:7"), of("[2001:db8::ffff:1]:9"));
        assert_ne!(of("[2001:db8::1]:7"), of("[2001:db8:0:1::1]:7"));
        assert_ne!(of("192.0.2.1:7"), of("192.0.2.2:7"));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_is_forgotten() {
        let mut sources = Sources::default();
        let first = Source::Named("first".to_owned());
        for _ in 0..FAILURES_MAX {
            sources.failed(first.clone(), 1);
        }
        for number in 0..SOURCES_MAX - 1 {
            sources.failed(Source::Named(number.to_string()), 2);
        }
        assert!(sources.must_wait(&first, 3));
        sources.failed(Source::Named("one more".to_owned()), 3);
        assert!(!sources.must_wait(&first, 3));
        assert_eq!(
            (sources.failures.len(), sources.since.len()),
            (SOURCES_MAX, SOURCES_MAX)
        );
        sources.must_wait(&first, 3 + WINDOW);
        assert_eq!((sources.failures.len(), sources.since.len()), (0, 0));
    }

    #[test]
    fn rate_lets_so_many_through_in_each_second() {
        let mut rate = Rate::new(2);
        let second = 1_000_000_000;
        let taken: Vec<bool> = [second, second, second, second + 5, 2 * second, 2 * second]
            .into_iter()
            .map(|now| rate.take(now))
            .collect();
        assert_eq!(taken, [true, true, false, false, true, true]);
    }
}
