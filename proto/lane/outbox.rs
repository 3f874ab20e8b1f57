//! The side that owns the state of a lane: decides what to send and when.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Change, Nack, NackReason, Payload};
use crate::model::{Key, LaneHash, Object, Snapshot, Version, lane_hash};

/// A patch travels instead of the whole set when it names at most one address in so many of the set's.
const PATCH_SHARE: usize = 2;

/// Sends one lane's desired state to one peer.
#[derive(Debug, Default)]
pub struct Outbox {
    desired: Option<Arc<Snapshot>>,
    peer: Option<BTreeMap<Key, Arc<Object>>>,
    /// Another object under the same key may be held by the peer: its hash says nothing until the next snapshot.
    peer_uncertain: bool,
    in_flight: Option<InFlight>,
    refused: BTreeMap<Key, Refused>,
    merged: u64,
    resyncs: u64,
    last_nonce: u64,
}

#[derive(Debug)]
struct InFlight {
    nonce: u64,
    complete: bool,
    changes: Changes,
    /// The peer's policy changed after it was sent: it may have been judged by the old one.
    policy_changed: bool,
}

/// What a delta makes of each key it names; nothing is a removal.
type Changes = BTreeMap<Key, Option<Arc<Object>>>;

/// An object the peer refused, and at which version and position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The refused version; nothing where a removal was refused.
    pub version: Option<Version>,
    /// The refused position.
    pub position: u64,
    /// Why.
    pub reason: NackReason,
    /// For people.
    pub detail: String,
}

/// What an acknowledgement settled.
#[derive(Debug, Default, PartialEq)]
pub struct Acked {
    /// Objects the peer now holds that it did not hold at this version before.
    pub accepted: Vec<(Key, Arc<Object>)>,
    /// Objects the peer let go.
    pub removed: Vec<Key>,
    /// Objects the peer refused.
    pub refused: Vec<Nack>,
    /// The peer holds something else than it should: the next change is a snapshot.
    pub resync: bool,
}

impl Outbox {
    /// An outbox towards a peer that says it holds `peer_hash`; nothing where it does not know.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells what the peer said it holds, against the state that is desired now: equal hashes need no state at all.
    /// Any other hash, or none, leaves the peer unknown, and the first change will be a snapshot.
    pub fn peer_holds(&mut self, hash: Option<LaneHash>) {
        self.peer = match (&self.desired, hash) {
            (Some(desired), Some(hash)) if desired.hash() == hash => Some(desired.objects().clone()),
            _ => None,
        };
    }

    /// Sets what the peer should hold from now on. Keys whose earlier change was never sent count as merged.
    pub fn set(&mut self, desired: Arc<Snapshot>) {
        if let Some(previous) = self.desired.take() {
            self.merged += self.count_merged(&previous, &desired);
        }
        let held_back = |refused: &Refused| refused.reason == NackReason::GuardHeld;
        if desired.released() && self.refused.values().any(held_back) {
            // What the guard held back is known to the receiver alone; only a snapshot names it by leaving it out.
            self.peer = None;
        }
        self.forget_moot_refusals(&desired);
        self.desired = Some(desired);
    }

    /// What was refused and is no longer asked for says nothing any more, once the peer holds what is: no ack will come.
    fn forget_moot_refusals(&mut self, desired: &Snapshot) {
        let Some(peer) = &self.peer else { return };
        self.refused.retain(|key, refused| {
            let wanted = desired.objects().get(key).map(|object| object.version);
            let held = peer.get(key).map(|object| object.version);
            refused.version == wanted || wanted != held
        });
    }

    /// Nothing is to be sent until [`Outbox::set`] is called again; what the peer holds stays as it is.
    pub fn unset(&mut self) {
        self.desired = None;
    }

    fn count_merged(&self, previous: &Snapshot, next: &Snapshot) -> u64 {
        let Some(peer) = &self.peer else { return 0 };
        let on_its_way = |key: &Key| {
            let sent = self.in_flight.as_ref().and_then(|in_flight| in_flight.changes.get(key));
            sent.map_or_else(
                || peer.get(key).map(|o| o.version),
                |sent| sent.as_ref().map(|o| o.version),
            )
        };
        let keys = previous
            .objects()
            .keys()
            .chain(next.objects().keys().filter(|k| !previous.objects().contains_key(*k)));
        let merged = keys.filter(|key| {
            let before = previous.objects().get(*key).map(|o| o.version);
            let after = next.objects().get(*key).map(|o| o.version);
            before != after && before != on_its_way(key)
        });
        merged.count() as u64
    }

    /// The next change to send, if there is one and none is in flight.
    pub fn next_change(&mut self) -> Option<Change> {
        if self.in_flight.is_some() {
            return None;
        }
        let desired = Arc::clone(self.desired.as_ref()?);
        let nonce = self.last_nonce + 1;
        let (change, changes) = match &self.peer {
            None => snapshot(nonce, &desired),
            Some(peer) => self.delta(nonce, &desired, peer)?,
        };
        if change.complete {
            self.refused.clear();
        }
        self.last_nonce = nonce;
        self.in_flight = Some(InFlight {
            nonce,
            complete: change.complete,
            changes,
            policy_changed: false,
        });
        Some(change)
    }

    fn delta(&self, nonce: u64, desired: &Snapshot, peer: &BTreeMap<Key, Arc<Object>>) -> Option<(Change, Changes)> {
        let mut changes = Changes::new();
        let mut upserts = Vec::new();
        for (key, object) in desired.objects() {
            let held = peer.get(key);
            if held.is_none_or(|held| held.version != object.version) && !self.is_refused(key, Some(object)) {
                upserts.push((key.clone(), payload(held, object)));
                changes.insert(key.clone(), Some(Arc::clone(object)));
            }
        }
        let gone = |key: &&Key| !desired.objects().contains_key(*key) && !self.is_refused(key, None);
        let removals: Vec<Key> = peer.keys().filter(gone).cloned().collect();
        changes.extend(removals.iter().map(|key| (key.clone(), None)));
        if changes.is_empty() {
            return None;
        }
        let next_hash = hash_of(&merge(peer.clone(), &changes));
        let change = Change {
            nonce,
            complete: false,
            released: desired.released(),
            orphaned: desired.orphaned(),
            upserts,
            removals,
            next_hash,
        };
        Some((change, changes))
    }

    fn is_refused(&self, key: &Key, object: Option<&Arc<Object>>) -> bool {
        self.refused.get(key).is_some_and(|refused| {
            let moved_on = refused.reason == NackReason::Stale && object.is_some_and(|o| o.position > refused.position);
            refused.version == object.map(|o| o.version) && !moved_on
        })
    }

    /// The peer's policy is another now: what it refused by the old one is asked for again.
    pub fn policy_changed(&mut self) {
        self.refused.retain(|_, refused| refused.reason != NackReason::Policy);
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.policy_changed = true;
        }
    }

    /// Takes the peer's answer. Nothing is returned for a nonce that is not in flight: the caller counts it.
    pub fn ack(&mut self, nonce: u64, hash: LaneHash, nacks: Vec<Nack>) -> Option<Acked> {
        let InFlight {
            complete,
            mut changes,
            policy_changed,
            ..
        } = self.in_flight.take_if(|in_flight| in_flight.nonce == nonce)?;
        let base = self.peer.take().filter(|_| !complete).unwrap_or_default();
        self.peer_uncertain &= !complete;
        let mut mismatch = false;
        for nack in &nacks {
            let refused = changes.remove(&nack.key).flatten();
            self.peer_uncertain |= nack.reason.hides_what_is_held();
            mismatch |= nack.reason == NackReason::BaseMismatch;
            if policy_changed && nack.reason == NackReason::Policy {
                continue;
            }
            self.refused
                .insert(nack.key.clone(), Refused::new(nack, refused.as_deref()));
        }
        let held = merge(base, &changes);
        mismatch |= !self.peer_uncertain && hash_of(&held) != hash;
        self.resyncs += u64::from(mismatch);
        // A peer that disagrees even with a whole snapshot would be sent one after another for ever.
        self.peer_uncertain |= mismatch && complete;
        let resync = mismatch && !complete;
        self.peer = (!resync).then_some(held);
        let mut acked = Acked {
            refused: nacks,
            resync,
            ..Acked::default()
        };
        for (key, object) in changes {
            self.refused.remove(&key);
            match object {
                Some(object) => acked.accepted.push((key, object)),
                None => acked.removed.push(key),
            }
        }
        if let Some(desired) = self.desired.clone() {
            self.forget_moot_refusals(&desired);
        }
        Some(acked)
    }

    /// Whether the peer has accepted everything that is desired, apart from what it refused.
    #[must_use]
    pub fn in_sync(&self) -> bool {
        self.in_flight.is_none() && self.desired.is_some() && self.peer.is_some() && self.pending() == 0
    }

    /// How many objects differ between what is desired and what the peer has accepted.
    #[must_use]
    pub fn pending(&self) -> usize {
        let Some(desired) = &self.desired else { return 0 };
        let Some(peer) = &self.peer else {
            return desired.objects().len().max(1);
        };
        let differs = |(key, object): &(&Key, &Arc<Object>)| {
            peer.get(*key).is_none_or(|held| held.version != object.version) && !self.is_refused(key, Some(object))
        };
        let gone = |key: &&Key| !desired.objects().contains_key(*key) && !self.is_refused(key, None);
        desired.objects().iter().filter(differs).count() + peer.keys().filter(gone).count()
    }

    /// Nonce of the delta that waits for its acknowledgement.
    #[must_use]
    pub fn waiting_for(&self) -> Option<u64> {
        self.in_flight.as_ref().map(|in_flight| in_flight.nonce)
    }

    /// What the peer is known to hold; nothing while that is unknown.
    #[must_use]
    pub fn peer(&self) -> Option<&BTreeMap<Key, Arc<Object>>> {
        self.peer.as_ref()
    }

    /// What the peer refused and has not accepted since.
    #[must_use]
    pub fn refused(&self) -> &BTreeMap<Key, Refused> {
        &self.refused
    }

    /// Changes that were replaced by a later one before they were sent, since the last call.
    pub fn take_merged(&mut self) -> u64 {
        std::mem::take(&mut self.merged)
    }

    /// How often the peer turned out to hold something else than it should, since the last call.
    pub fn take_resyncs(&mut self) -> u64 {
        std::mem::take(&mut self.resyncs)
    }
}

impl Refused {
    fn new(nack: &Nack, object: Option<&Object>) -> Self {
        Self {
            version: object.map(|object| object.version),
            position: object.map_or(0, |object| object.position),
            reason: nack.reason,
            detail: nack.detail.clone(),
        }
    }
}

fn payload(held: Option<&Arc<Object>>, object: &Arc<Object>) -> Payload {
    let full = || Payload::Full(Arc::clone(object));
    let Some(held) = held else { return full() };
    let (Some(before), Some(after)) = (held.endpoints(), object.endpoints()) else {
        return full();
    };
    match before.patch_to(after) {
        Some(patch) if (patch.upserts.len() + patch.removals.len()) * PATCH_SHARE <= after.endpoints.len() => {
            Payload::Patch {
                base: held.version,
                patch,
                version: object.version,
                position: object.position,
            }
        }
        _ => full(),
    }
}

fn snapshot(nonce: u64, desired: &Snapshot) -> (Change, Changes) {
    let objects = desired.objects();
    let change = Change {
        nonce,
        complete: true,
        released: desired.released(),
        orphaned: desired.orphaned(),
        upserts: objects
            .iter()
            .map(|(key, object)| (key.clone(), Payload::Full(Arc::clone(object))))
            .collect(),
        removals: Vec::new(),
        next_hash: desired.hash(),
    };
    (
        change,
        objects
            .iter()
            .map(|(key, object)| (key.clone(), Some(Arc::clone(object))))
            .collect(),
    )
}

fn merge(mut base: BTreeMap<Key, Arc<Object>>, changes: &Changes) -> BTreeMap<Key, Arc<Object>> {
    for (key, object) in changes {
        match object {
            Some(object) => base.insert(key.clone(), Arc::clone(object)),
            None => base.remove(key),
        };
    }
    base
}

fn hash_of(objects: &BTreeMap<Key, Arc<Object>>) -> LaneHash {
    lane_hash(objects.iter().map(|(key, object)| (key, object.version)))
}
