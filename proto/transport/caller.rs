//! Whoever connects to the enrolment port: nobody yet, but on a connection of its own.

use std::fmt;

use tokio_util::sync::CancellationToken;

/// The other end of one anonymous connection. Handlers find it as `Arc<Caller>` among a request's extensions.
#[derive(Clone)]
pub struct Caller {
    /// Where the connection comes from, for logs and for limits by source.
    pub address: String,
    /// Keying material exported from this connection; the caller has the same. What is signed over it is worth
    /// nothing on any other connection.
    pub exporter: [u8; 32],
    cut: CancellationToken,
}

impl Caller {
    /// Handlers get theirs from the connection; tests of handlers make one.
    #[must_use]
    pub fn new(address: String, exporter: [u8; 32]) -> Self {
        Self {
            address,
            exporter,
            cut: CancellationToken::new(),
        }
    }

    /// Ends the connection at once: its reads and writes fail from now on.
    pub fn cut(&self) {
        self.cut.cancel();
    }

    /// Becomes cancelled when the connection is cut.
    #[must_use]
    pub fn cut_token(&self) -> &CancellationToken {
        &self.cut
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
