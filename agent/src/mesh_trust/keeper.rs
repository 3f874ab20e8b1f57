//! The task: looks, decides by [`step`], acts, and tells the engine.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, DefaultBackoff, watcher};
use kube::{Api, Client};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::call::sign;
use super::chain::Issued;
use super::key::{CaKey, CaKeyError};
use super::secret::{NAME, fresh};
use super::step::{Seen, Step, Timing, Why, Wish, has_other_signer, step, verdict};
use super::store::{Look, Store};
use crate::driver::Finding;
use crate::engine::{Trust, Wants};
use crate::identity::pauses::{Failure, Pauses};
use crate::metrics::Metrics;

/// The Secret is looked at this often even if no watch says anything; clocks are set, too.
const LOOK: Duration = Duration::from_secs(30);

/// The same while this account has no right to look: somebody may be about to give it.
const BLIND_LOOK: Duration = Duration::from_secs(5);

/// The server ends a watch after so long.
const WATCH_SECONDS: u32 = 60;

/// What the keeper works with.
pub struct KeeperParts {
    /// For reads and writes.
    pub calls: Client,
    /// For the watch.
    pub watches: Client,
    /// The agent's own namespace.
    pub namespace: String,
    /// The labels that every object of this agent carries.
    pub labels: BTreeMap<String, String>,
    /// What the engine would have.
    pub wants: watch::Receiver<Wants>,
    /// The connection of the session that stands.
    pub channel: watch::Receiver<Option<Channel>>,
    /// To the driver.
    pub findings: mpsc::Sender<Finding>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Keeps the remote's intermediate CA.
pub struct Keeper {
    parts: KeeperParts,
    store: Store,
    wants: Wants,
    seen: Seen,
    /// The Secret was looked at since it was last let out of sight.
    looked: bool,
    watch: Option<Pin<Box<dyn Stream<Item = ()> + Send>>>,
    other_signer_since: Option<SystemTime>,
    not_before: Instant,
    pauses: Pauses,
    trouble: Option<String>,
    told: Trust,
}

impl Keeper {
    /// A keeper that knows nothing yet.
    #[must_use]
    pub fn new(parts: KeeperParts) -> Self {
        Self {
            store: Store::new(parts.calls.clone(), &parts.namespace, parts.labels.clone()),
            parts,
            wants: Wants::default(),
            seen: Seen::Unknown,
            looked: false,
            watch: None,
            other_signer_since: None,
            not_before: Instant::now(),
            pauses: Pauses::new(rand::random()),
            trouble: None,
            told: Trust::Unknown,
        }
    }

    /// Works until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.keep_on() => {}
        }
    }

    async fn keep_on(&mut self) {
        loop {
            self.take_wants();
            self.look().await;
            let next = self.act().await;
            self.tell().await;
            self.wait(next).await;
        }
    }

    fn take_wants(&mut self) {
        let wants = self.parts.wants.borrow_and_update().clone();
        if wants == self.wants {
            return;
        }
        if wants.trust != self.wants.trust || wants.components != self.wants.components {
            // What came to nothing before may come to something now.
            self.attempt_anew();
        }
        self.wants = wants;
        self.looked = false;
    }

    fn attempt_anew(&mut self) {
        self.not_before = Instant::now();
        self.pauses.reset();
    }

    /// Follows the Secret where it is wanted; else looks at it once, in case it has to go.
    async fn look(&mut self) {
        let wish = Wish::of(&self.wants);
        if wish.follows() {
            if self.watch.is_none() {
                self.watch = Some(watch_of(&self.parts));
            }
        } else {
            self.watch = None;
            if !wish.removed {
                self.seen = Seen::Unknown;
                self.looked = false;
                return;
            }
            // Blind is not gone: it is looked for until it was seen, or seen not to be there.
            if self.looked && !matches!(self.seen, Seen::Unreadable(_)) {
                return;
            }
        }
        match self.store.look().await {
            Look::Seen(seen) => {
                self.seen = seen;
                self.looked = true;
            }
            Look::Forbidden(why) => {
                tracing::debug!(%why, "no right to the Secret of the mesh CA");
                self.seen = Seen::Unreadable(why);
                self.looked = true;
            }
            // What was seen before still counts.
            Look::Failed(error) => {
                tracing::debug!(%error, "no look at the Secret of the mesh CA");
                self.not_before = Instant::now() + self.pauses.after(&Failure::Own(error.clone()));
                if matches!(self.seen, Seen::Unknown) {
                    self.trouble = Some(error);
                }
            }
        }
        let is_other = has_other_signer(&self.seen, wish);
        self.other_signer_since = is_other.then(|| self.other_signer_since.unwrap_or_else(SystemTime::now));
    }

    fn timing(&self) -> Timing {
        let uid = match &self.seen {
            Seen::There(found) => found.uid(),
            _ => "",
        };
        Timing {
            now: SystemTime::now(),
            other_signer_since: self.other_signer_since,
            chance: chance_of(uid),
        }
    }

    /// Takes the next step if it is time to; says when to look again.
    async fn act(&mut self) -> Option<SystemTime> {
        let step = step(&self.seen, Wish::of(&self.wants), self.timing());
        if let Step::Rest(until) = step {
            if until.is_some() {
                self.trouble = None;
            }
            return until;
        }
        if Instant::now() < self.not_before {
            return None;
        }
        let done = match step {
            Step::Rest(_) => Ok(()),
            Step::Sign(why) => self.sign(why).await,
            Step::Roots => self.roots().await,
            Step::Delete => self.delete().await,
            Step::LetGo => self.let_go().await,
        };
        self.looked = false;
        match done {
            Ok(()) => {
                self.trouble = None;
                self.attempt_anew();
                self.look().await;
            }
            Err(failure) => self.failed(&failure),
        }
        None
    }

    fn failed(&mut self, failure: &Failure) {
        let pause = self.pauses.after(failure);
        self.not_before = Instant::now() + pause;
        let error = failure.to_string();
        if self.trouble.as_ref() == Some(&error) {
            tracing::debug!(%error, ?pause, "still nothing done about the mesh CA of this remote");
        } else {
            tracing::warn!(%error, ?pause, "nothing could be done about the mesh CA of this remote, trying again");
        }
        self.trouble = Some(error);
    }

    async fn sign(&mut self, why: Why) -> Result<(), Failure> {
        let channel = self.parts.channel.borrow().clone();
        let Some(channel) = channel else {
            return Err(Failure::Unreachable("there is no session with the hub".to_owned()));
        };
        let signed = signed(channel).await;
        let result = signed.as_ref().map_or_else(Failure::as_str, |_| "signed");
        self.parts.metrics.mesh_signing(result);
        let (issued, key) = signed?;
        let own = |error: CaKeyError| Failure::Own(error.to_string());
        let KeeperParts { namespace, labels, .. } = &self.parts;
        let written = if let Seen::There(found) = &self.seen {
            self.store.replace(found.with(&issued, &key).map_err(own)?).await
        } else {
            let secret = fresh(namespace, labels, &issued, &key).map_err(own)?;
            self.store.create(secret).await
        };
        written.map_err(Failure::Own)?;
        let until = humantime::format_rfc3339_seconds(issued.life.not_after);
        tracing::info!(why = why.words(), %until, "the mesh CA of this remote is signed");
        Ok(())
    }

    async fn roots(&mut self) -> Result<(), Failure> {
        let (Seen::There(found), Some(trust)) = (&self.seen, &self.wants.trust) else {
            return Ok(());
        };
        let written = self.store.replace(found.with_roots(&trust.roots)).await;
        written.map_err(Failure::Own)?;
        tracing::info!(roots = trust.roots.len(), "the roots of the mesh have changed");
        Ok(())
    }

    async fn delete(&mut self) -> Result<(), Failure> {
        let Seen::There(found) = &self.seen else { return Ok(()) };
        self.store.delete(found).await.map_err(Failure::Own)?;
        tracing::info!("the mesh CA of this remote is deleted");
        Ok(())
    }

    async fn let_go(&mut self) -> Result<(), Failure> {
        let Seen::There(found) = &self.seen else { return Ok(()) };
        let written = self.store.replace(found.let_go(&self.parts.labels)).await;
        written.map_err(Failure::Own)?;
        tracing::info!("the mesh CA of this remote is let go of, and stays");
        Ok(())
    }

    async fn tell(&mut self) {
        let wish = Wish::of(&self.wants);
        let trust = match (&self.seen, &self.trouble) {
            (Seen::Unknown, Some(trouble)) if wish.follows() => Trust::Missing(trouble.clone()),
            _ => verdict(&self.seen, wish, SystemTime::now(), self.trouble.as_deref()),
        };
        let until = match &self.seen {
            Seen::There(found) if found.is_ours() => found.life().ok().map(|life| life.not_after),
            _ => None,
        };
        self.parts.metrics.mesh_certificate(until);
        if trust == self.told {
            return;
        }
        tracing::debug!(?trust, "what Citadel signs with");
        self.told = trust.clone();
        if self.parts.findings.send(Finding::Trust(trust)).await.is_err() {
            // The driver has ended; so does the process.
            std::future::pending::<()>().await;
        }
    }

    async fn wait(&mut self, next: Option<SystemTime>) {
        let now = Instant::now();
        let until = next.map(|at| at.duration_since(SystemTime::now()).unwrap_or_default());
        let is_blind = matches!(self.seen, Seen::Unreadable(_)) && Wish::of(&self.wants).follows();
        let patience = if is_blind { BLIND_LOOK } else { LOOK };
        let mut wake = now + until.unwrap_or(patience).min(patience);
        if self.not_before > now {
            wake = wake.min(self.not_before);
        }
        let Self { parts, watch, .. } = self;
        let changed = async {
            match watch {
                Some(watch) => watch.next().await,
                None => std::future::pending().await,
            }
        };
        let mut is_new_session = false;
        tokio::select! {
            Ok(()) = parts.wants.changed() => {}
            Ok(()) = parts.channel.changed() => is_new_session = true,
            news = changed => if news.is_none() {
                self.watch = None;
            },
            () = sleep_until(wake) => {}
        }
        if is_new_session && self.parts.channel.borrow().is_some() {
            self.attempt_anew();
        }
    }
}

async fn signed(channel: Channel) -> Result<(Issued, CaKey), Failure> {
    let made = tokio::task::spawn_blocking(CaKey::generate).await;
    let key = made.map_err(|error| Failure::Own(format!("no key was made: {error}")))?;
    let key = key.map_err(|error| Failure::Own(error.to_string()))?;
    let issued = sign(channel, &key).await?;
    Ok((issued, key))
}

/// Something happened to the Secret, or to the watch. Only its metadata travels: the key is read when it is needed.
fn watch_of(parts: &KeeperParts) -> Pin<Box<dyn Stream<Item = ()> + Send>> {
    let secrets = Api::<PartialObjectMeta<Secret>>::namespaced(parts.watches.clone(), &parts.namespace);
    let config = Config::default()
        .fields(&format!("metadata.name={NAME}"))
        .timeout(WATCH_SECONDS);
    let events = watcher(secrets, config).backoff(DefaultBackoff::default());
    Box::pin(events.map(|_| ()))
}

/// Spreads remotes, and is the same for one Secret after every restart.
fn chance_of(uid: &str) -> f64 {
    let digits = remote_istio::model::Canonical::new("chance")
        .text(uid)
        .version()
        .to_string();
    let number = digits.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    f64::from(number.unwrap_or_default()) / f64::from(u32::MAX)
}
