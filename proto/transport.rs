//! Connections of the link: accepted, dialled (through a proxy too), named by their certificates, and cut when they
//! must end.
//!
//! Generic over the stream below TLS, so that a simulated network can stand in for TCP. Decides nothing about
//! what an identity may do: that is the caller's, who finds the [`Peer`](crate::tls::Peer) on each request.

mod accept;
mod address;
mod caller;
mod connect;
mod connect_error;
mod door;
mod enrolment;
mod grpc;
mod link_error;
mod places;
mod protocol;
mod proxy;
mod refusal;
mod stream;
mod way;

#[cfg(test)]
mod tests;

pub use crate::tls::{EnrolmentTrust, EnrolmentTrustError};
pub use accept::{AcceptBounds, Listener, OnRefused, accept_anonymous_loop, accept_loop};
pub use address::{AddressError, HubAddress};
pub use caller::Caller;
pub use connect::{Connector, handshake_client};
pub use connect_error::ConnectError;
pub use door::{handshake_anonymous, handshake_server};
pub use enrolment::EnrolmentConnector;
pub use grpc::{Link, open, server_builder};
pub use link_error::LinkError;
pub use protocol::Protocol;
pub use refusal::Refusal;
pub use stream::{FarEnd, SecureStream};
pub use way::{HttpProxy, ProxyError, Way};
