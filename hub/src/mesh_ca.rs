//! Signing for the mesh: a remote makes the key of an intermediate CA, and the hub signs it with the CA that central's
//! mesh has, where central's operator has granted that. The key of that CA stays in the memory of the hub.
//!
//! The Secrets are followed while running. A CA counts once its root stands in a `ConfigMap` that all replicas read, so
//! that what remotes are told to trust is the same wherever they connect; earlier roots stay there until a person
//! forgets them. A CA that is gone or broken changes nothing but what is reported.

mod choice;
mod follow;
mod issue;
mod keep;
mod metrics;
mod pace;
mod path;
mod problem;
mod roots;
mod serve;
mod signer;
#[cfg(test)]
mod test_authorities;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use remote_istio::enrolment::{Pin, Trust};
use remote_istio::tls::Admission;
use remote_istio::wire::v1;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use self::choice::{PLUGGED_IN, SELF_SIGNED};
pub use self::metrics::MeshCaMetrics;
pub use self::problem::MeshCaProblem;
pub use self::roots::{Fingerprint, MESH_TRUST_CONFIG_MAP, MeshRoot, MeshRoots};

use self::pace::Pace;
use self::signer::MeshSigner;
use crate::enrolment;
use crate::events::Events;
use crate::index::MeshCaState;
use crate::state::State;

/// What signing for the mesh is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Of the hub; the Secrets lie in it.
    pub namespace: String,
    /// The Secret of central's mesh CA; nothing: [`PLUGGED_IN`], else [`SELF_SIGNED`].
    pub secret: Option<String>,
    /// How long an intermediate lives.
    pub lifetime: Duration,
    /// Of all identities on the link.
    pub trust_domain: String,
    /// Whether central's operator has granted it.
    pub is_granted: bool,
}

/// Who takes part in signing.
pub struct Deps {
    /// Who asks may be told who it is no longer.
    pub admission: Arc<dyn Admission>,
    /// Names as they are on central now; nothing where certificates of the link come from elsewhere.
    pub records: Option<Arc<dyn enrolment::Records>>,
    /// Whom the link trusts; nothing where certificates of the link come from elsewhere.
    pub link_trust: Option<watch::Receiver<Arc<Trust>>>,
    /// What each remote is to hold.
    pub state: Arc<State>,
    /// For whoever describes a remote.
    pub events: Arc<Events>,
    /// What is counted.
    pub metrics: MeshCaMetrics,
}

/// What everybody was told last.
#[derive(Debug, Default)]
struct Told {
    state: MeshCaState,
    trust: Option<v1::MeshTrust>,
}

/// Signs intermediates of the mesh.
pub struct MeshCa {
    settings: Settings,
    deps: Deps,
    signer: ArcSwapOption<MeshSigner>,
    told: Mutex<Told>,
    pace: Mutex<Pace>,
}

impl fmt::Debug for MeshCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshCa")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl MeshCa {
    /// Holds no CA before [`Self::run`].
    #[must_use]
    pub fn new(settings: Settings, deps: Deps) -> Arc<Self> {
        let state = if settings.is_granted {
            MeshCaState::Unknown
        } else {
            MeshCaState::NotGranted
        };
        Arc::new(Self {
            settings,
            deps,
            signer: ArcSwapOption::empty(),
            told: Mutex::new(Told { state, trust: None }),
            pace: Mutex::default(),
        })
    }

    /// Follows central's CA until `stop`; without the grant nothing is read.
    pub async fn run(self: Arc<Self>, watches: kube::Client, calls: kube::Client, stop: CancellationToken) {
        if !self.settings.is_granted {
            return stop.cancelled().await;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = follow::follow(&self, &watches, &calls) => {}
        }
    }

    /// Keys that are trusted on the link.
    fn link_keys(&self) -> Vec<Pin> {
        let Some(trust) = &self.deps.link_trust else {
            return Vec::new();
        };
        let trust = trust.borrow();
        let pins = trust.roots.iter().filter_map(|root| Pin::of_certificate(root));
        pins.chain([trust.signer]).collect()
    }

    /// Tells everybody how it stands and whom the mesh trusts, once for each change.
    fn tell(&self, state: MeshCaState, trust: Option<v1::MeshTrust>) {
        let mut told = self.told.lock();
        let is_new = told.state != state;
        if !is_new && told.trust == trust {
            return;
        }
        told.state = state.clone();
        told.trust.clone_from(&trust);
        drop(told);
        if is_new {
            self.deps.metrics.usable(state == MeshCaState::Ready);
            log(&state);
        }
        let at = crate::clock::now();
        self.deps.state.update(|index| index.mesh_trust(state, trust, at));
    }

    /// The CA that signs now, if it is the one that everybody knows of.
    fn signing(&self) -> Option<(Arc<MeshSigner>, v1::MeshTrust)> {
        let signer = self.signer.load_full()?;
        let trust = self.told.lock().trust.clone()?;
        (trust.signer == signer.pin.as_bytes()).then_some((signer, trust))
    }
}

fn log(state: &MeshCaState) {
    match state {
        MeshCaState::NotGranted | MeshCaState::Unknown => {}
        MeshCaState::Unreadable(reason) => {
            warn!(%reason, "it cannot be known whom the mesh trusts, remotes with Citadel are sent no configuration");
        }
        MeshCaState::Ready => info!("mesh CA is in order"),
        MeshCaState::Missing(reason) => warn!(%reason, "mesh CA is missing, nothing is signed for the mesh"),
        MeshCaState::CannotSign(reason) => {
            warn!(%reason, "mesh CA cannot sign the CA of a remote, nothing is signed for the mesh");
        }
        MeshCaState::Held(reason) => warn!(%reason, "mesh CA is not in order, going on with the one that is held"),
    }
}
