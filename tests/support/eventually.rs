//! Waiting for a condition, never for a time: what a test may wait for always has a deadline and a last seen value.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// After so long a condition that was expected is said to have failed. Far more than anything needs on a quiet
/// machine: it only bounds a failing test, nothing is measured by it.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(40);

/// Looks again and again until `look` gives `Ok`, and returns that.
///
/// # Panics
/// [`PATIENCE`] ran out; the message shows what the last look saw.
pub async fn eventually<T, E, F>(what: &str, look: impl FnMut() -> F) -> T
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    eventually_within(PATIENCE, what, look).await
}

/// As [`eventually`], with a patience of its own.
///
/// # Panics
/// `patience` ran out; the message shows what the last look saw.
pub async fn eventually_within<T, E, F>(patience: Duration, what: &str, mut look: impl FnMut() -> F) -> T
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    let deadline = Instant::now() + patience;
    let mut last = "nothing: not even one look came back".to_owned();
    loop {
        match tokio::time::timeout_at(deadline, look()).await {
            Ok(Ok(seen)) => return seen,
            Ok(Err(seen)) => last = seen.to_string(),
            Err(_) => {}
        }
        assert!(
            Instant::now() < deadline,
            "waited {patience:?} in vain until {what}; last seen: {last}"
        );
        sleep(LOOK_EVERY).await;
    }
}

/// `Ok` when the condition holds, else what was seen instead.
///
/// # Errors
/// The condition does not hold.
pub fn seen<T: std::fmt::Debug>(holds: bool, value: T) -> Result<T, String> {
    if holds { Ok(value) } else { Err(format!("{value:?}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_true_later_is_waited_for() {
        let mut looks = 0;
        let value = eventually("three looks", || {
            looks += 1;
            std::future::ready(seen(looks == 3, looks))
        })
        .await;
        assert_eq!(value, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "until pigs fly; last seen: \"pig on the ground\"")]
    async fn what_never_comes_true_is_said_with_the_last_thing_seen() {
        eventually_within(Duration::from_millis(10), "pigs fly", || {
            std::future::ready(seen(false, "pig on the ground"))
        })
        .await;
    }
}
