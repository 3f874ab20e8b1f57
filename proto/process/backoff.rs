//! Pauses between attempts: full jitter, doubling, bounded. Pure: the seed comes from the owner.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Pauses between zero and a bound that doubles from the first to the largest.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    largest: Duration,
    current: Duration,
    random: StdRng,
}

impl Backoff {
    /// `pauses`: the first and the largest bound. The same seed gives the same pauses.
    #[must_use]
    pub fn new(pauses: (Duration, Duration), seed: u64) -> Self {
        let (first, largest) = pauses;
        Self {
            first,
            largest,
            current: first.min(largest),
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// The next pause: anything from zero to the current bound, which then doubles.
    pub fn next_pause(&mut self) -> Duration {
        let pause = self.current.mul_f64(self.random.random_range(0.0..=1.0));
        self.current = self.current.saturating_mul(2).min(self.largest);
        pause
    }

    /// After a success that lasted: the next pause is within the first bound again.
    pub fn reset(&mut self) {
        self.current = self.first.min(self.largest);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pause_stays_within_its_doubling_bound(first in 1_u64..10_000, factor in 1_u32..1_000, seed: u64) {
            let first = Duration::from_millis(first);
            let largest = first * factor;
            let mut backoff = Backoff::new((first, largest), seed);
            let mut bound = first;
            for _ in 0..20 {
                prop_assert!(backoff.next_pause() <= bound);
                bound = (bound * 2).min(largest);
            }
            backoff.reset();
            prop_assert!(backoff.next_pause() <= first);
        }
    }

    #[test]
    fn pauses_use_their_range_and_differ_between_seeds() {
        let pauses = (Duration::from_secs(1), Duration::from_secs(1));
        let draw = |seed| {
            let mut backoff = Backoff::new(pauses, seed);
            (0..200).map(|_| backoff.next_pause()).collect::<Vec<_>>()
        };
        let drawn = draw(7);
        assert_eq!(drawn, draw(7));
        assert_ne!(drawn, draw(8));
        assert!(drawn.iter().any(|pause| *pause < Duration::from_millis(100)));
        assert!(drawn.iter().any(|pause| *pause > Duration::from_millis(900)));
    }
}
