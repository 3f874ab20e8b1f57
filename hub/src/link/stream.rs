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
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::Settings;
use super::end::End;
use super::sessions::{Sessions, Standing};
use crate::clock;
use crate::index::Desired;
use crate::metrics::{Direction, Metrics};
use crate::registry::Claimant;
use crate::report::SessionEpoch;
use crate::session::{Opening, Session};
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

/// What one stream may take of time and memory. Tests take less.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// To say hello.
    pub(super) hello: Duration,
    /// To make room for one frame.
    pub(super) send: Duration,
    /// To leave after a drain.
    pub(super) leave: Duration,
    /// Frames between the session and its connection.
    pub(super) frames_queued: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            hello: limits::HELLO_DEADLINE,
            send: limits::SEND_DEADLINE,
            leave: Duration::from_secs(3),
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
            Ok((session, standing, desired)) => self.live(session, standing, desired).await,
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

    async fn open(&mut self) -> Result<(Session, Standing, watch::Receiver<Option<Arc<Desired>>>), End> {
        let first = timeout(self.shared.bounds.hello, self.incoming.next())
            .await
            .map_err(|_| End::HelloMissing(self.shared.bounds.hello))?;
        let frame = first.ok_or(End::AgentClosed)?.map_err(|status| End::of_read(&status))?;
        self.count(Direction::Received, received_lane(&frame), frame.encoded_len());
        let Some(v1::agent_frame::Frame::Hello(hello)) = frame.frame else {
            return Err(End::HelloExpected);
        };
        let hello = convert::read_hello(hello).map_err(End::HelloRefused)?;
        let claimant = Claimant {
            boot_id: hello.boot_id.clone(),
            epoch: SessionEpoch {
                start: hello.session_epoch,
                connection: hello.connection,
            },
            cluster_uid: hello.cluster_uid.clone(),
            address: self.peer.address.clone(),
        };
        let Shared {
            settings,
            state,
            sessions,
            ..
        } = &self.shared;
        let standing = sessions.open(&self.remote, claimant).map_err(End::Refused)?;
        let mut followed = state.subscribe(&self.remote);
        let desired = followed.borrow_and_update().clone();
        let opening = Opening {
            now: clock::now(),
            unix_seconds: clock::unix_seconds(),
            remote: self.remote.clone(),
            namespace: settings.namespace.clone(),
            address: self.peer.address.clone(),
            replica: settings.replica.clone(),
            boot_id: settings.boot_id.clone(),
            heartbeat: limits::HEARTBEAT_INTERVAL,
        };
        let claimed = desired.is_some();
        let (remote, address, release) = (&self.remote, &self.peer.address, &hello.release);
        tracing::info!(%remote, %address, %release, claimed, "session opened");
        let claims_known = *state.remotes_known().borrow();
        Ok((Session::new(hello, opening, desired, claims_known), standing, followed))
    }

    async fn live(
        &mut self,
        mut session: Session,
        standing: Standing,
        mut followed: watch::Receiver<Option<Arc<Desired>>>,
    ) -> End {
        self.shared.metrics.session_opened();
        let end = self.drive(&mut session, &standing, &mut followed).await;
        self.publish(&mut session, &standing);
        let (remote, address) = (&self.remote, &self.peer.address);
        tracing::info!(%remote, %address, reason = %end, "session ended");
        end
    }

    async fn drive(
        &mut self,
        session: &mut Session,
        standing: &Standing,
        followed: &mut watch::Receiver<Option<Arc<Desired>>>,
    ) -> End {
        let mut next: Option<(v1::HubFrame, Instant)> = None;
        let mut leave_by: Option<Instant> = None;
        loop {
            self.publish(session, standing);
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
                        return if leave_by.is_some() && end == End::AgentClosed { End::Drained } else { end };
                    }
                }
                changed = followed.changed() => {
                    if changed.is_err() {
                        return End::Drained;
                    }
                    let desired = followed.borrow_and_update().clone();
                    self.note_claim(session, desired.is_some());
                    session.desired(desired);
                }
                () = sleep_until(wake) => {
                    if let Some(end) = overdue(session, next.as_ref(), leave_by) {
                        return end;
                    }
                }
                () = standing.superseded.cancelled() => return End::Superseded,
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

    fn note_claim(&self, session: &Session, claimed: bool) {
        let remote = &self.remote;
        if claimed != session.is_claimed() {
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

    fn count(&self, direction: Direction, lane: &'static str, bytes: usize) {
        self.shared.metrics.frame(direction, lane, bytes);
    }

    fn publish(&self, session: &mut Session, standing: &Standing) {
        self.shared.metrics.take(session.take_samples());
        standing.publish(session.report());
    }
}

/// What has run out of time, if anything has; also lets the session do what its own time asks.
fn overdue(session: &mut Session, next: Option<&(v1::HubFrame, Instant)>, leave_by: Option<Instant>) -> Option<End> {
    let now = Instant::now();
    if next.is_some_and(|(_, send_by)| *send_by <= now) {
        return Some(End::Stuck);
    }
    if leave_by.is_some_and(|leave_by| leave_by <= now) {
        return Some(End::Drained);
    }
    let dead = session.tick(clock::now(), clock::unix_milliseconds(), rand::random());
    dead.map(End::Dead)
}

fn reconnect_spread(sessions: usize) -> Duration {
    let sessions = u32::try_from(sessions).unwrap_or(u32::MAX);
    let added = RECONNECT_SPREAD_PER_SESSION.saturating_mul(sessions);
    RECONNECT_SPREAD.saturating_add(added).min(RECONNECT_SPREAD_MAX)
}

/// The label of frames that belong to no lane.
const CONTROL: &str = "control";

fn received_lane(frame: &v1::AgentFrame) -> &'static str {
    match &frame.frame {
        Some(v1::agent_frame::Frame::Ack(ack)) => lane_label(ack.lane),
        Some(v1::agent_frame::Frame::Delta(delta)) => lane_label(delta.lane),
        _ => CONTROL,
    }
}

fn lane_label(lane: i32) -> &'static str {
    convert::read_lane(lane).map_or(CONTROL, |lane| lane.as_str())
}
