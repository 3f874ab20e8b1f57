//! How long to stay away after a conversation. Pure: the seed comes from the owner.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use remote_istio::limits;
use remote_istio::process::Backoff;

use super::ended::{Ended, Refused};

/// After a refusal, before jitter of a half: only a person or a renewed certificate can change it.
const REFUSED: Duration = Duration::from_secs(30);

/// After the refusal of a twin, or of an identity that only a person can bring back; before jitter of a half.
const REFUSED_FOR_LONG: Duration = Duration::from_mins(1);

/// The most a hub may ask for.
const DRAIN_MAX: Duration = Duration::from_mins(5);

/// Pauses between attempts.
pub(super) struct Pauses {
    backoff: Backoff,
    random: StdRng,
}

impl Pauses {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            backoff: Backoff::new(limits::RECONNECT_PAUSE, seed),
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// The pause after an attempt whose session lived so long. `fresh`: the certificate is so new that not every
    /// replica of the hub may have heard of it.
    pub(super) fn after(&mut self, ended: &Ended, lived: Option<Duration>, fresh: bool) -> Duration {
        if lived.is_some_and(|lived| lived >= limits::HEALTHY_AFTER) {
            self.backoff.reset();
        }
        match ended {
            Ended::Refused(Refused::Twin, _) => self.about(REFUSED_FOR_LONG),
            Ended::Refused(..) if fresh => self.backoff.next_pause(),
            Ended::Refused(Refused::NotKnown, _) => self.about(REFUSED_FOR_LONG),
            Ended::Refused(..) => self.about(REFUSED),
            Ended::Drained(_, (least, most)) => {
                let least = (*least).min(DRAIN_MAX);
                let most = (*most).clamp(least, DRAIN_MAX);
                self.random.random_range(least..=most)
            }
            _ => self.backoff.next_pause(),
        }
    }

    fn about(&mut self, pause: Duration) -> Duration {
        pause.mul_f64(self.random.random_range(1.0..=1.5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(least: u64, most: u64) -> Ended {
        Ended::Drained(String::new(), (Duration::from_secs(least), Duration::from_secs(most)))
    }

    fn refused(kind: Refused) -> Ended {
        Ended::Refused(kind, String::new())
    }

    #[test]
    fn refusal_keeps_away_for_half_a_minute_and_more() {
        let mut pauses = Pauses::new(1);
        for (kind, least) in [
            (Refused::Expired, REFUSED),
            (Refused::Other, REFUSED),
            (Refused::NotKnown, REFUSED_FOR_LONG),
            (Refused::Twin, REFUSED_FOR_LONG),
        ] {
            for _ in 0..50 {
                let pause = pauses.after(&refused(kind), None, false);
                assert!(pause >= least && pause <= least * 3 / 2, "{kind:?} {pause:?}");
            }
        }
    }

    #[test]
    fn refusal_of_a_fresh_certificate_is_tried_again_soon_but_not_that_of_a_twin() {
        let first = |kind| Pauses::new(1).after(&refused(kind), None, true);
        assert!(first(Refused::NotKnown) <= limits::RECONNECT_PAUSE.0);
        assert!(first(Refused::Twin) >= REFUSED_FOR_LONG);
    }

    #[test]
    fn drain_is_obeyed_within_reason() {
        let mut pauses = Pauses::new(1);
        for _ in 0..50 {
            let pause = pauses.after(&drained(2, 5), None, false);
            assert!(
                pause >= Duration::from_secs(2) && pause <= Duration::from_secs(5),
                "{pause:?}"
            );
            assert_eq!(pauses.after(&drained(7, 3), None, false), Duration::from_secs(7));
            assert!(pauses.after(&drained(9_999_999, 9_999_999), None, false) <= DRAIN_MAX);
        }
    }

    #[test]
    fn only_a_session_that_lasted_makes_the_next_pause_short_again() {
        let mut pauses = Pauses::new(1);
        let short = Some(limits::HEALTHY_AFTER / 2);
        let longest = (0..200)
            .map(|_| pauses.after(&Ended::Closed, short, false))
            .max()
            .expect("some");
        assert!(longest > limits::RECONNECT_PAUSE.0 * 2, "{longest:?}");
        assert!(pauses.after(&Ended::Closed, Some(limits::HEALTHY_AFTER), false) <= limits::RECONNECT_PAUSE.0);
    }
}
