//! From the bytes of the three files to one TLS configuration, or to what is wrong with them. Pure.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, InconsistentKeys, RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::error::{Problem, TlsError, TlsFile};
use super::files::{CertificateFiles, Contents};
use super::peer::{self, Leaf};
use super::verifier::IdentityVerifier;
use super::{ALPN_HTTP2, OwnCertificate, TlsConfig};

pub(super) fn build(
    files: &CertificateFiles,
    contents: &Contents,
    trust_domain: &str,
    now: SystemTime,
) -> Result<TlsConfig, TlsError> {
    let wrong = |file: TlsFile| move |problem: Problem| files.error(file, problem);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain = certificates(&contents.certificate).map_err(wrong(TlsFile::Certificate))?;
    let own = own_certificate(&chain, trust_domain, now).map_err(wrong(TlsFile::Certificate))?;
    let key = private_key(&contents.key).map_err(wrong(TlsFile::Key))?;
    check_pair(&chain, &key, &provider).map_err(wrong(TlsFile::Key))?;
    let roots = Arc::new(roots(&contents.trust_bundle).map_err(wrong(TlsFile::TrustBundle))?);
    let unusable =
        |error: &dyn std::fmt::Display| files.error(TlsFile::Certificate, Problem::Unusable(error.to_string()));
    let server = server_config(&provider, &roots, trust_domain, &chain, &key).map_err(|error| unusable(&error))?;
    let client = client_config(&provider, roots, chain, key).map_err(|error| unusable(&error))?;
    Ok(TlsConfig {
        server: Arc::new(server),
        client: Arc::new(client),
        own,
    })
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Problem> {
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
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        pem::Error::NoItemsFound => Problem::NoKey,
        other => damaged(other),
    })
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
    let Leaf {
        identity,
        serial,
        not_after,
    } = peer::read_leaf(leaf, trust_domain).map_err(Problem::Identity)?;
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|error| Problem::Damaged(error.to_string()))?;
    let validity = certificate.validity();
    if not_after <= now {
        return Err(Problem::Expired(validity.not_after.to_string()));
    }
    if peer::system_time(validity.not_before.timestamp()) > now {
        return Err(Problem::NotYetValid(validity.not_before.to_string()));
    }
    Ok(OwnCertificate {
        identity,
        serial,
        not_after,
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

fn roots(pem: &[u8]) -> Result<RootCertStore, Problem> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots
            .add(certificate)
            .map_err(|error| Problem::NotACa(error.to_string()))?;
    }
    Ok(roots)
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    trust_domain: &str,
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let webpki = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(IdentityVerifier::new(webpki, trust_domain)))
        .with_single_cert(chain.to_vec(), key.clone_key())?;
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(config)
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}
