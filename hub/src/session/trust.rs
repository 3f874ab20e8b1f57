//! Which trust the agent keeps, and which it should.

use std::sync::Arc;

use remote_istio::enrolment::{Trust, TrustDigest};
use remote_istio::limits;
use remote_istio::wire::v1;

/// The hub's trust against the agent's. An agent that was given files is not asked to keep any.
#[derive(Debug)]
pub(super) struct TrustState {
    current: Option<Arc<Trust>>,
    /// What the agent said that it holds; nothing: it keeps none.
    held: Option<TrustDigest>,
    epoch: Option<u64>,
    failure: String,
}

impl TrustState {
    /// `held`: by the hello.
    pub(super) fn new(held: Option<TrustDigest>) -> Self {
        Self {
            current: None,
            held,
            epoch: None,
            failure: String::new(),
        }
    }

    /// The hub's trust is this one now. Returns what to send.
    pub(super) fn set(&mut self, current: Arc<Trust>) -> Option<v1::Trust> {
        let held = self.held?;
        // Nobody can tell an agent yet where to find the hub: it goes on with what it has.
        if current.hubs.is_empty() {
            return None;
        }
        let digest = current.digest();
        let to_send = (held != digest).then(|| current.write());
        if held == digest {
            self.epoch = Some(current.epoch);
            self.failure.clear();
        }
        self.current = Some(current);
        to_send
    }

    /// The agent answered. Only that it keeps the hub's trust is taken from it: of any other one the hub knows nothing,
    /// and an epoch that it merely names would be its own invention.
    pub(super) fn kept(&mut self, kept: v1::TrustKept) {
        let (Some(_), Some(current)) = (self.held, &self.current) else {
            return;
        };
        let digest = current.digest();
        if TrustDigest::from_bytes(&kept.digest) == Some(digest) {
            self.held = Some(digest);
            self.epoch = Some(current.epoch);
        }
        self.failure = limits::detail(kept.failure);
    }

    pub(super) fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    pub(super) fn failure(&self) -> &str {
        &self.failure
    }
}
