//! Certificate, key and trust bundle as bytes, and telling their contents apart.

use std::fmt;

use aws_lc_rs::digest;
use zeroize::Zeroize as _;

use super::error::TlsError;

/// What one TLS configuration is made of, all in PEM. The key is wiped from memory when this is dropped, and never
/// shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Material {
    /// The certificate chain of this process, leaf first.
    pub certificate: Vec<u8>,
    /// The leaf's private key.
    pub key: Vec<u8>,
    /// The CAs that sign the peers' certificates; nothing else is trusted.
    pub trust_bundle: Vec<u8>,
}

impl Drop for Material {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material")
            .field("certificate", &String::from_utf8_lossy(&self.certificate))
            .field("trust_bundle", &String::from_utf8_lossy(&self.trust_bundle))
            .finish_non_exhaustive()
    }
}

/// Digest of contents; keys are not kept around to be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint([u8; 32]);

impl Material {
    pub(super) fn fingerprint(&self) -> Fingerprint {
        digest_of(&[&self.certificate, &self.key, &self.trust_bundle])
    }
}

impl Fingerprint {
    /// Stands for contents that could not even be read, so that one cause is reported once.
    pub(super) fn of_failure(error: &TlsError) -> Self {
        digest_of(&[error.to_string().as_bytes()])
    }
}

fn digest_of(parts: &[&[u8]]) -> Fingerprint {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    Fingerprint(bytes)
}
