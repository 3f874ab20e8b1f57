//! The hub's own certificate: what it says, and when it is renewed.

use std::time::{Duration, SystemTime};

use rand::Rng as _;
use rcgen::KeyPair;
use remote_istio::enrolment::certificate_pem;
use remote_istio::identity::Identity;
use remote_istio::limits;
use remote_istio::process::Backoff;
use remote_istio::tls::Material;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::link_ca::{IssueError, Leaf, LinkCa};
use super::{Authority, PublicAddresses, Settings};

/// Name of the hub's Service.
const SERVICE: &str = "remote-istio-hub";

/// Between two looks at the wall clock, which may be set while we sleep.
const LOOK_INTERVAL: Duration = Duration::from_mins(1);

/// No renewal follows another sooner, however short certificates live.
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);

/// Time before the CA's end from which on each renewal warns.
const CA_WARNING: Duration = Duration::from_hours(24 * 60);

/// A certificate for this hub, with a fresh key.
pub(super) struct Own {
    pub(super) material: Material,
    pub(super) not_after: SystemTime,
}

/// When the own certificate is to be renewed, and how that goes.
#[derive(Debug)]
pub(super) struct Renewal {
    due: SystemTime,
    pub(super) failure: Option<String>,
}

impl Renewal {
    /// At two thirds of the time from `now` to the end, a tenth sooner or later, so that replicas do not go together.
    pub(super) fn planned(now: SystemTime, not_after: SystemTime) -> Self {
        let rest = not_after.duration_since(now).unwrap_or_default();
        let share = 2.0 / 3.0 * rand::rng().random_range(0.9..=1.1);
        Self {
            due: now + rest.mul_f64(share),
            failure: None,
        }
    }

    #[cfg(test)]
    pub(super) fn due(&self) -> SystemTime {
        self.due
    }
}

/// Makes a key and has the CA sign for it.
pub(super) fn make(
    ca: &LinkCa,
    settings: &Settings,
    public: &PublicAddresses,
    now: SystemTime,
) -> Result<Own, IssueError> {
    let key = KeyPair::generate()?;
    let leaf = Leaf {
        identity: &Identity::Hub,
        names: &names(settings, public),
        trust_domain: &settings.trust_domain,
        not_before: now - limits::BACKDATED,
        not_after: now + settings.lifetime,
    };
    let issued = ca.issue(&key, &leaf)?;
    let roots: String = ca.roots().iter().map(|root| certificate_pem(root)).collect();
    Ok(Own {
        material: Material {
            certificate: issued.pem().into_bytes(),
            key: key.serialize_pem().into_bytes(),
            trust_bundle: roots.into_bytes(),
        },
        not_after: issued.not_after,
    })
}

/// By what names and addresses the hub is dialled: those told to agents, and its Service's inside the cluster.
pub(super) fn names(settings: &Settings, public: &PublicAddresses) -> Vec<String> {
    let namespace = &settings.namespace;
    let mut names = Vec::new();
    let addresses = public.hubs.iter().chain(&public.enrolments);
    let hosts = addresses.map(|address| address.host().to_owned());
    let service = [
        SERVICE.to_owned(),
        format!("{SERVICE}.{namespace}"),
        format!("{SERVICE}.{namespace}.svc"),
    ];
    for name in hosts.chain(service) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Renews in time, for ever.
pub(super) async fn renew(authority: &Authority) {
    let largest = (authority.settings.lifetime / 10).clamp(SHORTEST_PAUSE, LOOK_INTERVAL);
    let mut backoff = Backoff::new((SHORTEST_PAUSE, largest), rand::random());
    loop {
        sleep(authority.until_renewal(SystemTime::now())).await;
        let now = SystemTime::now();
        if !authority.is_renewal_due(now) {
            continue;
        }
        let ca = authority.ca.load_full();
        match authority.renew_by(&ca) {
            Ok(()) => {
                backoff.reset();
                debug!(replica = %authority.settings.replica, "own certificate renewed");
                warn_of_end(&ca, now);
            }
            Err(error) => {
                authority.renewal_failed(error.to_string());
                sleep(backoff.next_pause().max(SHORTEST_PAUSE)).await;
            }
        }
    }
}

fn warn_of_end(ca: &LinkCa, now: SystemTime) {
    let end = ca.signer_end();
    if end.duration_since(now).is_ok_and(|rest| rest < CA_WARNING) {
        let ends = super::certificate::shown(end);
        warn!(%ends, "the link CA ends soon: replace it, for a made one with `remote-istio-hub ca begin`");
    }
}

impl Authority {
    /// At most until the next look at the clock.
    fn until_renewal(&self, now: SystemTime) -> Duration {
        let rest = self.renewal.lock().due.duration_since(now).unwrap_or_default();
        rest.clamp(SHORTEST_PAUSE, LOOK_INTERVAL)
    }

    /// It is time; or the clock was set back so far that the certificate has not begun.
    fn is_renewal_due(&self, now: SystemTime) -> bool {
        now >= self.renewal.lock().due || now < self.tls.own().not_before
    }

    fn renewal_failed(&self, error: String) {
        let mut renewal = self.renewal.lock();
        if renewal.failure.as_ref() != Some(&error) {
            warn!(%error, "own certificate cannot be renewed, trying again");
            renewal.failure = Some(error);
        }
    }
}
