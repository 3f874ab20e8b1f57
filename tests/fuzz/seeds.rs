//! Where each corpus begins: real messages and certificates, and some that are nearly right. Made with fresh keys each
//! time; no private key stands in any of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use prost::Message as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, SanType, SigningKey as _,
};
use remote_istio::convert::{ack_frames, delta_parts, status_frames};
use remote_istio::enrolment::{Pin, Token, Trust, proof_input};
use remote_istio::lane::{Nack, NackReason, Outbox};
use remote_istio::model::{
    Applied, ApplyState, Body, Endpoint, EndpointSet, Key, Lane, LaneHash, Object, Port, Protocol, ServiceIntent,
    Snapshot,
};
use remote_istio::wire::v1;
use rustls::pki_types::CertificateDer;

/// One input of a target, with a name that says what it is.
pub type Seed = (&'static str, Vec<u8>);

/// Every seed by target. The first of each target is one that it accepts.
pub fn seeds() -> BTreeMap<&'static str, Vec<Seed>> {
    BTreeMap::from([
        ("ca", cas()),
        ("enrolment", enrolment()),
        ("frames", frames()),
        ("identity", identities()),
        ("past", pasts()),
        ("pin", pins()),
        ("request", requests()),
        ("signed-request", signed_requests()),
        ("token", tokens()),
        ("trust", trusts()),
    ])
}

fn token() -> Token {
    Token::new([1, 2, 3, 4, 5], [7; 32])
}

fn tokens() -> Vec<Seed> {
    let whole = token().reveal();
    vec![
        ("token", whole.clone().into()),
        ("token-with-newline", format!("{whole}\n").into()),
        ("token-cut", whole[..40].into()),
        ("token-in-capitals", whole.to_uppercase().into()),
        ("blank", b" \r\n".to_vec()),
    ]
}

fn pins() -> Vec<Seed> {
    let pin = Pin::of_key_info(b"key").to_string();
    vec![
        ("pin", pin.clone().into()),
        ("pin-in-capitals", pin.to_uppercase().replace("SHA256", "sha256").into()),
        ("pin-cut", pin[..60].into()),
        ("pin-of-another-hash", pin.replace("sha256", "sha1").into()),
    ]
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "link CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, key()).expect("a CA")
}

fn params(names: Vec<SanType>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "remote-1");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.subject_alt_names = names;
    params
}

fn leaf(ca: &CertifiedIssuer<'static, KeyPair>, key: &KeyPair, names: Vec<SanType>) -> Vec<u8> {
    params(names).signed_by(key, ca).expect("a leaf").der().to_vec()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("ASCII"))
}

fn remote() -> SanType {
    uri("spiffe://remote-istio.local/remote/remote-1")
}

fn identities() -> Vec<Seed> {
    let ca = authority();
    let of = |names: Vec<SanType>| leaf(&ca, &key(), names);
    vec![
        ("remote", of(vec![remote()])),
        (
            "hub",
            of(vec![
                uri("spiffe://remote-istio.local/hub"),
                SanType::DnsName("hub.example.com".try_into().expect("ASCII")),
            ]),
        ),
        ("operator", of(vec![uri("spiffe://remote-istio.local/operator/ann")])),
        ("two-uris", of(vec![remote(), uri("spiffe://remote-istio.local/hub")])),
        (
            "other-trust-domain",
            of(vec![uri("spiffe://other.test/remote/remote-1")]),
        ),
        ("common-name-only", of(vec![])),
        ("wildcard", of(vec![uri("spiffe://remote-istio.local/remote/*")])),
        ("capitals", of(vec![uri("spiffe://remote-istio.local/remote/REMOTE-1")])),
        ("address", of(vec![SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST))])),
        ("authority", ca.der().to_vec()),
        ("uri-alone", b"spiffe://remote-istio.local/remote/remote-1".to_vec()),
    ]
}

fn requests() -> Vec<Seed> {
    let request =
        |params: &CertificateParams, key: &KeyPair| params.serialize_request(key).expect("a request").der().to_vec();
    let of = |algorithm| {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        request(&CertificateParams::default(), &key)
    };
    let mut foreign = CertificateParams::default();
    foreign.subject_alt_names = vec![
        uri("spiffe://remote-istio.local/remote/remote-2"),
        uri("spiffe://remote-istio.local/operator/ann"),
    ];
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let mut broken = of(&rcgen::PKCS_ECDSA_P256_SHA256);
    if let Some(last) = broken.last_mut() {
        *last ^= 1;
    }
    vec![
        ("p256", of(&rcgen::PKCS_ECDSA_P256_SHA256)),
        ("p384", of(&rcgen::PKCS_ECDSA_P384_SHA384)),
        ("ed25519", of(&rcgen::PKCS_ED25519)),
        ("p521", of(&rcgen::PKCS_ECDSA_P521_SHA512)),
        ("foreign-names", request(&foreign, &key())),
        ("asks-to-be-a-ca", request(&authority, &key())),
        ("broken-signature", broken),
    ]
}

/// Name and extensions of real CAs.
fn cas() -> Vec<Seed> {
    // One common name.
    let name = b"\x30\x12\x31\x10\x30\x0e\x06\x03\x55\x04\x03\x0c\x07link CA".as_slice();
    let of = |name: &[u8], params: &CertificateParams| {
        let key = key();
        let certificate = params.self_signed(&key).expect("a certificate").der().to_vec();
        let key_info = key.subject_public_key_info();
        let mut windows = certificate.windows(key_info.len());
        let at = windows
            .position(|window| window == key_info)
            .expect("the key in its certificate");
        let extensions = &certificate[at + key_info.len()..];
        let extensions = &extensions[..2 + usize::from(extensions[1])];
        let length = u8::try_from(name.len()).expect("a short name");
        [&[length], name, extensions].concat()
    };
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let mut narrow = root.clone();
    narrow.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let mut no_ca = root.clone();
    no_ca.is_ca = IsCa::ExplicitNoCa;
    vec![
        ("root", of(name, &root)),
        ("of-no-other-ca", of(name, &narrow)),
        ("not-a-ca", of(name, &no_ca)),
        ("without-a-name", of(&[0x30, 0], &root)),
        ("no-extensions", [&[20], name].concat()),
    ]
}

/// Subject and attributes of real requests, cut out of them.
fn signed_requests() -> Vec<Seed> {
    let key = key();
    let content = |params: &CertificateParams| {
        let request = params.serialize_request(&key).expect("a request").der().to_vec();
        let key_info = key.subject_public_key_info();
        let is_key = |window: &[u8]| window == key_info.as_slice();
        let at = request
            .windows(key_info.len())
            .position(is_key)
            .expect("the key in its request");
        // Two headers of four bytes or fewer, then the version, then the subject.
        let version = request
            .windows(3)
            .position(|window| window == [2, 1, 0])
            .expect("a version");
        let subject = &request[version + 3..at];
        let attributes = &request[at + key_info.len()..];
        let attributes = &attributes[..2 + usize::from(attributes[1])];
        let length = u8::try_from(subject.len()).expect("a short subject");
        [&[length], subject, attributes].concat()
    };
    let mut foreign = CertificateParams::default();
    foreign.subject_alt_names = vec![uri("spiffe://remote-istio.local/operator/ann")];
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    vec![
        ("plain", content(&CertificateParams::default())),
        ("foreign-names", content(&foreign)),
        ("asks-to-be-a-ca", content(&authority)),
        ("nothing", vec![0]),
    ]
}

fn trust(ca: &CertifiedIssuer<'static, KeyPair>, other: &CertifiedIssuer<'static, KeyPair>) -> v1::Trust {
    let root = |ca: &CertifiedIssuer<'static, KeyPair>| CertificateDer::from(ca.der().to_vec());
    let trust = Trust {
        epoch: 2,
        roots: vec![root(ca), root(other)],
        signer: Pin::of_certificate(ca.der()).expect("a certificate"),
        trust_domain: "remote-istio.local".to_owned(),
        hubs: vec![
            "hub.example.com:8444".parse().expect("an address"),
            "[2001:db8::1]:8444".parse().expect("an address"),
        ],
        enrolments: vec!["10.0.0.1:8443".parse().expect("an address")],
    };
    trust.write()
}

fn trusts() -> Vec<Seed> {
    let whole = trust(&authority(), &authority());
    let changed = |change: fn(&mut v1::Trust)| {
        let mut trust = whole.clone();
        change(&mut trust);
        trust.encode_to_vec()
    };
    vec![
        ("trust", whole.encode_to_vec()),
        ("no-root", changed(|trust| trust.roots.clear())),
        ("no-hub", changed(|trust| trust.hubs.clear())),
        ("no-enrolment", changed(|trust| trust.enrolments.clear())),
        ("signer-cut", changed(|trust| trust.signer.truncate(31))),
        (
            "url",
            changed(|trust| "https://hub:8444/".clone_into(&mut trust.hubs[0])),
        ),
    ]
}

fn pasts() -> Vec<Seed> {
    let (ca, other) = (authority(), authority());
    let shown = |chain: &[Vec<u8>]| {
        let recover = v1::RecoverRequest {
            chain: chain.to_vec(),
            ..v1::RecoverRequest::default()
        };
        recover.encode_to_vec()
    };
    let mut ended = params(vec![remote()]);
    ended.not_before = rcgen::date_time_ymd(2026, 12, 1);
    ended.not_after = rcgen::date_time_ymd(2026, 12, 2);
    let ended = ended.signed_by(&key(), &ca).expect("a leaf").der().to_vec();
    let mut long_ended = params(vec![remote()]);
    long_ended.not_before = rcgen::date_time_ymd(2020, 1, 1);
    long_ended.not_after = rcgen::date_time_ymd(2020, 1, 2);
    let long_ended = long_ended.signed_by(&key(), &ca).expect("a leaf").der().to_vec();
    let root = |ca: &CertifiedIssuer<'static, KeyPair>| ca.der().to_vec();
    vec![
        ("ended", shown(&[ended.clone(), root(&ca)])),
        ("ended-long-ago", shown(&[long_ended, root(&ca)])),
        ("of-another-ca", shown(&[ended.clone(), root(&other)])),
        ("with-one-too-many", shown(&[ended, root(&other), root(&ca)])),
        ("root-alone", shown(&[root(&ca)])),
    ]
}

fn enrolment() -> Vec<Seed> {
    let (ca, key) = (authority(), key());
    let chain = vec![leaf(&ca, &key, vec![remote()]), ca.der().to_vec()];
    let request = CertificateParams::default()
        .serialize_request(&key)
        .expect("a request")
        .der()
        .to_vec();
    let join = v1::JoinRequest {
        token: token().reveal(),
        request: request.clone(),
        cluster_uid: "5b1c6a6e-7f4d-4a8c-9a57-0c9f0a1f6f0e".to_owned(),
        release: "0.1.0".to_owned(),
    };
    let recover = v1::RecoverRequest {
        chain: chain.clone(),
        proof: key.sign(&proof_input(&[1; 32], &request)).expect("a signature"),
        request: request.clone(),
        cluster_uid: join.cluster_uid.clone(),
    };
    let issued = v1::Issued {
        chain,
        trust: Some(trust(&ca, &authority())),
    };
    let pending = v1::Pending {
        message: "wait for `join approve remote-1`".to_owned(),
        retry_milliseconds: 2_000,
    };
    let answer = |outcome| v1::JoinResponse { outcome: Some(outcome) }.encode_to_vec();
    vec![
        ("join", join.encode_to_vec()),
        ("recover", recover.encode_to_vec()),
        ("issued", issued.encode_to_vec()),
        ("joined", answer(v1::join_response::Outcome::Issued(issued))),
        ("pending", answer(v1::join_response::Outcome::Pending(pending))),
        ("renew", v1::RenewRequest { request }.encode_to_vec()),
    ]
}

fn frames() -> Vec<Seed> {
    use v1::{agent_frame, hub_frame};
    let agent = |frame| v1::AgentFrame { frame: Some(frame) }.encode_to_vec();
    let hub = |frame| v1::HubFrame { frame: Some(frame) }.encode_to_vec();
    let hello = v1::Hello {
        protocol_min: 1,
        protocol_max: 1,
        release: "0.1.0".to_owned(),
        cluster_uid: "5b1c6a6e-7f4d-4a8c-9a57-0c9f0a1f6f0e".to_owned(),
        boot_id: "a".to_owned(),
        session_epoch: 1,
        connection: 1,
        trust_digest: vec![7; 32],
        ..v1::Hello::default()
    };
    let key = Key::endpoints("istio-system", "istio-pilot");
    let nack = Nack {
        key: key.clone(),
        reason: NackReason::Policy,
        detail: "not here".to_owned(),
    };
    let hash = LaneHash::from_bytes(&[3; 16]).expect("16 bytes");
    let ack = ack_frames(Lane::Endpoints, 1, hash, &[nack]).remove(0);
    let applied = Applied {
        version: None,
        state: ApplyState::Applied,
        detail: String::new(),
        addresses: 2,
        replicas: None,
    };
    let status = status_frames([(&key, &applied)]).remove(0);
    let trust = trust(&authority(), &authority());
    vec![
        ("hello", agent(agent_frame::Frame::Hello(hello))),
        ("ack", agent(agent_frame::Frame::Ack(ack))),
        ("status", agent(agent_frame::Frame::Status(status))),
        (
            "trust-kept",
            agent(agent_frame::Frame::TrustKept(v1::TrustKept {
                epoch: 2,
                digest: vec![7; 32],
                failure: String::new(),
            })),
        ),
        ("endpoints", hub(hub_frame::Frame::Delta(delta(Lane::Endpoints)))),
        ("config", hub(hub_frame::Frame::Delta(delta(Lane::Config)))),
        ("trust", hub(hub_frame::Frame::Trust(trust))),
    ]
}

fn delta(lane: Lane) -> v1::Delta {
    let port = Port {
        name: "grpc".to_owned(),
        number: 15_010,
        protocol: Protocol::Tcp,
        app_protocol: String::new(),
    };
    let addresses = [
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        IpAddr::V6(Ipv6Addr::from_bits(0xfd00 << 112)),
    ];
    let set = EndpointSet {
        endpoints: addresses
            .into_iter()
            .map(|address| (address, Endpoint::ready()))
            .collect(),
        port_sets: vec![vec![port.clone()]],
    };
    let objects = match lane {
        Lane::Endpoints => vec![(Key::endpoints("istio-system", "istio-pilot"), Body::Endpoints(set))],
        Lane::Config => vec![
            (
                Key::service("istio-system", "istio-pilot"),
                Body::Service(ServiceIntent { ports: vec![port] }),
            ),
            (Key::injection("default"), Body::Injection),
        ],
    };
    let objects = objects
        .into_iter()
        .map(|(key, body)| (key, Arc::new(Object::new(1, None, body))))
        .collect();
    let mut outbox = Outbox::new();
    outbox.set(Arc::new(Snapshot::new(objects, false)));
    delta_parts(lane, &outbox.next_change().expect("a snapshot")).remove(0)
}
