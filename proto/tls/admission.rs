//! Who may connect: asked inside the handshake, after the certificate itself was found good.

use std::fmt::Debug;
use std::sync::Arc;

use parking_lot::RwLock;

use super::peer::{LeafFacts, Peer};

/// Decides which good certificates are taken. Asked in the middle of handshakes: it must not block.
pub trait Admission: Debug + Send + Sync {
    /// Whether the owner of this certificate may connect now.
    ///
    /// # Errors
    /// Why not; the other end is told by an alert.
    fn admit(&self, peer: &LeafFacts) -> Result<(), NotAdmitted>;

    /// Whether a connection that is open may stay. What was good at its handshake may be so no longer.
    ///
    /// # Errors
    /// Why not.
    fn admit_open(&self, peer: &Peer) -> Result<(), NotAdmitted> {
        self.admit(&peer.facts())
    }

    /// A connection was accepted: register it (weakly, it is not told when it ends) to be able to
    /// [cut](Peer::cut) it later. [`Self::admit_open`] is asked once more right after this, so that nothing slips through
    /// between the handshake and the registration.
    fn opened(&self, peer: &Arc<Peer>);
}

/// Why a good certificate is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// It was taken back.
    #[error("certificate revoked")]
    Revoked,
    /// Nobody of that name has joined.
    #[error("unknown to this hub")]
    Unknown,
    /// The CA that signed it is trusted no longer.
    #[error("signed by another CA")]
    AnotherCa,
}

/// The place of an admission. Everybody may pass while it is empty.
#[derive(Debug, Default)]
pub(super) struct Gate(RwLock<Option<Arc<dyn Admission>>>);

impl Gate {
    pub(super) fn set(&self, admission: Arc<dyn Admission>) {
        *self.0.write() = Some(admission);
    }

    pub(super) fn admit(&self, facts: &LeafFacts) -> Result<(), NotAdmitted> {
        match self.current() {
            Some(admission) => admission.admit(facts),
            None => Ok(()),
        }
    }

    pub(super) fn enter(&self, peer: &Arc<Peer>) -> Result<(), NotAdmitted> {
        if let Some(admission) = self.current() {
            admission.opened(peer);
            admission.admit_open(peer)?;
        }
        Ok(())
    }

    /// A clone: no lock is held while foreign code runs.
    fn current(&self) -> Option<Arc<dyn Admission>> {
        self.0.read().clone()
    }
}
