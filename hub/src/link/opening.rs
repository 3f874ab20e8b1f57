//! From the first frame of a stream to a session that stands, or a refusal.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use futures::{Stream, StreamExt as _};
use prost::Message as _;
use remote_istio::convert::{self, SessionHello};
use remote_istio::limits;
use remote_istio::tls::Peer;
use remote_istio::wire::v1;
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::Status;

use super::end::End;
use super::sessions::Place;
use super::standing::{Signalled, Standing};
use super::stream::{AgentStream, TrustFailures, received_lane};
use crate::clock;
use crate::index::Desired;
use crate::metrics::{Challenge, Direction};
use crate::registry::{Answer, Claimant, Refused, SessionId};
use crate::report::{CertificateReport, SessionEpoch};
use crate::session::{Opening, Session};

/// So many holders are asked for one claimant, each with its own deadline. More than one only where agents race.
const QUESTIONS: u32 = 3;

/// A session that stands, and what its stream must follow.
pub(super) struct Opened {
    pub(super) session: Session,
    pub(super) standing: Standing,
    pub(super) signalled: Signalled,
    pub(super) followed: watch::Receiver<Option<Arc<Desired>>>,
    /// What was reported of the agent's trust last.
    pub(super) trust_epoch: Option<u64>,
    pub(super) trust_failures: TrustFailures,
}

impl<I> AgentStream<I>
where
    I: Stream<Item = Result<v1::AgentFrame, Status>> + Unpin,
{
    /// Takes the hello and finds the session its place.
    pub(super) async fn open(&mut self) -> Result<Opened, End> {
        let hello = self.hello().await?;
        let (standing, signalled) = self.place(&hello).await?;
        let mut followed = self.shared.state.subscribe(&self.remote);
        let desired = followed.borrow_and_update().clone();
        let settings = &self.shared.settings;
        let opening = Opening {
            now: clock::now(),
            unix_seconds: clock::unix_seconds(),
            remote: self.remote.clone(),
            namespace: settings.namespace.clone(),
            address: self.peer.address.clone(),
            replica: settings.replica.clone(),
            boot_id: settings.boot_id.clone(),
            heartbeat: limits::HEARTBEAT_INTERVAL,
            certificate: certificate(&self.peer),
            trust: self.shared.bindings.current_trust(),
        };
        let claimed = desired.is_some();
        let (remote, address, release) = (&self.remote, &self.peer.address, &hello.release);
        tracing::info!(%remote, %address, %release, claimed, "session opened");
        self.shared.bindings.note_signer(&self.remote, &self.peer);
        let claims_known = *self.shared.state.remotes_known().borrow();
        Ok(Opened {
            session: Session::new(hello, opening, desired, claims_known),
            standing,
            signalled,
            followed,
            trust_epoch: None,
            trust_failures: TrustFailures::default(),
        })
    }

    async fn hello(&mut self) -> Result<SessionHello, End> {
        let first = timeout(self.shared.bounds.hello, self.incoming.next())
            .await
            .map_err(|_| End::HelloMissing(self.shared.bounds.hello))?;
        let frame = first.ok_or(End::AgentClosed)?.map_err(|status| End::of_read(&status))?;
        self.count(Direction::Received, received_lane(&frame), frame.encoded_len());
        let Some(v1::agent_frame::Frame::Hello(hello)) = frame.frame else {
            return Err(End::HelloExpected);
        };
        convert::read_hello(hello).map_err(End::HelloRefused)
    }

    /// Finds the session its place; asks the agent that holds it, without a lock, where only that one can tell.
    async fn place(&mut self, hello: &SessionHello) -> Result<(Standing, Signalled), End> {
        let claimant = Claimant {
            boot_id: hello.boot_id.clone(),
            epoch: SessionEpoch {
                start: hello.session_epoch,
                connection: hello.connection,
            },
            cluster_uid: hello.cluster_uid.clone(),
            address: self.peer.address.clone(),
        };
        let mut answer: Option<(SessionId, Answer)> = None;
        for _ in 0..=QUESTIONS {
            let bound = self.shared.bindings.bound(&self.remote);
            let sessions = &self.shared.sessions;
            let placed = sessions.open(&self.remote, &claimant, &self.peer, bound.as_deref(), answer);
            self.note_answer(answer.map(|(_, answer)| answer), &placed);
            let asked = match placed.map_err(End::Refused)? {
                Place::Standing(standing, signalled) => return Ok((standing, signalled)),
                Place::Asked(asked) => asked,
            };
            let (remote, address) = (&self.remote, &self.peer.address);
            tracing::debug!(%remote, %address, "asking the agent that holds the session whether it yields");
            answer = tokio::select! {
                answer = asked.answer(self.shared.bounds.yields) => answer,
                () = self.shared.stop.cancelled() => return Err(End::Drained),
            };
            if answer.is_none() {
                self.shared.metrics.challenge(Challenge::HolderLeft);
            }
        }
        Err(End::Refused(Refused::Contended))
    }

    fn note_answer(&self, answer: Option<Answer>, placed: &Result<Place, Refused>) {
        let result = match (answer, placed) {
            (None, _) => return,
            // It was that of another holder.
            (Some(_), Ok(Place::Asked(_))) => Challenge::HolderLeft,
            (Some(Answer::Yields), _) => Challenge::Yielded,
            (Some(Answer::Stays), _) => Challenge::Stayed,
            (Some(Answer::Silent), Ok(_)) => {
                let (remote, address) = (&self.remote, &self.peer.address);
                tracing::warn!(%remote, %address, "the agent that held the session did not answer and is replaced");
                Challenge::SilentReplaced
            }
            (Some(Answer::Silent), Err(_)) => Challenge::SilentStayed,
        };
        self.shared.metrics.challenge(result);
    }
}

fn certificate(peer: &Peer) -> CertificateReport {
    let seconds = |time: std::time::SystemTime| {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    };
    CertificateReport {
        not_before: seconds(peer.not_before),
        not_after: seconds(peer.not_after),
    }
}
