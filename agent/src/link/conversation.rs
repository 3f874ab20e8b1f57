//! One stream from hello to its end: relays frames, beats, and notices when the hub no longer works.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::{Stream, StreamExt as _};
use remote_istio::limits;
use remote_istio::liveness::Liveness;
use remote_istio::transport::HubAddress;
use remote_istio::wire::v1::agent_frame::Frame as Own;
use remote_istio::wire::v1::hub_frame::Frame as Hubs;
use remote_istio::wire::{PROTOCOL_MAX, PROTOCOL_MIN, v1};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::ended::Ended;
use super::frames::{count_received, count_sent};
use super::{Link, LinkEvent, Question, ToHub};

/// A hub cannot ask for heartbeats further apart than the deadline for hearing one allows, nor for a flood.
const INTERVALS: (Duration, Duration) = (Duration::from_secs(1), limits::HEARTBEAT_INTERVAL);

/// For the last frames and the hub's own end of the stream, when the agent stops.
const DRAIN_DEADLINE: Duration = Duration::from_secs(2);

/// Answers of others than the driver that wait to be sent.
const ANSWERS_QUEUED: usize = 4;

/// The state of one stream.
pub(super) struct Conversation<'a> {
    link: &'a Link,
    outgoing: Option<mpsc::Sender<v1::AgentFrame>>,
    frames: mpsc::Receiver<ToHub>,
    /// What others than the driver answer to the hub, and where they put it.
    answers: (mpsc::Sender<Own>, mpsc::Receiver<Own>),
    /// Waits for room in the transport; heartbeats go first.
    queue: VecDeque<v1::AgentFrame>,
    queued_at: Option<Instant>,
    liveness: Liveness,
    opened_at: Instant,
    welcomed_at: Option<Instant>,
    claimed: Option<bool>,
    unknown_said: bool,
}

/// Why [`Conversation::run`] came back.
pub(super) enum Turn<T> {
    /// The conversation has ended.
    Ended(Ended),
    /// It goes on, but the other thing that was waited for is there.
    Other(T),
}

enum Next<T> {
    Stop,
    Other(T),
    Answer(Own),
    Hub(Option<Result<v1::HubFrame, Status>>),
    Driver(Option<ToHub>),
    Sent,
    Closed,
    Time,
}

impl<'a> Conversation<'a> {
    pub(super) fn new(
        outgoing: mpsc::Sender<v1::AgentFrame>,
        frames: mpsc::Receiver<ToHub>,
        link: &'a Link,
        now: Instant,
    ) -> Self {
        Self {
            link,
            outgoing: Some(outgoing),
            frames,
            answers: mpsc::channel(ANSWERS_QUEUED),
            queue: VecDeque::new(),
            queued_at: None,
            liveness: Liveness::new(0, limits::HEARTBEAT_INTERVAL),
            opened_at: now,
            welcomed_at: None,
            claimed: None,
            unknown_said: false,
        }
    }

    /// Puts the hello where the transport finds it when the request starts.
    pub(super) fn open(&mut self, hello: v1::Hello) {
        let frame = v1::AgentFrame {
            frame: Some(Own::Hello(hello)),
        };
        let now = self.now();
        if let Some(outgoing) = &self.outgoing {
            count_sent(&self.link.metrics, &frame);
            outgoing
                .try_send(frame)
                .expect("the transport's queue is empty before the first frame");
            self.liveness.sent(now);
        }
    }

    /// How long ago the hub welcomed this agent.
    pub(super) fn lived(&self) -> Option<Duration> {
        self.welcomed_at.map(|at| at.elapsed())
    }

    /// Talks until the end, or until `other` is there; then it may be called again.
    pub(super) async fn run<S, F>(
        &mut self,
        incoming: &mut S,
        address: &HubAddress,
        stop: &CancellationToken,
        mut other: F,
    ) -> Turn<F::Output>
    where
        S: Stream<Item = Result<v1::HubFrame, Status>> + Unpin,
        F: Future + Unpin,
    {
        loop {
            let result = match self.next(incoming, stop, &mut other).await {
                Next::Stop => return Turn::Ended(self.drain(incoming).await),
                Next::Other(value) => return Turn::Other(value),
                Next::Hub(None) => Err(Ended::Closed),
                Next::Hub(Some(Err(status))) => Err(Ended::Status(status)),
                Next::Hub(Some(Ok(frame))) => self.heard(frame, address).await,
                // The driver has given this session up, or has ended, which the caller looks at.
                Next::Driver(None) => Err(Ended::Stuck),
                Next::Driver(Some(ToHub::Close(reason))) => Err(Ended::Protocol(reason)),
                Next::Driver(Some(ToHub::Frame(frame))) | Next::Answer(frame) => {
                    self.enqueue(frame, false);
                    Ok(())
                }
                Next::Sent => Ok(()),
                // The reason comes as the end of the stream from the hub, if one comes at all.
                Next::Closed => {
                    self.outgoing = None;
                    self.queue.clear();
                    self.queued_at = None;
                    Ok(())
                }
                Next::Time => self.time(),
            };
            if let Err(ended) = result {
                return Turn::Ended(ended);
            }
        }
    }

    async fn next<S, F>(&mut self, incoming: &mut S, stop: &CancellationToken, other: &mut F) -> Next<F::Output>
    where
        S: Stream<Item = Result<v1::HubFrame, Status>> + Unpin,
        F: Future + Unpin,
    {
        let wake = self.wake();
        let relays = self.welcomed_at.is_some() && self.queue.is_empty();
        let sends = self.outgoing.as_ref().filter(|_| !self.queue.is_empty());
        let room = async {
            match sends {
                Some(outgoing) => outgoing.reserve().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => Next::Stop,
            frame = incoming.next() => Next::Hub(frame),
            frame = self.frames.recv(), if relays => Next::Driver(frame),
            Some(answer) = self.answers.1.recv(), if relays => Next::Answer(answer),
            room = room => match (room, self.queue.pop_front()) {
                (Ok(room), Some(frame)) => {
                    count_sent(&self.link.metrics, &frame);
                    room.send(frame);
                    self.liveness.sent(nanoseconds(self.opened_at.elapsed()));
                    self.queued_at = (!self.queue.is_empty()).then(Instant::now);
                    Next::Sent
                }
                _ => Next::Closed,
            },
            value = other => Next::Other(value),
            () = sleep_until(wake) => Next::Time,
        }
    }

    pub(super) async fn heard(&mut self, frame: v1::HubFrame, address: &HubAddress) -> Result<(), Ended> {
        let now = self.now();
        self.liveness.received(now);
        count_received(&self.link.metrics, &frame);
        let first = self.welcomed_at.is_none();
        match frame.frame {
            Some(Hubs::Welcome(welcome)) if first => self.welcome(welcome, address).await?,
            Some(Hubs::Drain(drain)) => return Err(drained(drain)),
            Some(_) if first => return Err(broken("sent something else before the welcome")),
            Some(Hubs::Welcome(_)) => return Err(broken("welcomed this agent twice")),
            Some(Hubs::Delta(delta)) => self.tell(LinkEvent::Delta(delta)).await?,
            Some(Hubs::Heartbeat(beat)) => {
                self.liveness.peer_has_read(beat.received, now);
                self.link.metrics.hub_clock(ahead_seconds(beat.unix_milliseconds));
            }
            Some(Hubs::Claim(claim)) => self.claim(&claim),
            Some(Hubs::Trust(trust)) => self.ask(&self.link.side.trusts, trust),
            Some(Hubs::Challenge(challenge)) => {
                tracing::info!(
                    other = %limits::detail(challenge.address.as_str()), cluster_uid = %limits::detail(challenge.cluster_uid.as_str()),
                    session_epoch = challenge.session_epoch, "another agent says to be this remote's"
                );
                self.ask(&self.link.side.challenges, challenge);
            }
            // No lane travels from agent to hub yet, so there is nothing to acknowledge.
            Some(Hubs::Ack(_)) | None => {
                self.link.metrics.frame_unknown();
                if !std::mem::replace(&mut self.unknown_said, true) {
                    tracing::info!(%address, "the hub sent a frame this release does not know, ignored");
                }
            }
        }
        Ok(())
    }

    /// Hands a question of the hub to whoever can answer it. The hub asks again, or does without an answer.
    fn ask<T>(&self, who: &mpsc::Sender<Question<T>>, asked: T) {
        let answers = self.answers.0.clone();
        if who.try_send(Question { asked, answers }).is_err() {
            self.link.metrics.question_dropped();
            tracing::debug!("a question of the hub found nobody to answer it");
        }
    }

    pub(super) async fn welcome(&mut self, welcome: v1::Welcome, address: &HubAddress) -> Result<(), Ended> {
        let chosen = welcome.protocol;
        if !(PROTOCOL_MIN..=PROTOCOL_MAX).contains(&chosen) {
            return Err(Ended::Protocol(format!(
                "the hub chose protocol {chosen}, this release speaks {PROTOCOL_MIN} to {PROTOCOL_MAX}: upgrade the agent"
            )));
        }
        self.welcomed_at = Some(Instant::now());
        let asked = Duration::from_millis(welcome.heartbeat_milliseconds.into());
        let interval = if asked.is_zero() {
            INTERVALS.1
        } else {
            asked.clamp(INTERVALS.0, INTERVALS.1)
        };
        // Until now one frame went each way: hello and welcome.
        let now = self.now();
        self.liveness = Liveness::new(now, interval);
        self.liveness.sent(now);
        self.liveness.received(now);
        tracing::info!(
            %address, replica = %welcome.replica, release = %welcome.release, remote = %self.link.remote,
            "connected to hub"
        );
        self.link.welcomed.met();
        self.claim(&welcome.claim.clone().unwrap_or_default());
        self.tell(LinkEvent::Welcomed(welcome)).await
    }

    fn claim(&mut self, claim: &v1::Claim) {
        self.link.metrics.session(true, claim.claimed);
        let remote = &self.link.remote;
        match (self.claimed.replace(claim.claimed), claim.claimed) {
            (Some(false), true) => tracing::info!(%remote, "a RemoteIstio stands behind this session now"),
            (None | Some(true), false) => {
                let advice = limits::detail(claim.message.as_str());
                tracing::warn!(%remote, %advice, "no RemoteIstio stands behind this session, nothing is sent to it");
            }
            _ => {}
        }
    }

    /// Heartbeats, and whatever has waited for too long.
    pub(super) fn time(&mut self) -> Result<(), Ended> {
        let now = self.now();
        if self.welcomed_at.is_none() {
            return Err(Ended::NoWelcome);
        }
        if let Some(dead) = self.liveness.dead(now) {
            return Err(Ended::Dead(dead));
        }
        if self.queued_at.is_some_and(|at| at.elapsed() >= limits::SEND_DEADLINE) {
            return Err(Ended::Stuck);
        }
        if let Some(beat) = self.liveness.beat(now, rand::random()) {
            let heartbeat = v1::Heartbeat {
                sequence: beat.sequence,
                received: beat.received,
                unix_milliseconds: unix_milliseconds(),
                backlog: self.link.backlog.load(Ordering::Relaxed),
            };
            self.enqueue(Own::Heartbeat(heartbeat), true);
        }
        Ok(())
    }

    /// When [`Self::time`] is to look next: before the welcome at its deadline, after it at least once a second.
    fn wake(&self) -> Instant {
        if self.welcomed_at.is_none() {
            return self.opened_at + limits::HELLO_DEADLINE;
        }
        let beat = self.opened_at + Duration::from_nanos(self.liveness.next_beat_at());
        beat.min(Instant::now() + Duration::from_secs(1))
    }

    /// Says goodbye and waits a little for the hub to say it too.
    async fn drain<S: Stream + Unpin>(&mut self, incoming: &mut S) -> Ended {
        let goodbye = v1::Drain {
            reason: "the agent stops".to_owned(),
            ..v1::Drain::default()
        };
        self.enqueue(Own::Drain(goodbye), false);
        let ending = async {
            if let Some(outgoing) = self.outgoing.take() {
                for frame in self.queue.drain(..) {
                    count_sent(&self.link.metrics, &frame);
                    if outgoing.send(frame).await.is_err() {
                        return;
                    }
                }
            }
            // Without a sender the agent's half of the stream ends; the hub ends its own then.
            while incoming.next().await.is_some() {}
        };
        if timeout(DRAIN_DEADLINE, ending).await.is_err() {
            tracing::debug!("the hub did not end the stream in time");
        }
        Ended::Stopped
    }

    pub(super) fn enqueue(&mut self, frame: Own, first: bool) {
        if self.outgoing.is_none() {
            return;
        }
        self.queued_at.get_or_insert_with(Instant::now);
        let frame = v1::AgentFrame { frame: Some(frame) };
        if first {
            self.queue.push_front(frame);
        } else {
            self.queue.push_back(frame);
        }
    }

    /// Makes everything here older.
    #[cfg(test)]
    pub(super) fn pass(&mut self, time: Duration) {
        self.opened_at -= time;
        self.queued_at = self.queued_at.map(|at| at - time);
    }

    /// As if the hub had just said something, and read everything.
    #[cfg(test)]
    pub(super) fn hear(&mut self) {
        let now = self.now();
        self.liveness.received(now);
        self.liveness.peer_has_read(u64::MAX, now);
    }

    async fn tell(&self, event: LinkEvent) -> Result<(), Ended> {
        self.link.events.send(event).await.map_err(|_| Ended::Stopped)
    }

    fn now(&self) -> u64 {
        nanoseconds(self.opened_at.elapsed())
    }
}

pub(super) fn broken(what: &str) -> Ended {
    Ended::Protocol(format!("the hub broke the protocol: it {what}"))
}

pub(super) fn drained(drain: v1::Drain) -> Ended {
    let milliseconds = |count: u32| Duration::from_millis(count.into());
    let range = (
        milliseconds(drain.reconnect_min_milliseconds),
        milliseconds(drain.reconnect_max_milliseconds),
    );
    Ended::Drained(limits::detail(drain.reason), range)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// By this machine's clock; before 1970 counts as 1970.
fn unix_milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a gauge in seconds needs no better than 2^53 ms"
)]
fn ahead_seconds(hub_unix_milliseconds: u64) -> f64 {
    (hub_unix_milliseconds as f64 - unix_milliseconds() as f64) / 1_000.0
}
