//! The side that holds a copy of a lane: puts deltas together, judges them, and knows what it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Change, Nack, NackReason, Payload};
use crate::limits;
use crate::model::{Body, Key, LaneHash, Object, lane_hash};

/// A delta that breaks the protocol as a whole. The stream cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Parts out of order, or of two deltas mixed.
    #[error("part {part} of delta {nonce} came where part {expected_part} of delta {expected_nonce} was due")]
    Part {
        /// What came.
        nonce: u64,
        /// What came.
        part: u32,
        /// What was due; 0 for any fresh delta.
        expected_nonce: u64,
        /// What was due.
        expected_part: u32,
    },
    /// More than one lane may hold.
    #[error("delta {nonce} is larger than a lane may be: {what}")]
    TooLarge {
        /// The delta.
        nonce: u64,
        /// Which limit.
        what: &'static str,
    },
    /// A snapshot whose hash is not that of what it names.
    #[error("snapshot {nonce} says its hash is {said}, what it names has {found}")]
    Hash {
        /// The delta.
        nonce: u64,
        /// As sent.
        said: LaneHash,
        /// As computed.
        found: LaneHash,
    },
    /// A second delta before the first was answered.
    #[error("delta {0} came before the one in flight was answered")]
    Unanswered(u64),
}

/// What the last part of a delta says of all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaEnd {
    /// A snapshot: what is not named is gone.
    pub complete: bool,
    /// A person wants the removals: they pass the guard.
    pub released: bool,
    /// What is removed is let go of and stays where it is.
    pub orphaned: bool,
    /// The lane's hash once all of this is accepted.
    pub next_hash: LaneHash,
}

/// Puts the parts of one delta together. Nothing of a delta counts before its last part.
#[derive(Debug, Default)]
pub struct Assembly {
    nonce: u64,
    parts: u32,
    upserts: Vec<(Key, Payload)>,
    removals: Vec<Key>,
    nacks: Vec<Nack>,
}

impl Assembly {
    /// Adds one part. `refused` are objects that did not even read; they are nacked with the rest.
    ///
    /// # Errors
    /// The part is out of order or the delta over a limit.
    pub fn add(
        &mut self,
        nonce: u64,
        part: u32,
        upserts: Vec<(Key, Payload)>,
        removals: Vec<Key>,
        refused: Vec<Nack>,
    ) -> Result<(), ProtocolError> {
        if part != self.parts || (part > 0 && nonce != self.nonce) {
            let (expected_nonce, expected_part) = (self.nonce, self.parts);
            return Err(ProtocolError::Part {
                nonce,
                part,
                expected_nonce,
                expected_part,
            });
        }
        if part >= limits::PARTS_PER_DELTA {
            return Err(ProtocolError::TooLarge { nonce, what: "parts" });
        }
        self.nonce = nonce;
        self.parts += 1;
        for (key, payload) in upserts {
            self.add_upsert(nonce, key, payload)?;
        }
        self.removals.extend(removals);
        self.nacks.extend(refused);
        if self.upserts.len() + self.removals.len() + self.nacks.len() > limits::OBJECTS_PER_LANE {
            return Err(ProtocolError::TooLarge { nonce, what: "objects" });
        }
        Ok(())
    }

    /// An endpoint set too large for one message comes as several upserts of one key and version, one after the other.
    fn add_upsert(&mut self, nonce: u64, key: Key, payload: Payload) -> Result<(), ProtocolError> {
        if let (Some((last_key, Payload::Full(last))), Payload::Full(more)) = (self.upserts.last_mut(), &payload)
            && *last_key == key
            && last.version == more.version
            && let (Body::Endpoints(set), Some(added)) = (&mut Arc::make_mut(last).body, more.endpoints())
        {
            set.endpoints.extend(
                added
                    .endpoints
                    .iter()
                    .map(|(address, endpoint)| (*address, endpoint.clone())),
            );
            if set.endpoints.len() > limits::ENDPOINTS_PER_SET {
                return Err(ProtocolError::TooLarge {
                    nonce,
                    what: "endpoints of one set",
                });
            }
            return Ok(());
        }
        self.upserts.push((key, payload));
        Ok(())
    }

    /// The whole delta after its last part, and the assembly ready for the next.
    pub fn finish(&mut self, end: DeltaEnd) -> (Change, Vec<Nack>) {
        let Self {
            nonce,
            upserts,
            removals,
            nacks,
            ..
        } = std::mem::take(self);
        (
            Change {
                nonce,
                complete: end.complete,
                released: end.released,
                orphaned: end.orphaned,
                upserts,
                removals,
                next_hash: end.next_hash,
            },
            nacks,
        )
    }
}

/// What one lane's receiver holds.
#[derive(Debug, Default)]
pub struct Inbox {
    held: BTreeMap<Key, Held>,
    /// The versions held are not to be trusted: kept by another release, or found damaged.
    unknown: bool,
    /// Removals in one delta without a person's release; nothing: see [`limits::guard_allows`].
    most_removals: Option<usize>,
}

/// One held object and who sent it.
#[derive(Clone, Debug, PartialEq)]
struct Held {
    object: Arc<Object>,
    source: String,
}

/// What is to be done about a delta. Nothing is held before [`Inbox::commit`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judged {
    /// The delta's nonce, for the ack.
    pub nonce: u64,
    /// To be kept.
    pub upserts: Vec<(Key, Arc<Object>)>,
    /// To be let go.
    pub removals: Vec<Key>,
    /// What is let go of stays where it is: it is the receiver's own from then on.
    pub orphaned: bool,
    /// Refused.
    pub nacks: Vec<Nack>,
    /// A complete snapshot: from here on the versions held are known.
    complete: bool,
}

impl Inbox {
    /// An inbox with what was kept from an earlier life. `known`: whether the versions can be trusted.
    #[must_use]
    pub fn new(kept: BTreeMap<Key, (Arc<Object>, String)>, known: bool) -> Self {
        let held = kept
            .into_iter()
            .map(|(key, (object, source))| (key, Held { object, source }))
            .collect();
        Self {
            held,
            unknown: !known,
            most_removals: None,
        }
    }

    /// How many removals may go in one delta without a person's release; nothing: see [`limits::guard_allows`].
    pub fn set_most_removals(&mut self, most: Option<usize>) {
        self.most_removals = most;
    }

    /// The hash to greet with; nothing while what is held is unknown.
    #[must_use]
    pub fn hash_to_greet(&self) -> Option<LaneHash> {
        (!self.unknown).then(|| self.hash())
    }

    /// The hash over what is held.
    #[must_use]
    pub fn hash(&self) -> LaneHash {
        lane_hash(self.held.iter().map(|(key, held)| (key, held.object.version)))
    }

    /// The keys of what is held.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.held.keys()
    }

    /// What would be kept for another life.
    #[cfg(test)]
    pub(super) fn clone_kept(&self) -> BTreeMap<Key, (Arc<Object>, String)> {
        let kept = |(key, held): (&Key, &Held)| (key.clone(), (Arc::clone(&held.object), held.source.clone()));
        self.held.iter().map(kept).collect()
    }

    /// How many objects are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Decides what to keep of a delta from `source` (the sender's boot id) and what to refuse. `unread` are the
    /// objects of the delta that did not even read; `admit` is the receiver's own policy.
    ///
    /// # Errors
    /// A snapshot whose hash disagrees with what it names: nothing of it can be trusted.
    pub fn judge(
        &self,
        change: &Change,
        unread: Vec<Nack>,
        source: &str,
        admit: impl Fn(&Key, &Object) -> Result<(), (NackReason, String)>,
    ) -> Result<Judged, ProtocolError> {
        if change.complete && unread.is_empty() {
            check_snapshot(change)?;
        }
        let mut judged = Judged {
            nonce: change.nonce,
            nacks: unread,
            complete: change.complete,
            orphaned: change.orphaned,
            ..Judged::default()
        };
        for (key, payload) in &change.upserts {
            match self.judge_upsert(key, payload, source, &admit) {
                Ok(object) => judged.upserts.push((key.clone(), object)),
                Err((reason, detail)) => judged.nacks.push(Nack {
                    key: key.clone(),
                    reason,
                    detail,
                }),
            }
        }
        self.judge_removals(change, &mut judged);
        Ok(judged)
    }

    fn judge_upsert(
        &self,
        key: &Key,
        payload: &Payload,
        source: &str,
        admit: &impl Fn(&Key, &Object) -> Result<(), (NackReason, String)>,
    ) -> Result<Arc<Object>, (NackReason, String)> {
        let held = self.held.get(key);
        let object = match payload {
            Payload::Full(object) => Arc::clone(object),
            Payload::Patch {
                base,
                patch,
                version,
                position,
            } => {
                let held = held.filter(|held| held.object.version == *base && !self.unknown);
                let Some(set) = held.and_then(|held| held.object.endpoints()) else {
                    return Err((NackReason::BaseMismatch, format!("version {base} is not what is held")));
                };
                let next = set
                    .patched(patch)
                    .map_err(|error| (NackReason::BaseMismatch, error.to_string()))?;
                Arc::new(Object::received(*version, *position, Body::Endpoints(next)))
            }
        };
        if let Some(held) = held {
            let moved_back = held.object.position > object.position && held.source != source;
            if moved_back && held.object.version != object.version && !self.unknown {
                let detail = format!(
                    "position {} is behind {}, which is held",
                    object.position, held.object.position
                );
                return Err((NackReason::Stale, detail));
            }
        }
        admit(key, &object)?;
        Ok(object)
    }

    /// Absence is not deletion: only what is named, or what a complete snapshot leaves out, and behind the guard.
    fn judge_removals(&self, change: &Change, judged: &mut Judged) {
        let removals: Vec<Key> = if change.complete {
            let named: BTreeSet<&Key> = change
                .upserts
                .iter()
                .map(|(key, _)| key)
                .chain(judged.nacks.iter().map(|nack| &nack.key))
                .collect();
            self.held.keys().filter(|key| !named.contains(key)).cloned().collect()
        } else {
            change
                .removals
                .iter()
                .filter(|key| self.held.contains_key(*key))
                .cloned()
                .collect()
        };
        if change.released || !self.guard_holds(&removals) {
            judged.removals = removals;
            return;
        }
        let detail = format!(
            "removing {} of {} objects at once needs a release: annotate the RemoteIstio with istio.banzaicloud.io/release-guard=GENERATION",
            removals.len(),
            self.held.len(),
        );
        let held_back = |key| Nack {
            key,
            reason: NackReason::GuardHeld,
            detail: detail.clone(),
        };
        judged.nacks.extend(removals.into_iter().map(held_back));
    }

    /// True when too many objects would go in one delta: over the limit, or every object of a kind that has several.
    fn guard_holds(&self, removals: &[Key]) -> bool {
        let of_kind = |kind: &str, keys: &mut dyn Iterator<Item = &Key>| keys.filter(|key| key.kind() == kind).count();
        let takes_whole_kind = removals.iter().any(|key| {
            let held = of_kind(key.kind(), &mut self.held.keys());
            held > 1 && held == of_kind(key.kind(), &mut removals.iter())
        });
        let is_allowed = match self.most_removals {
            Some(most) => removals.len() <= most,
            None => limits::guard_allows(removals.len(), self.held.len()),
        };
        takes_whole_kind || !is_allowed
    }

    /// Takes note that what was judged is now kept.
    pub fn commit(&mut self, judged: &Judged, source: &str) {
        for (key, object) in &judged.upserts {
            let held = Held {
                object: Arc::clone(object),
                source: source.to_owned(),
            };
            self.held.insert(key.clone(), held);
        }
        for key in &judged.removals {
            self.held.remove(key);
        }
        if judged.complete {
            self.unknown = false;
        }
    }
}

fn check_snapshot(change: &Change) -> Result<(), ProtocolError> {
    let named: BTreeMap<&Key, _> = change
        .upserts
        .iter()
        .filter_map(|(key, payload)| match payload {
            Payload::Full(object) => Some((key, object.version)),
            Payload::Patch { .. } => None,
        })
        .collect();
    let found = lane_hash(named);
    if found == change.next_hash {
        Ok(())
    } else {
        Err(ProtocolError::Hash {
            nonce: change.nonce,
            said: change.next_hash,
            found,
        })
    }
}
