//! One agent's session: two lanes, the claim, proof of life, and what is known of the remote.
//!
//! Pure: frames, changes of what is desired and time go in; frames and a report come out. Times are nanoseconds on
//! the hub's monotonic clock unless their name says otherwise.

mod control;
mod error;
mod lane;
mod opening;
mod samples;
#[cfg(test)]
mod tests;
mod trust;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use remote_istio::convert::{self, SessionHello};
use remote_istio::enrolment::Trust;
use remote_istio::limits;
use remote_istio::liveness::{Dead, Liveness};
use remote_istio::model::{Applied, ApplyState, Key, Lane, Snapshot};
use remote_istio::policy::Policy;
use remote_istio::wire::v1;

pub use self::error::SessionError;
pub use self::opening::Opening;
pub use self::samples::Samples;

use self::control::Control;
use self::lane::LaneSession;
use self::trust::TrustState;
use crate::index::Desired;
use crate::report::{LaneReport, SessionEpoch, SessionReport};

/// Between two looks at whether the agent still lives, nanoseconds; heartbeats alone come too seldom for that.
const LIFE_CHECK_INTERVAL: u64 = 5_000_000_000;

/// An agent that leaves because its certificate ends may come back at once: it has another one, or has to recover.
const COMES_BACK_WITHIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// A clock skew counts as changed from this difference on, milliseconds: smaller ones are the network's.
const SKEW_STEP_MILLISECONDS: i64 = 1_000;

/// What a session is told by an agent that is asked whether it still is the remote's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Yielded {
    /// Of the question.
    pub nonce: u64,
    /// It no longer is.
    pub yields: bool,
}

/// Why an agent was asked to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draining {
    /// The hub said so.
    Asked,
    /// Its certificate ends.
    CertificateEnds,
}

/// One life of one agent's stream.
#[derive(Debug)]
pub struct Session {
    opening: Opening,
    hello: SessionHello,
    control: Control,
    lanes: BTreeMap<Lane, LaneSession>,
    claim: Option<v1::Claim>,
    desired: Option<Arc<Desired>>,
    liveness: Liveness,
    looked_at: u64,
    applied: Arc<BTreeMap<Key, Applied>>,
    backlog: u32,
    clock_skew_milliseconds: i64,
    trust: TrustState,
    certificate_ends_at: u64,
    /// The question that waits for an answer.
    asked: Option<u64>,
    yielded: Option<Yielded>,
    draining: Option<Draining>,
    leaving: Option<String>,
    /// What the remote lets the hub ask for.
    policy: Option<Arc<Policy>>,
    samples: Samples,
}

impl Session {
    /// Opens a session with the agent's hello and queues the welcome. `claims_known`: whether the `RemoteIstio`
    /// resources have been listed once, so that a missing one is really missing.
    #[must_use]
    pub fn new(hello: SessionHello, opening: Opening, desired: Option<Arc<Desired>>, claims_known: bool) -> Self {
        let now = opening.now;
        let mut liveness = Liveness::new(now, opening.heartbeat);
        liveness.received(now);
        let lane = |lane: Lane| (lane, LaneSession::new(lane, hello.lanes.get(&lane).copied(), now));
        let mut session = Self {
            lanes: Lane::ALL.into_iter().map(lane).collect(),
            control: Control::default(),
            claim: None,
            desired: None,
            liveness,
            looked_at: now,
            applied: Arc::default(),
            backlog: 0,
            clock_skew_milliseconds: 0,
            trust: TrustState::new(hello.trust_digest),
            certificate_ends_at: opening.certificate_ends_at(),
            asked: None,
            yielded: None,
            draining: None,
            leaving: None,
            policy: None,
            samples: Samples::default(),
            opening,
            hello,
        };
        if let Some(trust) = session.opening.trust.take() {
            session.trust(trust);
        }
        session.set_desired(desired);
        let claim = session.claim_now(claims_known);
        session.control.welcome = Some(session.welcome(claim.clone()));
        session.claim = Some(claim);
        session
    }

    fn welcome(&self, claim: v1::Claim) -> v1::Welcome {
        v1::Welcome {
            protocol: self.hello.protocol,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            features: Vec::new(),
            replica: self.opening.replica.clone(),
            boot_id: self.opening.boot_id.clone(),
            heartbeat_milliseconds: u32::try_from(self.opening.heartbeat.as_millis()).unwrap_or(u32::MAX),
            claim: Some(claim),
        }
    }

    fn claim_now(&self, claims_known: bool) -> v1::Claim {
        let message = match &self.desired {
            Some(_) => String::new(),
            None if claims_known => format!(
                "create RemoteIstio {} in namespace {} on central",
                self.opening.remote, self.opening.namespace
            ),
            None => "the hub has not listed the RemoteIstio resources yet".to_owned(),
        };
        v1::Claim {
            claimed: self.desired.is_some(),
            message,
        }
    }

    /// What the remote should hold has changed; nothing: there is no `RemoteIstio` of its name. The agent keeps what
    /// it has then, for absence is not deletion.
    pub fn desired(&mut self, desired: Option<Arc<Desired>>) {
        self.set_desired(desired);
        let claim = self.claim_now(true);
        if self.claim.as_ref() != Some(&claim) {
            self.control.claim = Some(claim.clone());
            self.claim = Some(claim);
        }
    }

    /// Whom agents should trust has changed: an agent that keeps another trust is sent this one.
    pub fn trust(&mut self, trust: Arc<Trust>) {
        // What waited to be sent is older.
        self.control.trust = self.trust.set(trust);
    }

    /// Asks the agent whether it still is the remote's.
    pub fn challenge(&mut self, challenge: v1::Challenge) {
        self.asked = Some(challenge.nonce);
        self.control.challenge = Some(challenge);
    }

    /// The agent's answer to [`Session::challenge`], once.
    pub fn take_yielded(&mut self) -> Option<Yielded> {
        self.yielded.take()
    }

    fn set_desired(&mut self, desired: Option<Arc<Desired>>) {
        // What is left of a `RemoteIstio` is no business of the agent of another cluster that bears the name today.
        let desired = desired.filter(|desired| desired.concerns(&self.hello.cluster_uid));
        for (lane, state) in &mut self.lanes {
            let snapshot = desired.as_ref().and_then(|desired| desired.lanes.get(lane));
            let held = state.desire(snapshot);
            if let Some(held) = held.filter(|_| self.hello.settled) {
                take_as_applied(Arc::make_mut(&mut self.applied), &held);
            }
        }
        self.desired = desired;
    }

    /// Takes one frame of the agent. `unix_milliseconds`: now on the wall clock.
    ///
    /// # Errors
    /// The stream cannot go on.
    pub fn frame(&mut self, frame: v1::AgentFrame, now: u64, unix_milliseconds: i64) -> Result<(), SessionError> {
        use v1::agent_frame::Frame;

        self.liveness.received(now);
        match frame.frame {
            Some(Frame::Hello(_)) => return Err(SessionError::HelloTwice),
            Some(Frame::Ack(ack)) => {
                let (lane, nonce, hash, nacks, more) = convert::read_ack(ack)?;
                if let Some(state) = self.lanes.get_mut(&lane) {
                    state.ack((nonce, hash), nacks, more, now, &mut self.samples)?;
                }
            }
            Some(Frame::Status(status)) => {
                let sent = status.entries.len();
                let read = convert::read_status(status)?;
                self.samples.unread_states += (sent - read.len()) as u64;
                self.status(read, now)?;
            }
            Some(Frame::Heartbeat(heartbeat)) => {
                self.liveness.peer_has_read(heartbeat.received, now);
                self.backlog = heartbeat.backlog;
                self.note_skew(heartbeat.unix_milliseconds, unix_milliseconds);
            }
            Some(Frame::Drain(drain)) => self.leaving = Some(limits::detail(drain.reason)),
            Some(Frame::TrustKept(kept)) => self.trust.kept(kept),
            Some(Frame::Yield(v1::Yield { nonce, yields })) => {
                if self.asked.take_if(|asked| *asked == nonce).is_some() {
                    self.yielded = Some(Yielded { nonce, yields });
                } else {
                    self.samples.stale_acks += 1;
                }
            }
            Some(Frame::Policy(policy)) => self.policy(&policy),
            // No lane travels from agent to hub yet; what this release does not know is ignored and counted.
            Some(Frame::Delta(_)) | None => self.samples.unknown_frames += 1,
        }
        Ok(())
    }

    /// The remote's policy is this now: what it refused by another one is asked for again.
    fn policy(&mut self, wire: &v1::Policy) {
        let Ok(policy) = Policy::read(wire) else {
            // An agent of another release may know what this hub does not; without it nothing is said in advance.
            self.samples.unknown_frames += 1;
            self.policy = None;
            return;
        };
        if self.policy.as_deref() == Some(&policy) {
            return;
        }
        self.policy = Some(Arc::new(policy));
        self.lanes.values_mut().for_each(LaneSession::policy_changed);
    }

    fn status(&mut self, entries: Vec<(Key, Applied)>, now: u64) -> Result<(), SessionError> {
        let states = Arc::make_mut(&mut self.applied);
        for (key, applied) in entries {
            if applied.state == ApplyState::Removed {
                states.remove(&key);
                continue;
            }
            if let (ApplyState::Applied, Some(version)) = (applied.state, applied.version)
                && let Some(lane) = self.lanes.get_mut(&key.lane())
            {
                lane.applied(&key, version, now, &mut self.samples);
            }
            states.insert(key, applied);
        }
        // Twice what may be desired: objects on their way out are reported too.
        let most = 2 * limits::OBJECTS_PER_LANE * Lane::ALL.len();
        if states.len() > most {
            return Err(SessionError::TooManyStates(most));
        }
        Ok(())
    }

    fn note_skew(&mut self, agent_milliseconds: u64, own_milliseconds: i64) {
        let agent = i64::try_from(agent_milliseconds).unwrap_or(i64::MAX);
        let skew = agent.saturating_sub(own_milliseconds);
        if skew.saturating_sub(self.clock_skew_milliseconds).saturating_abs() >= SKEW_STEP_MILLISECONDS {
            self.clock_skew_milliseconds = skew;
        }
    }

    /// The next frame to send: control before endpoints before config. One delta per lane is unacknowledged at a time.
    pub fn next_frame(&mut self, now: u64) -> Option<v1::HubFrame> {
        let frame = self.control.next_frame().or_else(|| {
            let may_begin = self.draining.is_none();
            // A map of lanes is in order of their priority.
            let delta = self.lanes.values_mut().find_map(|lane| lane.next_part(may_begin))?;
            Some(v1::hub_frame::Frame::Delta(delta))
        })?;
        self.liveness.sent(now);
        Some(v1::HubFrame { frame: Some(frame) })
    }

    /// When [`Session::tick`] has something to do next.
    #[must_use]
    pub fn next_wake(&self) -> u64 {
        let next = self.liveness.next_beat_at().min(self.looked_at + LIFE_CHECK_INTERVAL);
        if self.draining.is_some() {
            return next;
        }
        next.min(self.certificate_ends_at)
    }

    /// Time has passed: queues the heartbeat that is due, asks an agent to leave whose certificate is about to end, and
    /// says whether the agent is dead. `jitter` from 0 to 1 spreads heartbeats; `unix_milliseconds`: now on the wall
    /// clock.
    pub fn tick(&mut self, now: u64, unix_milliseconds: i64, jitter: f64) -> Option<Dead> {
        self.looked_at = now;
        if let Some(beat) = self.liveness.beat(now, jitter) {
            self.control.heartbeat = Some(v1::Heartbeat {
                sequence: beat.sequence,
                received: beat.received,
                unix_milliseconds: u64::try_from(unix_milliseconds).unwrap_or(0),
                backlog: 0,
            });
        }
        if self.draining.is_none() && now >= self.certificate_ends_at {
            self.drain("certificate ends", COMES_BACK_WITHIN);
            self.draining = Some(Draining::CertificateEnds);
        }
        self.liveness.dead(now)
    }

    /// Asks the agent to leave and come back after a moment within `range`. No delta is begun from here on.
    pub fn drain(&mut self, reason: &str, range: (Duration, Duration)) {
        let milliseconds = |pause: Duration| u32::try_from(pause.as_millis()).unwrap_or(u32::MAX);
        self.draining = Some(Draining::Asked);
        self.control.drain = Some(v1::Drain {
            reason: reason.to_owned(),
            reconnect_min_milliseconds: milliseconds(range.0),
            reconnect_max_milliseconds: milliseconds(range.1),
        });
    }

    /// Whether the agent was asked to leave, and why.
    #[must_use]
    pub fn draining(&self) -> Option<Draining> {
        self.draining
    }

    /// The agent has said that it is about to leave, and why.
    #[must_use]
    pub fn leaving(&self) -> Option<&str> {
        self.leaving.as_deref()
    }

    /// Whether a `RemoteIstio` stands behind this session.
    #[must_use]
    pub fn is_claimed(&self) -> bool {
        self.desired.is_some()
    }

    /// What is known of the remote now. Compare with the last one to see whether anything changed.
    #[must_use]
    pub fn report(&self) -> SessionReport {
        let lanes: BTreeMap<Lane, LaneReport> =
            self.lanes.iter().map(|(lane, state)| (*lane, state.report())).collect();
        SessionReport {
            epoch: SessionEpoch {
                start: self.hello.session_epoch,
                connection: self.hello.connection,
            },
            connected_at: self.opening.unix_seconds,
            address: self.opening.address.clone(),
            agent_release: self.hello.release.clone(),
            kubernetes_version: self.hello.kubernetes_version.clone(),
            cluster_uid: self.hello.cluster_uid.clone(),
            claimed: self.is_claimed(),
            desired: self
                .desired
                .as_ref()
                .map(|desired| (desired.uid.clone(), desired.generation)),
            lanes,
            applied: Arc::clone(&self.applied),
            refused: self.lanes.values().flat_map(LaneSession::refused).collect(),
            backlog: self.backlog,
            clock_skew_milliseconds: self.clock_skew_milliseconds,
            certificate: self.opening.certificate,
            trust_epoch: self.trust.epoch(),
            trust_failure: self.trust.failure().to_owned(),
            policy: self.policy.clone(),
        }
    }

    /// What was counted and measured since the last call.
    pub fn take_samples(&mut self) -> Samples {
        for lane in self.lanes.values_mut() {
            lane.collect(&mut self.samples);
        }
        std::mem::take(&mut self.samples)
    }
}

/// An agent that is settled and holds exactly the snapshot has applied it; it reports only what is otherwise.
fn take_as_applied(states: &mut BTreeMap<Key, Applied>, held: &Snapshot) {
    for (key, object) in held.objects() {
        states.entry(key.clone()).or_insert_with(|| Applied {
            version: Some(object.version),
            state: ApplyState::Applied,
            detail: String::new(),
            addresses: object
                .endpoints()
                .map_or(0, |set| u32::try_from(set.endpoints.len()).unwrap_or(u32::MAX)),
            replicas: None,
        });
    }
}
