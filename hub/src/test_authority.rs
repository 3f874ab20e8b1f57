//! A link CA for tests, and certificates of remotes by it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};
use remote_istio::enrolment::certificate_pem;
use remote_istio::identity::{Identity, RemoteName};
use remote_istio::tls::{Material, TlsSource};

use crate::authority::{Authority, CertificateRequest, LINK_CA_SECRET, Leaf, LinkCa, Mode, PublicAddresses, Settings};

pub(crate) const TRUST_DOMAIN: &str = "mesh.test";
pub(crate) const DAY: Duration = Duration::from_hours(24);

pub(crate) fn remote(name: &str) -> RemoteName {
    RemoteName::new(name).expect("a DNS label")
}

pub(crate) fn link_ca() -> LinkCa {
    LinkCa::create(TRUST_DOMAIN, SystemTime::now()).expect("a CA is made")
}

/// An authority whose enrolment port has this address.
pub(crate) fn authority(ca: &LinkCa, enrolment: &str) -> Arc<Authority> {
    let settings = Settings {
        namespace: "istio-system".to_owned(),
        secret_name: LINK_CA_SECRET.to_owned(),
        mode: Mode::Made,
        trust_domain: TRUST_DOMAIN.to_owned(),
        replica: "hub-1".to_owned(),
        public: PublicAddresses {
            hubs: vec!["hub.test:8444".parse().expect("an address")],
            enrolments: vec![enrolment.parse().expect("an address")],
        },
        public_service: None,
        lifetime: DAY,
        recovery: 90 * DAY,
    };
    Authority::with_ca(ca.clone(), settings).expect("it starts")
}

/// A key and its signing request, DER.
pub(crate) fn request() -> (KeyPair, Vec<u8>) {
    let key = KeyPair::generate().expect("a key");
    let request = CertificateParams::default().serialize_request(&key).expect("a request");
    let der = request.der().to_vec();
    (key, der)
}

/// A certificate of a remote with its key, from `begins` to `ends`.
pub(crate) struct RemoteCertificate {
    pub(crate) key: KeyPair,
    pub(crate) chain: Vec<Vec<u8>>,
}

impl RemoteCertificate {
    pub(crate) fn new(ca: &LinkCa, name: &str, begins: SystemTime, ends: SystemTime) -> Self {
        let (key, request) = request();
        let leaf = Leaf {
            identity: &Identity::Remote(remote(name)),
            names: &[],
            trust_domain: TRUST_DOMAIN,
            not_before: begins,
            not_after: ends,
        };
        let request = CertificateRequest::check(&request).expect("a good request");
        let issued = ca.issue(&request, &leaf).expect("it is signed");
        let chain = issued.chain.iter().map(|der| der.to_vec()).collect();
        Self { key, chain }
    }

    /// What the agent connects with.
    pub(crate) fn source(&self, ca: &LinkCa) -> Arc<TlsSource> {
        let pem = |chain: &[Vec<u8>]| -> String { chain.iter().map(|der| certificate_pem(der)).collect() };
        let roots: Vec<Vec<u8>> = ca.roots().iter().map(|root| root.to_vec()).collect();
        let material = Material {
            certificate: pem(&self.chain).into_bytes(),
            key: self.key.serialize_pem().into_bytes(),
            trust_bundle: pem(&roots).into_bytes(),
        };
        TlsSource::from_material(&material, "a test", TRUST_DOMAIN).expect("good material")
    }
}
