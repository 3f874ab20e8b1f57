//! The scripted joiner: what a remote says at the enrolment port, well meant or not.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use rcgen::{CertificateParams, KeyPair, SigningKey as _};
use remote_istio::enrolment::{Pin, proof_input};
use remote_istio::transport::{EnrolmentConnector, EnrolmentTrust, HubAddress, Link, Way, open};
use remote_istio::wire::v1;
use remote_istio::wire::v1::enrolment_client::EnrolmentClient;
use tokio::net::TcpSocket;
use tokio::time::timeout;
use tonic::Status;

use crate::ca::{Pair, TRUST_DOMAIN};
use crate::eventually::PATIENCE;

/// A key that asks for a certificate, and the cluster that it says it is in.
#[derive(Debug)]
pub struct Joiner {
    key: KeyPair,
    cluster_uid: String,
}

impl Joiner {
    /// With a fresh key.
    ///
    /// # Panics
    /// No key can be made.
    #[must_use]
    pub fn new(cluster_uid: &str) -> Self {
        Self {
            key: KeyPair::generate().expect("a key"),
            cluster_uid: cluster_uid.to_owned(),
        }
    }

    /// Its key, PEM.
    #[must_use]
    pub fn key(&self) -> String {
        self.key.serialize_pem()
    }

    /// What it joins with.
    ///
    /// # Panics
    /// The request cannot be signed.
    #[must_use]
    pub fn request(&self, token: &str) -> v1::JoinRequest {
        v1::JoinRequest {
            token: token.to_owned(),
            request: self.signing_request(),
            cluster_uid: self.cluster_uid.clone(),
            release: "scripted".to_owned(),
        }
    }

    /// Joins once.
    ///
    /// # Errors
    /// The hub's answer, or why there is none as `UNAVAILABLE`.
    pub async fn join(&self, hub: SocketAddr, pins: &[String], token: &str) -> Result<v1::JoinResponse, Status> {
        let link = dial(hub, pins, None).await.map_err(unavailable)?;
        join_on(&link, self.request(token)).await
    }

    /// Recovers once: `ended` is the certificate it had, with its key.
    ///
    /// # Errors
    /// As [`Joiner::join`].
    pub async fn recover(&self, hub: SocketAddr, pins: &[String], ended: &Pair) -> Result<v1::Issued, Status> {
        let link = dial(hub, pins, None).await.map_err(unavailable)?;
        let request = self.signing_request();
        let old = KeyPair::from_pem(&ended.key).map_err(|error| unavailable(error.into()))?;
        let proof = old.sign(&proof_input(&link.exporter, &request));
        let message = v1::RecoverRequest {
            chain: vec![ended.der().map_err(unavailable)?],
            proof: proof.map_err(|error| unavailable(error.into()))?,
            request,
            cluster_uid: self.cluster_uid.clone(),
        };
        let answer = timeout(PATIENCE, EnrolmentClient::new(link.channel.clone()).recover(message)).await;
        Ok(answer.map_err(|_| late())??.into_inner())
    }

    fn signing_request(&self) -> Vec<u8> {
        let request = CertificateParams::default().serialize_request(&self.key);
        request.expect("a request can be signed").der().to_vec()
    }
}

/// A connection to the enrolment port that is known by these pins; from another address of this machine, if one is
/// given.
///
/// # Errors
/// The hub is not there, or not the one that is pinned.
pub async fn dial(hub: SocketAddr, pins: &[String], from: Option<IpAddr>) -> Result<Link> {
    let pins = pins
        .iter()
        .map(|pin| pin.parse::<Pin>())
        .collect::<Result<Vec<_>, _>>()?;
    let connector = EnrolmentConnector::new(EnrolmentTrust::Pins(pins), TRUST_DOMAIN, Way::Direct)?;
    let address: HubAddress = hub.to_string().parse()?;
    let stream = match from {
        None => connector.connect(&address).await?,
        Some(from) => {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::new(from, 0))?;
            let stream = socket.connect(hub).await.context("connecting")?;
            connector
                .handshake(stream, address.server_name(), hub.to_string())
                .await?
        }
    };
    Ok(open(stream, &address).await?)
}

/// One join on a connection.
///
/// # Errors
/// As [`Joiner::join`].
pub async fn join_on(link: &Link, request: v1::JoinRequest) -> Result<v1::JoinResponse, Status> {
    let answer = timeout(PATIENCE, EnrolmentClient::new(link.channel.clone()).join(request)).await;
    Ok(answer.map_err(|_| late())??.into_inner())
}

/// The certificate of an answer that holds one.
#[must_use]
pub fn issued(answer: &v1::JoinResponse) -> Option<&v1::Issued> {
    match answer.outcome.as_ref()? {
        v1::join_response::Outcome::Issued(issued) => Some(issued),
        v1::join_response::Outcome::Pending(_) => None,
    }
}

fn late() -> Status {
    Status::unavailable("no answer for long")
}

#[expect(clippy::needless_pass_by_value, reason = "stands in map_err")]
fn unavailable(error: anyhow::Error) -> Status {
    Status::unavailable(format!("{error:#}"))
}
