//! From a start to a certificate that is good: kept, recovered, or joined for.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use remote_istio::enrolment::{Token, certificate_pem};
use remote_istio::process::{Backoff, Condition};
use remote_istio::tls::Material;
use tokio_util::sync::CancellationToken;

use super::calls::{Enroller, Issued};
use super::kept::{Contents, Kept};
use super::key::PrivateKey;
use super::pauses::{Failure, Pauses};
use super::step::{Step, is_new, step};
use super::store::{Store, StoreError};
use super::token_file::{self, Found};
use crate::metrics::Metrics;

/// Between two looks at the token file.
const LOOK: Duration = Duration::from_secs(1);

/// Between two looks at the clock while a certificate is not valid yet.
const CLOCK: Duration = Duration::from_secs(5);

/// First and largest bound of the pause while the Secret cannot be used.
const STORE_PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// Everything a certificate is got and kept with.
pub struct Tools {
    pub store: Store,
    pub enroller: Enroller,
    pub metrics: Arc<Metrics>,
}

/// An agent on its way to a certificate.
pub struct Establishing {
    tools: Arc<Tools>,
    condition: Condition,
    pauses: Pauses,
    said: String,
    next: Option<Arc<PrivateKey>>,
    /// The hub does not let the certificate be recovered.
    denied: bool,
    warned: bool,
}

/// A certificate that is good now.
pub struct Established {
    pub(super) tools: Arc<Tools>,
    pub(super) kept: Kept,
    pub(super) next: Option<Arc<PrivateKey>>,
    /// Whether it is safe in the Secret.
    pub(super) saved: bool,
    /// Whether it was issued just now.
    pub(super) fresh: bool,
}

impl Tools {
    /// A key whose certificate may be asked for: it is safe in the Secret, so that an answer is never without its key.
    pub(super) async fn next_key(&self, next: &mut Option<Arc<PrivateKey>>) -> Result<Arc<PrivateKey>, Failure> {
        if let Some(key) = next {
            return Ok(Arc::clone(key));
        }
        let key = PrivateKey::generate().map_err(|error| Failure::Own(error.to_string()))?;
        let kept = self.store.keep_next(key).await;
        let key =
            kept.map_err(|error| Failure::Own(format!("the new key cannot be kept, so no request is sent: {error}")))?;
        Ok(Arc::clone(next.insert(Arc::new(key))))
    }

    /// The token, if there is one that can be redeemed.
    pub(super) async fn token(&self) -> Result<Found, String> {
        let path = &self.enroller.token_file;
        let found = token_file::read(path).await;
        found.map_err(|error| format!("--token-file {}: {error}", path.display()))
    }

    /// Nobody shall find a used token; that it cannot be blanked everywhere is no reason to stop.
    pub(super) async fn blank(&self, token: &Token) {
        match token_file::blank(&self.enroller.token_file, token).await {
            Ok(blanked) => tracing::debug!(blanked, "token file looked at"),
            Err(error) => tracing::debug!(%error, "the token file cannot be blanked"),
        }
        if let Err(error) = self.store.blank_token(token).await {
            tracing::warn!(%error, "the used token cannot be blanked in its Secret, delete it there");
        }
    }

    pub(super) fn counted(&self, call: &'static str, result: Result<Issued, Failure>) -> Result<Issued, Failure> {
        let word = result.as_ref().map_or_else(Failure::as_str, |_| "issued");
        self.metrics.enrolment(call, word);
        result
    }
}

impl Established {
    /// What was established.
    #[must_use]
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Where it is kept, for messages.
    #[must_use]
    pub fn origin(&self) -> String {
        self.tools.store.origin()
    }
}

impl Establishing {
    /// `condition` says at `/readyz` what is waited for.
    #[must_use]
    pub fn new(store: Store, enroller: Enroller, metrics: Arc<Metrics>, condition: Condition) -> Self {
        let tools = Tools {
            store,
            enroller,
            metrics,
        };
        Self {
            tools: Arc::new(tools),
            condition,
            pauses: Pauses::new(rand::random()),
            said: String::new(),
            next: None,
            denied: false,
            warned: false,
        }
    }

    /// Works until there is a certificate; nothing when the agent is asked to stop before.
    pub async fn run(mut self, stop: &CancellationToken) -> Option<Established> {
        tokio::select! {
            () = stop.cancelled() => None,
            established = self.established() => Some(established),
        }
    }

    async fn established(&mut self) -> Established {
        let (mut saved, mut fresh) = (true, false);
        let mut contents = self.contents().await;
        if let Contents::Kept(kept) = &contents {
            // The last process may have ended before it did.
            self.blank_used(kept).await;
        }
        loop {
            let token = self.tools.token().await;
            let id = token.as_ref().ok().map(|found| found.token.id().to_owned());
            let step = step(&contents, SystemTime::now(), id.as_deref(), self.denied);
            let result = match (step, &contents, token) {
                (Step::Join, _, Ok(found)) => self.join(&found).await,
                (Step::Recover, Contents::Kept(kept), _) => self.recover(kept).await,
                (Step::AwaitClock, Contents::Kept(kept), _) => {
                    self.say(&wrong_clock(kept));
                    tokio::time::sleep(CLOCK).await;
                    saved = saved || self.keep(kept).await;
                    continue;
                }
                (Step::Go, Contents::Kept(kept), _) => {
                    self.condition.met();
                    return Established {
                        tools: Arc::clone(&self.tools),
                        kept: (**kept).clone(),
                        next: self.next.clone(),
                        saved,
                        fresh,
                    };
                }
                (_, _, token) => {
                    let why = token.err().unwrap_or_default();
                    self.say(&match &contents {
                        Contents::Damaged(damage) => {
                            format!(
                                "the identity in {} cannot be used, {damage}; {why}",
                                self.tools.store.origin()
                            )
                        }
                        _ => format!("no identity yet, waiting for a token; {why}"),
                    });
                    tokio::time::sleep(LOOK).await;
                    // A person may restore the Secret as well as bring a token.
                    contents = self.contents().await;
                    continue;
                }
            };
            match result {
                Ok(kept) => {
                    saved = self.keep(&kept).await;
                    fresh = true;
                    self.next = None;
                    self.pauses.reset();
                    contents = Contents::Kept(Box::new(kept));
                }
                // What the hub does not let be recovered, a new token that lies ready can bring back.
                Err(failure) if step == Step::Recover && self.denied && has_new_token(&contents, id.as_deref()) => {
                    self.say(&failure.to_string());
                }
                Err(failure) => {
                    self.denied &= step == Step::Recover;
                    self.failed(&failure, id.as_deref()).await;
                    if saved {
                        // Another process of this agent may have had more luck.
                        contents = self.contents().await;
                    }
                }
            }
        }
    }

    /// What is kept, as soon as the API server says it.
    async fn contents(&mut self) -> Contents {
        let mut backoff = Backoff::new(STORE_PAUSE, rand::random());
        loop {
            match self.tools.store.read().await {
                Ok((contents, next)) => {
                    self.next = next.map(Arc::new);
                    return contents;
                }
                Err(error) => self.say(&error.to_string()),
            }
            tokio::time::sleep(backoff.next_pause()).await;
        }
    }

    async fn join(&mut self, found: &Found) -> Result<Kept, Failure> {
        let path = self.tools.enroller.token_file.display().to_string();
        if found.world_readable && !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(%path, "the token can be read by every user of this machine");
        }
        let key = self.tools.next_key(&mut self.next).await?;
        self.condition.waits_for("the hub's answer to the join");
        tracing::debug!(token = %found.token.id(), "joining");
        let issued = self.tools.enroller.join(&found.token, &key).await;
        let kept = self
            .tools
            .counted("join", issued)?
            .with(key, Some(found.token.id().to_owned()));
        let (remote, trust_domain) = (&kept.certificate.remote, &kept.trust.trust_domain);
        tracing::info!(%remote, %trust_domain, token = %found.token.id(), "joined the hub");
        Ok(kept)
    }

    async fn recover(&mut self, kept: &Kept) -> Result<Kept, Failure> {
        let key = self.tools.next_key(&mut self.next).await?;
        self.condition
            .waits_for("the hub's answer to the recovery of an ended certificate");
        let issued = self
            .tools
            .counted("recover", self.tools.enroller.recover(kept, &key).await);
        self.denied = issued.as_ref().is_err_and(Failure::is_denial);
        let recovered = issued?.with(key, kept.token.clone());
        tracing::info!(remote = %recovered.certificate.remote, "the ended certificate was recovered");
        Ok(recovered)
    }

    /// Whether it is safe. If not, whoever looks after it from here on tries again.
    async fn keep(&mut self, kept: &Kept) -> bool {
        match self.tools.store.keep(kept, None).await {
            Ok(()) => {
                self.blank_used(kept).await;
                true
            }
            Err(error) => {
                warn_unsaved(&error);
                false
            }
        }
    }

    async fn blank_used(&self, kept: &Kept) {
        if let Ok(found) = self.tools.token().await
            && Some(found.token.id()) == kept.token.as_deref()
        {
            self.tools.blank(&found.token).await;
        }
    }

    /// Says it, and waits; a new token cuts the wait short.
    async fn failed(&mut self, failure: &Failure, token: Option<&str>) {
        let pause = self.pauses.after(failure);
        self.say(&failure.to_string());
        let until = tokio::time::Instant::now() + pause;
        loop {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LOOK)).await;
            let found = self.tools.token().await.ok();
            if failure.is_denial() && found.is_some_and(|found| Some(found.token.id()) != token) {
                return;
            }
        }
    }

    /// One line for each new reason, and always at `/readyz`.
    fn say(&mut self, text: &str) {
        self.condition.waits_for(text);
        if self.said == text {
            tracing::debug!(reason = %text, "still no identity");
        } else {
            tracing::warn!(reason = %text, "no identity, trying again");
            text.clone_into(&mut self.said);
        }
    }
}

impl Kept {
    /// As connections are made with it.
    #[must_use]
    pub fn material(&self) -> Material {
        let chain: String = self.certificate.chain.iter().map(|der| certificate_pem(der)).collect();
        Material {
            certificate: chain.into_bytes(),
            key: self.key.pem().to_vec(),
            trust_bundle: self.trust.bundle().into_bytes(),
        }
    }
}

pub(super) fn warn_unsaved(error: &StoreError) {
    tracing::warn!(%error, "the new certificate is in use but not kept, trying again; do not restart this agent");
}

fn has_new_token(contents: &Contents, token: Option<&str>) -> bool {
    matches!(contents, Contents::Kept(kept) if is_new(token, kept))
}

/// Why a certificate does not go with this machine's clock.
fn wrong_clock(kept: &Kept) -> String {
    let (now, certificate) = (SystemTime::now(), &kept.certificate);
    let (words, limit) = if now < certificate.not_before {
        ("is not valid yet", certificate.not_before)
    } else {
        ("had ended when it came", certificate.not_after)
    };
    format!(
        "the certificate {words} by this machine's clock (now {}, the certificate says {}): correct the clock",
        humantime::format_rfc3339_seconds(now),
        humantime::format_rfc3339_seconds(limit)
    )
}

#[cfg(test)]
mod tests;
