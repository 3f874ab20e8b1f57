//! The status and the finalizer of each `RemoteIstio`.
//!
//! What to write and when is decided in pure modules ([`compute`], [`changes`], [`authority`], [`finalizer`], put
//! together by [`entry`]); the writer only looks, waits and writes.

pub mod allowed;
mod api;
pub mod authority;
pub mod changes;
pub mod components;
pub mod compute;
pub mod conditions;
pub mod entry;
pub mod facts;
pub mod finalizer;
pub mod findings;
pub mod identity;
pub mod mesh_trust;
mod metrics;
pub mod schedule;
mod source;
#[cfg(test)]
mod test_objects;
mod writer;

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::metrics::StatusMetrics;

use self::api::StatusApi;
pub(crate) use self::source::Wake;

use self::source::Live;
use self::writer::Writer;
use crate::events::Events;
use crate::link::{Records, Sessions};
use crate::state::State;

/// What the status writer needs.
pub struct Deps {
    /// For calls: with a read timeout, without retries of its own.
    pub client: kube::Client,
    /// Namespace of the `RemoteIstio` resources.
    pub namespace: String,
    /// Name of this replica.
    pub replica: String,
    /// The watched resources and what they ask for.
    pub state: Arc<State>,
    /// The agents' sessions.
    pub sessions: Arc<Sessions>,
    /// What the names of remotes are bound to.
    pub records: Arc<dyn Records>,
    /// Where people are told.
    pub events: Arc<Events>,
    /// Whether this replica leads, see [`crate::lease::run`].
    pub leader: watch::Receiver<bool>,
    /// What is counted.
    pub metrics: StatusMetrics,
}

/// Writes statuses and finalizers until `stop`. Nothing is written on the way out: agents of a hub that restarts are
/// back before it would have been worth saying.
pub async fn run(deps: Deps, stop: CancellationToken) {
    let source = Live {
        state: deps.state,
        sessions: deps.sessions,
        records: deps.records,
    };
    let wake = Arc::new(Wake::default());
    source.wake(&wake);
    let api = StatusApi::new(deps.client, &deps.namespace);
    Writer::new(source, api, deps.replica, deps.metrics, deps.events)
        .run(wake, deps.leader, stop)
        .await;
}
