//! Whom a remote trusts and where it finds the hub: handed out with each certificate, and in the stream when it changes.

use std::fmt;

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;

use super::{Pin, certificate_pem, hex};
use crate::identity::is_trust_domain;
use crate::limits;
use crate::transport::{AddressError, HubAddress};
use crate::wire::v1;

/// What a remote is told to trust. Read from the wire it keeps to every limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// Raised at each change of the roots.
    pub epoch: u64,
    /// CA certificates; never empty.
    pub roots: Vec<CertificateDer<'static>>,
    /// The CA that signs now.
    pub signer: Pin,
    /// Of every identity on the link.
    pub trust_domain: String,
    /// The sync port; never empty.
    pub hubs: Vec<HubAddress>,
    /// The enrolment port, for recovery.
    pub enrolments: Vec<HubAddress>,
}

/// Tells two trusts apart. Not a secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TrustDigest([u8; 32]);

/// A trust that breaks the contract.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// None or too many of something.
    #[error("{count} {what}: there must be 1 to {limit}")]
    Count {
        /// Of what.
        what: &'static str,
        /// How many came.
        count: usize,
        /// The most.
        limit: usize,
    },
    /// A root that is no certificate, or too large to be one.
    #[error("root {0} is no certificate of a CA")]
    Root(usize),
    /// The signer is no SHA-256.
    #[error("the signer's hash has {0} bytes, it must have 32")]
    Signer(usize),
    /// The trust domain is no DNS name.
    #[error("{0:?} is no trust domain")]
    TrustDomain(String),
    /// An address that is none.
    #[error(transparent)]
    Address(#[from] AddressError),
}

impl Trust {
    /// Reads one from the wire.
    ///
    /// # Errors
    /// It breaks a limit, or a part of it is not what it should be.
    pub fn read(wire: &v1::Trust) -> Result<Self, TrustError> {
        count("roots", wire.roots.len(), limits::TRUST_ROOTS)?;
        count("addresses of the sync port", wire.hubs.len(), limits::TRUST_ADDRESSES)?;
        let enrolments = wire.enrolments.len().max(1);
        count("addresses of the enrolment port", enrolments, limits::TRUST_ADDRESSES)?;
        for (number, root) in wire.roots.iter().enumerate() {
            if root.len() > limits::CERTIFICATE_MAX_BYTES || Pin::of_certificate(root).is_none() {
                return Err(TrustError::Root(number));
            }
        }
        if !is_trust_domain(&wire.trust_domain) {
            return Err(TrustError::TrustDomain(wire.trust_domain.chars().take(100).collect()));
        }
        let addresses = |texts: &[String]| texts.iter().map(|text| text.parse()).collect::<Result<_, _>>();
        Ok(Self {
            epoch: wire.epoch,
            roots: wire.roots.iter().cloned().map(CertificateDer::from).collect(),
            signer: Pin::from_bytes(&wire.signer).ok_or(TrustError::Signer(wire.signer.len()))?,
            trust_domain: wire.trust_domain.clone(),
            hubs: addresses(&wire.hubs)?,
            enrolments: addresses(&wire.enrolments)?,
        })
    }

    /// As it is sent.
    #[must_use]
    pub fn write(&self) -> v1::Trust {
        let addresses = |addresses: &[HubAddress]| addresses.iter().map(ToString::to_string).collect();
        v1::Trust {
            epoch: self.epoch,
            roots: self.roots.iter().map(|root| root.to_vec()).collect(),
            signer: self.signer.as_bytes().to_vec(),
            trust_domain: self.trust_domain.clone(),
            hubs: addresses(&self.hubs),
            enrolments: addresses(&self.enrolments),
        }
    }

    /// Over every field; the order of roots and addresses counts.
    #[must_use]
    pub fn digest(&self) -> TrustDigest {
        let mut context = digest::Context::new(&digest::SHA256);
        let mut update = |part: &[u8]| {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        };
        update(&self.epoch.to_be_bytes());
        update(self.signer.as_bytes());
        update(self.trust_domain.as_bytes());
        update(&self.roots.len().to_be_bytes());
        for root in &self.roots {
            update(root);
        }
        for addresses in [&self.hubs, &self.enrolments] {
            update(&addresses.len().to_be_bytes());
            for address in addresses {
                update(address.to_string().as_bytes());
            }
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        TrustDigest(bytes)
    }

    /// The roots as a PEM bundle.
    #[must_use]
    pub fn bundle(&self) -> String {
        self.roots.iter().map(|root| certificate_pem(root)).collect()
    }
}

impl TrustDigest {
    /// From the wire: exactly 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// As it is sent.
    #[must_use]
    pub fn to_vec(self) -> Vec<u8> {
        self.0.to_vec()
    }
}

impl fmt::Debug for TrustDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

fn count(what: &'static str, count: usize, limit: usize) -> Result<(), TrustError> {
    if (1..=limit).contains(&count) {
        return Ok(());
    }
    Err(TrustError::Count { what, count, limit })
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    fn trust() -> Trust {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params
            .self_signed(&KeyPair::generate().expect("a key"))
            .expect("a root");
        Trust {
            epoch: 3,
            signer: Pin::of_certificate(root.der()).expect("a certificate"),
            roots: vec![root.der().clone()],
            trust_domain: "mesh.test".to_owned(),
            hubs: vec!["hub.test:8444".parse().expect("an address")],
            enrolments: vec!["hub.test:8443".parse().expect("an address")],
        }
    }

    #[test]
    fn trust_reads_back_from_the_wire_and_as_a_bundle() {
        let trust = trust();
        assert_eq!(Trust::read(&trust.write()), Ok(trust.clone()));
        let bundle = pem::parse_many(trust.bundle()).expect("PEM");
        assert_eq!(bundle.len(), 1);
        assert_eq!(bundle[0].contents(), trust.roots[0].as_ref());
    }

    #[test]
    fn trust_over_a_limit_or_with_a_wrong_part_is_refused() {
        let good = trust().write();
        let wrong = |change: fn(&mut v1::Trust)| {
            let mut wire = good.clone();
            change(&mut wire);
            Trust::read(&wire).expect_err("wrong")
        };
        let counted = |error| matches!(error, TrustError::Count { .. });
        assert!(counted(wrong(|wire| wire.roots.clear())));
        assert!(counted(wrong(
            |wire| wire.roots = vec![wire.roots[0].clone(); limits::TRUST_ROOTS + 1]
        )));
        assert!(counted(wrong(|wire| wire.hubs.clear())));
        assert!(counted(wrong(
            |wire| wire.hubs = vec![wire.hubs[0].clone(); limits::TRUST_ADDRESSES + 1]
        )));
        assert!(counted(wrong(
            |wire| wire.enrolments = vec![wire.hubs[0].clone(); limits::TRUST_ADDRESSES + 1]
        )));
        assert_eq!(wrong(|wire| wire.roots.push(vec![1])), TrustError::Root(1));
        assert_eq!(wrong(|wire| wire.signer.push(1)), TrustError::Signer(33));
        assert!(matches!(
            wrong(|wire| wire.trust_domain.clear()),
            TrustError::TrustDomain(_)
        ));
        assert!(matches!(wrong(|wire| wire.hubs[0].clear()), TrustError::Address(_)));
        let mut without = good.clone();
        without.enrolments.clear();
        assert!(Trust::read(&without).is_ok());
    }

    #[test]
    fn digest_changes_with_every_field() {
        let good = trust();
        let change: [fn(&mut Trust); 6] = [
            |trust| trust.epoch += 1,
            |trust| trust.roots.push(trust.roots[0].clone()),
            |trust| trust.signer = Pin::of_key_info(b"another"),
            |trust| trust.trust_domain = "other.test".to_owned(),
            |trust| trust.hubs.append(&mut trust.enrolments),
            |trust| trust.enrolments.clear(),
        ];
        for (number, change) in change.into_iter().enumerate() {
            let mut changed = good.clone();
            change(&mut changed);
            assert_ne!(changed.digest(), good.digest(), "change {number}");
        }
    }
}
