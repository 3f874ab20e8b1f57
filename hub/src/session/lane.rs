//! One lane of a session: what goes out, in parts, and what came back.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use remote_istio::convert;
use remote_istio::lane::{Change, Nack, Outbox, Payload};
use remote_istio::limits;
use remote_istio::model::{Key, Lane, LaneHash, Snapshot, Version};
use remote_istio::wire::v1;

use super::{Samples, SessionError};
use crate::report::LaneReport;

/// One lane towards one agent.
#[derive(Debug)]
pub(super) struct LaneSession {
    lane: Lane,
    outbox: Outbox,
    desired: Option<Arc<Snapshot>>,
    greeting: Greeting,
    parts: VecDeque<v1::Delta>,
    /// Nacks of an answer that comes in several frames.
    nacks: Vec<Nack>,
    causes: BTreeMap<Key, Cause>,
    /// Causes older than this session say nothing of how fast it is.
    opened_at: u64,
}

/// What the hello said of the lane.
#[derive(Clone, Copy, Debug)]
enum Greeting {
    /// Not compared yet: nothing is desired so far.
    Waiting(Option<LaneHash>),
    Compared,
}

/// When the version of a key that was sent last was caused, and which latencies it has already given.
#[derive(Debug)]
struct Cause {
    version: Version,
    at: u64,
    accepted: bool,
    applied: bool,
}

impl LaneSession {
    pub(super) fn new(lane: Lane, greeted: Option<LaneHash>, opened_at: u64) -> Self {
        Self {
            lane,
            outbox: Outbox::new(),
            desired: None,
            greeting: Greeting::Waiting(greeted),
            parts: VecDeque::new(),
            nacks: Vec::new(),
            causes: BTreeMap::new(),
            opened_at,
        }
    }

    /// What the agent should hold from now on; nothing: not known, nothing is sent. Returns the snapshot when the
    /// agent's greeting shows that it holds exactly this.
    pub(super) fn desire(&mut self, snapshot: Option<&Arc<Snapshot>>) -> Option<Arc<Snapshot>> {
        let Some(snapshot) = snapshot else {
            self.outbox.unset();
            self.desired = None;
            return None;
        };
        if self
            .desired
            .as_ref()
            .is_some_and(|desired| Arc::ptr_eq(desired, snapshot))
        {
            return None;
        }
        self.outbox.set(Arc::clone(snapshot));
        self.desired = Some(Arc::clone(snapshot));
        let Greeting::Waiting(hash) = std::mem::replace(&mut self.greeting, Greeting::Compared) else {
            return None;
        };
        self.outbox.peer_holds(hash);
        self.outbox.peer().is_some().then(|| Arc::clone(snapshot))
    }

    /// The next frame of this lane. `may_begin`: whether a new delta may be started, not only a started one go on.
    pub(super) fn next_part(&mut self, may_begin: bool) -> Option<v1::Delta> {
        if self.parts.is_empty() && may_begin {
            let change = self.outbox.next_change()?;
            self.note_causes(&change);
            self.parts = convert::delta_parts(self.lane, &change).into();
        }
        self.parts.pop_front()
    }

    fn note_causes(&mut self, change: &Change) {
        for key in &change.removals {
            self.causes.remove(key);
        }
        for (key, payload) in &change.upserts {
            let version = match payload {
                Payload::Full(object) => object.version,
                Payload::Patch { version, .. } => *version,
            };
            let object = self.desired.as_ref().and_then(|desired| desired.objects().get(key));
            let at = object
                .and_then(|object| object.caused_at)
                .filter(|at| *at >= self.opened_at);
            let known = self.causes.get(key).is_some_and(|cause| cause.version == version);
            match at {
                Some(at) if !known => {
                    let cause = Cause {
                        version,
                        at,
                        accepted: false,
                        applied: false,
                    };
                    self.causes.insert(key.clone(), cause);
                }
                Some(_) => {}
                None => {
                    self.causes.remove(key);
                }
            }
        }
    }

    /// Takes one frame of the answer to a delta. A nonce that is not in flight is counted and otherwise ignored.
    pub(super) fn ack(
        &mut self,
        (nonce, hash): (u64, LaneHash),
        nacks: Vec<Nack>,
        more: bool,
        now: u64,
        samples: &mut Samples,
    ) -> Result<(), SessionError> {
        if self.outbox.waiting_for() != Some(nonce) {
            samples.stale_acks += 1;
            return Ok(());
        }
        if !self.parts.is_empty() {
            return Err(SessionError::EarlyAck { lane: self.lane, nonce });
        }
        self.nacks.extend(nacks);
        if self.nacks.len() > 2 * limits::OBJECTS_PER_LANE {
            return Err(SessionError::TooManyNacks { lane: self.lane });
        }
        if more {
            return Ok(());
        }
        let nacks = std::mem::take(&mut self.nacks);
        let Some(acked) = self.outbox.ack(nonce, hash, nacks) else {
            return Ok(());
        };
        for nack in &acked.refused {
            *samples.nacks.entry(nack.reason).or_default() += 1;
        }
        for (key, object) in &acked.accepted {
            let cause = self.causes.get_mut(key).filter(|cause| cause.version == object.version);
            if let Some(cause) = cause.filter(|cause| !cause.accepted) {
                cause.accepted = true;
                samples.accepted.push((self.lane, now.saturating_sub(cause.at)));
            }
        }
        Ok(())
    }

    /// The remote's policy is another now.
    pub(super) fn policy_changed(&mut self) {
        self.outbox.policy_changed();
    }

    /// The agent says that this version of an object stands in the remote.
    pub(super) fn applied(&mut self, key: &Key, version: Version, now: u64, samples: &mut Samples) {
        let cause = self.causes.get_mut(key).filter(|cause| cause.version == version);
        if let Some(cause) = cause.filter(|cause| !cause.applied) {
            cause.applied = true;
            samples.applied.push((self.lane, now.saturating_sub(cause.at)));
        }
    }

    pub(super) fn report(&self) -> LaneReport {
        LaneReport {
            in_sync: self.outbox.in_sync(),
            pending: self.outbox.pending(),
        }
    }

    /// What the agent refused and has not accepted since, each with words.
    pub(super) fn refused(&self) -> impl Iterator<Item = Nack> {
        self.outbox.refused().iter().map(|(key, refused)| Nack {
            key: key.clone(),
            reason: refused.reason,
            detail: refused.detail.clone(),
        })
    }

    /// Moves what the outbox counted into the samples.
    pub(super) fn collect(&mut self, samples: &mut Samples) {
        for (counted, by_lane) in [
            (self.outbox.take_merged(), &mut samples.merged),
            (self.outbox.take_resyncs(), &mut samples.resyncs),
        ] {
            if counted > 0 {
                *by_lane.entry(self.lane).or_default() += counted;
            }
        }
    }
}
