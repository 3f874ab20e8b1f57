//! What each watch has seen, for readiness and metrics.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::{Notify, watch};

/// All watches.
#[derive(Debug)]
pub struct Statistics {
    watches: Vec<WatchStatistics>,
    all_listed: watch::Sender<bool>,
    changed: Notify,
}

/// One watch.
#[derive(Debug)]
pub struct WatchStatistics {
    kind: &'static str,
    namespace: String,
    listed: AtomicBool,
    lists: AtomicU64,
    events: AtomicU64,
    failures: AtomicU64,
    heard_at: AtomicU64,
}

impl Statistics {
    pub(crate) fn new(watches: Vec<WatchStatistics>) -> Self {
        Self {
            watches,
            all_listed: watch::Sender::new(false),
            changed: Notify::new(),
        }
    }

    /// Each watch.
    #[must_use]
    pub fn watches(&self) -> &[WatchStatistics] {
        &self.watches
    }

    /// Whether every watch has finished its first list.
    #[must_use]
    pub fn all_listed(&self) -> watch::Receiver<bool> {
        self.all_listed.subscribe()
    }

    /// For people: what has not been listed yet.
    #[must_use]
    pub fn waiting_for(&self) -> String {
        let missing = self.watches.iter().filter(|watch| !watch.is_listed());
        let names: Vec<String> = missing
            .map(|watch| format!("{} in {}", watch.kind, watch.namespace))
            .collect();
        format!("first list of {}", names.join(", "))
    }

    /// One more watch has finished its first list.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The watch has finished a list.
    pub(super) fn listed(&self, watch: &WatchStatistics) {
        watch.lists.fetch_add(1, Ordering::Relaxed);
        if watch.listed.swap(true, Ordering::Release) {
            return;
        }
        self.changed.notify_one();
        if self.watches.iter().all(WatchStatistics::is_listed) {
            self.all_listed.send_replace(true);
        }
    }
}

impl WatchStatistics {
    pub(crate) fn new(kind: &'static str, namespace: &str) -> Self {
        Self {
            kind,
            namespace: namespace.to_owned(),
            listed: AtomicBool::new(false),
            lists: AtomicU64::new(0),
            events: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            heard_at: AtomicU64::new(0),
        }
    }

    /// `remoteistios`, `pods` or `services`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The namespace it looks at.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Whether the first list is finished.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.listed.load(Ordering::Acquire)
    }

    /// Lists finished: more than one is a relist.
    #[must_use]
    pub fn lists(&self) -> u64 {
        self.lists.load(Ordering::Relaxed)
    }

    /// Events, without bookmarks.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Lists and watches that failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// When the API server last said anything here, nanoseconds on the hub's monotonic clock; 0 for never. Even an
    /// idle watch hears a bookmark about once a minute.
    #[must_use]
    pub fn heard_at(&self) -> u64 {
        self.heard_at.load(Ordering::Relaxed)
    }

    pub(super) fn heard(&self, at: u64) {
        self.heard_at.store(at, Ordering::Relaxed);
    }

    pub(super) fn event(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }
}
