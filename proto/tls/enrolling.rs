//! The TLS of whoever has no certificate yet, or no longer: what it trusts, and how it dials.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};

use super::build::client_without_resumption;
use super::pins::PinVerifier;
use super::source::wall_clock;
use crate::enrolment::Pin;
use crate::identity;

/// How the enrolment port is known to be the hub's.
#[derive(Clone, Debug)]
pub enum EnrolmentTrust {
    /// Pins of CAs, from the join command; one must fit.
    Pins(Vec<Pin>),
    /// CA certificates, from the trust that is held.
    Roots(Vec<CertificateDer<'static>>),
}

/// Nothing that could be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnrolmentTrustError {
    /// No pin.
    #[error("no pin of the hub's CA is given: take --pin from what `remote-istio-hub token create` printed")]
    NoPin,
    /// No root.
    #[error("the trust bundle holds no CA")]
    NoRoot,
    /// A root that is none.
    #[error("the trust bundle holds a certificate that cannot be a CA: {0}")]
    NotACa(String),
    /// The configured trust domain is none.
    #[error("--trust-domain {0:?} is not a DNS name")]
    TrustDomainName(String),
    /// The TLS stack refuses the whole.
    #[error("cannot be used for TLS: {0}")]
    Unusable(String),
}

/// Dials without a certificate of one's own.
#[derive(Clone, Debug)]
pub(crate) struct EnrolmentTls {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) trust_domain: String,
    clock: Arc<dyn TimeProvider>,
}

impl EnrolmentTls {
    pub(crate) fn new(
        trust: EnrolmentTrust,
        trust_domain: &str,
        clock: Arc<dyn TimeProvider>,
    ) -> Result<Self, EnrolmentTrustError> {
        if !identity::is_trust_domain(trust_domain) {
            return Err(EnrolmentTrustError::TrustDomainName(trust_domain.to_owned()));
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_details(Arc::clone(&provider), Arc::clone(&clock))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| EnrolmentTrustError::Unusable(error.to_string()))?;
        let builder = match trust {
            EnrolmentTrust::Pins(pins) if pins.is_empty() => return Err(EnrolmentTrustError::NoPin),
            EnrolmentTrust::Pins(pins) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(PinVerifier::new(pins, provider))),
            EnrolmentTrust::Roots(roots) => builder.with_root_certificates(store(roots)?),
        };
        Ok(Self {
            config: Arc::new(client_without_resumption(builder.with_no_client_auth())),
            trust_domain: trust_domain.to_owned(),
            clock,
        })
    }

    pub(crate) fn now(&self) -> SystemTime {
        wall_clock(&*self.clock)
    }
}

fn store(roots: Vec<CertificateDer<'static>>) -> Result<RootCertStore, EnrolmentTrustError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store
            .add(root)
            .map_err(|error| EnrolmentTrustError::NotACa(error.to_string()))?;
    }
    if store.is_empty() {
        return Err(EnrolmentTrustError::NoRoot);
    }
    Ok(store)
}
