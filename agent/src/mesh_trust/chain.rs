//! What the hub signed, and what is kept of it: read, and checked as far as it can be without asking. Pure.

use std::time::{Duration, SystemTime};

use pem::{EncodeConfig, LineEnding, Pem};
use remote_istio::enrolment::Pin;
use remote_istio::limits;
use remote_istio::wire::v1;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::key::CaKey;

/// Word of a certificate in PEM.
const CERTIFICATE: &str = "CERTIFICATE";

/// An intermediate CA with everything needed to use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Issued {
    /// DER: the intermediate first, then its issuers, without the root.
    pub(super) chain: Vec<Vec<u8>>,
    /// Whom the mesh trusts, DER: the root of the chain first.
    pub(super) roots: Vec<Vec<u8>>,
    /// SHA-256 of the key of who signed it.
    pub(super) signer: Vec<u8>,
    /// Its life.
    pub(super) life: Life,
}

/// When a certificate begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
}

impl Issued {
    /// Reads what the hub answered. The error says what cannot be used.
    pub(super) fn read(answer: v1::SignResponse, key: &CaKey, now: SystemTime) -> Result<Self, String> {
        let trust = answer.trust.ok_or("it says nothing of whom the mesh trusts")?;
        let (chain, roots) = (answer.chain, trust.roots);
        if chain.is_empty() || chain.len() > limits::CHAIN_MAX {
            return Err(format!("its chain has {} certificates", chain.len()));
        }
        if roots.is_empty() || roots.len() > limits::MESH_ROOTS {
            return Err(format!("it names {} roots", roots.len()));
        }
        let life = check_own(&chain[0], key, now)?;
        check_chain(&chain, &roots)?;
        let above = chain.get(1).unwrap_or(&roots[0]);
        if Pin::of_certificate(above).is_none_or(|pin| trust.signer != pin.as_bytes()) {
            return Err("it was signed by another CA than it says".to_owned());
        }
        Ok(Self {
            chain,
            roots,
            signer: trust.signer,
            life,
        })
    }
}

fn check_own(der: &[u8], key: &CaKey, now: SystemTime) -> Result<Life, String> {
    if !key.fits(der) {
        return Err("the certificate is of another key than the one that was sent".to_owned());
    }
    let certificate = parsed(der)?;
    if !certificate.is_ca() {
        return Err("the certificate is not of a CA".to_owned());
    }
    let life = life_of(&certificate);
    if now >= life.not_after {
        return Err("the certificate has ended; is this machine's clock right?".to_owned());
    }
    if now < life.not_before {
        return Err("the certificate is not valid yet; is this machine's clock right?".to_owned());
    }
    Ok(life)
}

/// Each certificate names the next as its issuer, and the last one the first root.
fn check_chain(chain: &[Vec<u8>], roots: &[Vec<u8>]) -> Result<(), String> {
    for root in roots {
        parsed(root)?;
    }
    let above = chain[1..].iter().chain(roots.first());
    for (lower, upper) in chain.iter().zip(above) {
        let (lower, upper) = (parsed(lower)?, parsed(upper)?);
        if lower.issuer().as_raw() != upper.subject().as_raw() {
            return Err(format!("{} was not issued by {}", lower.subject(), upper.subject()));
        }
    }
    Ok(())
}

fn parsed(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    match X509Certificate::from_der(der) {
        Ok((rest, certificate)) if rest.is_empty() && der.len() <= limits::CERTIFICATE_MAX_BYTES => Ok(certificate),
        _ => Err("it holds something that is no certificate".to_owned()),
    }
}

fn life_of(certificate: &X509Certificate<'_>) -> Life {
    let at = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or(0));
    let validity = certificate.validity();
    Life {
        not_before: at(validity.not_before.timestamp()),
        not_after: at(validity.not_after.timestamp()),
    }
}

/// What is kept as the intermediate: its life, if it is a CA's certificate of the key beside it.
pub(super) fn kept_life(certificate: &[u8], key: &[u8]) -> Result<Life, &'static str> {
    let der = single(certificate).ok_or("its certificate cannot be read")?;
    let key = CaKey::from_pem(key).ok_or("its key cannot be read")?;
    if !key.fits(&der) {
        return Err("its key is not that of its certificate");
    }
    let certificate = parsed(&der).map_err(|_| "its certificate cannot be read")?;
    Ok(life_of(&certificate))
}

fn single(text: &[u8]) -> Option<Vec<u8>> {
    let blocks = pem::parse_many(text).ok()?;
    let [block] = blocks.as_slice() else { return None };
    (block.tag() == CERTIFICATE).then(|| block.contents().to_vec())
}

/// Certificates in PEM, one after the other.
pub(super) fn pem_of(certificates: &[Vec<u8>]) -> Vec<u8> {
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    let texts = certificates
        .iter()
        .map(|der| pem::encode_config(&Pem::new(CERTIFICATE, der.as_slice()), config));
    texts.collect::<String>().into_bytes()
}

#[cfg(test)]
pub(super) mod tests;
