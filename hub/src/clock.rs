//! The hub's two clocks, read at the edges only: a monotonic one for latencies and limits, the wall clock for people.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Where the monotonic clock started.
static START: OnceLock<Instant> = OnceLock::new();

/// Nanoseconds on the hub's monotonic clock. Starts near zero with the first reading of the process.
#[must_use]
pub fn now() -> u64 {
    let start = *START.get_or_init(Instant::now);
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// The moment that [`now`] gives as so many nanoseconds, to wait for.
#[must_use]
pub fn instant(nanoseconds: u64) -> Instant {
    *START.get_or_init(Instant::now) + Duration::from_nanos(nanoseconds)
}

/// Milliseconds since 1970 on the wall clock; 0 for a clock that stands before it.
#[must_use]
pub fn unix_milliseconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Seconds since 1970 on the wall clock; 0 for a clock that stands before it.
#[must_use]
pub fn unix_seconds() -> i64 {
    unix_milliseconds() / 1000
}
