//! The sync listener: who may open a session, and where sessions run.

mod end;
mod opening;
mod records;
mod sessions;
mod standing;
mod stream;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use parking_lot::Mutex;
use remote_istio::identity::{Identity, RemoteName};
use remote_istio::limits;
use remote_istio::tls::{Peer, TlsSource};
use remote_istio::transport::{Listener, accept_loop, server_builder};
use remote_istio::wire::v1;
use remote_istio::wire::v1::sync_server::{Sync, SyncServer};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

pub(crate) use self::end::REVOKED;
pub use self::records::{Bindings, NoRecords, Records};
pub use self::sessions::{Hook, Sessions, Summary};
use self::stream::{AgentStream, Bounds, Shared};
use crate::metrics::Metrics;
use crate::state::State;

/// All sessions have so long to end once this process is asked to stop; then they are dropped.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// After the last session, connections have so long to send what they still hold.
const LAST_BYTES: Duration = Duration::from_millis(500);

/// What the link says of this hub, and needs to know of it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Namespace of the `RemoteIstio` resources.
    pub namespace: String,
    /// Name of this replica, for people.
    pub replica: String,
    /// Random, made once per process.
    pub boot_id: String,
}

/// The Sync service.
pub struct Link {
    shared: Shared,
    running: Mutex<JoinSet<()>>,
}

impl Link {
    /// A service whose sessions end when `stop` is cancelled.
    #[must_use]
    pub fn new(
        settings: Settings,
        state: Arc<State>,
        sessions: Arc<Sessions>,
        bindings: Bindings,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let shared = Shared {
            settings: Arc::new(settings),
            bounds: Bounds::default(),
            state,
            sessions,
            bindings,
            metrics,
            stop,
        };
        Self::with(shared)
    }

    fn with(shared: Shared) -> Arc<Self> {
        Arc::new(Self {
            shared,
            running: Mutex::default(),
        })
    }

    /// Serves until the stop this was made with; then asks all agents to leave and waits for them, within limits. The
    /// services `beside` are served on the same port, behind the same certificates.
    ///
    /// # Errors
    /// The server cannot go on.
    pub async fn serve<L: Listener>(
        self: Arc<Self>,
        listener: L,
        tls: Arc<TlsSource>,
        beside: Routes,
    ) -> Result<(), tonic::transport::Error> {
        let stop = self.shared.stop.clone();
        let metrics = Arc::clone(&self.shared.metrics);
        let on_refused = Arc::new(move |refusal| metrics.handshake_refused(refusal));
        let (ready, accepting) = accept_loop(listener, tls, stop.clone(), on_refused);
        let metrics = Arc::clone(&self.shared.metrics);
        let ready = ready.inspect(move |_| metrics.handshake_accepted());
        let drained = CancellationToken::new();
        let server = server_builder()
            .add_routes(beside.add_service(self.service()))
            .serve_with_incoming_shutdown(ready, drained.clone().cancelled_owned());
        let draining = async {
            accepting.await;
            self.end_sessions().await;
            drained.cancel();
            tokio::time::sleep(LAST_BYTES).await;
        };
        let result = tokio::select! {
            result = server => result,
            () = draining => Ok(()),
        };
        self.end_sessions().await;
        result
    }

    fn service(self: &Arc<Self>) -> SyncServer<Self> {
        SyncServer::from_arc(Arc::clone(self))
            .max_decoding_message_size(limits::FRAME_MAX_BYTES)
            .max_encoding_message_size(limits::FRAME_MAX_BYTES)
    }

    fn start<I>(&self, remote: RemoteName, peer: Arc<Peer>, incoming: I) -> ReceiverStream<Result<v1::HubFrame, Status>>
    where
        I: futures::Stream<Item = Result<v1::AgentFrame, Status>> + Unpin + Send + 'static,
    {
        let (outgoing, frames) = mpsc::channel(self.shared.bounds.frames_queued);
        let stream = AgentStream {
            shared: self.shared.clone(),
            remote,
            peer,
            incoming,
            outgoing,
        };
        let mut running = self.running.lock();
        while let Some(ended) = running.try_join_next() {
            self.note(ended);
        }
        running.spawn(stream.run());
        ReceiverStream::new(frames)
    }

    async fn end_sessions(&self) {
        let mut running = std::mem::take(&mut *self.running.lock());
        let all_ended = async {
            while let Some(ended) = running.join_next().await {
                self.note(ended);
            }
        };
        if tokio::time::timeout(DRAIN_DEADLINE, all_ended).await.is_err() {
            tracing::warn!(sessions = running.len(), "sessions did not end in time and are dropped");
            running.shutdown().await;
        }
    }

    fn note(&self, ended: Result<(), JoinError>) {
        if let Err(error) = ended
            && error.is_panic()
        {
            tracing::error!(%error, "a session panicked");
            self.shared.metrics.session_ended("panicked");
        }
    }
}

#[tonic::async_trait]
impl Sync for Link {
    type SessionStream = ReceiverStream<Result<v1::HubFrame, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentFrame>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let peer = request.extensions().get::<Arc<Peer>>().cloned();
        let peer = peer.ok_or_else(|| Status::unauthenticated("the connection carries no identity"))?;
        let Identity::Remote(remote) = peer.identity.clone() else {
            self.shared.metrics.session_ended("not_a_remote");
            tracing::warn!(address = %peer.address, identity = ?peer.identity, "session refused, not a remote");
            return Err(Status::permission_denied(
                "only a remote may open a session: the certificate must carry the URI spiffe://TRUST-DOMAIN/remote/NAME",
            ));
        };
        if self.shared.stop.is_cancelled() {
            return Err(Status::unavailable("this hub replica is stopping"));
        }
        // The answer must not wait for the hello: some clients send nothing before they see its head.
        Ok(Response::new(self.start(remote, peer, request.into_inner())))
    }
}
