//! An HTTP proxy that knows CONNECT and nothing else: the only way out of a network that has no other.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// More of a head than any client of ours sends.
const HEAD_BYTES: u64 = 8 * 1024;

/// A listener on loopback; it ends with its value.
#[derive(Debug)]
pub struct Tunnel {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    accepting: JoinHandle<()>,
}

impl Tunnel {
    /// Listens on a free port. Every authority ends at `target`, as names do that only the proxy can resolve.
    ///
    /// # Errors
    /// No port could be had.
    pub async fn start(target: impl Fn(&str) -> Option<SocketAddr> + Send + Sync + 'static) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let asked = Arc::new(Mutex::new(Vec::new()));
        Ok(Self {
            address: listener.local_addr()?,
            accepting: tokio::spawn(accept(listener, Arc::new(target), Arc::clone(&asked))),
            asked,
        })
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The authorities that were asked for so far.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

type Resolve = Arc<dyn Fn(&str) -> Option<SocketAddr> + Send + Sync>;

async fn accept(listener: TcpListener, target: Resolve, asked: Arc<Mutex<Vec<String>>>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if let Ok((client, _)) = listener.accept().await {
            connections.spawn(serve(client, Arc::clone(&target), Arc::clone(&asked)));
        }
    }
}

/// A connection that breaks here breaks for both ends; there is nobody else to tell.
async fn serve(client: TcpStream, target: Resolve, asked: Arc<Mutex<Vec<String>>>) -> io::Result<()> {
    let mut client = BufReader::new(client);
    let authority = head(&mut client).await?;
    asked.lock().push(authority.clone());
    let Some(target) = target(&authority) else {
        return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await;
    };
    let mut server = TcpStream::connect(target).await?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// Reads the head of a CONNECT, and gives the authority it names.
async fn head(client: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut lines = client.take(HEAD_BYTES);
    let mut first = String::new();
    lines.read_line(&mut first).await?;
    let mut line = String::new();
    loop {
        line.clear();
        if lines.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut words = first.split(' ');
    match (words.next(), words.next()) {
        (Some("CONNECT"), Some(authority)) => Ok(authority.to_owned()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
