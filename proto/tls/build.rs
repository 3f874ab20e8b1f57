//! From certificate, key and trust bundle to one TLS configuration, or to what is wrong with them. Pure.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, InconsistentKeys, RootCertStore, ServerConfig};

use super::admission::Gate;
use super::error::{Problem, TlsError, TlsFile};
use super::material::Material;
use super::origin::Origin;
use super::peer::{self, Leaf, shown};
use super::verifier::IdentityVerifier;
use super::{ALPN_HTTP2, OwnCertificate, TlsConfig};

/// What all configurations of one source have in common.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) origin: Origin,
    pub(super) trust_domain: String,
    pub(super) clock: Arc<dyn TimeProvider>,
    pub(super) gate: Arc<Gate>,
}

impl Base {
    pub(super) fn build(&self, material: &Material, now: SystemTime) -> Result<TlsConfig, TlsError> {
        let wrong = |file: TlsFile| move |problem: Problem| self.origin.error(file, problem);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain = certificates(&material.certificate).map_err(wrong(TlsFile::Certificate))?;
        let own = own_certificate(&chain, &self.trust_domain, now).map_err(wrong(TlsFile::Certificate))?;
        let key = private_key(&material.key).map_err(wrong(TlsFile::Key))?;
        check_pair(&chain, &key, &provider).map_err(wrong(TlsFile::Key))?;
        let bundle = certificates(&material.trust_bundle).map_err(wrong(TlsFile::TrustBundle))?;
        let roots = Arc::new(roots(&bundle).map_err(wrong(TlsFile::TrustBundle))?);
        let unusable = |error: rustls::Error| wrong(TlsFile::Certificate)(Problem::Unusable(error.to_string()));
        let clients = clients(&provider, &roots).map_err(unusable)?;
        let server = self.server(&provider, &clients, &chain, &key).map_err(unusable)?;
        let presented = with_bundle(&chain, &bundle);
        let enrolment = self.enrolment(&provider, presented, &key).map_err(unusable)?;
        let client = self.client(&provider, roots, chain, key).map_err(unusable)?;
        Ok(TlsConfig {
            server: Arc::new(server),
            enrolment: Arc::new(enrolment),
            client: Arc::new(client),
            own,
            clients,
        })
    }

    fn server(
        &self,
        provider: &Arc<CryptoProvider>,
        clients: &Arc<dyn ClientCertVerifier>,
        chain: &[CertificateDer<'static>],
        key: &PrivateKeyDer<'static>,
    ) -> Result<ServerConfig, rustls::Error> {
        let verifier = IdentityVerifier::new(Arc::clone(clients), &self.trust_domain, Arc::clone(&self.gate));
        let config = ServerConfig::builder_with_details(Arc::clone(provider), Arc::clone(&self.clock))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_single_cert(chain.to_vec(), key.clone_key())?;
        Ok(without_resumption(config))
    }

    fn enrolment(
        &self,
        provider: &Arc<CryptoProvider>,
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'static>,
    ) -> Result<ServerConfig, rustls::Error> {
        let config = ServerConfig::builder_with_details(Arc::clone(provider), Arc::clone(&self.clock))
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_single_cert(chain, key.clone_key())?;
        Ok(without_resumption(config))
    }

    fn client(
        &self,
        provider: &Arc<CryptoProvider>,
        roots: Arc<RootCertStore>,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<ClientConfig, rustls::Error> {
        let config = ClientConfig::builder_with_details(Arc::clone(provider), Arc::clone(&self.clock))
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        Ok(client_without_resumption(config))
    }
}

fn clients(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
) -> Result<Arc<dyn ClientCertVerifier>, rustls::Error> {
    WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))
}

fn without_resumption(mut config: ServerConfig) -> ServerConfig {
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    config
}

pub(super) fn client_without_resumption(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config
}

/// The chain that the enrolment port shows: who joins knows nothing but the pin of a root, so the roots come along.
pub(super) fn with_bundle(
    chain: &[CertificateDer<'static>],
    bundle: &[CertificateDer<'static>],
) -> Vec<CertificateDer<'static>> {
    let mut presented = chain.to_vec();
    for certificate in bundle {
        if !presented.contains(certificate) {
            presented.push(certificate.clone());
        }
    }
    presented
}

pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Problem> {
    refuse_empty(pem)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(damaged)?;
    if chain.is_empty() {
        Err(Problem::NoCertificate)
    } else {
        Ok(chain)
    }
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Problem> {
    refuse_empty(pem)?;
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        pem::Error::NoItemsFound => Problem::NoKey,
        other => damaged(other),
    })
}

fn refuse_empty(pem: &[u8]) -> Result<(), Problem> {
    if pem.iter().all(u8::is_ascii_whitespace) {
        return Err(Problem::Empty);
    }
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn damaged(error: pem::Error) -> Problem {
    Problem::Damaged(error.to_string())
}

fn own_certificate(
    chain: &[CertificateDer<'static>],
    trust_domain: &str,
    now: SystemTime,
) -> Result<OwnCertificate, Problem> {
    let leaf = chain.first().ok_or(Problem::NoCertificate)?;
    let Leaf { facts, issuer_key_id } = peer::read_leaf(leaf, trust_domain).map_err(Problem::Identity)?;
    if facts.not_after <= now {
        return Err(Problem::Expired {
            now: shown(now),
            until: shown(facts.not_after),
        });
    }
    if facts.not_before > now {
        return Err(Problem::NotYetValid {
            now: shown(now),
            from: shown(facts.not_before),
        });
    }
    Ok(OwnCertificate {
        identity: facts.identity,
        serial: facts.serial,
        not_before: facts.not_before,
        not_after: facts.not_after,
        issuer_key_id,
    })
}

fn check_pair(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<(), Problem> {
    let signing = provider
        .key_provider
        .load_private_key(key.clone_key())
        .map_err(|error| Problem::KeyKind(error.to_string()))?;
    match CertifiedKey::new(chain.to_vec(), signing).keys_match() {
        // The provider cannot tell the public key of this kind: the handshake will.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => Err(Problem::KeyOfAnotherCertificate),
        Err(other) => Err(Problem::Unusable(other.to_string())),
    }
}

fn roots(bundle: &[CertificateDer<'static>]) -> Result<RootCertStore, Problem> {
    let mut roots = RootCertStore::empty();
    for certificate in bundle {
        roots
            .add(certificate.clone())
            .map_err(|error| Problem::NotACa(error.to_string()))?;
    }
    Ok(roots)
}
