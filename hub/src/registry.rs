//! Which session of a remote stands: one at a time. Pure.
//!
//! A session is ordered by the start counter of its agent, then by the connection of that process. What only the
//! question to the live holder could tell apart, a clone of a remote from its restart, is decided for the holder.

use std::collections::BTreeMap;

use remote_istio::identity::RemoteName;

use crate::report::SessionEpoch;

/// Names one session within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

/// Who wants to open a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// Random, once per agent process.
    pub boot_id: String,
    /// Its place in the order of sessions.
    pub epoch: SessionEpoch,
    /// UID of the remote's kube-system namespace.
    pub cluster_uid: String,
    /// Where it dials from.
    pub address: String,
}

/// A session that may go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Its name from here on.
    pub id: SessionId,
    /// The session it replaces, which must end.
    pub superseded: Option<SessionId>,
}

/// Why a session may not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// An older connection of the process that already has a session.
    #[error("a newer connection of this agent holds the session")]
    OlderConnection,
    /// An agent that started before the one that has the session.
    #[error("a newer agent holds this session: it started as number {holder}, this one as number {own}; stop this one")]
    OlderAgent {
        /// Start counter of the holder.
        holder: u64,
        /// Start counter of the claimant.
        own: u64,
    },
    /// Two agents that both believe to be the same start.
    #[error(
        "another agent holds this session from {holder_address} (cluster {holder_cluster}): two agents run with the \
         certificate and the history of one; stop one, or join it under a name of its own"
    )]
    Twin {
        /// Where the holder dials from.
        holder_address: String,
        /// UID of the holder's cluster.
        holder_cluster: String,
    },
}

/// The live sessions of this replica.
#[derive(Debug, Default)]
pub struct Registry {
    live: BTreeMap<RemoteName, (SessionId, Claimant)>,
    last_id: u64,
}

impl Registry {
    /// Decides whether a session may be opened, and which one must end for it.
    ///
    /// # Errors
    /// Another session of this remote stands and stays.
    pub fn open(&mut self, remote: &RemoteName, claimant: Claimant) -> Result<Opened, Refused> {
        let holder = self.live.get(remote);
        if let Some((_, holder)) = holder {
            judge(holder, &claimant)?;
        }
        let superseded = holder.map(|(id, _)| *id);
        self.last_id += 1;
        let id = SessionId(self.last_id);
        self.live.insert(remote.clone(), (id, claimant));
        Ok(Opened { id, superseded })
    }

    /// A session has ended. Returns whether it was the one that stood; a superseded one is not.
    pub fn close(&mut self, remote: &RemoteName, id: SessionId) -> bool {
        let stood = self.stands(remote, id);
        if stood {
            self.live.remove(remote);
        }
        stood
    }

    /// Whether this session is the one that stands.
    #[must_use]
    pub fn stands(&self, remote: &RemoteName, id: SessionId) -> bool {
        self.live.get(remote).is_some_and(|(standing, _)| *standing == id)
    }

    /// How many sessions stand.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether none stands.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }
}

fn judge(holder: &Claimant, claimant: &Claimant) -> Result<(), Refused> {
    if holder.boot_id == claimant.boot_id {
        return if claimant.epoch.connection > holder.epoch.connection {
            Ok(())
        } else {
            Err(Refused::OlderConnection)
        };
    }
    match claimant.epoch.start.cmp(&holder.epoch.start) {
        std::cmp::Ordering::Greater => Ok(()),
        std::cmp::Ordering::Less => Err(Refused::OlderAgent {
            holder: holder.epoch.start,
            own: claimant.epoch.start,
        }),
        std::cmp::Ordering::Equal => Err(Refused::Twin {
            holder_address: holder.address.clone(),
            holder_cluster: holder.cluster_uid.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote() -> RemoteName {
        RemoteName::new("remote-1").expect("a DNS label")
    }

    fn claimant(boot_id: &str, start: u64, connection: u64) -> Claimant {
        Claimant {
            boot_id: boot_id.to_owned(),
            epoch: SessionEpoch { start, connection },
            cluster_uid: format!("cluster of {boot_id}"),
            address: format!("address of {boot_id}"),
        }
    }

    #[test]
    fn second_session_replaces_the_first_only_by_the_rules() {
        let older_agent = Refused::OlderAgent { holder: 5, own: 4 };
        let twin = Refused::Twin {
            holder_address: "address of a".to_owned(),
            holder_cluster: "cluster of a".to_owned(),
        };
        let table = [
            ("reconnect of the same process", claimant("a", 5, 3), Ok(())),
            (
                "same connection again",
                claimant("a", 5, 2),
                Err(Refused::OlderConnection),
            ),
            (
                "older connection that came late",
                claimant("a", 5, 1),
                Err(Refused::OlderConnection),
            ),
            ("restarted agent", claimant("b", 6, 1), Ok(())),
            ("agent that was replaced", claimant("b", 4, 9), Err(older_agent)),
            ("clone", claimant("b", 5, 3), Err(twin)),
        ];
        for (case, second, expected) in table {
            let mut registry = Registry::default();
            let first = registry.open(&remote(), claimant("a", 5, 2)).expect("nobody holds it");
            let opened = registry.open(&remote(), second);
            assert_eq!(opened.as_ref().map(|_| ()), expected.as_ref().copied(), "{case}");
            let refused = expected.is_err();
            assert_eq!(registry.stands(&remote(), first.id), refused, "{case}");
            if let Ok(opened) = opened {
                assert_eq!(opened.superseded, Some(first.id), "{case}");
                assert!(registry.stands(&remote(), opened.id), "{case}");
            }
            assert_eq!(registry.len(), 1, "{case}");
        }
    }

    #[test]
    fn superseded_session_that_ends_late_does_not_close_the_new_one() {
        let mut registry = Registry::default();
        let first = registry.open(&remote(), claimant("a", 1, 1)).expect("nobody holds it");
        let second = registry.open(&remote(), claimant("a", 1, 2)).expect("a reconnect");
        assert!(!registry.close(&remote(), first.id));
        assert!(registry.stands(&remote(), second.id));
        assert!(registry.close(&remote(), second.id));
        assert!(registry.is_empty());
    }

    #[test]
    fn remotes_do_not_touch_each_other() {
        let mut registry = Registry::default();
        let other = RemoteName::new("remote-2").expect("a DNS label");
        let first = registry.open(&remote(), claimant("a", 1, 1)).expect("nobody holds it");
        let second = registry.open(&other, claimant("a", 1, 1)).expect("another remote");
        assert_eq!(second.superseded, None);
        assert!(registry.close(&remote(), first.id));
        assert_eq!(registry.len(), 1);
    }
}
