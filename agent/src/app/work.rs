//! What an agent with an identity does: watches, engine and link, tied to each other by bounded channels.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use remote_istio::identity::RemoteName;
use remote_istio::policy::Policy;
use remote_istio::process::{BoxError, Condition, Tasks};
use remote_istio::tls::TlsSource;
use remote_istio::wire::v1;
use remote_istio::wire::v1::agent_frame::Frame;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::clients::Clients;
use super::components::Beside;
use super::{RELEASE, cluster, epoch};
use crate::apply::{Applier, explain};
use crate::args::Config;
use crate::driver::{self, FINDINGS_QUEUED, LINK_EVENTS_QUEUED};
use crate::engine::{Settings, Wants, owner_labels, owner_of};
use crate::link::{Facts, Guide, Hubs, Link, Question, Refused, Side};
use crate::metrics::Metrics;
use crate::observe::{self, OBSERVED_QUEUED, Scope};
use crate::policy;

/// Questions of the hub that wait for an answer.
const QUESTIONS_QUEUED: usize = 4;

/// For one look at the Lease: the hub waits no longer for the answer.
const LEASE_DEADLINE: std::time::Duration = remote_istio::limits::YIELD_DEADLINE;

/// What the parts of an agent are made of.
pub(super) struct Work {
    pub(super) config: Config,
    /// Where the policy comes from, and what it was at the start.
    pub(super) rules: policy::Source,
    pub(super) policy: Arc<Policy>,
    pub(super) clients: Clients,
    pub(super) metrics: Arc<Metrics>,
    pub(super) conditions: Conditions,
}

/// What `/readyz` waits for.
pub(super) struct Conditions {
    pub(super) watches: Condition,
    pub(super) policy: Condition,
    pub(super) hub: Condition,
}

/// The other ends of a link's [`Side`].
pub(super) struct SideEnds {
    pub(super) trusts: mpsc::Receiver<Question<v1::Trust>>,
    pub(super) challenges: mpsc::Receiver<Question<v1::Challenge>>,
    pub(super) channel: watch::Receiver<Option<Channel>>,
    pub(super) refused: watch::Receiver<Option<Refused>>,
}

pub(super) fn side() -> (Side, SideEnds) {
    let (trusts, trusts_asked) = mpsc::channel(QUESTIONS_QUEUED);
    let (challenges, challenges_asked) = mpsc::channel(QUESTIONS_QUEUED);
    let (channel, channel_seen) = watch::channel(None);
    let (refused, refused_seen) = watch::channel(None);
    let side = Side {
        trusts,
        challenges,
        channel,
        refused,
    };
    let ends = SideEnds {
        trusts: trusts_asked,
        challenges: challenges_asked,
        channel: channel_seen,
        refused: refused_seen,
    };
    (side, ends)
}

impl Work {
    /// Where the hub is, if only flags say so.
    pub(super) fn guide_of_flags(&self) -> watch::Receiver<Guide> {
        let hubs = Hubs {
            first: self.config.hubs.clone(),
            last: Vec::new(),
        };
        watch::channel(Guide {
            hubs,
            ..Guide::default()
        })
        .1
    }

    pub(super) fn spawn(
        self,
        tasks: &mut Tasks,
        remote: &RemoteName,
        tls: Arc<TlsSource>,
        guide: watch::Receiver<Guide>,
        side: Side,
        challenges: mpsc::Receiver<Question<v1::Challenge>>,
    ) {
        let Self {
            config,
            rules,
            policy,
            clients,
            metrics,
            conditions,
        } = self;
        metrics.certificate(&tls);
        let stop = tasks.stop().clone();
        let scope = Scope {
            namespace: config.namespace.clone(),
            service_namespaces: config.service_namespaces.clone(),
        };
        let (observed_tx, observed) = mpsc::channel(OBSERVED_QUEUED);
        let (events, link_events) = mpsc::channel(LINK_EVENTS_QUEUED);
        let (started_tx, started) = oneshot::channel();
        let (findings_tx, findings) = mpsc::channel(FINDINGS_QUEUED);
        let (wants_tx, wants) = watch::channel(Wants::default());
        let backlog = Arc::new(AtomicU32::new(0));
        let (policy_tx, policy_seen) = watch::channel(Arc::clone(&policy));
        let (known_tx, known) = watch::channel(false);

        let settings = Settings {
            owner: owner_of(tls.trust_domain(), remote),
            namespace: config.namespace.clone(),
            service_namespaces: config.service_namespaces,
            policy: Arc::clone(&policy),
            endpoints_objects: config.endpoints_objects,
            release: RELEASE.to_owned(),
        };
        let labels = owner_labels(&settings);
        let driver = driver::Parts {
            settings,
            watches: scope.watches(),
            observed,
            link: link_events,
            policy: policy_seen,
            findings,
            wants: wants_tx,
            started: started_tx,
            applier: Applier::new(clients.calls.clone()),
            backlog: Arc::clone(&backlog),
            metrics: Arc::clone(&metrics),
            listed: conditions.watches.clone(),
            leaving: None,
        };
        tasks.spawn("driver", driver::run(driver, stop.clone()));
        let following = policy::Following {
            source: rules,
            surroundings: policy::Surroundings {
                client: clients.calls.clone(),
                url: clients.url.clone(),
            },
            first: policy,
            policy: policy_tx,
            known: known_tx,
            condition: conditions.policy,
        };
        tasks.spawn("policy", policy::follow(following, stop.clone()));
        let beside = Beside {
            clients: clients.clone(),
            namespace: config.namespace.clone(),
            labels,
            wants,
            channel: side.channel.subscribe(),
            findings: findings_tx,
            metrics: Arc::clone(&metrics),
        };
        beside.spawn(tasks);

        let (calls, watches, condition) = (clients.calls.clone(), clients.watches, conditions.watches);
        let (watch_metrics, watch_stop) = (Arc::clone(&metrics), stop.clone());
        tasks.spawn("watches", async move {
            if cluster::supported(&calls, &condition, &watch_stop).await?.is_none() {
                return Ok(());
            }
            observe::observe(watches, scope, observed_tx, watch_metrics, watch_stop).await?;
            Ok::<(), BoxError>(())
        });

        let link = Link {
            guide,
            way: config.way,
            tls,
            remote: remote.clone(),
            events,
            side,
            backlog,
            metrics,
            welcomed: conditions.hub,
        };
        let (calls, namespace) = (clients.calls, config.namespace);
        tasks.spawn("link", async move {
            if let Some(facts) = facts(&calls, &namespace, (started, known), &link.welcomed, &stop).await {
                let answering = answer_challenges(challenges, &calls, &namespace, &facts);
                tokio::select! {
                    () = link.run(facts.clone(), stop.clone()) => {}
                    () = answering => {}
                }
            }
            // Ends early only together with the driver, which says why.
            stop.cancelled().await;
        });
    }
}

/// What a hello says of the agent, once the engine has started and the policy is known in full; nothing when the agent
/// is asked to stop before.
async fn facts(
    client: &kube::Client,
    namespace: &str,
    (started, mut known): (oneshot::Receiver<()>, watch::Receiver<bool>),
    hub: &Condition,
    stop: &CancellationToken,
) -> Option<Facts> {
    hub.waits_for("first lists of the watches");
    tokio::select! {
        () = stop.cancelled() => return None,
        started = started => started.ok()?,
    }
    hub.waits_for("service ranges of the cluster");
    tokio::select! {
        () = stop.cancelled() => return None,
        known = known.wait_for(|known| *known) => drop(known.ok()?),
    }
    let boot_id = format!("{:032x}", rand::random::<u128>());
    let (kubernetes_version, cluster_uid) = cluster::describe(client, hub, stop).await?;
    let session_epoch = epoch::raised(client, namespace, &boot_id, hub, stop).await?;
    tracing::info!(session_epoch, %boot_id, %cluster_uid, %kubernetes_version, "session epoch raised");
    hub.waits_for("first welcome of a hub");
    Some(Facts {
        cluster_uid,
        boot_id,
        session_epoch,
        kubernetes_version,
        release: RELEASE.to_owned(),
    })
}

/// Says to the hub whether this is still the agent of its cluster. Only a Lease that another agent has taken is a yes:
/// who cannot tell stays.
async fn answer_challenges(
    mut challenges: mpsc::Receiver<Question<v1::Challenge>>,
    client: &kube::Client,
    namespace: &str,
    facts: &Facts,
) {
    while let Some(Question { asked, answers }) = challenges.recv().await {
        let looked = epoch::is_superseded(client, namespace, &facts.boot_id, facts.session_epoch);
        let yields = match timeout(LEASE_DEADLINE, looked).await {
            Ok(Ok(superseded)) => superseded,
            Ok(Err(error)) => {
                let error = explain(&error);
                tracing::warn!(%error, "the Lease cannot be read, so this agent does not yield its session");
                false
            }
            Err(_) => {
                tracing::warn!("the Lease was not read in time, so this agent does not yield its session");
                false
            }
        };
        tracing::info!(yields, "answered whether this is still the remote's agent");
        let answer = v1::Yield {
            nonce: asked.nonce,
            yields,
        };
        if answers.try_send(Frame::Yield(answer)).is_err() {
            tracing::debug!("the stream ended before the answer");
        }
    }
    // The link has ended.
    std::future::pending::<()>().await;
}
