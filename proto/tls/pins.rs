//! Trust by pin: who joins knows nothing of the hub but the hash of a CA's key.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::enrolment::Pin;

/// Why a presented chain does not fit the pins.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PinProblem {
    /// None of the presented CAs is pinned.
    #[error("it shows CAs with the pins {presented}, but {pins} is what was asked for")]
    Mismatch { pins: String, presented: String },
    /// The pin is that of the hub's own key.
    #[error("{0} is the pin of the hub's own certificate, which changes daily; pin its CA")]
    OfTheLeaf(Pin),
    /// A pinned certificate is there, and it is none of a CA.
    #[error("{0} is the pin of a certificate that is no CA's")]
    NotACa(Pin),
    /// The pinned CA is there for show only.
    #[error("the CA with the pin {0} is shown along, but the certificate is not signed below it")]
    NotSignedBelow(Pin),
}

/// The pinned CA stands in the presented chain above the leaf, the chain is valid up to it with nothing else
/// trusted, and the leaf is for this host.
#[derive(Debug)]
pub(super) struct PinVerifier {
    pins: Vec<Pin>,
    provider: Arc<CryptoProvider>,
}

impl PinVerifier {
    pub(super) fn new(pins: Vec<Pin>, provider: Arc<CryptoProvider>) -> Self {
        Self { pins, provider }
    }

    fn verify_chain(
        &self,
        end_entity: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let leaf = Pin::of_certificate(end_entity);
        if let Some(pin) = leaf.filter(|pin| self.pins.contains(pin)) {
            return Err(refused(PinProblem::OfTheLeaf(pin)));
        }
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let mut failure = None;
        for certificate in above {
            let Some(pin) = Pin::of_certificate(certificate).filter(|pin| self.pins.contains(pin)) else {
                continue;
            };
            match self.verify_below(&parsed, certificate, pin, above, now) {
                Ok(()) => return Ok(()),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| self.mismatch(above)))
    }

    fn verify_below(
        &self,
        leaf: &ParsedCertificate<'_>,
        anchor: &CertificateDer<'_>,
        pin: Pin,
        above: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if !is_ca(anchor) {
            return Err(refused(PinProblem::NotACa(pin)));
        }
        let mut roots = RootCertStore::empty();
        roots.add(anchor.clone().into_owned())?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(leaf, &roots, above, now, algorithms).map_err(|error| match error {
            Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                refused(PinProblem::NotSignedBelow(pin))
            }
            other => other,
        })
    }

    fn mismatch(&self, above: &[CertificateDer<'_>]) -> Error {
        // A cross certificate bears the key of another root.
        let presented: BTreeSet<Pin> = above.iter().filter_map(|der| Pin::of_certificate(der)).collect();
        refused(PinProblem::Mismatch {
            pins: listed(&self.pins, " or "),
            presented: listed(&presented, ", "),
        })
    }
}

fn listed<'a>(pins: impl IntoIterator<Item = &'a Pin>, between: &str) -> String {
    let pins: Vec<String> = pins.into_iter().map(Pin::to_string).collect();
    if pins.is_empty() {
        return "none".to_owned();
    }
    pins.join(between)
}

fn is_ca(der: &[u8]) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, certificate)| certificate.is_ca())
}

fn refused(problem: PinProblem) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(problem))))
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify_chain(end_entity, intermediates, now)?;
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
