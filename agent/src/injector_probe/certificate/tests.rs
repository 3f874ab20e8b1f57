use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::*;

const NAME: &str = "istio-sidecar-injector.istio-system.svc";

struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA"))
    }

    fn trusted(&self) -> Trusted {
        Trusted::new(self.0.pem().as_bytes(), NAME).expect("a CA")
    }
}

/// An injector with a certificate of this CA for this name.
async fn injector(ca: &Ca, name: &str) -> (SocketAddr, JoinSet<()>) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &ca.0).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a certificate");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that does not like the certificate hangs up.
            let _ = acceptor.accept(stream).await;
        }
    });
    (address, serving)
}

#[tokio::test]
async fn injector_with_a_certificate_of_citadel_for_its_service_serves() {
    let ca = Ca::new();
    let (address, _serving) = injector(&ca, NAME).await;
    assert_eq!(ca.trusted().check(address).await, Ok(()));
}

#[tokio::test]
async fn certificate_of_another_ca_or_for_another_name_does_not_count() {
    let ca = Ca::new();
    for (of, name) in [(&Ca::new(), NAME), (&ca, "istio-sidecar-injector.other.svc")] {
        let (address, _serving) = injector(of, name).await;
        let refused = ca.trusted().check(address).await.expect_err("not trusted");
        assert!(refused.contains("does not serve a certificate"), "{refused}");
    }
}

#[tokio::test]
async fn nobody_who_listens_is_said_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let refused = Ca::new().trusted().check(address).await.expect_err("nobody");
    assert!(refused.contains("does not listen"), "{refused}");
}

#[tokio::test]
async fn one_that_says_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let mut trusted = Ca::new().trusted();
    trusted.deadline = Duration::from_millis(50);
    let refused = trusted.check(address).await.expect_err("silence");
    assert!(refused.contains("in time"), "{refused}");
}

#[test]
fn roots_that_are_none_are_refused() {
    for roots in [
        "",
        "junk",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        assert!(Trusted::new(roots.as_bytes(), NAME).is_err(), "{roots:?}");
    }
}
