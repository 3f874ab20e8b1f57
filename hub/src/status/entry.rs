//! One remote in the eyes of the status writer: what to do next. Pure.

use std::borrow::Cow;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use remote_istio::process::Backoff;

use super::allowed::Judgement;
use super::authority::{Authority, Claims, Standing};
use super::changes::{Pace, difference};
use super::compute::status;
use super::conditions::time;
use super::facts::Facts;
use super::finalizer::{Cleanup, Finalizer, holds_finalizer};
use super::identity::Identity;
use crate::crd::{DeletionPolicy, FINALIZER, RemoteIstio, RemoteIstioStatus};
use crate::index::Desired;
use crate::lifecycle::{Ruling, Tombstone};
use crate::report::SessionReport;

/// First and largest pause after a failed write of one remote.
const RETRY_PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// Even the shortest pause leaves the watch time to bring what another writer wrote.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(50);

/// What is known of one remote now.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The resource as watched.
    pub object: &'a RemoteIstio,
    /// What the remote should hold.
    pub desired: Option<&'a Desired>,
    /// The live session.
    pub session: Option<&'a SessionReport>,
    /// Seconds since 1970 when this replica's last session with it ended.
    pub disconnected_at: Option<i64>,
    /// Who the remote is.
    pub identity: Identity<'a>,
}

/// This replica, now.
#[derive(Clone, Copy, Debug)]
pub struct Here<'a> {
    /// Its name.
    pub replica: &'a str,
    /// Whether it leads.
    pub leads: bool,
    /// Nanoseconds on its monotonic clock.
    pub now: u64,
    /// Seconds since 1970 on its wall clock.
    pub now_unix: i64,
}

/// A resource as the API server answered to a write.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Its status.
    pub status: Option<RemoteIstioStatus>,
}

/// The next thing to do for one remote.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing until something changes.
    Nothing,
    /// Ask again at this moment, nanoseconds on the hub's monotonic clock.
    At(u64),
    /// Write a status.
    Status {
        /// The resource to write over, as it was read.
        read: Box<ObjectMeta>,
        /// What stands there.
        before: Option<Box<RemoteIstioStatus>>,
        /// What to write.
        status: Box<RemoteIstioStatus>,
    },
    /// Write finalizers.
    Finalizers {
        /// The resource to write over, as it was read.
        read: Box<ObjectMeta>,
        /// What to write.
        finalizers: Vec<String>,
    },
    /// Write down what stands in a remote that is not waited for.
    Tombstone(Box<Tombstone>),
}

/// What the writer remembers of one remote.
#[derive(Clone, Debug)]
pub struct Entry {
    pace: Pace,
    claims: Claims,
    cleanup: Cleanup,
    backoff: Backoff,
    judgement: Judgement,
    /// The answer to the last write, until the watch has brought it.
    written: Option<Written>,
    /// UID of the resource whose tombstone stands.
    buried: Option<String>,
}

impl Entry {
    /// Nothing remembered yet. `seed`: of the jitter.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            pace: Pace::default(),
            claims: Claims::default(),
            cleanup: Cleanup::default(),
            judgement: Judgement::default(),
            backoff: Backoff::new(RETRY_PAUSE, seed),
            written: None,
            buried: None,
        }
    }

    /// What to do now. Must be asked at each change of anything seen.
    pub fn step(&mut self, seen: Seen<'_>, here: Here<'_>) -> Step {
        let object = self.newest(seen.object);
        let Seen {
            desired,
            session,
            disconnected_at,
            identity,
            ..
        } = seen;
        let facts = Facts::new(&object, desired, session, disconnected_at, identity);
        let mut finalizer = self.cleanup.decide(&facts, here.leads, here.now);
        if here.now < self.pace.not_before() {
            return Step::At(self.pace.not_before());
        }
        if finalizer == Finalizer::Force {
            if self.buried.is_none() || self.buried != object.metadata.uid {
                return Step::Tombstone(Box::new(tombstone(&facts, here)));
            }
            finalizer = Finalizer::Remove;
        }
        let held = object.metadata.finalizers.iter().flatten();
        let mut finalizers: Vec<String> = held.filter(|name| *name != FINALIZER).cloned().collect();
        let again = match finalizer {
            Finalizer::Add | Finalizer::Remove => {
                if finalizer == Finalizer::Add {
                    finalizers.push(FINALIZER.to_owned());
                }
                let read = Box::new(object.metadata.clone());
                return Step::Finalizers { read, finalizers };
            }
            // It was turned into one of the others above.
            Finalizer::Force => return Step::Nothing,
            // It goes by itself; a status would only race with that.
            Finalizer::Leave if facts.is_deleting() && !holds_finalizer(&object) => return Step::Nothing,
            // Until it is decided, nothing new is known; once the remote keeps what it has, it goes by itself.
            Finalizer::Leave if matches!(facts.ruling(), Some(Ruling::Settling | Ruling::Kept)) => {
                return Step::Nothing;
            }
            Finalizer::Leave => None,
            Finalizer::Wait(moment) => Some(moment),
        };
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        let mut judgement = std::mem::take(&mut self.judgement);
        judgement.update(facts.session, facts.previous(), namespace, facts.desired);
        let step = self.status_step(&facts.with_judgement(&judgement), here);
        self.judgement = judgement;
        let step = earlier(step, again);
        earlier(step, identity.changes_at(here.now, here.now_unix))
    }

    fn status_step(&mut self, facts: &Facts<'_>, here: Here<'_>) -> Step {
        let object = facts.remote;
        let standing = Standing {
            replica: here.replica,
            leads: here.leads,
            session: facts.session.map(|session| session.epoch),
            saw_the_end: facts.disconnected_at.is_some(),
        };
        match self.claims.authority(object.status.as_ref(), standing, here.now) {
            Authority::Write => {}
            Authority::Wait(moment) => return Step::At(moment),
            Authority::Leave => return Step::Nothing,
        }
        let wanted = status(facts, here.replica, here.now_unix);
        let Some(difference) = difference(object.status.as_ref(), &wanted) else {
            self.pace.unchanged();
            return Step::Nothing;
        };
        let due = self.pace.due(difference, here.now);
        if here.now < due {
            return Step::At(due);
        }
        Step::Status {
            read: Box::new(object.metadata.clone()),
            before: object.status.clone().map(Box::new),
            status: Box::new(wanted),
        }
    }

    /// A status was written.
    pub fn wrote_status(&mut self, written: Written, now: u64) {
        self.pace.wrote(now);
        self.claims.wrote();
        self.wrote(written);
    }

    /// Finalizers were written.
    pub fn wrote_finalizers(&mut self, written: Written) {
        self.wrote(written);
    }

    /// The tombstone of the resource of this UID was written.
    pub fn wrote_tombstone(&mut self, uid: &str) {
        self.backoff.reset();
        self.buried = Some(uid.to_owned());
    }

    fn wrote(&mut self, written: Written) {
        self.backoff.reset();
        self.written = Some(written);
    }

    /// A write failed; the next one waits.
    pub fn failed(&mut self, now: u64) {
        let pause = self.backoff.next_pause().max(RETRY_PAUSE_MIN);
        self.pace.failed(pause, now);
    }

    /// The resource as watched, or as this writer wrote it since: the watch may lag behind, and brings no status at all
    /// for a resource that cannot be read.
    fn newest<'a>(&mut self, object: &'a RemoteIstio) -> Cow<'a, RemoteIstio> {
        let Some(written) = &self.written else {
            return Cow::Borrowed(object);
        };
        let is_newer = position(&written.metadata) > position(&object.metadata);
        let is_of_it = written.metadata.uid == object.metadata.uid;
        if !is_of_it || (!is_newer && object.status.is_some()) {
            self.written = None;
            return Cow::Borrowed(object);
        }
        let mut newest = object.clone();
        if is_newer {
            newest.metadata = written.metadata.clone();
            newest.status.clone_from(&written.status);
        }
        if newest.status.is_none() {
            newest.status.clone_from(&written.status);
        }
        Cow::Owned(newest)
    }
}

fn tombstone(facts: &Facts<'_>, here: Here<'_>) -> Tombstone {
    let of_session = facts.session.map(|session| session.cluster_uid.as_str());
    let stored = facts.previous().and_then(|status| status.cluster_uid.as_deref());
    let cluster_uid = of_session.or(stored).unwrap_or_default();
    let at = time(here.now_unix).0.to_string();
    let mut tombstone = Tombstone::of(facts.remote, cluster_uid, here.replica, at);
    // As it was read last, where it cannot be read any more.
    if facts.desired.is_some_and(Desired::orphans) {
        tombstone.deletion_policy = DeletionPolicy::Orphan;
    }
    tombstone
}

fn earlier(step: Step, moment: Option<u64>) -> Step {
    match (step, moment) {
        (Step::Nothing, Some(moment)) => Step::At(moment),
        (Step::At(one), Some(other)) => Step::At(one.min(other)),
        (step, _) => step,
    }
}

fn position(metadata: &ObjectMeta) -> u64 {
    metadata
        .resource_version
        .as_deref()
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests;
