//! Two agents with one identity: who they are, for as long as it shows. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use remote_istio::identity::RemoteName;

use super::Claimant;

/// A conflict that has not shown for so long is over. Well above the pause of a refused agent.
pub const CONFLICT_LASTS: Duration = Duration::from_mins(10);

/// A predecessor in a rolling update has ended so long after it was refused for the first time; an older agent that
/// still comes was made from a copy.
pub const PREDECESSOR_ENDS_WITHIN: Duration = Duration::from_mins(1);

/// Older agents of one remote that are remembered; the one that came longest ago is forgotten first.
const OLDER_AGENTS_MAX: usize = 8;

/// One of two agents with the same identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// Where it dials from; empty: it has no session.
    pub address: String,
    /// UID of its kube-system namespace.
    pub cluster_uid: String,
    /// Its start counter.
    pub start: u64,
}

/// Two agents with one identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Who stays.
    pub holder: Party,
    /// Who was refused.
    pub challenger: Party,
    /// When it showed last, nanoseconds on the hub's monotonic clock.
    pub seen_at: u64,
}

/// The conflicts seen lately, one for each remote. Names come from certificates of our CA, which bounds how many.
#[derive(Debug, Default)]
pub struct Conflicts {
    current: BTreeMap<RemoteName, Conflict>,
    older: BTreeMap<RemoteName, Vec<Older>>,
}

/// An agent that was refused because a newer one holds the session.
#[derive(Debug)]
struct Older {
    boot_id: String,
    refused_at: u64,
    seen_at: u64,
}

impl Party {
    /// Who claims a session.
    #[must_use]
    pub fn of(claimant: &Claimant) -> Self {
        Self {
            address: claimant.address.clone(),
            cluster_uid: claimant.cluster_uid.clone(),
            start: claimant.epoch.start,
        }
    }

    /// The cluster that a name is bound to, wherever it is.
    #[must_use]
    pub fn bound(cluster_uid: &str) -> Self {
        Self {
            address: String::new(),
            cluster_uid: cluster_uid.to_owned(),
            start: 0,
        }
    }

    /// Ports change with every try and starts with every restart: neither makes it somebody else.
    fn is_same(&self, other: &Self) -> bool {
        self.cluster_uid == other.cluster_uid && self.host() == other.host()
    }

    fn host(&self) -> &str {
        self.address
            .rsplit_once(':')
            .map_or(self.address.as_str(), |(host, _)| host)
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            address,
            cluster_uid,
            start,
        } = self;
        if address.is_empty() {
            return write!(f, "that of cluster {cluster_uid}");
        }
        write!(f, "at {address} (cluster {cluster_uid}, start {start})")
    }
}

impl Conflict {
    /// When it is over if it does not show again, nanoseconds on the hub's monotonic clock.
    #[must_use]
    pub fn ends_at(&self) -> u64 {
        self.seen_at.saturating_add(nanoseconds(CONFLICT_LASTS))
    }
}

impl Conflicts {
    /// Two agents showed at `now`. Returns whether that is news: the first time, or others than before.
    pub fn note(&mut self, remote: &RemoteName, (holder, challenger): (Party, Party), now: u64) -> bool {
        self.current.retain(|_, conflict| now < conflict.ends_at());
        if let Some(known) = self.current.get_mut(remote)
            && known.holder.is_same(&holder)
            && known.challenger.is_same(&challenger)
        {
            known.seen_at = now;
            return false;
        }
        let conflict = Conflict {
            holder,
            challenger,
            seen_at: now,
        };
        self.current.insert(remote.clone(), conflict);
        true
    }

    /// An agent was refused at `now` because a newer one holds the session. Returns whether it has come for longer than
    /// a predecessor would: then it is another agent with the same identity.
    pub fn older(&mut self, remote: &RemoteName, boot_id: &str, now: u64) -> bool {
        let forgotten = |older: &Older| older.seen_at.saturating_add(nanoseconds(CONFLICT_LASTS)) <= now;
        self.older.retain(|_, of_remote| {
            of_remote.retain(|older| !forgotten(older));
            !of_remote.is_empty()
        });
        let of_remote = self.older.entry(remote.clone()).or_default();
        let known = of_remote.iter().position(|older| older.boot_id == boot_id);
        let refused_at = known.map_or(now, |place| of_remote.remove(place).refused_at);
        if of_remote.len() >= OLDER_AGENTS_MAX {
            of_remote.remove(0);
        }
        // In order of when they came last.
        of_remote.push(Older {
            boot_id: boot_id.to_owned(),
            refused_at,
            seen_at: now,
        });
        now.saturating_sub(refused_at) >= nanoseconds(PREDECESSOR_ENDS_WITHIN)
    }

    /// The conflict of a remote that is not over at `now`.
    #[must_use]
    pub fn current(&self, remote: &RemoteName, now: u64) -> Option<&Conflict> {
        self.current.get(remote).filter(|conflict| now < conflict.ends_at())
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
