//! Looks after an identity that is in use: renews it, recovers it, follows the hub's trust, and keeps it all safe.

mod attempts;
mod due;
mod following;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use remote_istio::enrolment::TrustDigest;
use remote_istio::tls::TlsSource;
use remote_istio::transport::HubAddress;
use remote_istio::wire::v1;
use remote_istio::wire::v1::agent_frame::Frame;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::calls::{Issued, renew};
use super::establish::{Established, Tools, warn_unsaved};
use super::kept::Kept;
use super::key::PrivateKey;
use super::pauses::{Failure, Pauses};
use super::schedule;
use super::step::is_new;
use crate::link::{Guide, Hubs, Question, Refused};
use attempts::Attempts;
use due::{Due, Moment};

/// The clock is looked at this often: it may be set, and machines sleep.
const LOOK: Duration = Duration::from_secs(30);

/// While the hub does not know this agent, the token file is looked at this often.
const TOKEN_LOOK: Duration = Duration::from_secs(2);

/// First and largest bound of the pause while the Secret cannot be written.
const SAVE_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// What a keeper works with.
pub struct KeeperParts {
    /// What connections are made with.
    pub tls: Arc<TlsSource>,
    /// Addresses of the hub from flags, for when all others are out of date.
    pub hubs: Vec<HubAddress>,
    /// To the link.
    pub guide: watch::Sender<Guide>,
    /// From the link.
    pub trusts: mpsc::Receiver<Question<v1::Trust>>,
    /// The connection of the session that stands.
    pub channel: watch::Receiver<Option<Channel>>,
    /// For what the hub does not take this agent.
    pub refused: watch::Receiver<Option<Refused>>,
}

/// The agent cannot go on in this process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeeperError {
    /// A new token was of another name.
    #[error("the new token is of {new}, this agent ran as {old}: it starts anew")]
    OtherRemote {
        /// Whose identity was in use.
        old: String,
        /// Whose it is now.
        new: String,
    },
}

/// One identity in use.
pub struct Keeper {
    tools: Arc<Tools>,
    parts: KeeperParts,
    kept: Kept,
    next: Option<Arc<PrivateKey>>,
    /// The trust that stands in the Secret.
    safe: Safe,
    /// Whether everything in use stands in the Secret.
    saved: bool,
    /// For what the hub does not take the certificate in use.
    refused: Option<Refused>,
    save: Attempts,
    due: Due,
    renewal: Attempts,
    pauses: Pauses,
    /// A trust whose keeping the hub waits for.
    asked: Option<mpsc::Sender<Frame>>,
}

/// What the hub may rely on: it is still there after a restart.
struct Safe {
    epoch: u64,
    digest: TrustDigest,
}

impl Safe {
    fn of(kept: &Kept) -> Self {
        Self {
            epoch: kept.trust.epoch,
            digest: kept.trust.digest(),
        }
    }
}

impl Keeper {
    /// Takes over what was established, and tells the link where the hub is.
    #[must_use]
    pub fn new(established: Established, parts: KeeperParts) -> Self {
        let Established {
            tools,
            kept,
            next,
            saved,
            fresh,
        } = established;
        let due = if fresh { Due::of_issued } else { Due::of_kept };
        let keeper = Self {
            safe: Safe::of(&kept),
            due: due(&kept, Moment::now()),
            tools,
            parts,
            kept,
            next,
            saved,
            refused: None,
            save: Attempts::new(SAVE_PAUSE),
            renewal: Attempts::new(schedule::RETRY),
            pauses: Pauses::new(rand::random()),
            asked: None,
        };
        keeper.guide(fresh);
        keeper
    }

    /// Works until `stop`.
    ///
    /// # Errors
    /// The agent must start anew.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), KeeperError> {
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            error = self.keep_on() => Err(error),
        }
    }

    async fn keep_on(&mut self) -> KeeperError {
        loop {
            let wake = self.wake();
            let parts = &mut self.parts;
            let mut is_news = false;
            let question = tokio::select! {
                question = parts.trusts.recv() => match question {
                    Some(question) => Some(question),
                    // The link has ended; so does the process.
                    None => std::future::pending().await,
                },
                Ok(()) = parts.channel.changed() => None,
                Ok(()) = parts.refused.changed() => {
                    is_news = true;
                    None
                }
                () = sleep_until(wake) => None,
            };
            if is_news || parts.refused.has_changed().unwrap_or(false) {
                self.refused = *parts.refused.borrow_and_update();
            }
            if let Some(question) = question {
                self.trust(question);
            }
            if let Err(error) = self.work().await {
                return error;
            }
        }
    }

    /// When to look again without being woken.
    fn wake(&self) -> Instant {
        let now = Instant::now();
        let soon = |until: Duration| now + until.min(LOOK);
        let due = match self.refused {
            Some(Refused::NotKnown) => soon(TOKEN_LOOK),
            Some(Refused::Expired) => self.renewal.not_before,
            _ if self.left().is_zero() => self.renewal.not_before,
            _ if self.parts.channel.borrow().is_some() => {
                soon(self.due.left(Moment::now())).max(self.renewal.not_before)
            }
            // Without a session nothing is due before the certificate's end.
            _ => soon(self.left()),
        };
        let due = due.min(now + LOOK);
        if self.saved { due } else { due.min(self.save.not_before) }
    }

    async fn work(&mut self) -> Result<(), KeeperError> {
        if !self.saved && self.save.is_due() {
            self.save().await;
        }
        if !self.renewal.is_due() {
            return Ok(());
        }
        let channel = self.parts.channel.borrow().clone();
        match (self.refused, channel) {
            (Some(Refused::NotKnown), _) => self.rejoin().await,
            (Some(Refused::Expired), _) => self.recover().await,
            _ if self.left().is_zero() => self.recover().await,
            (_, Some(channel)) if self.due.left(Moment::now()).is_zero() => self.renew(channel).await,
            _ => Ok(()),
        }
    }

    /// What is left of the certificate.
    fn left(&self) -> Duration {
        let end = self.kept.certificate.not_after;
        end.duration_since(SystemTime::now()).unwrap_or_default()
    }

    async fn renew(&mut self, channel: Channel) -> Result<(), KeeperError> {
        let issued = match self.tools.next_key(&mut self.next).await {
            Ok(key) => renew(channel, &self.kept, &key).await.map(|issued| (issued, key)),
            Err(failure) => Err(failure),
        };
        let token = self.kept.token.clone();
        let adopted = issued.and_then(|(issued, key)| self.adopt(issued, key, token));
        self.tools
            .metrics
            .renewal(adopted.as_ref().map_or_else(Failure::as_str, |()| "renewed"));
        match adopted {
            Ok(()) => {
                tracing::info!(until = %self.until(), "certificate renewed");
                self.save().await;
            }
            Err(failure) => {
                let pause = schedule::retry(self.renewal.backoff.next_pause(), self.left());
                let error = failure.to_string();
                if self.renewal.failed(&error, pause) {
                    tracing::warn!(%error, ?pause, until = %self.until(), "the certificate could not be renewed, trying again");
                } else {
                    tracing::debug!(%error, ?pause, "still no new certificate");
                }
            }
        }
        Ok(())
    }

    async fn recover(&mut self) -> Result<(), KeeperError> {
        let issued = match self.tools.next_key(&mut self.next).await {
            Ok(key) => {
                let issued = self.tools.enroller.recover(&self.kept, &key).await;
                self.tools.counted("recover", issued).map(|issued| (issued, key))
            }
            Err(failure) => Err(failure),
        };
        let denied = issued.as_ref().is_err_and(Failure::is_denial);
        let token = self.kept.token.clone();
        match issued.and_then(|(issued, key)| self.adopt(issued, key, token)) {
            Ok(()) => {
                tracing::info!(until = %self.until(), "the ended certificate was recovered");
                self.pauses.reset();
                self.save().await;
            }
            Err(failure) => {
                self.enrolment_failed(&failure, "the ended certificate could not be recovered, trying again");
            }
        }
        if denied { self.rejoin().await } else { Ok(()) }
    }

    /// The hub does not know this agent any more: a new token, if one lies ready, makes it known again.
    async fn rejoin(&mut self) -> Result<(), KeeperError> {
        let Ok(found) = self.tools.token().await else {
            return Ok(());
        };
        if !is_new(Some(found.token.id()), &self.kept) {
            return Ok(());
        }
        let issued = match self.tools.next_key(&mut self.next).await {
            Ok(key) => {
                let issued = self.tools.enroller.join(&found.token, &key).await;
                self.tools.counted("join", issued).map(|issued| (issued, key))
            }
            Err(failure) => Err(failure),
        };
        let (issued, key) = match issued {
            Ok(issued) => issued,
            Err(failure) => {
                self.enrolment_failed(&failure, "could not join again by the new token, trying again");
                return Ok(());
            }
        };
        let token = Some(found.token.id().to_owned());
        let name = |kept: &Kept| format!("{} of {}", kept.certificate.remote, kept.trust.trust_domain);
        let joined = issued.clone().with(Arc::clone(&key), token.clone());
        if name(&joined) != name(&self.kept) {
            let (old, new) = (name(&self.kept), name(&joined));
            self.kept = joined;
            self.next = None;
            self.save().await;
            return Err(KeeperError::OtherRemote { old, new });
        }
        match self.adopt(issued, key, token) {
            Ok(()) => {
                tracing::info!(remote = %self.kept.certificate.remote, token = %found.token.id(), "joined the hub again");
                self.pauses.reset();
                self.save().await;
            }
            Err(failure) => self.enrolment_failed(&failure, "could not join again by the new token, trying again"),
        }
        Ok(())
    }

    fn enrolment_failed(&mut self, failure: &Failure, what: &'static str) {
        let pause = self.pauses.after(failure);
        let error = failure.to_string();
        if self.renewal.failed(&error, pause) {
            tracing::warn!(%error, ?pause, what, "no new certificate");
        } else {
            tracing::debug!(%error, ?pause, what, "still no new certificate");
        }
    }

    /// Uses a new certificate from here on, whole or not at all.
    fn adopt(&mut self, issued: Issued, key: Arc<PrivateKey>, token: Option<String>) -> Result<(), Failure> {
        let kept = issued.with(key, token);
        let replaced = self.parts.tls.replace(&kept.material());
        replaced.map_err(|error| Failure::Unusable(error.to_string()))?;
        // Not before: a token is bound to the key that it was redeemed with, so the next attempt needs the same.
        self.next = None;
        self.kept = kept;
        self.saved = false;
        self.refused = None;
        self.due = Due::of_issued(&self.kept, Moment::now());
        self.renewal.succeeded();
        self.guide(true);
        Ok(())
    }

    async fn save(&mut self) {
        match self.tools.store.keep(&self.kept, self.next.as_deref()).await {
            Ok(()) => {
                self.saved = true;
                self.safe = Safe::of(&self.kept);
                self.save.succeeded();
                self.guide(false);
                self.answer_asked();
                self.blank_used().await;
            }
            Err(error) => {
                let pause = self.save.backoff.next_pause();
                if self.save.failed(&error.to_string(), pause) {
                    warn_unsaved(&error);
                    if let Some(answers) = &self.asked {
                        self.answer(answers, &format!("cannot be kept: {error}"));
                    }
                }
            }
        }
    }

    async fn blank_used(&self) {
        if let Ok(found) = self.tools.token().await
            && Some(found.token.id()) == self.kept.token.as_deref()
        {
            self.tools.blank(&found.token).await;
        }
    }

    /// Tells the link what it needs to know.
    fn guide(&self, issued: bool) {
        self.tools.metrics.trust_epoch(self.kept.trust.epoch);
        self.parts.guide.send_modify(|guide| {
            guide.hubs = Hubs {
                first: self.kept.trust.hubs.clone(),
                last: self.parts.hubs.clone(),
            };
            guide.trust = Some(self.safe.digest);
            if issued {
                guide.issued_at = Some(Instant::now());
            }
        });
    }

    fn until(&self) -> humantime::Rfc3339Timestamp {
        humantime::format_rfc3339_seconds(self.kept.certificate.not_after)
    }
}
