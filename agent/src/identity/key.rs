//! A private key of this agent. Never shown.

use std::fmt;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData as _, SigningKey as _};
use remote_istio::enrolment::proof_input;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

/// An ECDSA P-256 key.
pub struct PrivateKey(KeyPair);

/// A key that cannot be made, read or used. Never says anything of the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyError(String);

impl PrivateKey {
    /// A fresh one.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        KeyPair::generate()
            .map(Self)
            .map_err(|error| KeyError(format!("no key can be made: {error}")))
    }

    /// From PEM.
    ///
    /// # Errors
    /// It holds no key that can be used.
    pub fn from_pem(text: &[u8]) -> Result<Self, KeyError> {
        let wrong = || KeyError("it holds no private key in PEM".to_owned());
        let text = std::str::from_utf8(text).map_err(|_| wrong())?;
        // What the parser says might repeat a part of the text.
        KeyPair::from_pem(text).map(Self).map_err(|_| wrong())
    }

    /// As it is kept.
    #[must_use]
    pub fn pem(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.serialize_pem().into_bytes())
    }

    /// A signing request, DER. It asks for no name: the hub alone decides whose certificate this becomes.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn request(&self) -> Result<Vec<u8>, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params
            .serialize_request(&self.0)
            .map_err(|error| KeyError(format!("no signing request can be made: {error}")))?;
        Ok(request.der().to_vec())
    }

    /// The proof of an ended certificate with this key, over one connection and one request.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn proof(&self, exporter: &[u8; 32], request: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.0
            .sign(&proof_input(exporter, request))
            .map_err(|error| KeyError(format!("the ended certificate's key cannot sign: {error}")))
    }

    /// Whether a certificate (DER) is of this key.
    #[must_use]
    pub fn fits(&self, certificate: &[u8]) -> bool {
        X509Certificate::from_der(certificate)
            .is_ok_and(|(_, certificate)| certificate.public_key().raw == self.0.subject_public_key_info())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use remote_istio::enrolment::verify_proof;

    use super::*;

    fn certificate(key: &PrivateKey) -> Vec<u8> {
        let params = CertificateParams::default();
        params.self_signed(&key.0).expect("a certificate").der().to_vec()
    }

    #[test]
    fn key_reads_back_and_no_print_or_error_shows_it() {
        let key = PrivateKey::generate().expect("a key");
        let pem = key.pem();
        let text = std::str::from_utf8(&pem).expect("PEM is text");
        let again = PrivateKey::from_pem(&pem).expect("a key");
        assert_eq!(again.pem(), pem);
        let secret = text.lines().nth(1).expect("a body");
        assert!(!format!("{key:?}").contains(&secret[..8]));
        let damaged = text.replace("END PRIVATE", "END PUBLIC");
        let error = PrivateKey::from_pem(damaged.as_bytes()).expect_err("no key");
        assert!(!error.to_string().contains(&secret[..8]), "{error}");
    }

    #[test]
    fn request_asks_for_no_name_and_carries_the_key() {
        let key = PrivateKey::generate().expect("a key");
        let request = key.request().expect("a request");
        let read = rcgen::CertificateSigningRequestParams::from_der(&request.as_slice().into()).expect("a request");
        assert_eq!(read.params.subject_alt_names, []);
        assert_eq!(read.params.distinguished_name.iter().count(), 0);
        assert_eq!(
            read.public_key.subject_public_key_info(),
            key.0.subject_public_key_info()
        );
    }

    #[test]
    fn key_fits_its_own_certificate_and_proves_it() {
        let (key, other) = (
            PrivateKey::generate().expect("a key"),
            PrivateKey::generate().expect("a key"),
        );
        let leaf = certificate(&key);
        assert!(key.fits(&leaf) && !other.fits(&leaf) && !key.fits(b""));
        let proof = key.proof(&[1; 32], b"request").expect("a proof");
        assert_eq!(verify_proof(&leaf, &[1; 32], b"request", &proof), Ok(()));
    }
}
