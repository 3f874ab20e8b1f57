//! Attempts at one thing, again and again.

use std::time::Duration;

use remote_istio::process::Backoff;
use tokio::time::Instant;

/// When something is tried again, and what was said of it.
pub(super) struct Attempts {
    pub(super) backoff: Backoff,
    pub(super) not_before: Instant,
    said: String,
}

impl Attempts {
    pub(super) fn new(pauses: (Duration, Duration)) -> Self {
        Self {
            backoff: Backoff::new(pauses, rand::random()),
            not_before: Instant::now(),
            said: String::new(),
        }
    }

    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.not_before
    }

    pub(super) fn succeeded(&mut self) {
        self.backoff.reset();
        self.not_before = Instant::now();
        self.said.clear();
    }

    /// Whether this is news.
    pub(super) fn failed(&mut self, error: &str, pause: Duration) -> bool {
        self.not_before = Instant::now() + pause;
        let is_news = self.said != error;
        error.clone_into(&mut self.said);
        is_news
    }
}
