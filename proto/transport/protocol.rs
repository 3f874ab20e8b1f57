//! What runs on an accepted connection is chosen by ALPN.

use crate::tls::ALPN_HTTP2;

/// A protocol of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC.
    Http2,
}

impl Protocol {
    /// The protocol that both ends agreed upon; `None` for anything unknown, and for a peer that named nothing.
    #[must_use]
    pub fn from_alpn(alpn: Option<&[u8]>) -> Option<Self> {
        (alpn == Some(ALPN_HTTP2)).then_some(Self::Http2)
    }
}
