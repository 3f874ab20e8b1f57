//! What an agent without a usable certificate does next. Pure.

use std::time::SystemTime;

use super::kept::{Contents, Kept};
use super::schedule;

/// The next thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The certificate is good.
    Go,
    /// The certificate is not valid yet, or had ended when it came: only time, or a corrected clock, can mend that.
    AwaitClock,
    /// The certificate has ended: prove the old key.
    Recover,
    /// Redeem the token.
    Join,
    /// There is nothing to go on but a token, and there is none.
    AwaitToken,
}

/// `token`: the id of the token that lies ready; `denied`: the hub does not let the certificate be recovered.
#[must_use]
pub fn step(contents: &Contents, now: SystemTime, token: Option<&str>, denied: bool) -> Step {
    let Contents::Kept(kept) = contents else {
        return if token.is_some() { Step::Join } else { Step::AwaitToken };
    };
    if now < kept.certificate.not_before {
        Step::AwaitClock
    } else if now < kept.certificate.not_after {
        Step::Go
    } else if had_ended_when_it_came(kept, now) {
        Step::AwaitClock
    } else if denied && is_new(token, kept) {
        Step::Join
    } else {
        Step::Recover
    }
}

/// Hubs issue no ended certificates, so the clock was ahead. As long as the certificate's life has not passed since it
/// came, another would look no better.
fn had_ended_when_it_came(kept: &Kept, now: SystemTime) -> bool {
    let certificate = &kept.certificate;
    let began = schedule::began(None, certificate.not_before, certificate.not_after);
    let life = certificate.not_after.duration_since(began).unwrap_or_default();
    let received = kept.received.filter(|received| *received >= certificate.not_after);
    received.is_some_and(|received| now.duration_since(received).is_ok_and(|passed| passed < life))
}

/// Whether a token is another than the one that was redeemed: a token that lies there for ever must not be used twice.
#[must_use]
pub fn is_new(token: Option<&str>, kept: &Kept) -> bool {
    token.is_some() && token != kept.token.as_deref()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::identity::kept::tests::{TOKEN_ID, kept};

    #[test]
    fn next_step_follows_from_what_is_kept_and_what_lies_ready() {
        let minute = Duration::from_mins(1);
        let sample = kept();
        let certificate = sample.certificate.clone();
        let (before, during) = (certificate.not_before - minute, certificate.not_before + minute);
        let after = certificate.not_after + minute;
        let whole = || Contents::Kept(Box::new(sample.clone()));
        let old = TOKEN_ID;
        for (contents, now, token, denied, expected) in [
            (Contents::Nothing, during, None, false, Step::AwaitToken),
            (Contents::Nothing, during, Some("new"), false, Step::Join),
            (Contents::Damaged(String::new()), during, None, false, Step::AwaitToken),
            (Contents::Damaged(String::new()), during, Some(old), false, Step::Join),
            (whole(), before, Some("new"), true, Step::AwaitClock),
            (whole(), during, None, false, Step::Go),
            (whole(), during, Some("new"), false, Step::Go),
            (whole(), after, None, false, Step::Recover),
            (whole(), after, Some("new"), false, Step::Recover),
            (whole(), after, None, true, Step::Recover),
            (whole(), after, Some(old), true, Step::Recover),
            (whole(), after, Some("new"), true, Step::Join),
        ] {
            let shown = format!("{contents:?} {now:?} {token:?} {denied}");
            assert_eq!(step(&contents, now, token, denied), expected, "{shown}");
        }
    }

    #[test]
    fn certificate_that_had_ended_when_it_came_waits_for_the_clock_while_it_lives() {
        let (minute, hour) = (Duration::from_mins(1), Duration::from_hours(1));
        let mut kept = kept();
        let end = kept.certificate.not_after;
        let received = end + hour;
        kept.received = Some(received);
        let contents = Contents::Kept(Box::new(kept));
        for (now, expected) in [
            (received, Step::AwaitClock),
            (received + hour * 23, Step::AwaitClock),
            (received + hour * 24, Step::Recover),
            (received - minute, Step::Recover),
            (end - minute, Step::Go),
        ] {
            assert_eq!(step(&contents, now, None, false), expected, "{now:?}");
        }
    }
}
