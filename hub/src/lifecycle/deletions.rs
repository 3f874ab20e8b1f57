//! Follows the resources that are being deleted, reads the CRD where that decides, and tells the index what is decided.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, CustomResourceExt as _};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use remote_istio::identity::RemoteName;
use remote_istio::process::Backoff;
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::guard::{Definition, Guard, Hold, Next, Reading, Ruling, Rulings};
use crate::crd::RemoteIstio;
use crate::metrics::PREFIX;
use crate::state::State;
use crate::status::Wake;
use crate::status::changes::after;
use crate::{api_error, clock};

/// One question for the CRD.
const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// Between two questions for a CRD that cannot be read.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Even the shortest of these pauses leaves the API server time.
const PAUSE_MIN: Duration = Duration::from_millis(500);

/// What is known of deletions, under the hub's prefix.
#[derive(Clone, Debug, Default)]
pub struct DeletionMetrics {
    held: Gauge,
}

impl DeletionMetrics {
    /// Registers them.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.sub_registry_with_prefix(PREFIX).register(
            "deletions_held",
            "RemoteIstios that were deleted and are held until a person decides",
            metrics.held.clone(),
        );
        metrics
    }
}

/// The deletions of the hub's `RemoteIstio`s.
pub struct Deletions {
    definitions: Api<CustomResourceDefinition>,
    state: Arc<State>,
    wake: Arc<Wake>,
    limit: usize,
    metrics: DeletionMetrics,
}

impl Deletions {
    /// `calls`: a client for calls. `limit`: how many may be deleted at once without a person's word.
    #[must_use]
    pub fn new(calls: Client, state: Arc<State>, limit: usize, metrics: DeletionMetrics) -> Self {
        let wake = Arc::new(Wake::default());
        let of_state = Arc::clone(&wake);
        state.on_change(Box::new(move |remote| of_state.changed(remote)));
        Self {
            definitions: Api::all(calls),
            state,
            wake,
            limit,
            metrics,
        }
    }

    /// Decides until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.decide() => {}
        }
    }

    /// Never returns.
    async fn decide(&self) {
        let mut guard = Guard::new(self.limit);
        let mut backoff = Backoff::new(PAUSES, rand::random());
        let mut known = Rulings::new();
        // Until then the CRD is not asked for again.
        let mut rests_until = 0;
        loop {
            let mut next = self.look(&mut guard, None);
            if next == Next::Read && rests_until <= clock::now() {
                let reading = self.read().await;
                next = self.look(&mut guard, Some(&reading));
                if guard.awaits_definition() {
                    rests_until = after(clock::now(), backoff.next_pause().max(PAUSE_MIN));
                } else {
                    backoff.reset();
                }
            }
            self.publish(&mut known, guard.rulings());
            let moment = match next {
                Next::Wait if guard.awaits_definition() => Some(rests_until),
                Next::Wait => None,
                Next::At(moment) => Some(moment),
                Next::Read => Some(rests_until.max(clock::now())),
            };
            tokio::select! {
                _ = self.wake.taken() => {}
                () = sleep_until(clock::instant(moment.unwrap_or_default())), if moment.is_some() => {}
            }
        }
    }

    fn look(&self, guard: &mut Guard, reading: Option<&Reading>) -> Next {
        guard.look(&self.state.deleted(), reading, clock::now())
    }

    async fn read(&self) -> Reading {
        let asked_at = clock::now();
        let name = RemoteIstio::crd_name();
        let definition = match timeout(CALL_DEADLINE, self.definitions.get_metadata_opt(name)).await {
            Ok(Ok(None)) => Definition::Gone,
            Ok(Ok(Some(found))) if found.metadata.deletion_timestamp.is_some() => Definition::Ends,
            Ok(Ok(Some(_))) => Definition::Stands,
            Ok(Err(error)) => Definition::Unread(api_error::message(&error)),
            Err(_) => Definition::Unread("no answer in time".to_owned()),
        };
        Reading { definition, asked_at }
    }

    fn publish(&self, known: &mut Rulings, rulings: Rulings) {
        if *known == rulings {
            return;
        }
        for (remote, (uid, ruling)) in &rulings {
            if known.get(remote) != Some(&(uid.clone(), ruling.clone())) {
                say(remote, ruling);
            }
        }
        let held = rulings.values().filter(|(_, ruling)| matches!(ruling, Ruling::Held(_)));
        self.metrics.held.set(i64::try_from(held.count()).unwrap_or(i64::MAX));
        known.clone_from(&rulings);
        self.state.update(|index| index.rulings(rulings, clock::now()));
    }
}

fn say(remote: &RemoteName, ruling: &Ruling) {
    match ruling {
        Ruling::Settling => info!(%remote, "RemoteIstio is being deleted"),
        Ruling::Withdrawn => info!(%remote, "deletion is carried out, the remote is told to let go"),
        Ruling::Kept => info!(%remote, "deletion is let through, the remote keeps what it has"),
        Ruling::Held(hold) => warn!(%remote, reason = reason(hold), "deletion is held until a person decides"),
    }
}

fn reason(hold: &Hold) -> String {
    match hold {
        Hold::Many { deleted, limit } => format!("{deleted} are being deleted at once, more than {limit}"),
        Hold::DefinitionEnds => "the CRD is being deleted".to_owned(),
        Hold::DefinitionGone => "the CRD is gone".to_owned(),
        Hold::DefinitionUnread(error) => format!("the CRD cannot be read: {error}"),
        Hold::Before => "it was held before".to_owned(),
        Hold::Unreadable => "it cannot be read".to_owned(),
    }
}
