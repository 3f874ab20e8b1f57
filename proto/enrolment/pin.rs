//! The pin of a CA: `sha256:` and the SHA-256 of its public key info, as the join command carries it.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use data_encoding::HEXLOWER_PERMISSIVE;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::hex;

const PREFIX: &str = "sha256:";

/// Names one public key, whatever certificate it stands in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pin([u8; 32]);

/// A text that is no pin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no pin: write sha256: and 64 hex digits, as `remote-istio-hub token create` prints it")]
pub struct PinError(String);

impl Pin {
    /// The pin of a certificate's key; nothing if this is no certificate.
    #[must_use]
    pub fn of_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        Some(Self::of_key_info(certificate.public_key().raw))
    }

    /// The pin of a public key info (`SubjectPublicKeyInfo`, DER).
    #[must_use]
    pub fn of_key_info(der: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
        Self(bytes)
    }

    /// From the wire: exactly 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The hash itself.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", hex(&self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let digits = text.strip_prefix(PREFIX).map(str::as_bytes);
        digits
            .and_then(|digits| HEXLOWER_PERMISSIVE.decode(digits).ok())
            .and_then(|bytes| Self::from_bytes(&bytes))
            .ok_or_else(|| PinError(text.chars().take(100).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pin_reads_back_and_nothing_else_is_one() {
        let pin = Pin::of_key_info(b"key");
        assert_eq!(pin.to_string().parse(), Ok(pin));
        let digits = &pin.to_string()[PREFIX.len()..];
        for wrong in [
            String::new(),
            digits.to_owned(),
            format!("sha1:{digits}"),
            format!("sha256:{}", &digits[1..]),
            format!("sha256:{digits}0"),
            format!("sha256:{}g", &digits[1..]),
            format!("sha256:+{}", &digits[1..]),
        ] {
            assert!(wrong.parse::<Pin>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn pin_is_that_of_the_key_and_not_of_the_certificate() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = |name: &str| {
            let params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
            params.self_signed(&key).expect("a certificate")
        };
        let pin = Pin::of_certificate(certificate("a.test").der()).expect("a certificate");
        assert_eq!(Pin::of_certificate(certificate("b.test").der()), Some(pin));
        assert_eq!(Pin::of_certificate(b"no certificate"), None);
    }
}
