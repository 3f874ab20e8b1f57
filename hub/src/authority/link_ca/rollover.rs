//! Replacing the root of a made CA in three steps, with nobody left behind unasked.

use std::sync::Arc;
use std::time::SystemTime;

use remote_istio::enrolment::certificate_pem;

use super::create::{NewRoot, signing};
use super::entries::{CROSS, NEXT_CERTIFICATE, NEXT_KEY, Pair};
use super::error::CaError;
use super::signer::Signer;
use super::{LinkCa, Origin, Rollover};

/// Why a step of a rollover is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RolloverError {
    /// Not our CA.
    #[error(
        "this CA was brought by its owner: replace it there, and keep the old root in ca.crt until all have renewed"
    )]
    Brought,
    /// The next root is there already.
    #[error("a rollover has begun already: go on with `remote-istio-hub ca switch`")]
    Begun,
    /// The next root signs already.
    #[error("the new root signs already: end the rollover with `remote-istio-hub ca drop`")]
    Switched,
    /// Nothing to switch to, nothing to drop.
    #[error("no rollover has begun: start with `remote-istio-hub ca begin`")]
    NotBegun,
    /// The old root signs.
    #[error("the old root still signs: run `remote-istio-hub ca switch` first")]
    NotSwitched,
    /// The new root cannot be made.
    #[error("the new root cannot be made: {0}")]
    Ca(#[from] CaError),
}

impl LinkCa {
    /// First step: a new root is trusted beside the old one, which still signs. Raises the epoch.
    ///
    /// # Errors
    /// Not the time for it, or the root cannot be made.
    pub fn begin(&self, now: SystemTime) -> Result<Self, RolloverError> {
        match &self.origin {
            Origin::Brought => return Err(RolloverError::Brought),
            Origin::Made(Rollover::Begun { .. }) => return Err(RolloverError::Begun),
            Origin::Made(Rollover::Switched { .. }) => return Err(RolloverError::Switched),
            Origin::Made(Rollover::None) => {}
        }
        let root = NewRoot::make(self.signer.organization(), now).map_err(|error| signing(&error, NEXT_CERTIFICATE))?;
        let cross = root.crossed(&self.signer).map_err(|error| signing(&error, CROSS))?;
        let certificate = certificate_pem(&root.certificate);
        let pair = Pair {
            certificate_entry: NEXT_CERTIFICATE,
            certificate: certificate.as_bytes(),
            key_entry: NEXT_KEY,
            key: root.key_pem.as_bytes(),
        };
        let next = Arc::new(Signer::read(&pair, Some(now))?);
        let mut roots = self.roots.clone();
        roots.push(root.certificate);
        let begun = Self {
            roots,
            epoch: self.epoch + 1,
            origin: Origin::Made(Rollover::Begun { next, cross }),
            ..self.clone()
        };
        begun.judge(now)?;
        Ok(begun)
    }

    /// Second step: the new root signs. Who does not trust it yet verifies it by the cross certificate.
    ///
    /// # Errors
    /// Not the time for it.
    pub fn switch(&self) -> Result<Self, RolloverError> {
        match &self.origin {
            Origin::Brought => Err(RolloverError::Brought),
            Origin::Made(Rollover::None) => Err(RolloverError::NotBegun),
            Origin::Made(Rollover::Switched { .. }) => Err(RolloverError::Switched),
            Origin::Made(Rollover::Begun { next, cross }) => Ok(Self {
                signer: Arc::clone(next),
                pin: next.pin(),
                origin: Origin::Made(Rollover::Switched { cross: cross.clone() }),
                ..self.clone()
            }),
        }
    }

    /// Last step: nothing but the new root is trusted; other roots that somebody added go too. Raises the epoch. Who
    /// still holds a certificate of the old root, or trusts it alone, is locked out: ask for that first.
    ///
    /// # Errors
    /// Not the time for it.
    pub fn drop_old(&self) -> Result<Self, RolloverError> {
        match &self.origin {
            Origin::Brought => Err(RolloverError::Brought),
            Origin::Made(Rollover::None) => Err(RolloverError::NotBegun),
            Origin::Made(Rollover::Begun { .. }) => Err(RolloverError::NotSwitched),
            Origin::Made(Rollover::Switched { .. }) => Ok(Self {
                roots: vec![self.signer.chain()[0].clone()],
                epoch: self.epoch + 1,
                origin: Origin::Made(Rollover::None),
                ..self.clone()
            }),
        }
    }
}
