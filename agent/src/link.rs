//! The way to the hub: dials its addresses in turn, holds one conversation at a time, and comes back after a pause.
//! With a new certificate the conversation moves to a new connection before the old one is left.
//!
//! Owns no state of the engine: everything that is said comes from the driver and goes to it.

mod addresses;
mod connection;
mod conversation;
mod ended;
mod frames;
mod pause;
mod probe;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use remote_istio::enrolment::TrustDigest;
use remote_istio::identity::{Identity, RemoteName};
use remote_istio::limits;
use remote_istio::process::Condition;
use remote_istio::tls::{ReloadStatus, TlsSource};
use remote_istio::transport::{HubAddress, Way};
use remote_istio::wire::v1;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::engine::Greeting;
use crate::metrics::Metrics;
use addresses::Addresses;
pub use addresses::Hubs;
use connection::Live;
use conversation::Turn;
use ended::Ended;
pub use ended::Refused;
use frames::hello;
use pause::Pauses;
pub use probe::probe;

/// A certificate may be so new that a replica of the hub has not heard of it.
const FRESH: Duration = Duration::from_secs(30);

/// What the link tells the driver.
#[derive(Debug)]
pub enum LinkEvent {
    /// A stream opens: what is to be sent goes into `frames`, what to say in the hello comes back by `greeting`.
    Opened {
        /// What is to be sent.
        frames: mpsc::Sender<ToHub>,
        /// What to say in the hello.
        greeting: oneshot::Sender<Greeting>,
    },
    /// The hub has answered the hello.
    Welcomed(v1::Welcome),
    /// A part of a delta came.
    Delta(v1::Delta),
    /// A second stream is about to take over: what to say in its hello comes back by `greeting`. Nothing is relayed
    /// until [`LinkEvent::Moved`] or [`LinkEvent::Stayed`].
    Prepare {
        /// What to say in the hello.
        greeting: oneshot::Sender<Greeting>,
    },
    /// The second stream has taken over, its welcome comes next; what is to be sent goes into `frames`.
    Moved {
        /// What is to be sent.
        frames: mpsc::Sender<ToHub>,
    },
    /// Nothing came of the second stream.
    Stayed,
    /// The stream has ended.
    Closed,
}

/// What the driver has for the link.
#[derive(Clone, Debug, PartialEq)]
pub enum ToHub {
    /// Send this.
    Frame(v1::agent_frame::Frame),
    /// End the stream, for this reason.
    Close(String),
}

/// What the hub asks of others than the driver.
#[derive(Debug)]
pub struct Question<T> {
    /// The hub's frame.
    pub asked: T,
    /// Where the answer goes; closed once the stream has ended.
    pub answers: mpsc::Sender<v1::agent_frame::Frame>,
}

/// What a hello says of the agent beside its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// UID of the remote's kube-system namespace.
    pub cluster_uid: String,
    /// Random, once per process.
    pub boot_id: String,
    /// Raised at each start of an agent.
    pub session_epoch: u64,
    /// Version of the remote's API server.
    pub kubernetes_version: String,
    /// The agent's release.
    pub release: String,
}

/// What whoever looks after the identity tells the link.
#[derive(Clone, Debug, Default)]
pub struct Guide {
    /// Where the hub listens; taken up by the next connection.
    pub hubs: Hubs,
    /// Of the trust that is held; nothing where files say whom to trust.
    pub trust: Option<TrustDigest>,
    /// When the certificate was issued, if this process was there.
    pub issued_at: Option<Instant>,
}

/// What the link says to whoever looks after the identity, and to whoever holds the Lease.
pub struct Side {
    /// Trusts to be kept.
    pub trusts: mpsc::Sender<Question<v1::Trust>>,
    /// Whether this is still the remote's agent.
    pub challenges: mpsc::Sender<Question<v1::Challenge>>,
    /// The connection of the session that stands.
    pub channel: watch::Sender<Option<Channel>>,
    /// For what the hub does not take this agent; nothing while it does.
    pub refused: watch::Sender<Option<Refused>>,
}

/// The link's parts.
pub struct Link {
    /// Where hub replicas listen, and what is held.
    pub guide: watch::Receiver<Guide>,
    /// How they are reached.
    pub way: Way,
    /// Who this agent is, and whom it trusts.
    pub tls: Arc<TlsSource>,
    /// The remote's name at the start; a renewed certificate must still say it.
    pub remote: RemoteName,
    /// To the driver.
    pub events: mpsc::Sender<LinkEvent>,
    /// To others.
    pub side: Side,
    /// Objects accepted and not applied, for heartbeats.
    pub backlog: Arc<AtomicU32>,
    /// Counts frames and ends.
    pub metrics: Arc<Metrics>,
    /// Met from the first welcome on.
    pub welcomed: Condition,
}

impl Link {
    /// Keeps a conversation with the hub going until `stop`, or until the driver has ended.
    pub async fn run(self, facts: Facts, stop: CancellationToken) {
        let mut addresses = Addresses::new(rand::random());
        let mut certificates = self.tls.status();
        let mut pauses = Pauses::new(rand::random());
        let mut said = None;
        let mut connection = 0;
        while !stop.is_cancelled() {
            let hubs = self.guide.borrow().hubs.clone();
            let Some(address) = addresses.next(&hubs) else {
                tracing::error!("no address of the hub is known, give --hub");
                return stop.cancelled().await;
            };
            let reloads = certificates.borrow().reloads;
            let (ended, lived) = self.attempt(&address, &facts, &mut connection, &stop).await;
            self.metrics.session_ended(ended.as_str());
            if matches!(ended, Ended::Stopped) || self.events.is_closed() {
                return;
            }
            self.side.refused.send_replace(ended.refusal());
            let pause = pauses.after(&ended, lived, self.is_fresh());
            say(&address, &ended, lived, pause, &mut said);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                () = renewed(&mut certificates, reloads), if ended.refusal().is_some() => {}
            }
        }
    }

    /// One session from dialling to its end. Also says how long it lived, if it came to a welcome.
    async fn attempt(
        &self,
        address: &HubAddress,
        facts: &Facts,
        connection: &mut u64,
        stop: &CancellationToken,
    ) -> (Ended, Option<Duration>) {
        if self.tls.own().identity != Identity::Remote(self.remote.clone()) {
            let text = format!("the certificate in use no longer stands for {}", self.remote);
            return (Ended::refused(text), None);
        }
        let dialled = tokio::select! {
            () = stop.cancelled() => return (Ended::Stopped, None),
            dialled = self.dial(address) => dialled,
        };
        let dialled = match dialled {
            Ok(dialled) => dialled,
            Err(ended) => return (ended, None),
        };
        let (frames_tx, frames) = mpsc::channel(limits::FRAMES_QUEUED);
        let Some(greeting) = self.opened(frames_tx).await else {
            return (Ended::Stopped, None);
        };
        *connection += 1;
        let hello = hello(facts, *connection, &greeting, self.guide.borrow().trust);
        let result = match self.greet(dialled, hello, frames, stop).await {
            Ok(live) => self.talk(live, facts, connection, stop).await,
            Err(ended) => (ended, None),
        };
        self.side.channel.send_replace(None);
        // Nobody is left to hear it when the driver has ended.
        let _ = self.events.send(LinkEvent::Closed).await;
        self.metrics.session(false, false);
        result
    }

    async fn opened(&self, frames: mpsc::Sender<ToHub>) -> Option<Greeting> {
        let (greeting, answer) = oneshot::channel();
        self.events.send(LinkEvent::Opened { frames, greeting }).await.ok()?;
        answer.await.ok()
    }

    /// Talks until the end, over as many connections as it takes.
    async fn talk(
        &self,
        mut live: Live<'_>,
        facts: &Facts,
        connection: &mut u64,
        stop: &CancellationToken,
    ) -> (Ended, Option<Duration>) {
        let mut moves = Moves::default();
        loop {
            self.side.channel.send_replace(Some(live.channel()));
            self.side.refused.send_replace(None);
            let successor = Box::pin(self.successor(live.bounds(), &mut moves));
            let successor = match live.run(stop, successor).await {
                Turn::Other(successor) => successor,
                Turn::Ended(ended) => return live.end(ended),
            };
            match self.move_over(successor, facts, connection, stop).await {
                Ok(next) => {
                    live.cut();
                    self.metrics.session_ended("moved");
                    tracing::info!(address = %next.address(), "the session has moved to a new connection");
                    live = next;
                    moves = Moves::default();
                }
                Err(ended) => {
                    if self.events.send(LinkEvent::Stayed).await.is_err() {
                        return live.end(Ended::Stopped);
                    }
                    moves.failed(&ended.to_string());
                }
            }
        }
    }

    fn is_fresh(&self) -> bool {
        let issued_at = self.guide.borrow().issued_at;
        issued_at.is_some_and(|at| at.elapsed() < FRESH)
    }
}

/// How moving to a new connection went since the last time it worked.
struct Moves {
    backoff: remote_istio::process::Backoff,
    said: String,
    not_before: Instant,
}

impl Default for Moves {
    fn default() -> Self {
        Self {
            backoff: remote_istio::process::Backoff::new(limits::RECONNECT_PAUSE, rand::random()),
            said: String::new(),
            not_before: Instant::now(),
        }
    }
}

impl Moves {
    fn failed(&mut self, error: &str) {
        let pause = self.backoff.next_pause();
        self.not_before = Instant::now() + pause;
        if self.said == error {
            tracing::debug!(%error, ?pause, "still no new connection, the session goes on over the old one");
        } else {
            tracing::warn!(%error, ?pause, "no new connection, the session goes on over the old one");
            error.clone_into(&mut self.said);
        }
    }
}

/// Another certificate is in use than before.
async fn renewed(certificates: &mut watch::Receiver<ReloadStatus>, reloads: u64) {
    if certificates.wait_for(|status| status.reloads > reloads).await.is_err() {
        // The source lives as long as the link.
        std::future::pending::<()>().await;
    }
}

/// One line for each new reason: an agent that cannot connect for hours does not fill a disk.
fn say(address: &HubAddress, ended: &Ended, lived: Option<Duration>, pause: Duration, said: &mut Option<String>) {
    let (reason, error) = (ended.as_str(), ended.to_string());
    if let Some(lived) = lived {
        *said = None;
        let lived = humantime::format_duration(Duration::from_secs(lived.as_secs()));
        tracing::info!(%address, reason, %error, %lived, ?pause, "session with the hub ended, what was accepted stays");
    } else if said.as_deref() == Some(error.as_str()) {
        tracing::debug!(%address, reason, %error, ?pause, "still no session with the hub");
    } else {
        tracing::warn!(%address, reason, %error, ?pause, "no session with the hub, what was accepted stays");
        *said = Some(error);
    }
}
