//! An agent that gets its identity by itself: first that, then the work, and beside it the keeping.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use remote_istio::identity::RemoteName;
use remote_istio::process::{BoxError, Condition, Tasks};
use remote_istio::tls::TlsSource;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::work::{Work, side};
use super::{RELEASE, cluster};
use crate::args::{Enrolment, Source};
use crate::identity::{Enroller, Established, Establishing, Keeper, KeeperParts, Store};
use crate::link::Guide;

/// For all parts to end after they were asked to; less than what the process has.
const STOP_DEADLINE: Duration = Duration::from_secs(9);

/// The identity that is kept is of another trust domain than the flag's.
#[derive(Debug, thiserror::Error)]
#[error(
    "--trust-domain {flag:?}: {origin} holds an identity of {kept:?}; correct the flag, or empty the Secret and join anew"
)]
pub(super) struct OtherTrustDomain {
    flag: String,
    origin: String,
    kept: String,
}

/// Gets an identity, then runs all parts until `stop`.
pub(super) async fn run(
    work: Work,
    condition: Condition,
    name: Arc<OnceLock<RemoteName>>,
    stop: CancellationToken,
) -> Result<(), BoxError> {
    let Source::Enrolled(enrolment) = work.config.identity.clone() else {
        return Ok(());
    };
    // An agent that could not run would use up its token for nothing.
    if cluster::supported(&work.clients.calls, &condition, &stop)
        .await?
        .is_none()
    {
        return Ok(());
    }
    let Some(established) = establish(&work, &enrolment, condition, &stop).await else {
        return Ok(());
    };
    let (kept, origin) = (established.kept(), established.origin());
    let trust_domain = kept.trust.trust_domain.clone();
    if let Some(flag) = work.config.trust_domain.clone().filter(|flag| *flag != trust_domain) {
        let kept = trust_domain;
        return Err(OtherTrustDomain { flag, origin, kept }.into());
    }
    let remote = kept.certificate.remote.clone();
    let tls = TlsSource::from_material(&kept.material(), &origin, &trust_domain)?;
    tracing::info!(%remote, %trust_domain, %origin, epoch = kept.trust.epoch, "identity established");
    name.get_or_init(|| remote.clone());

    let (guide_tx, guide) = watch::channel(Guide::default());
    let (side, ends) = side();
    let parts = KeeperParts {
        tls: Arc::clone(&tls),
        hubs: work.config.hubs.clone(),
        guide: guide_tx,
        trusts: ends.trusts,
        channel: ends.channel,
        refused: ends.refused,
    };
    let keeper = Keeper::new(established, parts);
    let mut tasks = Tasks::new(stop.child_token());
    tasks.spawn("identity", keeper.run(tasks.stop().clone()));
    work.spawn(&mut tasks, &remote, tls, guide, side, ends.challenges);
    let ended = tasks.wait().await;
    let stopped = tasks.shutdown(STOP_DEADLINE).await;
    ended.and(stopped)?;
    Ok(())
}

async fn establish(
    work: &Work,
    enrolment: &Enrolment,
    condition: Condition,
    stop: &CancellationToken,
) -> Option<Established> {
    let (config, calls) = (&work.config, &work.clients.calls);
    // The hub binds the name to this cluster.
    let (_, cluster_uid) = cluster::describe(calls, &condition, stop).await?;
    let store = Store::new(
        calls.clone(),
        &config.namespace,
        &enrolment.identity_secret,
        &enrolment.token_secret,
    );
    let enroller = Enroller {
        enrolments: enrolment.addresses.clone(),
        pins: enrolment.pins.clone(),
        trust_domain: config.trust_domain.clone(),
        token_file: enrolment.token_file.clone(),
        way: config.way.clone(),
        cluster_uid,
        release: RELEASE.to_owned(),
    };
    let metrics = Arc::clone(&work.metrics);
    Establishing::new(store, enroller, metrics, condition).run(stop).await
}
