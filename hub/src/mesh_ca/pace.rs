//! How often a remote may ask. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use remote_istio::identity::RemoteName;

/// Intermediates one remote may have in one period.
const MOST: u32 = 10;

/// Nanoseconds.
const PERIOD: u64 = 60 * 1_000_000_000;

/// Remotes that are remembered before those of a while ago are forgotten. Names are those of certificates of the link,
/// which bounds them.
const REMOTES_BETWEEN_LOOKS: usize = 1_024;

/// Counts the requests of each remote in its period.
#[derive(Debug, Default)]
pub(super) struct Pace(BTreeMap<RemoteName, (u64, u32)>);

impl Pace {
    /// Counts a request at `now`, nanoseconds on the hub's monotonic clock.
    ///
    /// # Errors
    /// There were too many: how long to wait.
    pub(super) fn admit(&mut self, remote: &RemoteName, now: u64) -> Result<(), Duration> {
        if self.0.len() >= REMOTES_BETWEEN_LOOKS {
            self.0.retain(|_, (begun, _)| now.saturating_sub(*begun) < PERIOD);
        }
        let (begun, count) = self.0.entry(remote.clone()).or_insert((now, 0));
        if now.saturating_sub(*begun) >= PERIOD {
            (*begun, *count) = (now, 0);
        }
        if *count >= MOST {
            return Err(Duration::from_nanos(PERIOD - now.saturating_sub(*begun)));
        }
        *count += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_may_ask_ten_times_in_a_minute_and_others_do_not_count() {
        let name = |name| RemoteName::new(name).expect("a DNS label");
        let mut pace = Pace::default();
        for _ in 0..MOST {
            assert_eq!(pace.admit(&name("a"), 5), Ok(()));
        }
        assert_eq!(pace.admit(&name("a"), 5 + PERIOD / 4), Err(Duration::from_secs(45)));
        assert_eq!(pace.admit(&name("b"), 5), Ok(()));
        assert_eq!(pace.admit(&name("a"), 5 + PERIOD), Ok(()));
    }

    #[test]
    fn remotes_of_a_while_ago_are_forgotten() {
        let mut pace = Pace::default();
        for round in 0..3 {
            for number in 0..REMOTES_BETWEEN_LOOKS {
                let remote = RemoteName::new(&format!("remote-{round}-{number}")).expect("a DNS label");
                assert_eq!(pace.admit(&remote, round * PERIOD), Ok(()));
            }
        }
        assert!(pace.0.len() <= REMOTES_BETWEEN_LOOKS);
    }
}
