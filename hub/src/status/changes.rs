//! When a status is written: never when nothing changed, flips at once, counts seldom, all within one budget. Pure.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::conditions::{CONNECTED, NOT_READY, OURS, PENDING, READY, stored};
use crate::crd::RemoteIstioStatus;

/// Between two writes of one remote's status, however often it flips.
pub const FLIP_INTERVAL: Duration = Duration::from_secs(1);

/// Between two writes of one remote's status that only change counts and words.
pub const COUNT_INTERVAL: Duration = Duration::from_mins(1);

/// Counts are written only when they have stood so long: a pod that is replaced changes nothing in the end.
pub const COUNT_SETTLES: Duration = Duration::from_secs(5);

/// A status that was fine and is merely catching up is written only when that takes so long: an address that changes
/// must not cost two writes for each remote.
pub const DIP_SETTLES: Duration = Duration::from_secs(3);

/// Writes of all remotes together: twenty a second on average, nanoseconds for each.
const EACH_WRITE: u64 = 1_000_000_000 / 20;

/// Writes of all remotes together: so many at once after a quiet time.
const WRITES_AT_ONCE: u64 = 40;

/// What kind of difference there is between the stored status and the wanted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// Counts and words only.
    Counts,
    /// Was settled, now merely catches up, for the same generation and still with a session.
    Dip,
    /// Anything else.
    Flip,
}

/// How the wanted status differs from the stored one; `None` when there is nothing to write.
#[must_use]
pub fn difference(stored_status: Option<&RemoteIstioStatus>, wanted: &RemoteIstioStatus) -> Option<Difference> {
    let Some(before) = stored_status else {
        return Some(Difference::Flip);
    };
    let (before, wanted) = (sorted(before), sorted(wanted));
    if before == wanted {
        return None;
    }
    if outline(&before) == outline(&wanted) {
        return Some(Difference::Counts);
    }
    Some(if is_dip(&before, &wanted) {
        Difference::Dip
    } else {
        Difference::Flip
    })
}

/// A list of conditions is a map: order says nothing. Conditions of others are not ours to compare.
fn sorted(status: &RemoteIstioStatus) -> RemoteIstioStatus {
    let mut status = status.clone();
    status
        .conditions
        .retain(|condition| OURS.contains(&condition.type_.as_str()));
    status.conditions.sort_by(|one, other| one.type_.cmp(&other.type_));
    status
}

/// The status without what may wait.
fn outline(status: &RemoteIstioStatus) -> RemoteIstioStatus {
    let mut outline = status.clone();
    outline.error_message = outline.error_message.map(|_| String::new());
    for component in &mut outline.components {
        // Whether it is as it should be is no mere count.
        let lacks = i64::from(component.available < component.desired);
        (component.desired, component.updated, component.available) = (lacks, 0, 0);
        component.message.clear();
    }
    outline
        .conditions
        .iter_mut()
        .for_each(|condition| condition.message.clear());
    for service in &mut outline.services {
        (service.addresses_sent, service.addresses_applied) = (0, 0);
    }
    outline
}

/// Pods that are replaced come back in a moment too, mostly. A session that took the place of another is one too: an unchanged world is settled again in a moment, and the status
/// of each remote is then written once, not twice, after a restart of the hub.
fn is_dip(before: &RemoteIstioStatus, wanted: &RemoteIstioStatus) -> bool {
    let is_pending = |ready: &Condition| ready.reason == PENDING;
    let is_unsettled = |ready: &Condition| is_pending(ready) || ready.reason == NOT_READY;
    let connected = |status| stored(Some(status), CONNECTED).map(|connected| connected.status.clone());
    before.observed_generation == wanted.observed_generation
        && connected(before) == connected(wanted)
        && stored(Some(wanted), READY).is_some_and(is_unsettled)
        && stored(Some(before), READY).is_some_and(|ready| !is_pending(ready))
}

/// When one remote's status may be written. Times are nanoseconds on the hub's monotonic clock.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    last_write: Option<u64>,
    counts_since: Option<u64>,
    dip_since: Option<u64>,
    not_before: u64,
}

impl Pace {
    /// From when on this difference may be written, given that it was found at `now`. Ask again for each new one.
    pub fn due(&mut self, difference: Difference, now: u64) -> u64 {
        let settled = match difference {
            Difference::Flip => now,
            Difference::Counts => {
                self.dip_since = None;
                let since = *self.counts_since.get_or_insert(now);
                after(since, COUNT_SETTLES).max(self.since_last_write(COUNT_INTERVAL))
            }
            Difference::Dip => after(*self.dip_since.get_or_insert(now), DIP_SETTLES),
        };
        settled.max(self.since_last_write(FLIP_INTERVAL)).max(self.not_before)
    }

    /// What was found different is so no longer.
    pub fn unchanged(&mut self) {
        (self.counts_since, self.dip_since) = (None, None);
    }

    /// A write was done.
    pub fn wrote(&mut self, now: u64) {
        *self = Self {
            last_write: Some(now),
            ..Self::default()
        };
    }

    /// A write was not done: the next one only after `pause`.
    pub fn failed(&mut self, pause: Duration, now: u64) {
        self.not_before = after(now, pause);
    }

    /// Until when nothing at all may be tried after a failure.
    #[must_use]
    pub fn not_before(&self) -> u64 {
        self.not_before
    }

    fn since_last_write(&self, interval: Duration) -> u64 {
        self.last_write.map_or(0, |last| after(last, interval))
    }
}

/// The budget of all remotes together: a bucket of writes that fills steadily.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    /// The moment from which on the bucket counts as empty, or full if that is long ago.
    paid_until: u64,
}

impl Budget {
    /// When the next write is free: `now`, or later.
    #[must_use]
    pub fn free_at(&self, now: u64) -> u64 {
        // A full bucket ahead of the clock is an empty one.
        let next = self.paid_until.max(now) + EACH_WRITE;
        next.saturating_sub(EACH_WRITE * WRITES_AT_ONCE).max(now)
    }

    /// Takes one write, whether it is free or not.
    pub fn take(&mut self, now: u64) {
        self.paid_until = self.paid_until.max(now) + EACH_WRITE;
    }
}

/// The moment `duration` after another.
#[must_use]
pub fn after(moment: u64, duration: Duration) -> u64 {
    moment.saturating_add(nanoseconds(duration))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
