//! A new root of the link, made by the hub.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose};
use remote_istio::enrolment::{certificate_pem, hex};
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::LinkCa;
use super::entries::{CERTIFICATE, EPOCH, KEY, ROOTS};
use super::error::{CaError, CaProblem};
use super::issue::{IssueError, date, serial};
use super::signer::Signer;
use crate::authority::certificate::{seconds_of, shown};

/// How long a root lives: ten years.
const ROOT_LIFETIME: Duration = Duration::from_hours(24 * 3652);

/// A root begins so long before it is made.
const ROOT_BACKDATED: Duration = Duration::from_hours(24);

/// Bytes of an organization's name that every implementation takes.
const ORGANIZATION_MAX: usize = 64;

/// A new root: its certificate, its key in PEM, and what is needed to have the same key signed by another.
pub(super) struct NewRoot {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key_pem: Zeroizing<String>,
    params: CertificateParams,
    key: KeyPair,
}

impl LinkCa {
    /// Makes a CA: one root that signs, good for ten years.
    ///
    /// # Errors
    /// There is no chance to be had, or signing fails.
    pub fn create(trust_domain: &str, now: SystemTime) -> Result<Self, CaError> {
        let root = NewRoot::make(Some(trust_domain), now).map_err(|error| signing(&error, CERTIFICATE))?;
        let certificate = certificate_pem(&root.certificate).into_bytes();
        let data = BTreeMap::from([
            (CERTIFICATE.to_owned(), certificate.clone()),
            (KEY.to_owned(), root.key_pem.as_bytes().to_vec()),
            (ROOTS.to_owned(), certificate),
            (EPOCH.to_owned(), b"1".to_vec()),
        ]);
        Self::from_secret(&data, now)?.ok_or_else(|| CaProblem::Missing.of(CERTIFICATE))
    }
}

pub(super) fn signing(error: &IssueError, entry: &'static str) -> CaError {
    CaProblem::Signing(error.to_string()).of(entry)
}

impl NewRoot {
    /// Backdated by a day: a CA is also made by a command, on a machine whose clock may be far ahead of the hubs' and
    /// the agents'.
    pub(super) fn make(organization: Option<&str>, now: SystemTime) -> Result<Self, IssueError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.serial_number = Some(serial()?);
        params.not_before = date(seconds_of(now - ROOT_BACKDATED))?;
        params.not_after = date(seconds_of(now + ROOT_LIFETIME))?;
        params.distinguished_name = name(organization, now, &params.key_identifier(&key));
        // One more CA may stand below: the root of a rollover, cross-signed.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.into();
        Ok(Self {
            certificate,
            key_pem: Zeroizing::new(key.serialize_pem()),
            params,
            key,
        })
    }

    /// The same name and key, signed by `old`: who trusts the old root alone verifies by it what this one signs.
    pub(super) fn crossed(&self, old: &Signer) -> Result<CertificateDer<'static>, IssueError> {
        let mut params = self.params.clone();
        params.serial_number = Some(serial()?);
        params.not_after = params.not_after.min(date(seconds_of(old.not_after()))?);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(&self.key, old.issuer())?.into())
    }
}

/// Two roots never have the same name, even of one day.
fn name(organization: Option<&str>, now: SystemTime, key_identifier: &[u8]) -> DistinguishedName {
    let day: String = shown(now).chars().take_while(|character| *character != 'T').collect();
    let key: String = hex(key_identifier).chars().take(8).collect();
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization.filter(|name| name.len() <= ORGANIZATION_MAX) {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, format!("remote-istio link CA {day} {key}"));
    name
}
