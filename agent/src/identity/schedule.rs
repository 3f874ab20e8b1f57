//! When a certificate is renewed. Pure: chance comes from the caller, as a number from 0 to 1.

use std::time::{Duration, SystemTime};

use remote_istio::limits;

/// Share of a certificate's life after which it is renewed, before jitter.
const SHARE: f64 = 2.0 / 3.0;

/// Jitter to either side.
const JITTER: f64 = 0.1;

/// After the signer has changed, before certificates with a shorter life make it shorter: agents of one hub must not
/// all come at once.
const SPREAD: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(1));

/// Of a certificate's life, the least and the most that the spread may take.
const SPREAD_SHARES: (f64, f64) = (1.0 / 60.0, 1.0 / 10.0);

/// First and largest bound of the pause after a failed renewal.
pub const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(5));

/// Of what is left of the certificate, the most that a pause may take.
const RETRY_SHARE: u32 = 8;

/// The shortest pause that is worth it.
const RETRY_FLOOR: Duration = Duration::from_millis(200);

/// From its issue to its end. Certificates are backdated; one that is not long enough for that was not.
#[must_use]
pub fn life(not_before: SystemTime, not_after: SystemTime) -> Duration {
    let whole = not_after.duration_since(not_before).unwrap_or_default();
    whole
        .checked_sub(limits::BACKDATED)
        .filter(|life| !life.is_zero())
        .unwrap_or(whole)
}

/// When to renew a certificate because of its age.
#[must_use]
pub fn renew_at(not_before: SystemTime, not_after: SystemTime, chance: f64) -> SystemTime {
    let life = life(not_before, not_after);
    let share = SHARE * (1.0 - JITTER + 2.0 * JITTER * chance);
    not_after - life.mul_f64(1.0 - share)
}

/// How long to wait before a renewal because another CA signs now.
#[must_use]
pub fn spread(not_before: SystemTime, not_after: SystemTime, chance: f64) -> Duration {
    let life = life(not_before, not_after);
    let least = SPREAD.0.min(life.mul_f64(SPREAD_SHARES.0));
    let most = SPREAD.1.min(life.mul_f64(SPREAD_SHARES.1));
    least + most.saturating_sub(least).mul_f64(chance)
}

/// A pause after a failed renewal, so that several more attempts fit into what is left.
#[must_use]
pub fn retry(pause: Duration, left: Duration) -> Duration {
    pause.min(left / RETRY_SHARE).max(RETRY_FLOOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    /// A certificate of so long a life, issued now.
    fn issued(life: Duration) -> (SystemTime, SystemTime, SystemTime) {
        let now = SystemTime::UNIX_EPOCH + HOUR * 24 * 365;
        (now, now - limits::BACKDATED, now + life)
    }

    #[test]
    fn certificate_is_renewed_at_two_thirds_of_its_life_give_or_take_a_tenth() {
        for life in [Duration::from_secs(10), HOUR * 24, HOUR * 24 * 90] {
            let (now, not_before, not_after) = issued(life);
            let after = |chance| {
                let at = renew_at(not_before, not_after, chance);
                at.duration_since(now).expect("later").as_secs_f64() / life.as_secs_f64()
            };
            for (chance, share) in [(0.0, 0.6), (0.5, 0.666_7), (1.0, 0.733_3)] {
                assert!(
                    (after(chance) - share).abs() < 0.001,
                    "{life:?} {chance}: {}",
                    after(chance)
                );
            }
        }
    }

    #[test]
    fn certificate_that_was_not_backdated_is_renewed_before_its_end() {
        let (now, _, not_after) = issued(Duration::from_mins(10));
        let at = renew_at(now, not_after, 1.0);
        assert!(at > now && at < not_after);
    }

    #[test]
    fn other_signer_is_followed_soon_but_not_by_all_at_once() {
        let (_, not_before, not_after) = issued(HOUR * 24);
        assert_eq!(spread(not_before, not_after, 0.0), Duration::from_secs(10));
        assert_eq!(spread(not_before, not_after, 1.0), Duration::from_mins(1));
        let (_, not_before, not_after) = issued(Duration::from_secs(6));
        assert_eq!(spread(not_before, not_after, 0.0), Duration::from_millis(100));
        assert_eq!(spread(not_before, not_after, 1.0), Duration::from_millis(600));
    }

    #[test]
    fn pause_after_a_failure_leaves_room_for_more_attempts() {
        let minute = Duration::from_mins(1);
        assert_eq!(retry(minute, HOUR), minute);
        assert_eq!(retry(minute, Duration::from_secs(80)), Duration::from_secs(10));
        assert_eq!(retry(minute, Duration::ZERO), RETRY_FLOOR);
    }
}
