//! The private key of the remote's intermediate CA. Never shown, and made anew for each certificate.

use pem::{EncodeConfig, LineEnding, Pem};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_RSA_SHA256, PublicKeyData as _, RsaKeySize};
use x509_parser::der_parser::parse_der;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

/// Word of a PKCS#1 key in PEM.
const PKCS1: &str = "RSA PRIVATE KEY";

/// In a PKCS#8 key, after version and algorithm.
const KEY_OF_PKCS8: usize = 2;

/// An RSA key of 2048 bits. Citadel of the 1.0 line reads `RSA PRIVATE KEY` (PKCS#1) and `EC PRIVATE KEY` (SEC 1) by
/// their words in PEM, and makes RSA keys itself; so this is what it reads for sure.
pub(super) struct CaKey(KeyPair);

/// A key that cannot be made, read or used. Never says anything of the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct CaKeyError(String);

impl CaKey {
    /// A fresh one. Takes the processor for a while: not for a thread that others wait for.
    pub(super) fn generate() -> Result<Self, CaKeyError> {
        KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)
            .map(Self)
            .map_err(|error| CaKeyError(format!("no key can be made: {error}")))
    }

    /// From PEM; nothing if it holds no key that can be used.
    pub(super) fn from_pem(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        KeyPair::from_pem(text).ok().map(Self)
    }

    /// As it is kept: PKCS#1 in PEM.
    pub(super) fn pem(&self) -> Result<Zeroizing<Vec<u8>>, CaKeyError> {
        let pkcs8 = Zeroizing::new(self.0.serialize_der());
        let wrong = || CaKeyError("the key that was made is of another shape than PKCS#8".to_owned());
        let (_, parsed) = parse_der(&pkcs8).map_err(|_| wrong())?;
        let parts = parsed.as_sequence().map_err(|_| wrong())?;
        let key = parts.get(KEY_OF_PKCS8).ok_or_else(wrong)?;
        let key = key.as_slice().map_err(|_| wrong())?;
        let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
        let text = pem::encode_config(&Pem::new(PKCS1, key), config);
        Ok(Zeroizing::new(text.into_bytes()))
    }

    /// A signing request, DER. It asks for no name: the hub decides whose certificate this becomes.
    pub(super) fn request(&self) -> Result<Vec<u8>, CaKeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params
            .serialize_request(&self.0)
            .map_err(|error| CaKeyError(format!("no signing request can be made: {error}")))?;
        Ok(request.der().to_vec())
    }

    /// Whether a certificate (DER) is of this key.
    pub(super) fn fits(&self, certificate: &[u8]) -> bool {
        X509Certificate::from_der(certificate)
            .is_ok_and(|(_, certificate)| certificate.public_key().raw == self.0.subject_public_key_info())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateSigningRequestParams, SigningKey as _};

    use super::*;

    #[test]
    fn key_is_kept_as_citadel_reads_it_and_reads_back_as_the_same_key() {
        let key = CaKey::generate().expect("a key");
        let kept = key.pem().expect("PEM");
        let text = std::str::from_utf8(&kept).expect("text");
        assert!(text.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"), "another word");
        assert!(!text.contains('\r'));
        let read = CaKey::from_pem(&kept).expect("readable");
        assert!(read.0.sign(b"a").is_ok(), "the key that was read cannot sign");
        let certificate = CertificateParams::default().self_signed(&key.0).expect("a certificate");
        assert!(read.fits(certificate.der()));
        assert!(!CaKey::generate().expect("another").fits(certificate.der()));
    }

    #[test]
    fn request_names_nobody_and_is_of_the_key() {
        let key = CaKey::generate().expect("a key");
        let request = key.request().expect("a request");
        let read = CertificateSigningRequestParams::from_der(&request.as_slice().into()).expect("readable");
        assert_eq!(read.public_key.der_bytes(), key.0.der_bytes());
        assert_eq!(read.params.distinguished_name, DistinguishedName::new());
    }

    #[test]
    fn what_is_no_key_is_none() {
        for text in [
            &b""[..],
            b"\xff",
            b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n",
        ] {
            assert!(CaKey::from_pem(text).is_none());
        }
    }
}
