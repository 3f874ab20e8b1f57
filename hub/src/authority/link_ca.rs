//! The CA of the link: who signs now, which roots are trusted, and how far a rollover has come. Pure.

mod create;
mod entries;
mod error;
mod issue;
mod rollover;
mod signer;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use remote_istio::enrolment::Pin;
use rustls::pki_types::CertificateDer;

use super::certificate::CertificateFacts;

pub use error::{CaError, CaProblem};
pub use issue::{IssueError, IssuedCertificate, Leaf};
pub(crate) use issue::{date, rounded_up, serial};
pub use rollover::RolloverError;

use signer::Signer;

/// A CA that signs for the link. Cheap to clone.
#[derive(Clone)]
pub struct LinkCa {
    signer: Arc<Signer>,
    roots: Vec<CertificateDer<'static>>,
    /// A root above the signer.
    pin: Pin,
    epoch: u64,
    origin: Origin,
}

/// Where a CA comes from, and what only made ones have.
#[derive(Clone)]
enum Origin {
    Brought,
    Made(Rollover),
}

/// How far the rollover of a made CA has come.
#[derive(Clone)]
enum Rollover {
    None,
    Begun {
        next: Arc<Signer>,
        cross: CertificateDer<'static>,
    },
    Switched {
        cross: CertificateDer<'static>,
    },
}

/// Where a CA stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Brought by the user, who also replaces it.
    Brought,
    /// Made by the hub; one root.
    Stable,
    /// The next root is trusted beside the old one, which still signs.
    Begun,
    /// The next root signs, the old one is still trusted.
    Switched,
}

/// One trusted root, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootFacts {
    /// Names its key.
    pub pin: Pin,
    /// Its subject.
    pub name: String,
    /// Its end.
    pub not_after: SystemTime,
    /// Whether it is the one that signs now.
    pub signs: bool,
}

impl LinkCa {
    /// Where it stands.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match &self.origin {
            Origin::Brought => Stage::Brought,
            Origin::Made(Rollover::None) => Stage::Stable,
            Origin::Made(Rollover::Begun { .. }) => Stage::Begun,
            Origin::Made(Rollover::Switched { .. }) => Stage::Switched,
        }
    }

    /// Raised at each change of the roots. A made CA counts from 1; for one that was brought it is the moment, in
    /// seconds since 1970, at which the newest of its roots begins, so that all replicas agree without a counter.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The CA that signs now.
    #[must_use]
    pub fn signer(&self) -> Pin {
        self.signer.pin()
    }

    /// What a join command pins: a root above the signer.
    #[must_use]
    pub fn pin(&self) -> Pin {
        self.pin
    }

    /// When the CA that signs now ends.
    #[must_use]
    pub fn signer_end(&self) -> SystemTime {
        self.signer.not_after()
    }

    /// The trusted roots; never empty.
    #[must_use]
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// The same, for people.
    #[must_use]
    pub fn root_facts(&self) -> Vec<RootFacts> {
        let read = self.roots.iter().filter_map(|root| CertificateFacts::read(root));
        read.map(|facts| RootFacts {
            signs: facts.pin == self.signer(),
            pin: facts.pin,
            name: facts.subject,
            not_after: facts.not_after,
        })
        .collect()
    }

    /// Whether nothing that matters differs.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let next = |ca: &Self| match &ca.origin {
            Origin::Made(Rollover::Begun { next, .. }) => Some(next.pin()),
            _ => None,
        };
        self.signer.chain() == other.signer.chain()
            && self.roots == other.roots
            && self.epoch == other.epoch
            && self.stage() == other.stage()
            && self.cross() == other.cross()
            && next(self) == next(other)
    }

    /// The certificate by which those who trust the old root alone verify the new one.
    fn cross(&self) -> Option<&CertificateDer<'static>> {
        match &self.origin {
            Origin::Made(Rollover::Begun { cross, .. } | Rollover::Switched { cross }) => Some(cross),
            _ => None,
        }
    }

    /// What stands between a certificate that begins at `begins` and the roots.
    fn between(&self, begins: SystemTime) -> Vec<CertificateDer<'static>> {
        match &self.origin {
            Origin::Made(Rollover::Switched { cross }) if !issue::has_ended(cross, begins) => vec![cross.clone()],
            Origin::Made(_) => Vec::new(),
            Origin::Brought => {
                let chain = self.signer.chain().iter();
                chain.filter(|link| !self.roots.contains(link)).cloned().collect()
            }
        }
    }
}

/// Never shows a key.
impl fmt::Debug for LinkCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkCa")
            .field("stage", &self.stage())
            .field("epoch", &self.epoch)
            .field("signer", &self.signer())
            .field("roots", &self.root_facts())
            .finish_non_exhaustive()
    }
}
