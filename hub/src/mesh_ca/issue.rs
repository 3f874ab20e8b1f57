//! Signing the CA of a remote: what its certificate says is decided here and nowhere else. Pure.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};
use remote_istio::identity::{Identity, RemoteName};
use remote_istio::limits;
use rustls::pki_types::CertificateDer;

use super::problem::MeshCaProblem;
use super::signer::MeshSigner;
use crate::authority::certificate::{CertificateFacts, seconds_of, shown, verify_client};
use crate::authority::{IssueError, date, rounded_up, serial};

/// Of every intermediate, beside the name of the remote.
const ORGANIZATION: &str = "remote-istio";

/// A CA for a remote.
#[derive(Clone, Copy, Debug)]
pub(super) struct Intermediate<'a> {
    pub(super) remote: &'a RemoteName,
    /// Of the link: the mesh has names of its own for workloads, and none for clusters.
    pub(super) trust_domain: &'a str,
    /// How long it lives; never beyond those above it.
    pub(super) lifetime: Duration,
}

/// An intermediate that was just signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signed {
    /// The intermediate, then its issuers, without the root.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) serial: String,
    pub(super) not_after: SystemTime,
}

impl From<IssueError> for MeshCaProblem {
    fn from(error: IssueError) -> Self {
        Self::Signing(error.to_string())
    }
}

impl From<rcgen::Error> for MeshCaProblem {
    fn from(error: rcgen::Error) -> Self {
        Self::Signing(error.to_string())
    }
}

impl MeshSigner {
    /// Signs a CA for a remote: it signs workloads and no further CA.
    ///
    /// # Errors
    /// The CA has ended meanwhile, or signing fails.
    pub(super) fn sign(
        &self,
        key: &impl PublicKeyData,
        wanted: &Intermediate<'_>,
        now: SystemTime,
    ) -> Result<Signed, MeshCaProblem> {
        let begin = rounded_up((now - limits::BACKDATED).max(self.not_before));
        let end = seconds_of((now + wanted.lifetime).min(self.not_after));
        if end <= seconds_of(now) || begin >= end {
            return Err(MeshCaProblem::Ended {
                subject: self.keys().swap_remove(0).1,
                now: shown(now),
                until: shown(self.not_after),
            });
        }
        let params = intermediate(wanted, begin, end)?;
        let der: CertificateDer<'static> = params.signed_by(key, self.issuer())?.into();
        let unreadable = || MeshCaProblem::Signing("what was signed cannot be read".to_owned());
        let facts = CertificateFacts::read(&der).ok_or_else(unreadable)?;
        let mut chain = vec![der];
        chain.extend(self.path.below.iter().cloned());
        Ok(Signed {
            chain,
            serial: facts.serial,
            not_after: facts.not_after,
        })
    }

    /// Makes sure that a workload below a remote's CA is verified by the root, as a peer in the mesh would do it.
    pub(super) fn probe(&self, now: SystemTime) -> Result<(), MeshCaProblem> {
        let remote = RemoteName::new("probe").expect("a DNS label");
        let wanted = Intermediate {
            remote: &remote,
            trust_domain: "probe.invalid",
            lifetime: Duration::from_mins(1),
        };
        let key = KeyPair::generate()?;
        let params = intermediate(&wanted, seconds_of(now), seconds_of(now) + 60)?;
        let signed = self.sign(&key, &wanted, now)?;
        let issuer = Issuer::from_params(&params, &key);
        let leaf_key = KeyPair::generate()?;
        let mut leaf = CertificateParams::default();
        leaf.distinguished_name = DistinguishedName::new();
        leaf.not_before = date(seconds_of(now))?;
        leaf.not_after = date(seconds_of(now) + 60)?;
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = leaf.signed_by(&leaf_key, &issuer)?;
        let root = std::slice::from_ref(&self.path.root);
        let verified = verify_client(leaf.der(), &signed.chain, root, now);
        verified.map_err(|error| MeshCaProblem::NotBelowRoots(error.to_string()))
    }
}

fn intermediate(wanted: &Intermediate<'_>, begin: u64, end: u64) -> Result<CertificateParams, MeshCaProblem> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, ORGANIZATION);
    params
        .distinguished_name
        .push(DnType::CommonName, wanted.remote.as_str());
    let uri = Identity::Remote(wanted.remote.clone()).uri(wanted.trust_domain);
    params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
    params.not_before = date(begin)?;
    params.not_after = date(end)?;
    params.serial_number = Some(serial()?);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}
