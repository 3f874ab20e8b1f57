//! One connection with a conversation on it, and the next one that takes over from it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use remote_istio::limits;
use remote_istio::transport::{self, Connector, HubAddress, open};
use remote_istio::wire::v1;
use remote_istio::wire::v1::hub_frame::Frame as Hubs;
use remote_istio::wire::v1::sync_client::SyncClient;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Channel;

use super::conversation::{Conversation, Turn, broken, drained};
use super::ended::Ended;
use super::frames::hello;
use super::{Facts, Link, LinkEvent, Moves, ToHub};

/// Frames handed to the transport and not yet taken by it. Small: a heartbeat must not wait behind many others.
const TRANSPORT_QUEUED: usize = 4;

/// From the hello on a second connection to its welcome: for so long nothing is taken from the first.
const MOVE_DEADLINE: Duration = Duration::from_secs(5);

/// A connection cannot outlive the hub's certificate: it is left after this share of what was left of that when it
/// was dialled. The hub has a new certificate since two thirds.
const LEAVE_AFTER: std::ops::Range<f64> = 0.78..0.86;

/// A hub that has not renewed its certificate is not left more often than this.
const LEAVE_FLOOR: Duration = Duration::from_secs(1);

/// The longest that a connection is kept, for arithmetic's sake.
const LEAVE_CEILING: Duration = Duration::from_hours(24 * 30);

/// A connection that was dialled, and the serial of the certificate it was dialled with.
pub(super) struct Dialled {
    address: HubAddress,
    link: transport::Link,
    serial: String,
    at: Instant,
}

/// A connection on which the hub has opened a stream and waits for a hello.
pub(super) struct Successor {
    dialled: Dialled,
    outgoing: mpsc::Sender<v1::AgentFrame>,
    incoming: Streaming<v1::HubFrame>,
}

/// A connection with a conversation on it.
pub(super) struct Live<'a> {
    dialled: Dialled,
    conversation: Conversation<'a>,
    incoming: Streaming<v1::HubFrame>,
}

/// Until when a connection is good.
pub(super) struct Bounds {
    address: HubAddress,
    serial: String,
    leave_at: Instant,
}

impl Live<'_> {
    pub(super) fn channel(&self) -> Channel {
        self.dialled.link.channel.clone()
    }

    pub(super) fn address(&self) -> &HubAddress {
        &self.dialled.address
    }

    pub(super) fn bounds(&self) -> Bounds {
        Bounds {
            address: self.dialled.address.clone(),
            serial: self.dialled.serial.clone(),
            leave_at: self.dialled.leave_at(rand::random_range(LEAVE_AFTER)),
        }
    }

    pub(super) async fn run<F>(&mut self, stop: &CancellationToken, other: Pin<Box<F>>) -> Turn<F::Output>
    where
        F: Future,
    {
        let address = &self.dialled.address;
        self.conversation.run(&mut self.incoming, address, stop, other).await
    }

    /// Ends the connection at once.
    pub(super) fn cut(&self) {
        self.dialled.link.peer.cut();
    }

    pub(super) fn end(self, ended: Ended) -> (Ended, Option<Duration>) {
        let ended = ended.with_cause(&self.dialled.link.error);
        self.cut();
        (ended, self.conversation.lived())
    }
}

impl Dialled {
    fn leave_at(&self, share: f64) -> Instant {
        let left = self.link.peer.not_after.duration_since(SystemTime::now());
        self.at + leave_after(left.unwrap_or_default() + self.at.elapsed(), share)
    }

    /// Opens the stream; `outgoing` may hold the hello already. `Err`: with the cause that the connection knows.
    async fn call(
        self,
        outgoing: mpsc::Sender<v1::AgentFrame>,
        frames: mpsc::Receiver<v1::AgentFrame>,
    ) -> Result<Successor, Ended> {
        let mut client = SyncClient::new(self.link.channel.clone())
            .max_decoding_message_size(limits::FRAME_MAX_BYTES)
            .max_encoding_message_size(limits::FRAME_MAX_BYTES);
        let called = timeout(limits::HELLO_DEADLINE, client.session(ReceiverStream::new(frames))).await;
        let ended = match called {
            Ok(Ok(response)) => {
                let incoming = response.into_inner();
                return Ok(Successor {
                    dialled: self,
                    outgoing,
                    incoming,
                });
            }
            Ok(Err(status)) => Ended::Status(status),
            Err(_) => Ended::NoWelcome,
        };
        let ended = ended.with_cause(&self.link.error);
        self.link.peer.cut();
        Err(ended)
    }
}

/// After how long a connection is left whose hub's certificate lasted `left` when it was dialled.
fn leave_after(left: Duration, share: f64) -> Duration {
    left.min(LEAVE_CEILING).mul_f64(share).max(LEAVE_FLOOR)
}

impl Link {
    pub(super) async fn dial(&self, address: &HubAddress) -> Result<Dialled, Ended> {
        let connector = Connector::new(Arc::clone(&self.tls)).via(self.way.clone());
        let serial = self.tls.own().serial;
        let stream = connector.connect(address).await?;
        let error = stream.link_error();
        let link = open(stream, address)
            .await
            .map_err(|failed| Ended::unreachable(&failed, &error))?;
        Ok(Dialled {
            address: address.clone(),
            link,
            serial,
            at: Instant::now(),
        })
    }

    /// The first stream: the hello goes out with the request.
    pub(super) async fn greet(
        &self,
        dialled: Dialled,
        hello: v1::Hello,
        frames: mpsc::Receiver<ToHub>,
        stop: &CancellationToken,
    ) -> Result<Live<'_>, Ended> {
        let (outgoing, transport) = mpsc::channel(TRANSPORT_QUEUED);
        let mut conversation = Conversation::new(outgoing.clone(), frames, self, Instant::now());
        conversation.open(hello);
        let called = tokio::select! {
            () = stop.cancelled() => return Err(Ended::Stopped),
            called = dialled.call(outgoing, transport) => called?,
        };
        Ok(Live {
            dialled: called.dialled,
            conversation,
            incoming: called.incoming,
        })
    }

    /// Waits until the connection should be left, and makes the next one. Tries until it works: the connection that
    /// stands is no worse for it.
    pub(super) async fn successor(&self, bounds: Bounds, moves: &mut Moves) -> Successor {
        self.time_to_leave(&bounds).await;
        for turn in 0.. {
            sleep_until(moves.not_before).await;
            // The replica that has the session is asked first.
            let hubs = self.guide.borrow().hubs.clone();
            let known = [&bounds.address];
            let others = hubs.first.iter().chain(&hubs.last);
            let all: Vec<&HubAddress> = known
                .into_iter()
                .chain(others.filter(|other| **other != bounds.address))
                .collect();
            match self.dial_and_call(all[turn % all.len()]).await {
                Ok(successor) => return successor,
                Err(ended) => moves.failed(&ended.to_string()),
            }
        }
        std::future::pending().await
    }

    async fn dial_and_call(&self, address: &HubAddress) -> Result<Successor, Ended> {
        let dialled = self.dial(address).await?;
        let (outgoing, transport) = mpsc::channel(TRANSPORT_QUEUED);
        // Once the hub opens the stream it has taken the certificate, which TLS 1.3 does not tell before.
        dialled.call(outgoing, transport).await
    }

    async fn time_to_leave(&self, bounds: &Bounds) {
        let mut certificates = self.tls.status();
        let renewed = async {
            if certificates
                .wait_for(|_| self.tls.own().serial != bounds.serial)
                .await
                .is_err()
            {
                // The source lives as long as the link.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = renewed => tracing::debug!("a new certificate is in use, the session moves to a new connection"),
            () = sleep_until(bounds.leave_at) => {
                tracing::debug!("the hub's certificate on this connection ends soon, the session moves to a new one");
            }
        }
    }

    /// Says hello on the next connection. From the moment the driver is asked what to say, nothing is taken from the
    /// old one; what the hub still sends there it finds missing in the hello.
    pub(super) async fn move_over(
        &self,
        successor: Successor,
        facts: &Facts,
        connection: &mut u64,
        stop: &CancellationToken,
    ) -> Result<Live<'_>, Ended> {
        let Successor {
            dialled,
            outgoing,
            mut incoming,
        } = successor;
        let (answer, greeting) = oneshot::channel();
        let asked = self.events.send(LinkEvent::Prepare { greeting: answer }).await;
        asked.map_err(|_| Ended::Stopped)?;
        let greeting = greeting.await.map_err(|_| Ended::Stopped)?;
        *connection += 1;
        let (frames_tx, frames) = mpsc::channel(limits::FRAMES_QUEUED);
        let mut conversation = Conversation::new(outgoing, frames, self, Instant::now());
        conversation.open(hello(facts, *connection, &greeting, self.guide.borrow().trust));
        let first = tokio::select! {
            () = stop.cancelled() => return Err(Ended::Stopped),
            first = timeout(MOVE_DEADLINE, incoming.next()) => first,
        };
        let welcome = match first {
            Ok(Some(Ok(frame))) if matches!(frame.frame, Some(Hubs::Welcome(_))) => Ok(frame),
            Ok(Some(Ok(v1::HubFrame {
                frame: Some(Hubs::Drain(drain)),
            }))) => Err(drained(drain)),
            Ok(Some(Ok(_))) => Err(broken("sent something else before the welcome")),
            Ok(Some(Err(status))) => Err(Ended::Status(status)),
            Ok(None) => Err(Ended::Closed),
            Err(_) => Err(Ended::NoWelcome),
        };
        let welcome = welcome.map_err(|ended| {
            let ended = ended.with_cause(&dialled.link.error);
            dialled.link.peer.cut();
            ended
        })?;
        let moved = LinkEvent::Moved { frames: frames_tx };
        self.events.send(moved).await.map_err(|_| Ended::Stopped)?;
        conversation.heard(welcome, &dialled.address).await?;
        Ok(Live {
            dialled,
            conversation,
            incoming,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_is_left_before_the_hubs_certificate_ends_and_not_too_often() {
        let hours = Duration::from_hours;
        assert_eq!(leave_after(hours(10), 0.8), hours(8));
        assert_eq!(leave_after(Duration::ZERO, 0.8), LEAVE_FLOOR);
        assert!(leave_after(Duration::MAX, LEAVE_AFTER.end) < LEAVE_CEILING);
    }
}
