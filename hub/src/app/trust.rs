//! Where this hub's own certificate comes from, and with it the trust it hands out: files, or the authority that signs.

use std::sync::Arc;

use kube::Client;
use remote_istio::enrolment::Trust;
use remote_istio::identity::Identity;
use remote_istio::tls::{CertificateFiles, TlsSource};
use tokio::sync::watch;

use super::StartError;
use crate::args::{Config, LinkCa};
use crate::authority::{self, Authority, AuthorityError, Mode, PublicAddresses};

/// Whom this hub speaks as.
pub(super) enum LinkTrust {
    /// Certificates of both ends come from elsewhere.
    Files(Arc<TlsSource>),
    /// The hub signs.
    Signed(Arc<Authority>),
}

impl LinkTrust {
    /// The hub's own certificate.
    pub(super) fn tls(&self) -> Arc<TlsSource> {
        match self {
            Self::Files(tls) => Arc::clone(tls),
            Self::Signed(authority) => authority.tls(),
        }
    }

    /// What agents are told to trust; nothing where certificates come from elsewhere.
    pub(super) fn handed_out(&self) -> Option<watch::Receiver<Arc<Trust>>> {
        match self {
            Self::Files(_) => None,
            Self::Signed(authority) => Some(authority.trust()),
        }
    }
}

/// The files of `config`, read; nothing where this hub signs.
pub(super) fn files(config: &Config) -> Result<Option<Arc<TlsSource>>, StartError> {
    match &config.link {
        LinkCa::Files(files) => load_files(files, &config.trust_domain).map(Some),
        LinkCa::Made { .. } | LinkCa::Brought { .. } => Ok(None),
    }
}

/// The authority this hub signs by.
pub(super) async fn authority(config: &Config, calls: &Client) -> Result<Arc<Authority>, StartError> {
    let (mode, secret) = match &config.link {
        LinkCa::Brought { secret } => (Mode::Brought, secret.as_str()),
        LinkCa::Made { secret } => (Mode::Made, secret.as_str()),
        LinkCa::Files(_) => {
            return Err(StartError::Configuration(anyhow::anyhow!(
                "--link-ca files signs nothing"
            )));
        }
    };
    let settings = authority::Settings {
        namespace: config.namespace.clone(),
        secret_name: secret.to_owned(),
        mode,
        trust_domain: config.trust_domain.clone(),
        replica: config.replica.clone(),
        public: PublicAddresses {
            hubs: config.public_sync.clone(),
            enrolments: config.public_enrolment.clone(),
        },
        public_service: config.public_service.clone(),
        lifetime: config.certificate_lifetime,
        recovery: config.recovery_period,
    };
    Authority::start(calls, settings).await.map_err(authority_error)
}

fn load_files(files: &CertificateFiles, trust_domain: &str) -> Result<Arc<TlsSource>, StartError> {
    let loaded = TlsSource::load(files.clone(), trust_domain);
    let tls = loaded.map_err(|error| StartError::Configuration(error.into()))?;
    let identity = tls.own().identity;
    if identity == Identity::Hub {
        return Ok(tls);
    }
    Err(StartError::Configuration(anyhow::anyhow!(
        "--certificate {} stands for {}, a hub's must stand for {}",
        files.certificate.display(),
        identity.uri(trust_domain),
        Identity::Hub.uri(trust_domain),
    )))
}

/// A restart helps only where the API server was the reason.
fn authority_error(error: AuthorityError) -> StartError {
    let may_pass = matches!(
        error,
        AuthorityError::Api { .. } | AuthorityError::Late(_) | AuthorityError::Contended(..)
    );
    if may_pass {
        StartError::Other(error.into())
    } else {
        StartError::Configuration(error.into())
    }
}
