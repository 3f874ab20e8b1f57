//! Deltas, in parts, and their acknowledgements.

use std::collections::VecDeque;

use prost::Message as _;

use super::object::{read_upsert, write_patch, write_port_sets, write_set, write_upsert};
use super::{FrameError, at_most, no_longer_than, read_lane, write_lane};
use crate::lane::{Change, DeltaEnd, Nack, NackReason, Payload};
use crate::limits;
use crate::model::{EndpointSet, Key, Lane, LaneHash, Object};
use crate::wire::v1;

/// Bytes that one endpoint may take on the wire: an IPv6 address, a zone, the frame around them.
const ENDPOINT_BYTES_USUAL: usize = 64;

/// Endpoints in one upsert: with usual endpoints a part stays near [`limits::FRAME_TARGET_BYTES`].
const ENDPOINTS_PER_UPSERT: usize = limits::FRAME_TARGET_BYTES / ENDPOINT_BYTES_USUAL;

/// One part of a delta as it came.
#[derive(Debug)]
pub struct DeltaPart {
    /// The lane.
    pub lane: Lane,
    /// The delta.
    pub nonce: u64,
    /// 0, 1, 2 …
    pub part: u32,
    /// In the last part: what it says of all of the delta.
    pub end: Option<DeltaEnd>,
    /// Objects that read.
    pub upserts: Vec<(Key, Payload)>,
    /// Objects to let go.
    pub removals: Vec<Key>,
    /// Objects that did not read. One whose key does not read either cannot be named and is not here.
    pub unread: Vec<Nack>,
    /// Objects whose key did not read.
    pub nameless: usize,
}

/// Writes a delta as parts of at most about [`limits::FRAME_TARGET_BYTES`].
#[must_use]
pub fn delta_parts(lane: Lane, change: &Change) -> Vec<v1::Delta> {
    let mut upserts: VecDeque<v1::Upsert> = change
        .upserts
        .iter()
        .flat_map(|(key, payload)| write_payload(key, payload))
        .collect();
    let mut removals: VecDeque<&Key> = change.removals.iter().collect();
    let mut parts = Vec::new();
    loop {
        let mut part = v1::Delta {
            lane: write_lane(lane),
            nonce: change.nonce,
            part: u32::try_from(parts.len()).unwrap_or(u32::MAX),
            complete: change.complete,
            released: change.released,
            orphaned: change.orphaned,
            ..v1::Delta::default()
        };
        fill(&mut part, &mut upserts, &mut removals);
        if upserts.is_empty() && removals.is_empty() {
            part.last = true;
            part.next_hash = change.next_hash.as_bytes().to_vec();
            parts.push(part);
            return parts;
        }
        parts.push(part);
    }
}

fn fill(part: &mut v1::Delta, upserts: &mut VecDeque<v1::Upsert>, removals: &mut VecDeque<&Key>) {
    let mut bytes = 0;
    let has_room = |part: &v1::Delta, bytes: usize, next: usize| {
        let count = part.upserts.len() + part.removals.len();
        count == 0 || (count < limits::CHANGES_PER_PART && bytes + next <= limits::FRAME_TARGET_BYTES)
    };
    while let Some(upsert) = upserts.pop_front_if(|upsert| has_room(part, bytes, upsert.encoded_len())) {
        bytes += upsert.encoded_len();
        part.upserts.push(upsert);
    }
    if !upserts.is_empty() {
        return;
    }
    while let Some(key) = removals.pop_front_if(|_| has_room(part, bytes, limits::KEY_MAX_BYTES)) {
        bytes += limits::KEY_MAX_BYTES;
        part.removals.push(v1::Removal { key: key.to_string() });
    }
}

fn write_payload(key: &Key, payload: &Payload) -> Vec<v1::Upsert> {
    match payload {
        Payload::Full(object) => match object.endpoints() {
            Some(set) if set.endpoints.len() > ENDPOINTS_PER_UPSERT => write_large_set(key, object, set),
            _ => vec![write_upsert(key, object)],
        },
        Payload::Patch {
            base,
            patch,
            version,
            position,
        } => vec![v1::Upsert {
            key: key.to_string(),
            version: version.as_bytes().to_vec(),
            position: *position,
            object: Some(v1::upsert::Object::EndpointPatch(write_patch(*base, patch))),
        }],
    }
}

/// A set too large for one message travels as several upserts of the same key and version; each says whether more follow.
fn write_large_set(key: &Key, object: &Object, set: &EndpointSet) -> Vec<v1::Upsert> {
    let all = write_set(set).endpoints;
    let chunks = all.len().div_ceil(ENDPOINTS_PER_UPSERT);
    all.chunks(ENDPOINTS_PER_UPSERT)
        .enumerate()
        .map(|(index, endpoints)| v1::Upsert {
            key: key.to_string(),
            version: object.version.as_bytes().to_vec(),
            position: object.position,
            object: Some(v1::upsert::Object::Endpoints(v1::EndpointSet {
                endpoints: endpoints.to_vec(),
                port_sets: write_port_sets(set),
                continues: index + 1 < chunks,
            })),
        })
        .collect()
}

/// Reads one part of a delta.
///
/// # Errors
/// The part breaks the contract as a whole.
pub fn read_delta(delta: v1::Delta) -> Result<DeltaPart, FrameError> {
    let lane = read_lane(delta.lane)?;
    at_most(
        "changes of one part",
        delta.upserts.len() + delta.removals.len(),
        limits::CHANGES_PER_PART,
    )?;
    let end = if delta.last {
        Some(DeltaEnd {
            complete: delta.complete,
            released: delta.released,
            orphaned: delta.orphaned,
            next_hash: LaneHash::from_bytes(&delta.next_hash).ok_or(FrameError::Hash(delta.next_hash.len()))?,
        })
    } else {
        None
    };
    let (nonce, part) = (delta.nonce, delta.part);
    let mut read = DeltaPart {
        lane,
        nonce,
        part,
        end,
        upserts: vec![],
        removals: vec![],
        unread: vec![],
        nameless: 0,
    };
    for upsert in delta.upserts {
        let Some(key) = read_key(&upsert.key) else {
            read.nameless += 1;
            continue;
        };
        match read_upsert(lane, &key, upsert) {
            Ok(payload) => read.upserts.push((key, payload)),
            Err((reason, detail)) => read.unread.push(Nack { key, reason, detail }),
        }
    }
    for removal in delta.removals {
        match read_key(&removal.key).filter(|key| key.lane() == lane) {
            Some(key) => read.removals.push(key),
            None => read.nameless += 1,
        }
    }
    Ok(read)
}

fn read_key(text: &str) -> Option<Key> {
    (text.len() <= limits::KEY_MAX_BYTES)
        .then(|| text.parse().ok())
        .flatten()
}

/// Writes the answer to a delta, in as many frames as its nacks need.
#[must_use]
pub fn ack_frames(lane: Lane, nonce: u64, hash: LaneHash, nacks: &[Nack]) -> Vec<v1::Ack> {
    let chunks: Vec<&[Nack]> = if nacks.is_empty() {
        vec![&[]]
    } else {
        nacks.chunks(limits::ENTRIES_PER_MESSAGE / 4).collect()
    };
    let last = chunks.len() - 1;
    let frame = |(index, nacks): (usize, &&[Nack])| v1::Ack {
        lane: write_lane(lane),
        nonce,
        hash: hash.as_bytes().to_vec(),
        nacks: nacks.iter().map(write_nack).collect(),
        more: index < last,
    };
    chunks.iter().enumerate().map(frame).collect()
}

/// Reads one frame of an answer: lane, nonce, hash, nacks, and whether more follow.
///
/// # Errors
/// The frame breaks the contract as a whole.
pub fn read_ack(ack: v1::Ack) -> Result<(Lane, u64, LaneHash, Vec<Nack>, bool), FrameError> {
    let lane = read_lane(ack.lane)?;
    at_most("nacks of one ack", ack.nacks.len(), limits::ENTRIES_PER_MESSAGE)?;
    let hash = LaneHash::from_bytes(&ack.hash).ok_or(FrameError::Hash(ack.hash.len()))?;
    let mut nacks = Vec::with_capacity(ack.nacks.len());
    for nack in ack.nacks {
        no_longer_than("detail of a nack", &nack.detail, limits::DETAIL_MAX_BYTES)?;
        if let Some(key) = read_key(&nack.key).filter(|key| key.lane() == lane) {
            nacks.push(Nack {
                key,
                reason: read_reason(nack.reason),
                detail: nack.detail,
            });
        }
    }
    Ok((lane, ack.nonce, hash, nacks, ack.more))
}

fn write_nack(nack: &Nack) -> v1::Nack {
    let reason = match nack.reason {
        NackReason::Invalid => v1::NackReason::Invalid,
        NackReason::TooLarge => v1::NackReason::TooLarge,
        NackReason::UnknownKind => v1::NackReason::UnknownKind,
        NackReason::Policy => v1::NackReason::Policy,
        NackReason::BaseMismatch => v1::NackReason::BaseMismatch,
        NackReason::Stale => v1::NackReason::Stale,
        NackReason::GuardHeld => v1::NackReason::GuardHeld,
    };
    v1::Nack {
        key: nack.key.to_string(),
        reason: reason.into(),
        detail: limits::detail(nack.detail.as_str()),
    }
}

/// A reason that a later release adds is taken as the one that is never retried by itself.
fn read_reason(reason: i32) -> NackReason {
    match v1::NackReason::try_from(reason) {
        Ok(v1::NackReason::TooLarge) => NackReason::TooLarge,
        Ok(v1::NackReason::UnknownKind) => NackReason::UnknownKind,
        Ok(v1::NackReason::Policy) => NackReason::Policy,
        Ok(v1::NackReason::BaseMismatch) => NackReason::BaseMismatch,
        Ok(v1::NackReason::Stale) => NackReason::Stale,
        Ok(v1::NackReason::GuardHeld) => NackReason::GuardHeld,
        Ok(v1::NackReason::Invalid | v1::NackReason::Unspecified) | Err(_) => NackReason::Invalid,
    }
}
