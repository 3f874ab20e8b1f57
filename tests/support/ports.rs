//! Free ports of the loopback interface that can be taken again after a restart.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Result, bail};
use parking_lot::Mutex;
use rand::Rng as _;

/// Below what systems hand out to outgoing connections, so that none of these takes a port while its server restarts.
const RANGE: std::ops::Range<u16> = 15_000..30_000;

/// Handed out by this process.
static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// An address nobody listens on.
///
/// # Errors
/// No port is free.
pub fn free() -> Result<SocketAddr> {
    for _ in 0..200 {
        let port = rand::rng().random_range(RANGE);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() && TAKEN.lock().insert(port) {
            return Ok(address);
        }
    }
    bail!("no free port between {} and {} on 127.0.0.1", RANGE.start, RANGE.end)
}
