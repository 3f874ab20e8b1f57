//! Drives one session: frames, changes of what is desired, time and the end of this process, none waiting for another.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use prost::Message as _;
use remote_istio::convert;
use remote_istio::identity::RemoteName;
use remote_istio::limits;
use remote_istio::tls::Peer;
use remote_istio::wire::v1;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::Settings;
use super::end::End;
use super::opening::Opened;
use super::records::Bindings;
use super::sessions::Sessions;
use super::standing::Signal;
use crate::clock;
use crate::metrics::{Direction, Metrics};
use crate::session::{Draining, Session};
use crate::state::State;

/// A connection that must end is cut so long after the stream's last word.
const LAST_WORD: Duration = Duration::from_secs(1);

/// After a drain agents come back no sooner than this.
const RECONNECT_MIN: Duration = Duration::from_millis(200);

/// And within this much more, at the least.
const RECONNECT_SPREAD: Duration = Duration::from_secs(1);

/// Each session adds so much to the spread: about 200 handshakes a second for the replicas that are left.
const RECONNECT_SPREAD_PER_SESSION: Duration = Duration::from_millis(5);

/// The spread ends here.
const RECONNECT_SPREAD_MAX: Duration = Duration::from_mins(1);

/// Between two warnings that one agent cannot keep its trust: the text is the agent's, and so is how often it changes.
const TRUST_WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// What one stream may take of time and memory. Tests take less.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// To say hello.
    pub(super) hello: Duration,
    /// To make room for one frame.
    pub(super) send: Duration,
    /// To leave after a drain.
    pub(super) leave: Duration,
    /// To say whether it yields.
    pub(super) yields: Duration,
    /// Frames between the session and its connection.
    pub(super) frames_queued: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            hello: limits::HELLO_DEADLINE,
            send: limits::SEND_DEADLINE,
            leave: Duration::from_secs(3),
            yields: limits::YIELD_DEADLINE,
            frames_queued: limits::FRAMES_QUEUED,
        }
    }
}

/// What all streams share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) settings: Arc<Settings>,
    pub(super) bounds: Bounds,
    pub(super) state: Arc<State>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) bindings: Bindings,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stop: CancellationToken,
}

/// One agent's stream, before and after its hello.
pub(super) struct AgentStream<I> {
    pub(super) shared: Shared,
    pub(super) remote: RemoteName,
    pub(super) peer: Arc<Peer>,
    pub(super) incoming: I,
    pub(super) outgoing: mpsc::Sender<Result<v1::HubFrame, Status>>,
}

impl<I> AgentStream<I>
where
    I: Stream<Item = Result<v1::AgentFrame, Status>> + Unpin,
{
    /// Runs the stream to its end. Whatever ends it has a name, a counter and a line in the log.
    pub(super) async fn run(mut self) {
        let end = match self.open().await {
            Ok(opened) => self.live(opened).await,
            Err(end) => {
                let (remote, address) = (&self.remote, &self.peer.address);
                tracing::warn!(%remote, %address, reason = %end, "session refused");
                end
            }
        };
        self.shared.metrics.session_ended(end.as_str());
        if let Some(status) = end.status() {
            // A full queue means that nobody reads it anyway.
            if self.outgoing.try_send(Err(status)).is_err() {
                tracing::debug!(remote = %self.remote, "the agent cannot be told why its session ended");
            }
        }
        let Self { outgoing, peer, .. } = self;
        drop(outgoing);
        if end.cuts() {
            // Gone earlier if the agent has closed, in which case this waits for nothing but a moment.
            let gone = timeout(LAST_WORD, peer.cut_token().cancelled()).await.is_ok();
            tracing::debug!(address = %peer.address, gone, "cutting a connection");
            peer.cut();
        }
    }

    async fn live(&mut self, mut opened: Opened) -> End {
        self.shared.metrics.session_opened();
        let end = self.drive(&mut opened).await;
        self.publish(&mut opened);
        let (remote, address) = (&self.remote, &self.peer.address);
        tracing::info!(%remote, %address, reason = %end, "session ended");
        end
    }

    async fn drive(&mut self, opened: &mut Opened) -> End {
        let mut next: Option<(v1::HubFrame, Instant)> = None;
        let mut leave_by: Option<Instant> = None;
        loop {
            self.publish(opened);
            let session = &mut opened.session;
            if leave_by.is_none() && session.draining() == Some(Draining::CertificateEnds) {
                tracing::debug!(remote = %self.remote, "certificate ends, the agent is asked to leave");
                leave_by = Some(Instant::now() + self.shared.bounds.leave);
            }
            if next.is_none() {
                let send_by = Instant::now() + self.shared.bounds.send;
                next = session.next_frame(clock::now()).map(|frame| (frame, send_by));
            }
            let deadlines = [next.as_ref().map(|(_, send_by)| *send_by), leave_by];
            let wake = deadlines
                .into_iter()
                .flatten()
                .fold(clock::instant(session.next_wake()), Instant::min);
            tokio::select! {
                permit = self.outgoing.reserve(), if next.is_some() => {
                    let Ok(permit) = permit else { return End::ConnectionLost("the transport took no more".to_owned()) };
                    if let Some((frame, _)) = next.take() {
                        permit.send(Ok(self.counted(frame)));
                    }
                }
                received = self.incoming.next() => {
                    if let Err(end) = self.receive(session, received) {
                        return if leave_by.is_some() && end == End::AgentClosed { drained(session) } else { end };
                    }
                    if let Some(yielded) = session.take_yielded() {
                        opened.standing.answered(yielded);
                    }
                }
                changed = opened.followed.changed() => {
                    if changed.is_err() {
                        return End::Drained;
                    }
                    let desired = opened.followed.borrow_and_update().clone();
                    let was_claimed = session.is_claimed();
                    session.desired(desired);
                    self.note_claim(session, was_claimed);
                }
                () = sleep_until(wake) => {
                    if let Some(end) = overdue(session, next.as_ref(), leave_by) {
                        return end;
                    }
                }
                trust = self.shared.bindings.next_trust() => {
                    tracing::debug!(remote = %self.remote, epoch = trust.epoch, "trust changed");
                    session.trust(trust);
                }
                signal = opened.signalled.next() => match signal {
                    Signal::End(ending) => return ending.into(),
                    Signal::Ask(challenge) => session.challenge(challenge),
                },
                () = self.shared.stop.cancelled(), if leave_by.is_none() => {
                    leave_by = Some(Instant::now() + self.shared.bounds.leave);
                    let spread = reconnect_spread(self.shared.sessions.len());
                    session.drain("this hub replica is stopping", (RECONNECT_MIN, RECONNECT_MIN + spread));
                }
            }
        }
    }

    fn receive(&self, session: &mut Session, received: Option<Result<v1::AgentFrame, Status>>) -> Result<(), End> {
        let left = || session.leaving().map(|reason| End::AgentLeft(reason.to_owned()));
        let frame = match received {
            None => return Err(left().unwrap_or(End::AgentClosed)),
            Some(Err(status)) => return Err(left().unwrap_or_else(|| End::of_read(&status))),
            Some(Ok(frame)) => frame,
        };
        self.count(Direction::Received, received_lane(&frame), frame.encoded_len());
        tracing::trace!(remote = %self.remote, ?frame, "frame received");
        session
            .frame(frame, clock::now(), clock::unix_milliseconds())
            .map_err(End::Protocol)
    }

    fn note_claim(&self, session: &Session, was_claimed: bool) {
        let (remote, claimed) = (&self.remote, session.is_claimed());
        if claimed != was_claimed {
            tracing::info!(%remote, claimed, "claim of a session changed");
        }
    }

    fn counted(&self, frame: v1::HubFrame) -> v1::HubFrame {
        let lane = match &frame.frame {
            Some(v1::hub_frame::Frame::Delta(delta)) => lane_label(delta.lane),
            _ => CONTROL,
        };
        self.count(Direction::Sent, lane, frame.encoded_len());
        tracing::trace!(remote = %self.remote, ?frame, "frame sent");
        frame
    }

    pub(super) fn count(&self, direction: Direction, lane: &'static str, bytes: usize) {
        self.shared.metrics.frame(direction, lane, bytes);
    }

    fn publish(&self, opened: &mut Opened) {
        self.shared.metrics.take(opened.session.take_samples());
        let report = opened.session.report();
        if report.trust_epoch != opened.trust_epoch {
            opened.trust_epoch = report.trust_epoch;
            if let Some(epoch) = report.trust_epoch {
                self.shared.bindings.records.trust_kept(&self.remote, epoch);
            }
        }
        if let Some(held_back) = opened.trust_failures.admit(&report.trust_failure, Instant::now()) {
            let (remote, failure) = (&self.remote, &report.trust_failure);
            tracing::warn!(%remote, %failure, held_back, "agent cannot keep the trust it was sent");
        }
        opened.standing.publish(report);
    }
}

/// Which failures of an agent to keep its trust are worth a warning.
#[derive(Debug, Default)]
pub(super) struct TrustFailures {
    last: String,
    told_at: Option<Instant>,
    held_back: u64,
}

impl TrustFailures {
    /// How many were held back since the last warning, if one is due now.
    fn admit(&mut self, failure: &str, now: Instant) -> Option<u64> {
        if failure == self.last {
            return None;
        }
        failure.clone_into(&mut self.last);
        if failure.is_empty() {
            return None;
        }
        if self
            .told_at
            .is_some_and(|told_at| now.duration_since(told_at) < TRUST_WARNING_INTERVAL)
        {
            self.held_back += 1;
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}

/// What has run out of time, if anything has; also lets the session do what its own time asks.
fn overdue(session: &mut Session, next: Option<&(v1::HubFrame, Instant)>, leave_by: Option<Instant>) -> Option<End> {
    let now = Instant::now();
    if next.is_some_and(|(_, send_by)| *send_by <= now) {
        return Some(End::Stuck);
    }
    if leave_by.is_some_and(|leave_by| leave_by <= now) {
        return Some(drained(session));
    }
    let dead = session.tick(clock::now(), clock::unix_milliseconds(), rand::random());
    dead.map(End::Dead)
}

/// What the end of a drained session is called.
fn drained(session: &Session) -> End {
    match session.draining() {
        Some(Draining::CertificateEnds) => End::CertificateEnds,
        Some(Draining::Asked) | None => End::Drained,
    }
}

fn reconnect_spread(sessions: usize) -> Duration {
    let sessions = u32::try_from(sessions).unwrap_or(u32::MAX);
    let added = RECONNECT_SPREAD_PER_SESSION.saturating_mul(sessions);
    RECONNECT_SPREAD.saturating_add(added).min(RECONNECT_SPREAD_MAX)
}

/// The label of frames that belong to no lane.
const CONTROL: &str = "control";

pub(super) fn received_lane(frame: &v1::AgentFrame) -> &'static str {
    match &frame.frame {
        Some(v1::agent_frame::Frame::Ack(ack)) => lane_label(ack.lane),
        Some(v1::agent_frame::Frame::Delta(delta)) => lane_label(delta.lane),
        _ => CONTROL,
    }
}

fn lane_label(lane: i32) -> &'static str {
    convert::read_lane(lane).map_or(CONTROL, |lane| lane.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_to_keep_a_trust_is_told_once_a_minute_however_its_text_changes() {
        let (mut failures, start) = (TrustFailures::default(), Instant::now());
        assert_eq!(failures.admit("", start), None);
        assert_eq!(failures.admit("full", start), Some(0));
        assert_eq!(failures.admit("full", start + TRUST_WARNING_INTERVAL), None, "no news");
        for number in 0..50 {
            let now = start + Duration::from_secs(number);
            assert_eq!(failures.admit(&number.to_string(), now), None);
            assert_eq!(failures.admit("", now), None);
        }
        assert_eq!(failures.admit("full", start + TRUST_WARNING_INTERVAL), Some(50));
    }
}
