//! From a CA up to a root, by names and signatures. Pure.

use remote_istio::limits;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::problem::MeshCaProblem;
use crate::authority::certificate::CertificateFacts;

/// A CA and what stands above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    /// The CA first, without the root; empty where the root itself signs.
    pub(super) below: Vec<CertificateDer<'static>>,
    pub(super) root: CertificateDer<'static>,
}

impl Path {
    /// `above`: what may stand between, in any order.
    ///
    /// # Errors
    /// No root vouches for the CA.
    pub(super) fn find(
        signer: CertificateDer<'static>,
        above: &[CertificateDer<'static>],
        roots: &[CertificateDer<'static>],
    ) -> Result<Self, MeshCaProblem> {
        let mut below = Vec::new();
        let mut last = signer;
        loop {
            if roots.contains(&last) {
                return Ok(Self { below, root: last });
            }
            below.push(last);
            let issued = &below[below.len() - 1];
            if let Some(root) = roots.iter().find(|root| is_issuer(root, issued)) {
                let root = root.clone();
                return Ok(Self { below, root });
            }
            let next = above
                .iter()
                .find(|next| !below.contains(next) && is_issuer(next, issued));
            // The CA of the remote comes below.
            let next = next.filter(|_| below.len() < limits::CHAIN_MAX - 1);
            last = next.cloned().ok_or_else(|| no_issuer(issued))?;
        }
    }

    pub(super) fn signer(&self) -> &CertificateDer<'static> {
        self.below.first().unwrap_or(&self.root)
    }

    /// Of each, the CA first and the root last.
    pub(super) fn facts(&self) -> Result<Vec<CertificateFacts>, MeshCaProblem> {
        let all = self.below.iter().chain([&self.root]);
        let facts = all.map(|der| CertificateFacts::read(der));
        let facts: Option<Vec<_>> = facts.collect();
        facts.ok_or_else(|| MeshCaProblem::NotBelowRoots("one of its certificates cannot be read".to_owned()))
    }
}

fn no_issuer(issued: &CertificateDer<'_>) -> MeshCaProblem {
    let text = match X509Certificate::from_der(issued) {
        Ok((_, certificate)) => format!("{:?} is missing", certificate.issuer().to_string()),
        Err(error) => format!("a certificate cannot be read: {error}"),
    };
    MeshCaProblem::NotBelowRoots(text)
}

/// Whether the key of `above` signed `certificate`, and both say so.
pub(super) fn is_issuer(above: &CertificateDer<'_>, certificate: &CertificateDer<'_>) -> bool {
    let (Ok((_, above)), Ok((_, certificate))) =
        (X509Certificate::from_der(above), X509Certificate::from_der(certificate))
    else {
        return false;
    };
    above.subject().as_raw() == certificate.issuer().as_raw()
        && certificate.verify_signature(Some(above.public_key())).is_ok()
}
