//! Connections of the link: accepted, dialled, named by their certificates, and cut when they must end.
//!
//! Generic over the stream below TLS, so that a simulated network can stand in for TCP. Decides nothing about
//! what an identity may do: that is the caller's, who finds the [`Peer`](crate::tls::Peer) on each request.

mod accept;
mod address;
mod connect;
mod grpc;
mod link_error;
mod protocol;
mod refusal;
mod stream;

#[cfg(test)]
mod tests;

pub use accept::{Listener, OnRefused, accept_loop, handshake_server};
pub use address::{AddressError, HubAddress};
pub use connect::{ConnectError, Connector, handshake_client};
pub use grpc::{Link, open, server_builder};
pub use link_error::LinkError;
pub use protocol::Protocol;
pub use refusal::Refusal;
pub use stream::SecureStream;
