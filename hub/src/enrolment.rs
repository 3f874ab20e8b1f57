//! Enrolment: how a remote gets its identity by a token, keeps it by renewal, and gets it back after its certificate
//! has ended. Every question may come from a stranger: it costs little, and its failure tells nothing.

mod decide;
mod join;
mod metrics;
mod records;
mod recover;
mod refusals;
mod renewal;
mod sources;
mod sweep;
#[cfg(test)]
mod tests;
mod tokens;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use remote_istio::enrolment::Trust;
use remote_istio::limits;
use remote_istio::tls::TlsSource;
use remote_istio::transport::{AcceptBounds, Caller, Listener, OnRefused, accept_anonymous_loop, server_builder};
use remote_istio::wire::v1;
use remote_istio::wire::v1::enrolment_server::{Enrolment as Service, EnrolmentServer};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

pub use self::metrics::EnrolmentMetrics;
pub use self::records::{KubeRecords, RecordError, Records};
use self::refusals::Refusals;
pub use self::renewal::Renewal;
use self::sources::{Rate, Sources};
use self::tokens::Tokens;
use crate::authority::Authority;
use crate::events::Events;
use crate::identities::Identities;

/// One call, from its arrival to its answer.
const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// Calls that are worked on at once; others wait within their deadline.
const CALLS_AT_ONCE: usize = 32;

/// Calls one connection may have open.
const STREAMS_PER_CONNECTION: u32 = 4;

/// Tokens the watch does not know that are asked for in a second, whoever comes with them.
const FETCHES_PER_SECOND: u32 = 5;

/// When the process stops, calls have so long to be answered.
const LAST_CALLS: Duration = Duration::from_secs(2);

/// What enrolment works with.
#[derive(Clone)]
pub struct Deps {
    /// Where tokens and names are kept.
    pub records: Arc<dyn Records>,
    /// Where the records are, for the watch.
    pub namespace: String,
    /// The CA.
    pub authority: Arc<Authority>,
    /// Whose certificates count; told of each join at once.
    pub identities: Arc<Identities>,
    /// Where joins and replays are told.
    pub events: Arc<Events>,
    /// What is counted.
    pub metrics: EnrolmentMetrics,
}

/// The service of the enrolment port.
pub struct Enrolment {
    deps: Deps,
    tokens: Tokens,
    joins: Mutex<Sources>,
    recoveries: Mutex<Sources>,
    fetches: Mutex<Rate>,
    pace: renewal::Pace,
    refusals: Refusals,
    at_once: Semaphore,
}

impl fmt::Debug for Enrolment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enrolment").finish_non_exhaustive()
    }
}

impl Enrolment {
    /// A service that knows no token before [`Enrolment::run`]; until then each is asked for.
    #[must_use]
    pub fn new(deps: Deps) -> Arc<Self> {
        Arc::new(Self {
            tokens: Tokens::new(&deps.namespace),
            deps,
            joins: Mutex::default(),
            recoveries: Mutex::default(),
            fetches: Mutex::new(Rate::new(FETCHES_PER_SECOND)),
            pace: renewal::Pace::default(),
            refusals: Refusals::default(),
            at_once: Semaphore::new(CALLS_AT_ONCE),
        })
    }

    /// Watches the tokens and removes old ones, until `stop`. `watches` must let a watch be silent for longer than
    /// two minutes.
    pub async fn run(self: Arc<Self>, watches: kube::Client, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.tokens.follow(watches, &self.deps.namespace) => {}
            () = sweep::run(&self.tokens, &*self.deps.records) => {}
        }
    }

    /// Serves until `stop`, then for a moment until the last calls are answered.
    ///
    /// # Errors
    /// The server cannot go on.
    pub async fn serve<L: Listener>(
        self: Arc<Self>,
        listener: L,
        tls: Arc<TlsSource>,
        on_refused: OnRefused,
        stop: CancellationToken,
    ) -> Result<(), tonic::transport::Error> {
        let bounds = AcceptBounds::ENROLMENT;
        let (ready, accepting) = accept_anonymous_loop(listener, tls, stop.clone(), on_refused, bounds);
        let service = EnrolmentServer::from_arc(self)
            .max_decoding_message_size(limits::ENROLMENT_MESSAGE_BYTES)
            .max_encoding_message_size(limits::ENROLMENT_MESSAGE_BYTES);
        let server = server_builder()
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .add_service(service)
            .serve_with_incoming_shutdown(ready, stop.cancelled_owned());
        let draining = async {
            accepting.await;
            tokio::time::sleep(LAST_CALLS).await;
        };
        tokio::select! {
            result = server => result,
            () = draining => Ok(()),
        }
    }

    /// Works on one call, when it is its turn and not for longer than it may take. What is cut off in between is gone
    /// on with by the same question later.
    async fn within<T>(&self, work: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        let in_turn = async {
            let turn = self.at_once.acquire().await;
            let _turn = turn.map_err(|_| Status::unavailable("this hub replica is stopping"))?;
            work.await
        };
        let answered = tokio::time::timeout(CALL_DEADLINE, in_turn).await;
        answered.unwrap_or_else(|_| {
            let seconds = CALL_DEADLINE.as_secs();
            Err(Status::deadline_exceeded(format!(
                "central did not answer within {seconds} seconds: ask again"
            )))
        })
    }

    /// What a remote is to trust now.
    fn trust(&self) -> Arc<Trust> {
        Arc::clone(&self.deps.authority.trust().borrow())
    }
}

#[tonic::async_trait]
impl Service for Enrolment {
    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        let caller = caller(&request)?;
        let answer = self.within(self.answer_join(&caller, request.into_inner())).await?;
        Ok(Response::new(answer))
    }

    async fn recover(&self, request: Request<v1::RecoverRequest>) -> Result<Response<v1::Issued>, Status> {
        let caller = caller(&request)?;
        let answer = self.within(self.answer_recover(&caller, request.into_inner())).await?;
        Ok(Response::new(answer))
    }
}

fn caller<T>(request: &Request<T>) -> Result<Arc<Caller>, Status> {
    let caller = request.extensions().get::<Arc<Caller>>().cloned();
    caller.ok_or_else(|| Status::internal("the connection is not one of the enrolment port"))
}
