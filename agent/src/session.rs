//! The link as the agent sees it: what to answer to each frame, across sessions. Pure: no clock, no I/O, no spawn.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use remote_istio::convert::{self, DeltaPart, FrameError};
use remote_istio::lane::{Assembly, Change, Inbox, Judged, Nack, NackReason, ProtocolError};
use remote_istio::model::{Applied, ApplyState, Key, Lane, LaneHash, Object};
use remote_istio::wire::v1;

/// What the agent's own policy says to an object: nothing, or why not.
pub type Admit = Box<dyn Fn(&Key, &Object) -> Result<(), (NackReason, String)> + Send + Sync>;

/// What was kept of one lane in an earlier life: the objects with their sources, and whether the versions can be trusted.
pub type KeptLane = (BTreeMap<Key, (Arc<Object>, String)>, bool);

/// A stream that cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// A frame broke the contract.
    #[error("the hub sent a frame that breaks the contract: {0}")]
    Frame(#[from] FrameError),
    /// A delta broke the protocol.
    #[error("the hub broke the protocol: {0}")]
    Protocol(#[from] ProtocolError),
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send this to the hub, if the session still stands.
    Send(v1::agent_frame::Frame),
    /// Keep this, then call [`Session::kept`].
    Keep {
        /// The lane.
        lane: Lane,
        /// What to keep and what to let go.
        judged: Judged,
        /// The boot id of the hub it came from.
        source: String,
    },
}

/// What the agent holds, and where its conversation with the hub stands.
pub struct Session {
    lanes: BTreeMap<Lane, LaneSession>,
    admit: Admit,
    source: String,
    number: u64,
    reported: BTreeMap<Key, Applied>,
    outputs: VecDeque<Output>,
}

#[derive(Default)]
struct LaneSession {
    inbox: Inbox,
    assembly: Assembly,
    keeping: Option<Keeping>,
    /// The next session's first delta may come while the last one's is still being kept.
    waiting: Option<(Change, Vec<Nack>)>,
}

struct Keeping {
    judged: Judged,
    source: String,
    session: u64,
}

impl Session {
    /// Starts from what was kept in an earlier life: per lane the objects with their source, and whether their
    /// versions can be trusted.
    #[must_use]
    pub fn new(kept: BTreeMap<Lane, KeptLane>, admit: Admit) -> Self {
        let mut kept = kept;
        let lane = |lane: Lane| {
            let inbox = kept
                .remove(&lane)
                .map(|(objects, known)| Inbox::new(objects, known))
                .unwrap_or_default();
            (
                lane,
                LaneSession {
                    inbox,
                    ..LaneSession::default()
                },
            )
        };
        let lanes = Lane::ALL.into_iter().map(lane).collect();
        let (source, reported, outputs) = (String::new(), BTreeMap::new(), VecDeque::new());
        Self {
            lanes,
            admit,
            source,
            number: 0,
            reported,
            outputs,
        }
    }

    /// What the agent's own policy says from here on, and how many removals may go in one delta without a person's
    /// release, where it says so.
    pub fn set_policy(&mut self, admit: Admit, most_removals: Option<usize>) {
        self.admit = admit;
        for state in self.lanes.values_mut() {
            state.inbox.set_most_removals(most_removals);
        }
    }

    /// A new stream opens: what to say of each lane in the hello, and whether everything held is applied.
    /// A lane whose last delta is still being kept is unknown.
    pub fn greet(&mut self, applied: &BTreeMap<Key, Applied>) -> (BTreeMap<Lane, (Option<LaneHash>, usize)>, bool) {
        let greeting = self.greeting(applied);
        self.reopen(applied);
        greeting
    }

    /// What [`Self::greet`] would say, while the stream that stands goes on.
    #[must_use]
    pub fn greeting(&self, applied: &BTreeMap<Key, Applied>) -> (BTreeMap<Lane, (Option<LaneHash>, usize)>, bool) {
        let state = |(lane, state): (&Lane, &LaneSession)| {
            let hash = state.inbox.hash_to_greet().filter(|_| state.keeping.is_none());
            (*lane, (hash, state.inbox.len()))
        };
        let unsettled = self
            .lanes
            .values()
            .any(|state| state.inbox.keys().any(|key| !applied.contains_key(key)));
        (self.lanes.iter().map(state).collect(), !unsettled)
    }

    /// From here on, everything is of the stream whose hello said what [`Self::greeting`] made of `applied`.
    pub fn reopen(&mut self, applied: &BTreeMap<Key, Applied>) {
        self.number += 1;
        // What is to be kept is kept whatever becomes of the stream.
        self.outputs.retain(|output| matches!(output, Output::Keep { .. }));
        for state in self.lanes.values_mut() {
            state.assembly = Assembly::default();
            state.waiting = None;
        }
        let settled = |(_, applied): &(&Key, &Applied)| applied.state == ApplyState::Applied;
        self.reported = applied
            .iter()
            .filter(settled)
            .map(|(key, applied)| (key.clone(), applied.clone()))
            .collect();
    }

    /// The hub has answered the hello.
    pub fn welcomed(&mut self, welcome: &v1::Welcome) {
        welcome.boot_id.clone_into(&mut self.source);
        // How far the pods of components are is not part of what a hub takes from a settled agent.
        self.reported.retain(|key, _| !matches!(key, Key::Component { .. }));
    }

    /// A part of a delta came.
    ///
    /// # Errors
    /// The stream cannot go on.
    pub fn delta(&mut self, delta: v1::Delta) -> Result<(), SessionError> {
        let DeltaPart {
            lane,
            nonce,
            part,
            end,
            upserts,
            removals,
            unread,
            nameless: _,
        } = convert::read_delta(delta)?;
        let Some(state) = self.lanes.get_mut(&lane) else {
            return Ok(());
        };
        state.assembly.add(nonce, part, upserts, removals, unread)?;
        let Some(end) = end else {
            return Ok(());
        };
        let (change, unread) = state.assembly.finish(end);
        if end.complete {
            // Whoever needs a snapshot does not know what was reported before it.
            self.reported.retain(|key, _| key.lane() != lane);
        }
        match &state.keeping {
            Some(keeping) if keeping.session == self.number => return Err(ProtocolError::Unanswered(nonce).into()),
            Some(_) if state.waiting.is_some() => return Err(ProtocolError::Unanswered(nonce).into()),
            Some(_) => {
                // Whatever may be wrong with it as a whole ends the stream now, not when its turn comes.
                state.inbox.judge(&change, unread.clone(), &self.source, &self.admit)?;
                state.waiting = Some((change, unread));
            }
            None => self.judge(lane, &change, unread)?,
        }
        Ok(())
    }

    fn judge(&mut self, lane: Lane, change: &Change, unread: Vec<Nack>) -> Result<(), SessionError> {
        let Some(state) = self.lanes.get_mut(&lane) else {
            return Ok(());
        };
        let judged = state.inbox.judge(change, unread, &self.source, &self.admit)?;
        let (source, session) = (self.source.clone(), self.number);
        state.keeping = Some(Keeping {
            judged: judged.clone(),
            source: source.clone(),
            session,
        });
        self.outputs.push_back(Output::Keep { lane, judged, source });
        Ok(())
    }

    /// One object of the delta being kept cannot be: it is refused after all, and holds back no other.
    pub fn refuse(&mut self, lane: Lane, key: &Key, detail: String) {
        let Some(keeping) = self.lanes.get_mut(&lane).and_then(|state| state.keeping.as_mut()) else {
            return;
        };
        let judged = &mut keeping.judged;
        judged.upserts.retain(|(upsert, _)| upsert != key);
        judged.removals.retain(|removal| removal != key);
        judged.nacks.push(Nack {
            key: key.clone(),
            reason: NackReason::Policy,
            detail,
        });
    }

    /// What was to be kept in this lane is kept.
    pub fn kept(&mut self, lane: Lane) {
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        let Some(keeping) = state.keeping.take() else { return };
        state.inbox.commit(&keeping.judged, &keeping.source);
        if keeping.session == self.number {
            let hash = state.inbox.hash();
            let frames = convert::ack_frames(lane, keeping.judged.nonce, hash, &keeping.judged.nacks);
            self.outputs.extend(
                frames
                    .into_iter()
                    .map(|ack| Output::Send(v1::agent_frame::Frame::Ack(ack))),
            );
        }
        if let Some((change, unread)) = state.waiting.take() {
            // It was judged when it came; a snapshot's hash does not change since then.
            let judged = self.judge(lane, &change, unread);
            debug_assert!(judged.is_ok(), "a delta that passed once passes again");
        }
    }

    /// What became of the objects in the remote: reports what the hub does not know yet.
    pub fn applied(&mut self, applied: &BTreeMap<Key, Applied>) {
        let news: Vec<(&Key, &Applied)> = applied
            .iter()
            .filter(|(key, applied)| self.reported.get(*key) != Some(*applied))
            .collect();
        let frames = convert::status_frames(news.iter().copied());
        self.outputs.extend(
            frames
                .into_iter()
                .map(|status| Output::Send(v1::agent_frame::Frame::Status(status))),
        );
        for (key, applied) in news {
            self.reported.insert(key.clone(), applied.clone());
        }
    }

    /// The next thing to do.
    pub fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// How many objects a lane holds.
    #[must_use]
    pub fn held(&self, lane: Lane) -> usize {
        self.lanes.get(&lane).map_or(0, |state| state.inbox.len())
    }
}

#[cfg(test)]
mod tests;
