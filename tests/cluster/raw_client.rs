//! A TLS client that shows any certificate, also those that a real agent would refuse to start with.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use support::ca::Pair;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

fn connector(ca: &str, pair: Option<&Pair>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.as_bytes()).expect("a CA"))
        .expect("a CA");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots);
    let mut config = match pair {
        Some(pair) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).expect("a certificate")],
                PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key"),
            )
            .expect("a pair"),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsConnector::from(Arc::new(config))
}

fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").expect("a name")
}

/// What the client hears of its refusal.
pub async fn refusal(hub: SocketAddr, ca: &str, pair: &Pair) -> String {
    let stream = TcpStream::connect(hub).await.expect("the hub listens");
    let mut stream = match connector(ca, Some(pair)).connect(localhost(), stream).await {
        Ok(stream) => stream,
        Err(error) => return error.to_string(),
    };
    // TLS 1.3 tells a client late: its own handshake is over by then.
    let mut heard = Vec::new();
    match stream.read_to_end(&mut heard).await {
        Ok(_) => "nothing: the connection was closed".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// The certificate that the hub shows now.
pub async fn certificate(hub: SocketAddr, ca: &str) -> Vec<u8> {
    certificate_for("localhost", hub, ca).await
}

/// The certificate that the hub shows now to somebody who knows it by this name.
pub async fn certificate_for(name: &str, hub: SocketAddr, ca: &str) -> Vec<u8> {
    let stream = TcpStream::connect(hub).await.expect("the hub listens");
    let stream = connector(ca, None)
        .connect(ServerName::try_from(name.to_owned()).expect("a name"), stream)
        .await
        .expect("a handshake");
    let (_, connection) = stream.get_ref();
    let chain = connection.peer_certificates().expect("a certificate");
    chain.first().expect("a leaf").to_vec()
}
