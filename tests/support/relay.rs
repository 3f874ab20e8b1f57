//! A man in the middle who has what the real hub's CA signed: he reads, and writes down, every decrypted byte.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::ca::{Authority, Pair};

/// Between agents and one port of a hub. Ends with its value.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    recorded: Recorded,
    accepting: JoinHandle<()>,
}

/// Who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// The one that dialled.
    Agent,
    /// The one that was dialled.
    Hub,
}

/// One buffer for each connection and direction.
type Recorded = Arc<Mutex<Vec<(Speaker, Arc<Mutex<Vec<u8>>>)>>>;

impl Relay {
    /// Serves with `hub` in the place of the hub at `target`, and dials that one as `agent`, or as nobody.
    ///
    /// # Errors
    /// No port could be had, or a certificate does not read.
    pub async fn start(target: SocketAddr, authority: &Authority, hub: &Pair, agent: Option<&Pair>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let recorded = Recorded::default();
        let ends = Ends {
            target,
            acceptor: acceptor(authority, hub)?,
            connector: connector(authority, agent)?,
        };
        Ok(Self {
            address: listener.local_addr()?,
            accepting: tokio::spawn(accept(listener, ends, Arc::clone(&recorded))),
            recorded,
        })
    }

    /// Where agents dial.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was said so far, each connection and direction by itself.
    #[must_use]
    pub fn recorded(&self) -> Vec<(Speaker, Vec<u8>)> {
        let recorded = self.recorded.lock();
        recorded
            .iter()
            .map(|(speaker, bytes)| (*speaker, bytes.lock().clone()))
            .collect()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

#[derive(Clone)]
struct Ends {
    target: SocketAddr,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

fn acceptor(authority: &Authority, hub: &Pair) -> Result<TlsAcceptor> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    // Who joins finds the pinned CA in the chain.
    let chain =
        [hub.certificate.as_str(), &authority.bundle()].map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()));
    let chain = chain.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_slice(hub.key.as_bytes())?)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn connector(authority: &Authority, agent: Option<&Pair>) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.bundle().as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots);
    let mut config = match agent {
        None => builder.with_no_client_auth(),
        Some(pair) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes())?],
                PrivateKeyDer::from_pem_slice(pair.key.as_bytes())?,
            )
            .context("the relay's own certificate")?,
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn accept(listener: TcpListener, ends: Ends, recorded: Recorded) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if let Ok((client, _)) = listener.accept().await {
            connections.spawn(connection(client, ends.clone(), Arc::clone(&recorded)));
        }
    }
}

/// A connection that breaks here breaks for both ends; there is nobody else to tell.
async fn connection(client: TcpStream, ends: Ends, recorded: Recorded) -> io::Result<()> {
    let client = ends.acceptor.accept(client).await?;
    let server = TcpStream::connect(ends.target).await?;
    let name = ServerName::from(ends.target.ip());
    let server = ends.connector.connect(name, server).await?;
    let (from_client, to_client) = tokio::io::split(client);
    let (from_server, to_server) = tokio::io::split(server);
    let buffer = |speaker| {
        let buffer = Arc::default();
        recorded.lock().push((speaker, Arc::clone(&buffer)));
        buffer
    };
    let (up, down) = (buffer(Speaker::Agent), buffer(Speaker::Hub));
    tokio::try_join!(pump(from_client, to_server, up), pump(from_server, to_client, down))?;
    Ok(())
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    written: Arc<Mutex<Vec<u8>>>,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        written.lock().extend_from_slice(&buffer[..read]);
        to.write_all(&buffer[..read]).await?;
        to.flush().await?;
    }
}
