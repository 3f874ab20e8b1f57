//! The parts of an agent that leaving takes: watches, the engine, and who looks after the mesh's CA; no link.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use remote_istio::policy::Policy;
use remote_istio::process::{Readiness, Tasks};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::super::RELEASE;
use super::super::clients::Clients;
use super::super::components::Beside;
use super::LeaveError;
use crate::apply::Applier;
use crate::args::Leave;
use crate::driver::{self, FINDINGS_QUEUED, LINK_EVENTS_QUEUED};
use crate::engine::{Left, Settings, Wants, owner_labels};
use crate::metrics::Metrics;
use crate::observe::{self, OBSERVED_QUEUED, Scope};

/// For all tasks to end.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// An agent that still runs puts back what is gone within two seconds: for so long nothing may come back.
const QUIET: Duration = Duration::from_secs(5);

/// Runs the parts until nothing is left and nothing comes back.
pub(super) async fn let_go(
    clients: Clients,
    leave: &Leave,
    owner: String,
    deadline: Instant,
) -> Result<(), LeaveError> {
    let (readiness, mut tasks) = (Readiness::default(), Tasks::default());
    let (leaving, left) = watch::channel(None);
    // Nobody speaks to a driver without a link; both ends live as long as it.
    let (_events, link) = mpsc::channel(LINK_EVENTS_QUEUED);
    let policy = Arc::new(Policy::default());
    let (_policy, policy_seen) = watch::channel(Arc::clone(&policy));
    let (observed_tx, observed) = mpsc::channel(OBSERVED_QUEUED);
    let (findings_tx, findings) = mpsc::channel(FINDINGS_QUEUED);
    let (wants_tx, wants) = watch::channel(Wants::default());
    let (metrics, _) = Metrics::new();
    let scope = Scope {
        namespace: leave.namespace.clone(),
        service_namespaces: leave.service_namespaces.clone(),
    };
    let settings = Settings {
        owner,
        namespace: leave.namespace.clone(),
        service_namespaces: leave.service_namespaces.clone(),
        policy,
        endpoints_objects: true,
        release: RELEASE.to_owned(),
    };
    let labels = owner_labels(&settings);
    let driver = driver::Parts {
        settings,
        watches: scope.watches(),
        observed,
        link,
        policy: policy_seen,
        findings,
        wants: wants_tx,
        started: oneshot::channel().0,
        applier: Applier::new(clients.calls.clone()),
        backlog: Arc::new(AtomicU32::new(0)),
        metrics: Arc::clone(&metrics),
        listed: readiness.condition("watches"),
        leaving: Some(leaving),
    };
    let stop = tasks.stop().clone();
    tasks.spawn("driver", driver::run(driver, stop.clone()));
    let beside = Beside {
        clients: clients.clone(),
        namespace: leave.namespace.clone(),
        labels,
        wants,
        channel: watch::channel(None).1,
        findings: findings_tx,
        metrics: Arc::clone(&metrics),
    };
    beside.spawn(&mut tasks);
    let watching = observe::observe(clients.watches, scope, observed_tx, metrics, stop);
    tasks.spawn("watches", watching);

    let ended = tokio::select! {
        ended = tasks.wait() => ended.map_err(LeaveError::from),
        ended = until_quiet(left, &readiness, deadline) => ended,
    };
    let stopped = tasks.shutdown(STOP_DEADLINE).await;
    ended?;
    Ok(stopped?)
}

async fn until_quiet(
    mut left: watch::Receiver<Option<Vec<Left>>>,
    readiness: &Readiness,
    deadline: Instant,
) -> Result<(), LeaveError> {
    let gone = |left: &Option<Vec<Left>>| left.as_ref().is_some_and(Vec::is_empty);
    if timeout_at(deadline, seen(&mut left, gone)).await.is_err() {
        return Err(in_time(left.borrow().clone(), readiness));
    }
    let back = timeout(QUIET, seen(&mut left, |left| !gone(left))).await;
    back.map_or(Ok(()), |back| Err(LeaveError::PutBack(back.unwrap_or_default())))
}

/// Waits for ever once the driver has ended: the tasks say why.
async fn seen(
    left: &mut watch::Receiver<Option<Vec<Left>>>,
    wanted: impl FnMut(&Option<Vec<Left>>) -> bool,
) -> Option<Vec<Left>> {
    if let Ok(seen) = left.wait_for(wanted).await {
        return seen.clone();
    }
    std::future::pending().await
}

fn in_time(left: Option<Vec<Left>>, readiness: &Readiness) -> LeaveError {
    let unmet = || readiness.unmet().into_iter().map(|(_, what)| what);
    left.map_or_else(
        || LeaveError::Unseen(unmet().collect::<Vec<_>>().join("; ")),
        LeaveError::Left,
    )
}
