//! Whether a `RemoteIstio` that was deleted is withdrawn from its remote, or held until a person decides. Pure.
//!
//! Deleting a CRD deletes every resource of it, and one wrong command deletes many: neither must reach the remotes. What
//! is decided stands in the status of each resource, so that replicas and restarts agree.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt as _;
use remote_istio::identity::RemoteName;

use crate::crd::{DELETION_ANNOTATION, FINALIZER, FORCE_DELETE_ANNOTATION, RemoteIstio, RemoteIstioStatus};
use crate::status::changes::after;
use crate::status::conditions::{DELETING, DELETION_HELD, READY, stored};

/// So long after a deletion was seen nothing comes of it: what is deleted with it is seen meanwhile.
pub const SETTLING: Duration = Duration::from_secs(3);

/// What becomes of a deleted resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ruling {
    /// It is not decided yet; until then nothing changes for the remote.
    #[default]
    Settling,
    /// Nothing is withdrawn until a person decides; why.
    Held(Hold),
    /// Everything is withdrawn from the remote.
    Withdrawn,
    /// A person wants the remote to keep what it has: the resource goes, and nothing is sent.
    Kept,
}

/// Why a deleted resource is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Too many are being deleted at once.
    Many {
        /// How many there were.
        deleted: usize,
        /// How many may be.
        limit: usize,
    },
    /// The CRD is being deleted, and every resource of it with it.
    DefinitionEnds,
    /// There is no CRD any more.
    DefinitionGone,
    /// The CRD cannot be read; why. It is tried again.
    DefinitionUnread(String),
    /// It was held before this hub saw it; its status says why.
    Before,
    /// This hub cannot read the resource, and so neither its policy nor its status.
    Unreadable,
}

/// What a person wants of a deleted resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// It is to go on.
    Withdraw,
    /// The remote is to keep what it has.
    Keep,
}

/// The CRD of `RemoteIstio`, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Definition {
    /// It is there.
    Stands,
    /// It is being deleted.
    Ends,
    /// It is not there.
    Gone,
    /// It could not be read; why.
    Unread(String),
}

/// An answer about the CRD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What was found.
    pub definition: Definition,
    /// When it was asked for, nanoseconds on the hub's monotonic clock.
    pub asked_at: u64,
}

/// What is to be done after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing until something changes.
    Wait,
    /// Look again at this moment, nanoseconds on the hub's monotonic clock.
    At(u64),
    /// Read the CRD, and look again with it.
    Read,
}

/// A resource that is being deleted.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// The remote that it describes.
    pub remote: RemoteName,
    /// The resource; of one that cannot be read, its metadata alone.
    pub object: Arc<RemoteIstio>,
    /// Whether all of it could be read.
    pub is_readable: bool,
}

/// Rulings by remote, each for the resource of one UID.
pub type Rulings = BTreeMap<RemoteName, (String, Ruling)>;

/// What is known of the deleted resources.
#[derive(Debug)]
pub struct Guard {
    limit: usize,
    known: BTreeMap<RemoteName, Known>,
}

#[derive(Debug)]
struct Known {
    uid: String,
    seen_at: u64,
    ruling: Ruling,
}

impl Known {
    fn is_open(&self) -> bool {
        matches!(self.ruling, Ruling::Settling | Ruling::Held(Hold::DefinitionUnread(_)))
    }

    fn settles_at(&self) -> u64 {
        after(self.seen_at, SETTLING)
    }
}

impl Guard {
    /// `limit`: how many may be deleted at once without a person's word.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            known: BTreeMap::new(),
        }
    }

    /// Decides what can be decided of `deleted`, which are all resources that are being deleted now. `reading`: the CRD,
    /// if it was read just now.
    pub fn look(&mut self, deleted: &[Deleted], reading: Option<&Reading>, now: u64) -> Next {
        let mut before = std::mem::take(&mut self.known);
        let mut undecided = 0;
        for Deleted {
            remote: name,
            object: resource,
            is_readable,
        } in deleted
        {
            let uid = resource.metadata.uid.clone().unwrap_or_default();
            let mut known = before.remove(name).filter(|known| known.uid == uid).unwrap_or(Known {
                uid,
                seen_at: now,
                ruling: Ruling::Settling,
            });
            // Another replica, or this hub before it was started anew, may have decided already. Where two differ, the one
            // that holds is right: what this one withdrew by itself is held from then on.
            match said(resource.status.as_ref()) {
                Some(ruling) if known.is_open() => known.ruling = ruling,
                Some(held @ Ruling::Held(_)) if known.ruling == Ruling::Withdrawn => known.ruling = held,
                None if known.is_open() && !is_readable => known.ruling = Ruling::Held(Hold::Unreadable),
                _ => {}
            }
            match wish(resource) {
                Some(Wish::Keep) => known.ruling = Ruling::Kept,
                Some(Wish::Withdraw) => known.ruling = Ruling::Withdrawn,
                // Nothing of it is left to be withdrawn, or nothing ever was there.
                None if !waits(resource) && known.ruling != Ruling::Withdrawn => known.ruling = Ruling::Kept,
                None if waits(resource) && !is_forced(resource) => undecided += 1,
                None => {}
            }
            self.known.insert(name.clone(), known);
        }
        let limit = self.limit;
        if let Some(Reading { definition, asked_at }) = reading {
            let seen_before = |known: &&mut Known| known.is_open() && known.settles_at() <= *asked_at;
            for known in self.known.values_mut().filter(seen_before) {
                known.ruling = rule(definition, undecided, limit);
            }
        }
        self.next(reading.is_some(), now)
    }

    fn next(&self, has_read: bool, now: u64) -> Next {
        let open = self.known.values().filter(|known| known.is_open());
        let next = open.filter_map(|known| {
            let is_unread = known.ruling != Ruling::Settling;
            // Whoever reads pauses before it reads again.
            (!(has_read && is_unread)).then(|| known.settles_at())
        });
        match next.min() {
            None => Next::Wait,
            Some(moment) if moment <= now => Next::Read,
            Some(moment) => Next::At(moment),
        }
    }

    /// What was decided last.
    #[must_use]
    pub fn rulings(&self) -> Rulings {
        let ruling = |(name, known): (&RemoteName, &Known)| (name.clone(), (known.uid.clone(), known.ruling.clone()));
        self.known.iter().map(ruling).collect()
    }

    /// Whether any waits for a CRD that could not be read.
    #[must_use]
    pub fn awaits_definition(&self) -> bool {
        let unread = |known: &Known| matches!(known.ruling, Ruling::Held(Hold::DefinitionUnread(_)));
        self.known.values().any(unread)
    }
}

fn rule(definition: &Definition, deleted: usize, limit: usize) -> Ruling {
    match definition {
        Definition::Ends => Ruling::Held(Hold::DefinitionEnds),
        Definition::Gone => Ruling::Held(Hold::DefinitionGone),
        Definition::Unread(error) => Ruling::Held(Hold::DefinitionUnread(error.clone())),
        Definition::Stands if deleted > limit => Ruling::Held(Hold::Many { deleted, limit }),
        Definition::Stands => Ruling::Withdrawn,
    }
}

/// What was decided before by any hub. What only waits for the CRD to be read is decided anew.
fn said(status: Option<&RemoteIstioStatus>) -> Option<Ruling> {
    let ready = stored(status, READY).map(|ready| ready.reason.as_str());
    match ready {
        Some(DELETION_HELD) => Some(Ruling::Held(Hold::Before)),
        Some(DELETING) => Some(Ruling::Withdrawn),
        _ => None,
    }
}

fn annotation<'a>(resource: &'a RemoteIstio, key: &str) -> Option<&'a str> {
    Some(resource.metadata.annotations.as_ref()?.get(key)?.trim())
}

fn wish(resource: &RemoteIstio) -> Option<Wish> {
    match annotation(resource, DELETION_ANNOTATION)? {
        "withdraw" => Some(Wish::Withdraw),
        "keep" => Some(Wish::Keep),
        _ => None,
    }
}

/// What stands in the annotation by which a person decides, where that is none of its words.
#[must_use]
pub fn unknown_wish(resource: &RemoteIstio) -> Option<&str> {
    let text = annotation(resource, DELETION_ANNOTATION)?;
    wish(resource).is_none().then_some(text)
}

/// A person does not want to wait for the remote.
fn is_forced(resource: &RemoteIstio) -> bool {
    annotation(resource, FORCE_DELETE_ANNOTATION) == Some("true")
}

/// Our finalizer keeps it.
fn waits(resource: &RemoteIstio) -> bool {
    resource.finalizers().iter().any(|name| name == FINALIZER)
}

#[cfg(test)]
mod tests;
