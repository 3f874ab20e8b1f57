//! A TCP proxy that does what a network or a dying server does, when the test says so.
//!
//! It knows nothing of TLS or HTTP: every fault here is one that happens below them.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What becomes of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Everything goes through, also what was held back before.
    Pass,
    /// Connections are cut, new ones are closed at once: the server is down.
    Refuse,
    /// Connections stand and are accepted, nothing moves: the network swallows everything.
    Hold,
    /// What the client sends arrives, no answer comes back.
    HoldAnswers,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

impl Traffic {
    fn passes(self, direction: Direction) -> bool {
        match self {
            Self::Pass => true,
            Self::Refuse | Self::Hold => false,
            Self::HoldAnswers => direction == Direction::ToServer,
        }
    }
}

/// What all connections follow.
#[derive(Clone, Copy, Debug)]
struct Orders {
    traffic: Traffic,
    /// Raised to cut every connection that was accepted under a lower one.
    cuts: u64,
}

/// A listener in front of one server. Ends with its value.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    orders: watch::Sender<Orders>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port of the loopback address and passes everything to `target`.
    ///
    /// # Errors
    /// No port could be had.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let orders = watch::Sender::new(Orders {
            traffic: Traffic::Pass,
            cuts: 0,
        });
        Ok(Self {
            address: listener.local_addr()?,
            accepting: tokio::spawn(accept(listener, target, orders.subscribe())),
            orders,
        })
    }

    /// Where clients dial.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What becomes of traffic from now on, on old connections and new ones. [`Traffic::Refuse`] cuts the old ones.
    pub fn set(&self, traffic: Traffic) {
        self.orders.send_modify(|orders| {
            orders.traffic = traffic;
            orders.cuts += u64::from(traffic == Traffic::Refuse);
        });
    }

    /// Cuts every connection that stands now.
    pub fn cut(&self) {
        self.orders.send_modify(|orders| orders.cuts += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, orders: watch::Receiver<Orders>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        if orders.borrow().traffic != Traffic::Refuse {
            connections.spawn(connection(client, target, orders.clone()));
        }
    }
}

async fn connection(client: TcpStream, target: SocketAddr, orders: watch::Receiver<Orders>) {
    let cuts = orders.borrow().cuts;
    let mut cut = orders.clone();
    let relayed = async {
        let server = TcpStream::connect(target).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let gate = |direction| Gate {
            orders: orders.clone(),
            direction,
        };
        // Half-closed is passed on; the connection ends when both halves have.
        tokio::try_join!(
            pump(from_client, to_server, gate(Direction::ToServer)),
            pump(from_server, to_client, gate(Direction::ToClient)),
        )?;
        io::Result::Ok(())
    };
    tokio::select! {
        // What is held back on a connection that is cut never arrives, even if all may pass a moment later.
        biased;
        _ = cut.wait_for(|orders| orders.cuts > cuts) => {}
        // A broken connection breaks on both sides when this ends; there is nobody else to tell.
        _ = relayed => {}
    }
}

struct Gate {
    orders: watch::Receiver<Orders>,
    direction: Direction,
}

impl Gate {
    /// Waits until bytes of this connection and direction may move.
    async fn pass(&mut self) -> io::Result<()> {
        let direction = self.direction;
        self.orders
            .wait_for(|orders| orders.traffic.passes(direction))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the proxy has ended"))?;
        Ok(())
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut gate: Gate) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        gate.pass().await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// A server that sends back what it reads, and says on a channel what that was.
    async fn echo() -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (heard_tx, heard) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let heard_tx = heard_tx.clone();
                tokio::spawn(async move {
                    while let Ok(byte) = stream.read_u8().await {
                        heard_tx.send(byte).expect("the test listens");
                        if stream.write_u8(byte).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        (address, heard)
    }

    #[tokio::test]
    async fn what_is_held_back_arrives_once_it_may_pass() {
        let (server, mut heard) = echo().await;
        let proxy = Proxy::start(server).await.expect("starts");
        let mut client = TcpStream::connect(proxy.address()).await.expect("connects");
        client.write_u8(1).await.expect("written");
        assert_eq!(client.read_u8().await.expect("echoed"), 1);

        proxy.set(Traffic::HoldAnswers);
        client.write_u8(2).await.expect("written");
        assert_eq!(heard.recv().await, Some(1));
        assert_eq!(heard.recv().await, Some(2), "it reaches the server");
        let answer = timeout(Duration::from_millis(20), client.read_u8()).await;
        assert!(answer.is_err(), "no answer comes back: {answer:?}");

        proxy.set(Traffic::Pass);
        assert_eq!(client.read_u8().await.expect("echoed"), 2);
    }

    #[tokio::test]
    async fn refusing_cuts_what_stands_and_closes_what_comes() {
        let (server, _heard) = echo().await;
        let proxy = Proxy::start(server).await.expect("starts");
        let mut standing = TcpStream::connect(proxy.address()).await.expect("connects");
        standing.write_u8(1).await.expect("written");
        assert_eq!(standing.read_u8().await.expect("echoed"), 1);
        proxy.set(Traffic::Refuse);
        standing.read_u8().await.expect_err("cut");
        let mut coming = TcpStream::connect(proxy.address()).await.expect("taken by the kernel");
        coming.read_u8().await.expect_err("closed");
    }
}
