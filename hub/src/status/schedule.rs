//! Which remotes to look at, and when: each at most once. Pure.

use std::collections::{BTreeMap, BTreeSet};

use remote_istio::identity::RemoteName;

/// Moments by remote, nanoseconds on the hub's monotonic clock. Bounded by the number of remotes.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    by_moment: BTreeSet<(u64, RemoteName)>,
    moments: BTreeMap<RemoteName, u64>,
}

impl Schedule {
    /// Looks at a remote at this moment, or earlier if that was already planned.
    pub fn at(&mut self, remote: &RemoteName, moment: u64) {
        if let Some(planned) = self.moments.get(remote) {
            if *planned <= moment {
                return;
            }
            self.by_moment.remove(&(*planned, remote.clone()));
        }
        self.moments.insert(remote.clone(), moment);
        self.by_moment.insert((moment, remote.clone()));
    }

    /// The remote whose moment came first, if it has come.
    pub fn pop(&mut self, now: u64) -> Option<RemoteName> {
        if self.next()? > now {
            return None;
        }
        let (_, remote) = self.by_moment.pop_first()?;
        self.moments.remove(&remote);
        Some(remote)
    }

    /// The next moment.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        self.by_moment.first().map(|(moment, _)| *moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RemoteName {
        RemoteName::new(text).expect("a DNS label")
    }

    #[test]
    fn remote_is_looked_at_once_at_its_earliest_moment() {
        let mut schedule = Schedule::default();
        for (remote, moment) in [("a", 30), ("b", 20), ("a", 10), ("a", 40)] {
            schedule.at(&name(remote), moment);
        }
        assert_eq!(schedule.next(), Some(10));
        assert_eq!(schedule.pop(9), None);
        assert_eq!(schedule.pop(25), Some(name("a")));
        assert_eq!(schedule.pop(25), Some(name("b")));
        assert_eq!((schedule.pop(99), schedule.next()), (None, None));
    }
}
