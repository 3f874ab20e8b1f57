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

/// Of what is left of a new certificate, the least that passes before the next renewal.
const REST_SHARE: u32 = 3;

/// The least between two renewals, however short certificates are.
const REST_FLOOR: Duration = Duration::from_secs(1);

/// First and largest bound of the pause after a failed renewal.
pub const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(5));

/// Of what is left of the certificate, the most that a pause may take.
const RETRY_SHARE: u32 = 8;

/// The shortest pause that is worth it.
const RETRY_FLOOR: Duration = Duration::from_millis(200);

/// When a certificate's life began: when it came, as far as that is known and can be. Else it is taken to be backdated
/// as usual, unless it is too short for that.
#[must_use]
pub fn began(received: Option<SystemTime>, not_before: SystemTime, not_after: SystemTime) -> SystemTime {
    let is_within = |time: &SystemTime| *time >= not_before && *time < not_after;
    let usual = not_before + limits::BACKDATED;
    received
        .filter(is_within)
        .or(Some(usual).filter(is_within))
        .unwrap_or(not_before)
}

/// When to renew a certificate because of its age.
#[must_use]
pub fn renew_at(began: SystemTime, not_after: SystemTime, chance: f64) -> SystemTime {
    let life = not_after.duration_since(began).unwrap_or_default();
    began + life.mul_f64(SHARE * (1.0 - JITTER + 2.0 * JITTER * chance))
}

/// How long to wait before a renewal because another CA signs now.
#[must_use]
pub fn spread(began: SystemTime, not_after: SystemTime, chance: f64) -> Duration {
    let life = not_after.duration_since(began).unwrap_or_default();
    let least = SPREAD.0.min(life.mul_f64(SPREAD_SHARES.0));
    let most = SPREAD.1.min(life.mul_f64(SPREAD_SHARES.1));
    least + most.saturating_sub(least).mul_f64(chance)
}

/// How long a certificate that came just now is left alone, whatever the clock does next: a third of what is left.
#[must_use]
pub fn rest(now: SystemTime, not_after: SystemTime) -> Duration {
    let left = not_after.duration_since(now).unwrap_or_default();
    (left / REST_SHARE).max(REST_FLOOR)
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

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + HOUR * 24 * 365
    }

    #[test]
    fn life_begins_with_the_receipt_whatever_the_backdating() {
        let (now, second) = (now(), Duration::from_secs(1));
        let end = now + second * 30;
        for backdated in [Duration::ZERO, Duration::from_mins(11), limits::BACKDATED] {
            assert_eq!(began(Some(now), now - backdated, end), now, "{backdated:?}");
        }
        let usual = now - limits::BACKDATED;
        assert_eq!(began(None, usual, end), now);
        assert_eq!(began(Some(end + second), usual, end), now, "by a clock that was wrong");
        assert_eq!(began(None, now, end), now, "too short to be backdated");
    }

    #[test]
    fn certificate_is_renewed_at_two_thirds_of_its_life_give_or_take_a_tenth() {
        for life in [Duration::from_secs(10), HOUR * 24, HOUR * 24 * 90] {
            let after = |chance| {
                let at = renew_at(now(), now() + life, chance);
                at.duration_since(now()).expect("later").as_secs_f64() / life.as_secs_f64()
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
    fn other_signer_is_followed_soon_but_not_by_all_at_once() {
        let spread = |life, chance| spread(now(), now() + life, chance);
        assert_eq!(spread(HOUR * 24, 0.0), Duration::from_secs(10));
        assert_eq!(spread(HOUR * 24, 1.0), Duration::from_mins(1));
        assert_eq!(spread(Duration::from_secs(6), 0.0), Duration::from_millis(100));
        assert_eq!(spread(Duration::from_secs(6), 1.0), Duration::from_millis(600));
    }

    #[test]
    fn new_certificate_is_left_alone_for_a_third_of_what_is_left() {
        assert_eq!(rest(now(), now() + HOUR * 24), HOUR * 8);
        assert_eq!(rest(now(), now() + Duration::from_millis(600)), REST_FLOOR);
        assert_eq!(rest(now(), now() - HOUR), REST_FLOOR);
    }

    #[test]
    fn pause_after_a_failure_leaves_room_for_more_attempts() {
        let minute = Duration::from_mins(1);
        assert_eq!(retry(minute, HOUR), minute);
        assert_eq!(retry(minute, Duration::from_secs(80)), Duration::from_secs(10));
        assert_eq!(retry(minute, Duration::ZERO), RETRY_FLOOR);
    }
}
