//! A signing request: nothing of it counts but its key. Pure.

use rcgen::{PublicKeyData, SignatureAlgorithm, SubjectPublicKeyInfo};
use remote_istio::enrolment::Pin;
use remote_istio::limits;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_DSA, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521,
    OID_PKCS1_RSAENCRYPTION, OID_PKCS1_RSASSAPSS, OID_SIG_ED448, OID_SIG_ED25519, Oid,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo as KeyInfo;

/// Bits of an RSA key that may become a CA of the mesh.
const RSA_BITS_MIN: usize = 2_048;
const RSA_BITS_MAX: usize = 8_192;

/// A request that was found good: its signature is of its own key, and the key is of a kind that is taken. Whatever
/// names and extensions it asks for are not kept.
#[derive(Clone, Debug)]
pub struct CertificateRequest {
    key: SubjectPublicKeyInfo,
    pin: Pin,
}

/// Why a request is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Larger than any request with a good key.
    #[error(
        "the signing request has {0} bytes, at most {max} are taken",
        max = limits::REQUEST_MAX_BYTES
    )]
    TooLarge(usize),
    /// No signing request.
    #[error("the signing request cannot be read (PKCS #10, DER): {0}")]
    Unreadable(String),
    /// A key that is too weak, or of a kind that is not taken.
    #[error("the signing request holds {0}: make an ECDSA P-256 key")]
    KeyKind(String),
    /// The same of a request for an intermediate of the mesh.
    #[error(
        "the signing request holds {0}: make an RSA key of 2048 to {RSA_BITS_MAX} bits, or an ECDSA P-256 or P-384 key"
    )]
    MeshKeyKind(String),
    /// Broken, or not by the key it holds.
    #[error("the signing request is not signed by the key it holds")]
    Signature,
}

impl CertificateRequest {
    /// Judges a request (PKCS #10, DER).
    ///
    /// # Errors
    /// It is too large, cannot be read, holds a key of a kind that is not taken, or is not signed by that key.
    pub fn check(der: &[u8]) -> Result<Self, RequestError> {
        Self::read(der, refuse_kind)
    }

    /// The same for an intermediate of the mesh: Citadel reads RSA keys too, and no Ed25519.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn check_of_mesh(der: &[u8]) -> Result<Self, RequestError> {
        Self::read(der, refuse_kind_of_mesh)
    }

    fn read(der: &[u8], refuse_kind: impl Fn(&KeyInfo<'_>) -> Result<(), RequestError>) -> Result<Self, RequestError> {
        if der.len() > limits::REQUEST_MAX_BYTES {
            return Err(RequestError::TooLarge(der.len()));
        }
        let (rest, request) =
            X509CertificationRequest::from_der(der).map_err(|error| RequestError::Unreadable(error.to_string()))?;
        if !rest.is_empty() {
            let trailing = format!("{} bytes follow its end", rest.len());
            return Err(RequestError::Unreadable(trailing));
        }
        let info = &request.certification_request_info.subject_pki;
        refuse_kind(info)?;
        request.verify_signature().map_err(|_| RequestError::Signature)?;
        let key = SubjectPublicKeyInfo::from_der(info.raw).map_err(|error| RequestError::KeyKind(error.to_string()))?;
        Ok(Self {
            key,
            pin: Pin::of_key_info(info.raw),
        })
    }

    /// The pin of the key.
    #[must_use]
    pub fn key(&self) -> Pin {
        self.pin
    }
}

impl PublicKeyData for CertificateRequest {
    fn der_bytes(&self) -> &[u8] {
        self.key.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.key.algorithm()
    }
}

fn refuse_kind(info: &KeyInfo<'_>) -> Result<(), RequestError> {
    let algorithm = &info.algorithm.algorithm;
    let kind = if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = info.algorithm.parameters.as_ref();
        match curve.and_then(|curve| curve.as_oid().ok()) {
            Some(curve) if curve == OID_EC_P256 || curve == OID_NIST_EC_P384 => return Ok(()),
            Some(curve) if curve == OID_NIST_EC_P521 => "an ECDSA P-521 key".to_owned(),
            Some(curve) => format!("an ECDSA key on the curve {curve}"),
            None => "an ECDSA key without the name of its curve".to_owned(),
        }
    } else if *algorithm == OID_SIG_ED25519 {
        return Ok(());
    } else {
        name(algorithm)
    };
    Err(RequestError::KeyKind(kind))
}

fn refuse_kind_of_mesh(info: &KeyInfo<'_>) -> Result<(), RequestError> {
    let kind = match info.parsed() {
        Ok(PublicKey::RSA(key)) if (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&key.key_size()) => return Ok(()),
        Ok(PublicKey::RSA(key)) => format!("an RSA key of {} bits", key.key_size()),
        _ if info.algorithm.algorithm == OID_SIG_ED25519 => "an Ed25519 key".to_owned(),
        _ => match refuse_kind(info) {
            Ok(()) => return Ok(()),
            Err(RequestError::KeyKind(kind)) => kind,
            Err(other) => return Err(other),
        },
    };
    Err(RequestError::MeshKeyKind(kind))
}

fn name(algorithm: &Oid<'_>) -> String {
    let known = [
        (OID_PKCS1_RSAENCRYPTION, "an RSA key"),
        (OID_PKCS1_RSASSAPSS, "an RSA key"),
        (OID_KEY_TYPE_DSA, "a DSA key"),
        (OID_SIG_ED448, "an Ed448 key"),
    ];
    let found = known.iter().find(|(known, _)| known == algorithm);
    found.map_or_else(
        || format!("a key of the kind {algorithm}"),
        |(_, name)| (*name).to_owned(),
    )
}

#[cfg(test)]
mod tests;
