//! The test in the place of the controllers, of Citadel and of the injector, so that something really serves.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use k8s_openapi::ByteString;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use support::ca::{Authority, Leaf};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::{INJECTOR, Remote};

/// What Citadel would mint for the injector.
const MINTED: &str = "istio.istio-sidecar-injector-service-account";

/// An injector that shakes hands and says nothing; ends with its value.
pub struct Serving {
    address: SocketAddr,
    root: Value,
    _accepting: JoinSet<()>,
}

impl Serving {
    /// With a certificate of this CA, for the injector of this namespace.
    pub async fn start(ca: &Authority, namespace: &str) -> Self {
        let leaf = Leaf {
            names: vec![format!("{INJECTOR}.{namespace}.svc"), format!("{INJECTOR}.{namespace}")],
            ..Leaf::uri(format!(
                "spiffe://cluster.local/ns/{namespace}/sa/istio-sidecar-injector-service-account"
            ))
        };
        let pair = ca.issue(&leaf).expect("a certificate");
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).expect("a certificate")],
                PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key"),
            )
            .expect("a pair");
        let listener = TcpListener::bind((own_address(), 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A handshake that fails is the prober's to tell.
                let _ = acceptor.accept(stream).await;
            }
        });
        Self {
            address,
            root: json!(ByteString(ca.bundle().into_bytes())),
            _accepting: accepting,
        }
    }

    /// The root of its certificate, as a Secret has it.
    pub fn root(&self) -> &Value {
        &self.root
    }
}

/// An address of this machine that may stand in an `EndpointSlice`: the loopback range may not. Nothing is sent.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket
        .connect("192.0.2.1:9")
        .expect("this machine needs an address besides loopback for this test");
    let address = socket.local_addr().expect("an address").ip();
    assert!(
        !address.is_loopback(),
        "this machine needs an address besides loopback for this test"
    );
    address
}

impl Remote {
    /// The status of a Deployment as its controller would write it.
    pub async fn set_available(&self, name: &str, available: u32) {
        let deployment = self.until_object("Deployment", name, |_| true).await;
        let state = if available > 0 { "True" } else { "False" };
        self.merge_status(
            "Deployment",
            name,
            &json!({"status": {
                "observedGeneration": deployment["metadata"]["generation"],
                "replicas": 1, "updatedReplicas": 1, "readyReplicas": available, "availableReplicas": available,
                "unavailableReplicas": 1 - available,
                "conditions": [{
                    "type": "Available", "status": state, "reason": "Test", "message": "the test says so",
                    "lastUpdateTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z",
                }],
            }}),
        )
        .await;
    }

    /// A Secret and an `EndpointSlice` as Citadel and the controllers would make them for what serves.
    pub async fn publish_injector(&self, serving: &Serving) {
        let minted = json!({"type": "istio.io/key-and-cert", "data": {"root-cert.pem": serving.root()}});
        self.create("Secret", MINTED, minted).await;
        let slice = json!({
            "metadata": {"labels": {"kubernetes.io/service-name": INJECTOR}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [serving.address.ip().to_string()], "conditions": {"ready": true}}],
            "ports": [{"port": serving.address.port(), "protocol": "TCP"}],
        });
        self.create("EndpointSlice", "injector", slice).await;
    }
}
