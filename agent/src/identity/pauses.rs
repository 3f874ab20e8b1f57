//! How long to wait after a request for a certificate that came to nothing. Pure: the seed comes from the owner.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use remote_istio::process::Backoff;

/// First and largest bound of the pause while the hub cannot be reached.
const UNREACHABLE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// After a refusal, before jitter of a half: only a person can change it.
const REFUSED: Duration = Duration::from_secs(30);

/// After the hub said that it was asked too often, before jitter of a half.
const BUSY: Duration = Duration::from_mins(1);

/// While a person has to approve, what the hub may ask for.
const PENDING: (Duration, Duration) = (Duration::from_millis(500), Duration::from_mins(1));

/// Why a request for a certificate came to nothing, in words that say what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The hub says no.
    #[error("{0}")]
    Refused(String),
    /// The hub was asked too often.
    #[error("{0}")]
    Busy(String),
    /// No hub was reached, or none could answer.
    #[error("{0}")]
    Unreachable(String),
    /// Every hub that was reached is of a CA that this agent does not trust.
    #[error("{0}")]
    Untrusted(String),
    /// What came back cannot be used.
    #[error("what the hub answered cannot be used: {0}")]
    Unusable(String),
    /// A person must approve; ask again after so long.
    #[error("{0}")]
    Pending(String, Duration),
    /// Something on this side.
    #[error("{0}")]
    Own(String),
}

impl Failure {
    /// Whether the hub and this agent do not know each other any more, so that only a new token can help.
    #[must_use]
    pub fn is_denial(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Untrusted(_))
    }

    /// The word used in metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Busy(_) => "busy",
            Self::Unreachable(_) => "unreachable",
            Self::Untrusted(_) => "untrusted",
            Self::Unusable(_) => "unusable",
            Self::Pending(..) => "pending",
            Self::Own(_) => "failed",
        }
    }
}

/// Pauses between requests.
#[derive(Debug)]
pub struct Pauses {
    backoff: Backoff,
    random: StdRng,
}

impl Pauses {
    /// The same seed gives the same pauses.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            backoff: Backoff::new(UNREACHABLE, seed),
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// The pause after a failure.
    pub fn after(&mut self, failure: &Failure) -> Duration {
        match failure {
            Failure::Refused(_) | Failure::Unusable(_) => self.about(REFUSED),
            Failure::Busy(_) => self.about(BUSY),
            Failure::Pending(_, asked) => (*asked).clamp(PENDING.0, PENDING.1),
            Failure::Unreachable(_) | Failure::Untrusted(_) | Failure::Own(_) => self.backoff.next_pause(),
        }
    }

    /// After a success.
    pub fn reset(&mut self) {
        self.backoff.reset();
    }

    fn about(&mut self, pause: Duration) -> Duration {
        pause.mul_f64(self.random.random_range(1.0..=1.5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_that_says_no_is_not_hammered() {
        let mut pauses = Pauses::new(1);
        let text = String::new;
        for (failure, least, most) in [
            (Failure::Refused(text()), REFUSED, REFUSED * 3 / 2),
            (Failure::Unusable(text()), REFUSED, REFUSED * 3 / 2),
            (Failure::Busy(text()), BUSY, BUSY * 3 / 2),
        ] {
            for _ in 0..50 {
                let pause = pauses.after(&failure);
                assert!(pause >= least && pause <= most, "{failure:?} {pause:?}");
            }
        }
    }

    #[test]
    fn approval_is_polled_as_the_hub_says_within_reason() {
        let mut pauses = Pauses::new(1);
        for (asked, expected) in [
            (Duration::ZERO, PENDING.0),
            (Duration::from_secs(2), Duration::from_secs(2)),
            (Duration::MAX, PENDING.1),
        ] {
            assert_eq!(pauses.after(&Failure::Pending(String::new(), asked)), expected);
        }
    }

    #[test]
    fn hub_that_is_away_is_looked_for_soon_and_then_more_rarely() {
        let mut pauses = Pauses::new(1);
        let away = Failure::Unreachable(String::new());
        assert!(pauses.after(&away) <= UNREACHABLE.0);
        let longest = (0..200).map(|_| pauses.after(&away)).max().expect("some");
        assert!(longest > UNREACHABLE.1 / 2 && longest <= UNREACHABLE.1, "{longest:?}");
        pauses.reset();
        assert!(pauses.after(&away) <= UNREACHABLE.0);
    }

    #[test]
    fn only_a_hub_that_says_no_or_is_a_stranger_makes_a_new_token_worth_trying() {
        let text = String::new;
        for (failure, expected) in [
            (Failure::Refused(text()), true),
            (Failure::Untrusted(text()), true),
            (Failure::Busy(text()), false),
            (Failure::Unreachable(text()), false),
            (Failure::Unusable(text()), false),
            (Failure::Pending(text(), Duration::ZERO), false),
            (Failure::Own(text()), false),
        ] {
            assert_eq!(failure.is_denial(), expected, "{failure:?}");
        }
    }
}
