//! The authority of the link: holds the CA of a Secret, signs by it, and keeps this hub's own certificate fresh.
//!
//! In mode *made* the CA is made into the empty Secret by the replica that comes first; in mode *brought* its owner
//! writes and replaces it. Either way a change of the Secret is taken while running, whole or not at all, and a Secret
//! that is gone, emptied or unusable changes nothing but what is reported: another CA is never made in its place.

pub(crate) mod certificate;
mod error;
mod follow;
mod link_ca;
mod own;
mod past;
mod public;
mod publish;
mod request;
mod secret;
#[cfg(test)]
mod test_authorities;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use remote_istio::enrolment::{Pin, Trust};
use remote_istio::identity::Identity;
use remote_istio::limits;
use remote_istio::tls::TlsSource;
use remote_istio::transport::HubAddress;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use error::AuthorityError;
pub use link_ca::{CaError, CaProblem, IssueError, IssuedCertificate, Leaf, LinkCa, RolloverError, RootFacts, Stage};
pub(crate) use link_ca::{date, rounded_up, serial};
pub use past::{PastCertificate, PastError, verify_past};
pub use publish::LINK_CONFIG_MAP;
pub use request::{CertificateRequest, RequestError};

use own::Renewal;

/// The Secret of the CA, in the hub's namespace, where no other is named.
pub const LINK_CA_SECRET: &str = "remote-istio-link-ca";

/// Who makes the CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The hub, if none stands in the Secret.
    Made,
    /// The user.
    Brought,
}

/// Where agents reach the hub.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicAddresses {
    /// The sync port; at least one, unless none is known yet.
    pub hubs: Vec<HubAddress>,
    /// The enrolment port; likewise.
    pub enrolments: Vec<HubAddress>,
}

/// What an authority must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Of the hub.
    pub namespace: String,
    /// The Secret of the CA.
    pub secret_name: String,
    /// Who makes the CA.
    pub mode: Mode,
    /// Of all identities on the link.
    pub trust_domain: String,
    /// This replica's name, for people.
    pub replica: String,
    /// Told to agents, and what the hub's certificate is good for.
    pub public: PublicAddresses,
    /// The Service that says so instead, by its load balancer.
    pub public_service: Option<String>,
    /// How long a certificate lives, counted from its issue.
    pub lifetime: Duration,
    /// For how long after its end a certificate can be recovered.
    pub recovery: Duration,
}

/// How the Secret of the CA was found last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretState {
    /// What it holds is in use.
    InUse,
    /// It is gone.
    Missing,
    /// It is there and holds nothing.
    Empty,
    /// It holds something that cannot be used; why.
    Unusable(String),
}

/// For metrics and conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityFacts {
    /// Where the CA stands.
    pub stage: Stage,
    /// Of the trust that is handed out.
    pub epoch: u64,
    /// The CA that signs now.
    pub signer: Pin,
    /// When that CA ends.
    pub signer_end: SystemTime,
    /// How its Secret was found last.
    pub secret: SecretState,
    /// Why this hub's own certificate is not renewed although it is time; nothing while all is well.
    pub renewal_failure: Option<String>,
}

/// Signs for the link by the CA of a Secret.
#[derive(Debug)]
pub struct Authority {
    settings: Settings,
    ca: ArcSwap<LinkCa>,
    /// As it is known now.
    public: ArcSwap<PublicAddresses>,
    tls: Arc<TlsSource>,
    trust: watch::Sender<Arc<Trust>>,
    secret: watch::Sender<SecretState>,
    renewal: Mutex<Renewal>,
}

impl Authority {
    /// Reads the CA from its Secret; in mode made fills an empty one, and replicas that do so at once agree. Tries for
    /// half a minute where the API server does not answer.
    ///
    /// # Errors
    /// The Secret is missing, empty although it must not be, or unusable; the API server refuses, or stays silent.
    pub async fn start(client: &kube::Client, mut settings: Settings) -> Result<Arc<Self>, AuthorityError> {
        refuse_no_address(&settings)?;
        if let Some(service) = settings.public_service.clone() {
            settings.public = public::known(client, &settings, &service).await;
        }
        let ca = secret::obtain(client, &settings).await?;
        Self::with_ca(ca, settings)
    }

    /// Starts with a CA that is at hand.
    ///
    /// # Errors
    /// No address of the hub is set, or its own certificate cannot be made.
    pub fn with_ca(ca: LinkCa, settings: Settings) -> Result<Arc<Self>, AuthorityError> {
        refuse_no_address(&settings)?;
        let now = SystemTime::now();
        let public = settings.public.clone();
        let own = own::make(&ca, &settings, &public, now)?;
        let origin = format!(
            "the hub's own certificate by Secret {}/{}",
            settings.namespace, settings.secret_name
        );
        let tls = TlsSource::from_material(&own.material, &origin, &settings.trust_domain)?;
        let trust = Arc::new(trust_of(&ca, &settings, &public));
        Ok(Arc::new(Self {
            settings,
            ca: ArcSwap::from_pointee(ca),
            public: ArcSwap::from_pointee(public),
            tls,
            trust: watch::Sender::new(trust),
            secret: watch::Sender::new(SecretState::InUse),
            renewal: Mutex::new(Renewal::planned(now, own.not_after)),
        }))
    }

    /// Follows the Secret, renews the hub's own certificate and publishes what joining takes, until `stop`.
    pub async fn run(self: Arc<Self>, client: kube::Client, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = follow::follow(&self, &client) => {}
            () = own::renew(&self) => {}
            () = publish::publish(&self, &client) => {}
            () = public::follow(&self, &client) => {}
        }
    }

    /// The hub's own certificate and whom it trusts.
    #[must_use]
    pub fn tls(&self) -> Arc<TlsSource> {
        Arc::clone(&self.tls)
    }

    /// What agents shall trust, and each change of it.
    #[must_use]
    pub fn trust(&self) -> watch::Receiver<Arc<Trust>> {
        self.trust.subscribe()
    }

    /// How the Secret is found, and each change of it.
    #[must_use]
    pub fn secret(&self) -> watch::Receiver<SecretState> {
        self.secret.subscribe()
    }

    /// The CA that signs now.
    #[must_use]
    pub fn signer(&self) -> Pin {
        self.ca.load().signer()
    }

    /// Signs a certificate that lives as long as is set, and begins some minutes ago or at `not_before`, rounded up to a
    /// second. It says nothing of what the request asks for.
    ///
    /// # Errors
    /// The CA has ended, or signing fails.
    pub fn issue(
        &self,
        identity: &Identity,
        request: &CertificateRequest,
        not_before: Option<SystemTime>,
    ) -> Result<IssuedCertificate, IssueError> {
        let now = SystemTime::now();
        let leaf = Leaf {
            identity,
            names: &[],
            trust_domain: &self.settings.trust_domain,
            not_before: not_before.unwrap_or(now - limits::BACKDATED),
            not_after: now + self.settings.lifetime,
        };
        self.ca.load().issue(request, &leaf)
    }

    /// The same for who showed a chain (DER, leaf first) that was verified before: it must lead to a root of the very CA
    /// that signs, for the CA may have been replaced since. When it ends does not matter.
    ///
    /// # Errors
    /// It leads to none, and as [`Self::issue`].
    pub fn issue_next(
        &self,
        shown: &[CertificateDer<'_>],
        identity: &Identity,
        request: &CertificateRequest,
        not_before: SystemTime,
    ) -> Result<IssuedCertificate, IssueError> {
        let now = SystemTime::now();
        let ca = self.ca.load();
        if !past::leads_to(shown, ca.roots(), now) {
            return Err(IssueError::AnotherCa);
        }
        let leaf = Leaf {
            identity,
            names: &[],
            trust_domain: &self.settings.trust_domain,
            not_before,
            not_after: now + self.settings.lifetime,
        };
        ca.issue(request, &leaf)
    }

    /// Judges a chain (DER, leaf first) that may have ended, but not longer ago than recovery is possible.
    ///
    /// # Errors
    /// As [`verify_past`].
    pub fn verify_past(&self, chain: &[impl AsRef<[u8]>]) -> Result<PastCertificate, PastError> {
        let ca = self.ca.load();
        let Settings {
            trust_domain, recovery, ..
        } = &self.settings;
        verify_past(chain, ca.roots(), trust_domain, SystemTime::now(), *recovery)
    }

    /// For metrics and conditions.
    #[must_use]
    pub fn facts(&self) -> AuthorityFacts {
        let ca = self.ca.load();
        AuthorityFacts {
            stage: ca.stage(),
            epoch: ca.epoch(),
            signer: ca.signer(),
            signer_end: ca.signer_end(),
            secret: self.secret.borrow().clone(),
            renewal_failure: self.renewal.lock().failure.clone(),
        }
    }

    /// As if this CA had been found in the Secret.
    #[cfg(test)]
    pub(crate) fn finds(&self, ca: LinkCa) {
        self.take(ca);
    }

    /// The Secret was found with these data.
    fn found(&self, data: &BTreeMap<String, Vec<u8>>) {
        match LinkCa::from_secret(data, SystemTime::now()) {
            Ok(Some(ca)) => self.take(ca),
            Ok(None) => self.lost(SecretState::Empty),
            Err(error) => self.lost(SecretState::Unusable(error.to_string())),
        }
    }

    /// A new CA, whole or not at all: certificate first, then trust, so that whoever is told of it meets a hub that
    /// already works by it.
    fn take(&self, ca: LinkCa) {
        if !self.ca.load().is_same(&ca) {
            if let Err(error) = self.renew_by(&ca) {
                return self.lost(SecretState::Unusable(error.to_string()));
            }
            let (epoch, signer, stage) = (ca.epoch(), ca.signer(), ca.stage());
            info!(epoch, %signer, ?stage, "link CA changed");
            let trust = Arc::new(self.trust_by(&ca));
            self.ca.store(Arc::new(ca));
            self.trust.send_replace(trust);
        }
        let was_lost = self
            .secret
            .send_if_modified(|state| std::mem::replace(state, SecretState::InUse) != SecretState::InUse);
        if was_lost {
            info!(secret = %self.settings.secret_name, "Secret of the link CA is in order again");
        }
    }

    /// The Secret cannot be used: go on with what is held, and say so once for each reason.
    fn lost(&self, found: SecretState) {
        let reason = match &found {
            SecretState::InUse => return,
            SecretState::Missing => "it was deleted".to_owned(),
            SecretState::Empty => "it was emptied".to_owned(),
            SecretState::Unusable(error) => error.clone(),
        };
        let is_new = self.secret.send_if_modified(|state| {
            let differs = *state != found;
            *state = found;
            differs
        });
        if is_new {
            warn!(
                namespace = %self.settings.namespace, secret = %self.settings.secret_name, %reason,
                "Secret of the link CA cannot be used, going on with the CA that is held: restore it from its backup, \
                 for a hub that restarts now does not come up"
            );
        }
    }

    /// What is handed out while this CA signs.
    fn trust_by(&self, ca: &LinkCa) -> Trust {
        trust_of(ca, &self.settings, &self.public.load())
    }

    /// A new certificate of one's own by this CA.
    fn renew_by(&self, ca: &LinkCa) -> Result<(), AuthorityError> {
        let now = SystemTime::now();
        let own = own::make(ca, &self.settings, &self.public.load(), now)?;
        self.tls.replace(&own.material)?;
        *self.renewal.lock() = Renewal::planned(now, own.not_after);
        Ok(())
    }
}

fn refuse_no_address(settings: &Settings) -> Result<(), AuthorityError> {
    let PublicAddresses { hubs, enrolments } = &settings.public;
    let fits = |addresses: &[HubAddress]| (1..=limits::TRUST_ADDRESSES).contains(&addresses.len());
    // Those of a Service are known when they are, and never too many.
    if settings.public_service.is_some() || (fits(hubs) && fits(enrolments)) {
        return Ok(());
    }
    Err(AuthorityError::Addresses {
        hubs: hubs.len(),
        enrolments: enrolments.len(),
    })
}

fn trust_of(ca: &LinkCa, settings: &Settings, public: &PublicAddresses) -> Trust {
    Trust {
        epoch: ca.epoch(),
        roots: ca.roots().to_vec(),
        signer: ca.signer(),
        trust_domain: settings.trust_domain.clone(),
        hubs: public.hubs.clone(),
        enrolments: public.enrolments.clone(),
    }
}
