//! When the certificate in use is renewed. Time is handed in.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::Kept;
use crate::identity::schedule;

/// One moment, by the machine's clock, which may be set, and by the one that only goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) clock: SystemTime,
    pub(super) steady: Instant,
}

/// When a renewal is due: at a time of day, as a certificate's end is one, but never right after the last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    at: SystemTime,
    not_before: Instant,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self {
            clock: SystemTime::now(),
            steady: Instant::now(),
        }
    }
}

impl Due {
    /// For a certificate that was kept.
    pub(super) fn of_kept(kept: &Kept, now: Moment) -> Self {
        Self {
            at: renew_at(kept, now.clock),
            not_before: now.steady,
        }
    }

    /// For a certificate that came just now. A clock that is wrong, or a hub that issues by another CA than it says,
    /// must not make an agent renew again and again.
    pub(super) fn of_issued(kept: &Kept, now: Moment) -> Self {
        let rest = schedule::rest(now.clock, kept.certificate.not_after);
        Self {
            not_before: now.steady + rest,
            ..Self::of_kept(kept, now)
        }
    }

    /// After the trust has changed. `signer`: another CA signs now, which no certificate in use could know.
    pub(super) fn of_changed_trust(self, kept: &Kept, signer: bool, now: Moment) -> Self {
        let changed = Self::of_kept(kept, now);
        Self {
            at: self.at.min(changed.at),
            not_before: if signer { changed.not_before } else { self.not_before },
        }
    }

    /// What is left until then.
    pub(super) fn left(&self, now: Moment) -> Duration {
        let by_clock = self.at.duration_since(now.clock).unwrap_or_default();
        by_clock.max(self.not_before.saturating_duration_since(now.steady))
    }
}

/// For its age or for its signer.
fn renew_at(kept: &Kept, now: SystemTime) -> SystemTime {
    let not_after = kept.certificate.not_after;
    let began = schedule::began(kept.received, kept.certificate.not_before, not_after);
    let by_age = schedule::renew_at(began, not_after, rand::random());
    if !kept.is_of_an_older_signer() {
        return by_age;
    }
    by_age.min(now + schedule::spread(began, not_after, rand::random()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::kept::tests::{kept, kept_of};
    use crate::test_ca::{TestCa, Validity};

    const HOUR: Duration = Duration::from_hours(1);

    impl Moment {
        fn after(self, passed: Duration) -> Self {
            Self {
                clock: self.clock + passed,
                steady: self.steady + passed,
            }
        }
    }

    #[test]
    fn certificate_that_came_past_its_renewal_is_left_alone_for_a_third_of_the_rest() {
        let now = Moment::now();
        let old = Validity::issued(HOUR * 21, HOUR * 24);
        let kept = kept_of(&TestCa::new(), old);
        let third = Duration::from_mins(59);
        assert_eq!(Due::of_kept(&kept, now).left(now), Duration::ZERO);
        let due = Due::of_issued(&kept, now);
        assert!(due.left(now) > third, "{:?}", due.left(now));
        assert_eq!(due.left(now.after(HOUR)), Duration::ZERO);
    }

    #[test]
    fn clock_that_jumps_ahead_makes_no_renewal_of_a_new_certificate() {
        let now = Moment::now();
        let due = Due::of_issued(&kept(), now);
        let jumped = Moment {
            clock: now.clock + HOUR * 23,
            ..now
        };
        assert!(due.left(jumped) > HOUR * 7, "{:?}", due.left(jumped));
    }

    #[test]
    fn signer_that_never_signs_makes_no_loop_and_one_that_is_new_is_followed_soon() {
        let now = Moment::now();
        let (mut kept, new) = (kept(), TestCa::new());
        let before = Due::of_issued(&kept, now);
        kept.trust = new.trust(4, "hub.test:8444", "hub.test:8443");
        kept.trust.roots.extend(self::kept().trust.roots);
        assert!(Due::of_issued(&kept, now).left(now) > HOUR * 7);
        assert!(before.of_changed_trust(&kept, false, now).left(now) > HOUR * 7);
        assert!(before.of_changed_trust(&kept, true, now).left(now) <= Duration::from_mins(1));
    }
}
