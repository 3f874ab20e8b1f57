//! The true reasons of refusals, in the hub's log and nowhere else: each at most once a second.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::clock;

/// Between two lines of one reason, nanoseconds.
const INTERVAL: u64 = 1_000_000_000;

/// When each reason was written last, and how often it was not written since. Reasons are few and fixed.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<BTreeMap<(&'static str, &'static str), Throttle>>);

#[derive(Clone, Copy, Debug, Default)]
struct Throttle {
    last: Option<u64>,
    held_back: u64,
}

impl Throttle {
    /// How many lines were held back since the last one, if one may be written now.
    fn admit(&mut self, now: u64) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_sub(last) < INTERVAL) {
            self.held_back += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}

impl Refusals {
    /// `call`: what was refused. `remote`: empty if it is not known whom this is about.
    pub(super) fn write(&self, call: &'static str, reason: &'static str, remote: &str, address: &str, detail: &str) {
        let mut lines = self.0.lock();
        let Some(held_back) = lines.entry((call, reason)).or_default().admit(clock::now()) else {
            return;
        };
        drop(lines);
        tracing::info!(call, reason, %remote, %address, %detail, held_back, "enrolment refused");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_is_written_and_the_rest_is_counted() {
        let mut throttle = Throttle::default();
        assert_eq!(throttle.admit(5), Some(0));
        assert_eq!(throttle.admit(6), None);
        assert_eq!(throttle.admit(4 + INTERVAL), None);
        assert_eq!(throttle.admit(5 + INTERVAL), Some(2));
    }
}
