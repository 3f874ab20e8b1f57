//! The client certificate's identity is judged inside the handshake, so that a refused client is told by an alert.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};

use super::admission::{Gate, NotAdmitted};
use super::peer;

/// Chain first, identity second, admission last.
#[derive(Debug)]
pub(super) struct IdentityVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    trust_domain: String,
    gate: Arc<Gate>,
}

impl IdentityVerifier {
    pub(super) fn new(chain: Arc<dyn ClientCertVerifier>, trust_domain: &str, gate: Arc<Gate>) -> Self {
        Self {
            chain,
            trust_domain: trust_domain.to_owned(),
            gate,
        }
    }
}

impl ClientCertVerifier for IdentityVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // The names of the CAs are nobody's business before the client has shown its certificate.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        let leaf = peer::read_leaf(end_entity, &self.trust_domain)
            .map_err(|error| Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error)))))?;
        self.gate.admit(&leaf.facts).map_err(|reason| {
            let identity = leaf.facts.identity.uri(&self.trust_domain);
            tracing::debug!(%identity, serial = %leaf.facts.serial, %reason, "certificate not admitted");
            // The alert follows from the error: certificate_revoked, access_denied.
            Error::InvalidCertificate(match reason {
                NotAdmitted::Revoked => CertificateError::Revoked,
                NotAdmitted::Unknown => CertificateError::ApplicationVerificationFailure,
                NotAdmitted::AnotherCa => CertificateError::UnknownIssuer,
            })
        })?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
