//! The open connections of all remotes, weakly held: which of them end soon, and which are too many.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use remote_istio::identity::RemoteName;
use remote_istio::limits;
use remote_istio::tls::{NotAdmitted, Peer};
use tokio::time::Instant;

/// So many connections are opened between two looks for those that have ended.
const OPENED_BETWEEN_LOOKS: usize = 256;

/// Between two warnings of remotes with too many connections.
const EXCESS_WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// Connections by remote. Those that ended are forgotten soon after.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: BTreeMap<RemoteName, Vec<Weak<Peer>>>,
    condemned: Vec<(Instant, Weak<Peer>)>,
    opened_since_look: usize,
    excess: Excess,
}

/// Connections that were cut because their remote had too many.
#[derive(Debug, Default)]
struct Excess {
    told_at: Option<Instant>,
    since_told: u64,
}

/// Connections that will be cut.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Condemned {
    pub(super) reason: NotAdmitted,
    pub(super) connections: usize,
    /// Whether the remote has connections that may stay.
    pub(super) others_stay: bool,
}

impl Connections {
    /// Takes a new connection. If its remote has too many, the oldest that holds no session is cut: an agent that comes
    /// anew must not wait for what it left behind.
    pub(super) fn opened(&mut self, remote: &RemoteName, peer: &Arc<Peer>) {
        let of_remote = self.open.entry(remote.clone()).or_default();
        of_remote.retain(is_open);
        of_remote.push(Arc::downgrade(peer));
        while of_remote.len() > limits::CONNECTIONS_PER_REMOTE {
            let idle = |weak: &Weak<Peer>| weak.upgrade().is_none_or(|peer| !peer.is_in_session());
            let oldest = of_remote.iter().position(idle).unwrap_or(0);
            if let Some(peer) = of_remote.remove(oldest).upgrade() {
                peer.cut();
                self.excess.cut(remote, Instant::now());
            }
        }
        self.opened_since_look += 1;
        if self.opened_since_look >= OPENED_BETWEEN_LOOKS {
            self.opened_since_look = 0;
            self.open.retain(|_, of_remote| {
                of_remote.retain(is_open);
                !of_remote.is_empty()
            });
        }
    }

    /// Whoever has any.
    pub(super) fn remotes(&self) -> Vec<RemoteName> {
        self.open.keys().cloned().collect()
    }

    /// Sets the end of the remote's connections that are not admitted any more. Nothing if all may stay.
    pub(super) fn condemn(
        &mut self,
        remote: &RemoteName,
        due: Instant,
        admit: impl Fn(&Peer) -> Result<(), NotAdmitted>,
    ) -> Option<Condemned> {
        let of_remote = self.open.get_mut(remote)?;
        let mut first = None;
        let mut connections = 0;
        of_remote.retain(|weak| {
            let Some(peer) = weak.upgrade() else {
                return false;
            };
            let Err(reason) = admit(&peer) else {
                return true;
            };
            first.get_or_insert(reason);
            connections += 1;
            self.condemned.push((due, Weak::clone(weak)));
            false
        });
        let others_stay = !of_remote.is_empty();
        if !others_stay {
            self.open.remove(remote);
        }
        first.map(|reason| Condemned {
            reason,
            connections,
            others_stay,
        })
    }

    /// Cuts what is due. Returns when the next is.
    pub(super) fn cut_due(&mut self, now: Instant) -> Option<Instant> {
        self.condemned.retain(|(due, peer)| {
            let Some(peer) = peer.upgrade() else {
                return false;
            };
            if *due <= now {
                peer.cut();
            }
            *due > now
        });
        self.condemned.iter().map(|(due, _)| *due).min()
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.open.values().map(Vec::len).sum::<usize>() + self.condemned.len()
    }
}

impl Excess {
    fn cut(&mut self, remote: &RemoteName, now: Instant) {
        self.since_told += 1;
        if self
            .told_at
            .is_some_and(|told_at| now.duration_since(told_at) < EXCESS_WARNING_INTERVAL)
        {
            return;
        }
        self.told_at = Some(now);
        let connections = std::mem::take(&mut self.since_told);
        tracing::warn!(%remote, connections, "connections were cut, their remotes have too many open");
    }
}

/// Not cut, and not gone.
fn is_open(peer: &Weak<Peer>) -> bool {
    peer.upgrade().is_some_and(|peer| !peer.cut_token().is_cancelled())
}
