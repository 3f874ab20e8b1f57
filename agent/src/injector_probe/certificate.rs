//! What a pod of the injector serves: its certificate, verified as the API server verifies it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Connection and handshake together.
const DEADLINE: Duration = Duration::from_secs(3);

/// Whom the certificates must be signed by, and what they must be for.
pub(super) struct Trusted {
    connector: TlsConnector,
    name: ServerName<'static>,
    deadline: Duration,
}

impl Trusted {
    /// `roots` in PEM. The error says what is wrong with them.
    pub(super) fn new(roots: &[u8], name: &str) -> Result<Self, String> {
        let wrong = |what: &dyn std::fmt::Display| format!("what Citadel says to trust cannot be used: {what}");
        let blocks = pem::parse_many(roots).map_err(|error| wrong(&error))?;
        let mut store = RootCertStore::empty();
        for block in blocks.iter().filter(|block| block.tag() == "CERTIFICATE") {
            let der = CertificateDer::from_slice(block.contents());
            store.add(der.into_owned()).map_err(|error| wrong(&error))?;
        }
        if store.is_empty() {
            return Err(wrong(&"it holds no certificate"));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(&error))?
            .with_root_certificates(store)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).map_err(|error| wrong(&error))?;
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Self {
            connector,
            name,
            deadline: DEADLINE,
        })
    }

    /// Whether the pod at this address serves such a certificate; the error says what it does instead.
    pub(super) async fn check(&self, address: SocketAddr) -> Result<(), String> {
        let handshake = async {
            let stream = TcpStream::connect(address).await;
            let stream = stream.map_err(|error| format!("the injector at {address} does not listen: {error}"))?;
            let shaken = self.connector.connect(self.name.clone(), stream).await;
            shaken.map_err(|error| {
                let name = self.name.to_str();
                format!("the injector at {address} does not serve a certificate for {name} of Citadel: {error}")
            })
        };
        match timeout(self.deadline, handshake).await {
            Ok(shaken) => shaken.map(drop),
            Err(_) => Err(format!("the injector at {address} did not answer in time")),
        }
    }
}

#[cfg(test)]
mod tests;
