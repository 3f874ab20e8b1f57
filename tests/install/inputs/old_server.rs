//! A real API server that says to be older than it is: a proxy in front of it answers `/version` itself.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use support::Cluster;
use support::ca::{Authority, Leaf};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// More of a head than any client of ours sends.
const HEAD_BYTES: usize = 64 * 1024;

/// The proxy; it ends with its value.
pub struct OldServer {
    address: SocketAddr,
    ca: PathBuf,
    accepting: JoinHandle<()>,
}

struct Ends {
    target: SocketAddr,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    version: String,
}

impl OldServer {
    /// In front of this cluster, as Kubernetes 1.MINOR.
    pub async fn start(cluster: &Cluster, minor: u32) -> Result<Self> {
        let authority = Authority::new("an old API server")?;
        let files = authority.issue_into(&cluster.folder().access("old-server"), &Leaf::uri("").without_uri())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_file_iter(&files.certificate)?.collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_file(&files.key)?;
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(cluster.ca().as_bytes())?)?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let ends = Arc::new(Ends {
            target: cluster.address(),
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
            version: format!(
                r#"{{"major":"1","minor":"{minor}","gitVersion":"v1.{minor}.4","gitCommit":"0","gitTreeState":"clean","buildDate":"2024-01-01T00:00:00Z","goVersion":"go1","compiler":"gc","platform":"linux/amd64"}}"#
            ),
        });
        Ok(Self {
            address: listener.local_addr()?,
            ca: files.trust_bundle,
            accepting: tokio::spawn(accept(listener, ends)),
        })
    }

    /// The same kubeconfig, by way of this.
    pub fn kubeconfig(&self, direct: &std::path::Path, cluster: &Cluster) -> Result<PathBuf> {
        let text = std::fs::read_to_string(direct)?;
        let own_ca = direct.parent().context("a folder")?.join("ca.crt");
        let text = text
            .replace(&cluster.address().to_string(), &self.address.to_string())
            .replace(&*own_ca.to_string_lossy(), &self.ca.to_string_lossy());
        let path = direct.with_extension("old");
        std::fs::write(&path, text)?;
        Ok(path)
    }
}

impl Drop for OldServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, ends: Arc<Ends>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        let ends = Arc::clone(&ends);
        // What breaks here breaks for the client too, which says so.
        connections.spawn(async move { connection(client, &ends).await.is_ok() });
    }
}

/// One request a connection, so that each can be looked at.
async fn connection(client: TcpStream, ends: &Ends) -> Result<()> {
    let mut client = ends.acceptor.accept(client).await?;
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        anyhow::ensure!(head.len() < HEAD_BYTES, "a head without an end");
        anyhow::ensure!(client.read_buf(&mut head).await? > 0, "the client left");
    }
    if head.starts_with(b"GET /version") {
        let body = &ends.version;
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        client.write_all(answer.as_bytes()).await?;
        client.shutdown().await?;
        return Ok(());
    }
    let server = TcpStream::connect(ends.target).await?;
    let name = ServerName::from(ends.target.ip());
    let mut server = ends.connector.connect(name, server).await?;
    let line = head.windows(2).position(|end| end == b"\r\n").context("a first line")?;
    server.write_all(&head[..line]).await?;
    server.write_all(b"\r\nConnection: close").await?;
    server.write_all(&head[line..]).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
