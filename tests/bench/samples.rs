//! What was measured, and its percentiles. Pure.

use std::time::Duration;

use serde::Serialize;

/// A change that has not arrived after so long has failed.
pub const LIMIT: Duration = Duration::from_secs(10);

/// One change: from the PATCH to the moment when the last remote showed it; nothing when one of them never did.
pub type Sample = Option<Duration>;

/// Percentiles of samples, milliseconds. A failed one counts as the limit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[expect(
    clippy::struct_field_names,
    reason = "the unit belongs into the names of the raw figures"
)]
pub struct Percentiles {
    /// Half of all changes took at most so long.
    pub p50_ms: f64,
    /// Nine of ten.
    pub p90_ms: f64,
    /// All but one of a hundred.
    pub p99_ms: f64,
}

impl Percentiles {
    /// By nearest rank; nothing of nothing.
    pub fn of(samples: &[Sample]) -> Option<Self> {
        let mut sorted: Vec<Duration> = samples.iter().map(|sample| sample.unwrap_or(LIMIT)).collect();
        sorted.sort_unstable();
        let rank = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100);
            sorted.get(rank.checked_sub(1)?).copied().map(milliseconds)
        };
        Some(Self {
            p50_ms: rank(50)?,
            p90_ms: rank(90)?,
            p99_ms: rank(99)?,
        })
    }
}

/// How many never arrived.
pub fn failed(samples: &[Sample]) -> usize {
    samples.iter().filter(|sample| sample.is_none()).count()
}

/// To the microsecond.
pub fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_of_that_rank() {
        let samples: Vec<Sample> = (1..=300)
            .rev()
            .map(|number| Some(Duration::from_millis(number)))
            .collect();
        let expected = Percentiles {
            p50_ms: 150.0,
            p90_ms: 270.0,
            p99_ms: 297.0,
        };
        assert_eq!(Percentiles::of(&samples), Some(expected));
        assert_eq!(Percentiles::of(&[]), None);
    }

    #[test]
    fn change_that_never_arrived_counts_as_the_limit() {
        let samples = [Some(Duration::from_millis(1)), None, Some(Duration::from_millis(2))];
        let expected = Percentiles {
            p50_ms: 2.0,
            p90_ms: 10_000.0,
            p99_ms: 10_000.0,
        };
        assert_eq!(Percentiles::of(&samples), Some(expected));
        assert_eq!(failed(&samples), 1);
    }
}
