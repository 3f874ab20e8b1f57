//! The proof of an ended certificate's key: a signature over this very connection and this very request, so that it
//! is worth nothing anywhere else.

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Sets these signatures apart from all others that the key ever made.
const CONTEXT: &[u8] = b"remote-istio recover v1\0";

/// Why a proof does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Not a certificate.
    #[error("the ended certificate cannot be read: {0}")]
    Certificate(String),
    /// The signature is of another key, connection or request.
    #[error(
        "the proof does not hold: it must be signed by the ended certificate's key, over this connection and request"
    )]
    Signature,
}

/// What the ended certificate's key signs (ECDSA on P-256 with SHA-256, ASN.1). `exporter`: the connection's exported
/// keying material; `request`: the signing request, DER.
#[must_use]
pub fn proof_input(exporter: &[u8; 32], request: &[u8]) -> Vec<u8> {
    let request = digest::digest(&digest::SHA256, request);
    [CONTEXT, exporter, request.as_ref()].concat()
}

/// Makes sure that `proof` is a signature by the key of `leaf` (DER).
///
/// # Errors
/// It is not.
pub fn verify_proof(leaf: &[u8], exporter: &[u8; 32], request: &[u8], proof: &[u8]) -> Result<(), ProofError> {
    let (_, certificate) =
        X509Certificate::from_der(leaf).map_err(|error| ProofError::Certificate(error.to_string()))?;
    let key = certificate.public_key().subject_public_key.data.as_ref();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key)
        .verify(&proof_input(exporter, request), proof)
        .map_err(|_| ProofError::Signature)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SigningKey as _};

    use super::*;

    #[test]
    fn proof_holds_for_its_key_connection_and_request_only() {
        let (key, other) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
        let leaf = |key: &KeyPair| {
            CertificateParams::default()
                .self_signed(key)
                .expect("a leaf")
                .der()
                .to_vec()
        };
        let (exporter, request) = ([1; 32], b"request".as_slice());
        let proof = key.sign(&proof_input(&exporter, request)).expect("a signature");
        assert_eq!(verify_proof(&leaf(&key), &exporter, request, &proof), Ok(()));
        let wrong = Err(ProofError::Signature);
        assert_eq!(verify_proof(&leaf(&other), &exporter, request, &proof), wrong);
        assert_eq!(verify_proof(&leaf(&key), &[2; 32], request, &proof), wrong);
        assert_eq!(verify_proof(&leaf(&key), &exporter, b"another", &proof), wrong);
        assert_eq!(verify_proof(&leaf(&key), &exporter, request, b""), wrong);
        assert!(matches!(
            verify_proof(b"", &exporter, request, &proof),
            Err(ProofError::Certificate(_))
        ));
    }
}
