//! Dialling the enrolment port: without a certificate of one's own, to a hub that is known by pins or roots.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::address::HubAddress;
use super::connect::{reach, shake_hands};
use super::connect_error::ConnectError;
use super::stream::SecureStream;
use super::way::Way;
use crate::tls::{EnrolmentTls, EnrolmentTrust, EnrolmentTrustError};

/// Dials the enrolment port.
#[derive(Clone, Debug)]
pub struct EnrolmentConnector {
    tls: EnrolmentTls,
    way: Way,
}

impl EnrolmentConnector {
    /// Dials hubs that fit `trust` and are of `trust_domain`.
    ///
    /// # Errors
    /// There is nothing that could be trusted: no pin, no root, or something else in a root's place.
    pub fn new(trust: EnrolmentTrust, trust_domain: &str, way: Way) -> Result<Self, EnrolmentTrustError> {
        Self::new_at(trust, trust_domain, way, Arc::new(DefaultTimeProvider))
    }

    /// The same by another wall clock.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn new_at(
        trust: EnrolmentTrust,
        trust_domain: &str,
        way: Way,
        clock: Arc<dyn TimeProvider>,
    ) -> Result<Self, EnrolmentTrustError> {
        let tls = EnrolmentTls::new(trust, trust_domain, clock)?;
        Ok(Self { tls, way })
    }

    /// Connects, shakes hands, and makes sure that the hub is at the other end; then see [`open`](super::open).
    ///
    /// # Errors
    /// See [`ConnectError`]; of several addresses the last one's.
    pub async fn connect(&self, address: &HubAddress) -> Result<SecureStream<TcpStream>, ConnectError> {
        let (stream, shown) = reach(address, &self.way).await?;
        self.handshake(stream, address.server_name(), shown).await
    }

    /// The same on any stream. `name` must stand in the hub's certificate; `address` is for messages.
    ///
    /// # Errors
    /// The handshake failed, or the other end is not a hub of this trust domain.
    pub async fn handshake<S>(
        &self,
        stream: S,
        name: ServerName<'static>,
        address: String,
    ) -> Result<SecureStream<S>, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin,
    {
        let config = Arc::clone(&self.tls.config);
        shake_hands(stream, config, name, &self.tls.trust_domain, self.tls.now(), address).await
    }
}
