//! Identities on the link: exactly one URI SAN `spiffe://TRUST-DOMAIN/remote/NAME`, `/hub` or `/operator/NAME`.

use std::fmt;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::model::{is_dns_label, is_dns_subdomain};

/// Trust domain where nothing else is configured.
pub const DEFAULT_TRUST_DOMAIN: &str = "remote-istio.local";

/// Name of a remote: a DNS label, the name of its `RemoteIstio`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemoteName(String);

impl RemoteName {
    /// Takes a DNS label; anything else names no remote.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        is_dns_label(name).then(|| Self(name.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RemoteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who a certificate of the link CA stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// The agent of one remote.
    Remote(RemoteName),
    /// A hub replica.
    Hub,
    /// A person or tool that inspects.
    Operator(String),
}

impl Identity {
    /// The URI that stands for this identity in a certificate.
    #[must_use]
    pub fn uri(&self, trust_domain: &str) -> String {
        match self {
            Self::Remote(name) => format!("spiffe://{trust_domain}/remote/{name}"),
            Self::Hub => format!("spiffe://{trust_domain}/hub"),
            Self::Operator(name) => format!("spiffe://{trust_domain}/operator/{name}"),
        }
    }
}

/// Why a certificate stands for nobody here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not a certificate at all.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
    /// No URI, or more than one.
    #[error("the certificate names {0} URIs, it must name exactly one: spiffe://{1}/remote/NAME")]
    UriCount(usize, String),
    /// A URI of another mesh's link.
    #[error("the certificate's URI {uri:?} is not of trust domain {expected:?}")]
    TrustDomain {
        /// What the certificate says.
        uri: String,
        /// What is configured here.
        expected: String,
    },
    /// The right trust domain with a path that is no identity.
    #[error("the certificate's URI {0:?} is not …/remote/NAME, …/hub or …/operator/NAME with a DNS label as NAME")]
    Path(String),
}

/// Reads the identity from the URI of a certificate.
///
/// # Errors
/// The URI is of another trust domain, or its path is no identity.
pub fn parse_uri(uri: &str, trust_domain: &str) -> Result<Identity, IdentityError> {
    let path = uri
        .strip_prefix("spiffe://")
        .and_then(|rest| rest.strip_prefix(trust_domain))
        .and_then(|rest| rest.strip_prefix('/'))
        .ok_or_else(|| IdentityError::TrustDomain {
            uri: cut(uri),
            expected: trust_domain.to_owned(),
        })?;
    let no_identity = || IdentityError::Path(cut(uri));
    match path.split_once('/') {
        None if path == "hub" => Ok(Identity::Hub),
        Some(("remote", name)) => RemoteName::new(name).map(Identity::Remote).ok_or_else(no_identity),
        Some(("operator", name)) if is_dns_label(name) => Ok(Identity::Operator(name.to_owned())),
        _ => Err(no_identity()),
    }
}

/// Reads the identity from a DER certificate whose chain the TLS stack has already verified.
///
/// # Errors
/// The certificate cannot be read, or does not name exactly one identity of this trust domain.
pub fn from_certificate(der: &[u8], trust_domain: &str) -> Result<Identity, IdentityError> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|error| IdentityError::Unreadable(error.to_string()))?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| IdentityError::Unreadable(error.to_string()))?;
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    match uris.as_slice() {
        [uri] => parse_uri(uri, trust_domain),
        _ => Err(IdentityError::UriCount(uris.len(), trust_domain.to_owned())),
    }
}

/// Whether a text can be a trust domain: a DNS subdomain.
#[must_use]
pub fn is_trust_domain(text: &str) -> bool {
    is_dns_subdomain(text)
}

fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uri_of_an_identity_reads_back() {
        let remote = RemoteName::new("remote-1").expect("a DNS label");
        for identity in [
            Identity::Remote(remote),
            Identity::Hub,
            Identity::Operator("ann".to_owned()),
        ] {
            assert_eq!(parse_uri(&identity.uri("mesh.test"), "mesh.test"), Ok(identity));
        }
    }

    #[test]
    fn uri_that_is_nearly_an_identity_is_refused() {
        for uri in [
            "spiffe://mesh.test/remote/",
            "spiffe://mesh.test/remote/A",
            "spiffe://mesh.test/remote/a/b",
            "spiffe://mesh.test/remote/*",
            "spiffe://mesh.test.evil/remote/a",
            "spiffe://other.test/remote/a",
            "https://mesh.test/remote/a",
            "spiffe://mesh.test/hub/x",
            "spiffe://mesh.test/",
            "spiffe://mesh.testhub",
        ] {
            assert!(parse_uri(uri, "mesh.test").is_err(), "{uri}");
        }
    }
}
