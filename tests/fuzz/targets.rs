//! What is fuzzed: everything that bytes of a stranger reach before anybody knows who sent them, and what a peer may
//! send afterwards. Each target says whether it accepted the input, so that a corpus that no longer reaches anything
//! is found out; what it asserts must hold for whatever is accepted.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message as _;
use rcgen::{KeyPair, PublicKeyData, SigningKey as _};
use remote_istio::convert::{read_ack, read_delta, read_hello, read_status};
use remote_istio::enrolment::{Pin, Token, Trust, TrustDigest, certificate_pem, verify_proof};
use remote_istio::identity::{DEFAULT_TRUST_DOMAIN, Identity, RemoteName, from_certificate, parse_uri};
use remote_istio::lane::{Assembly, Inbox};
use remote_istio::limits;
use remote_istio::wire::v1;
use remote_istio_hub::authority::{CertificateRequest, Leaf, LinkCa, verify_past};
use rustls::pki_types::CertificateDer;

/// Takes any bytes; true: they were accepted as what the target reads.
pub type Target = fn(&[u8]) -> bool;

/// Every target by the name of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("ca", ca),
    ("enrolment", enrolment),
    ("frames", frames),
    ("identity", identity),
    ("past", past),
    ("pin", pin),
    ("request", request),
    ("signed-request", signed_request),
    ("token", token),
    ("trust", trust),
];

/// A token file.
fn token(data: &[u8]) -> bool {
    let Some(token) = text(data).and_then(|text| text.parse::<Token>().ok()) else {
        return false;
    };
    let whole = token.reveal();
    assert_eq!(whole.parse(), Ok(token.clone()), "a token reads back");
    assert!(token.has_hash(&token.secret_hash()), "a token has its own hash");
    let secret = whole.split_once('.').expect("a dot in a token").1;
    assert!(!format!("{token:?}").contains(secret), "no print shows the secret");
    true
}

/// A pin of the join command.
fn pin(data: &[u8]) -> bool {
    let Some(pin) = text(data).and_then(|text| text.parse::<Pin>().ok()) else {
        return false;
    };
    assert_eq!(pin.to_string().parse(), Ok(pin), "a pin reads back");
    assert_eq!(Pin::from_bytes(pin.as_bytes()), Some(pin), "a pin is its bytes");
    true
}

/// A certificate, or only the URI of one.
fn identity(data: &[u8]) -> bool {
    let _ = Pin::of_certificate(data);
    let found = match from_certificate(data, DEFAULT_TRUST_DOMAIN) {
        Ok(identity) => Some(identity),
        Err(error) => {
            // Errors are logged and told to the peer: they have to stay small whatever came.
            assert!(
                error.to_string().len() <= 2 * limits::DETAIL_MAX_BYTES,
                "an error of bounded length"
            );
            text(data).and_then(|uri| parse_uri(uri, DEFAULT_TRUST_DOMAIN).ok())
        }
    };
    let Some(found) = found else { return false };
    let uri = found.uri(DEFAULT_TRUST_DOMAIN);
    assert_eq!(
        parse_uri(&uri, DEFAULT_TRUST_DOMAIN),
        Ok(found.clone()),
        "an identity has one URI"
    );
    if let Identity::Remote(name) = &found {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        assert!(name.as_str().bytes().all(plain), "a name is a DNS label");
        assert!((1..=63).contains(&name.as_str().len()), "a name is a DNS label");
    }
    true
}

/// A signing request, and what is signed for it.
fn request(data: &[u8]) -> bool {
    let Ok(request) = CertificateRequest::check(data) else {
        return false;
    };
    assert!(data.len() <= limits::REQUEST_MAX_BYTES, "a request within the limit");
    certify(authority(), &request, request.key());
    true
}

/// Signs a certificate of a remote and makes sure that it is one, whatever was asked for.
fn certify(ca: &LinkCa, key: &impl PublicKeyData, pin: Pin) {
    let identity = Identity::Remote(RemoteName::new("remote-1").expect("a DNS label"));
    let leaf = Leaf {
        identity: &identity,
        names: &[],
        trust_domain: DEFAULT_TRUST_DOMAIN,
        not_before: now() - limits::BACKDATED,
        not_after: now() + DAY,
    };
    let issued = ca
        .issue(key, &leaf)
        .expect("a certificate of a CA and for a key that were found good");
    assert_eq!(
        Pin::of_certificate(&issued.chain[0]),
        Some(pin),
        "for the key that was given"
    );
    // The chain is verified as an agent's: no CA, for clients, of the identity that the hub decided on.
    let read = verify_past(&issued.chain, ca.roots(), DEFAULT_TRUST_DOMAIN, now(), DAY).expect("a good certificate");
    assert_eq!(read.identity, identity, "whatever the request asked for");
}

/// A CA that was brought, one root whose signature is good: the first byte says how many of the others are its name, the
/// rest are its extensions.
fn ca(data: &[u8]) -> bool {
    let Some((length, said)) = data.split_first() else {
        return false;
    };
    let (name, extensions) = said.split_at(usize::from(*length).min(said.len()));
    let validity = [tagged(0x17, b"260101000000Z"), tagged(0x17, b"360101000000Z")].concat();
    let info = [
        [0xa0, 3, 2, 1, 2, 2, 1, 1].as_slice(),
        &ECDSA_WITH_SHA256,
        name,
        &sequence(&validity),
        name,
        &key().subject_public_key_info(),
        extensions,
    ];
    let root = certificate_pem(&signed(&sequence(&info.concat()))).into_bytes();
    let secret = [
        ("tls.crt", root.clone()),
        ("tls.key", key().serialize_pem().into_bytes()),
        ("ca.crt", root),
    ];
    let secret = secret.map(|(entry, value)| (entry.to_owned(), value));
    let Ok(Some(ca)) = LinkCa::from_secret(&BTreeMap::from(secret), now()) else {
        return false;
    };
    certify(&ca, key(), Pin::of_key_info(&key().subject_public_key_info()));
    true
}

/// A signing request whose signature is good whatever it asks for: the first byte says how many of the others stand for
/// its subject, the rest are its attributes.
fn signed_request(data: &[u8]) -> bool {
    let Some((length, asked)) = data.split_first() else {
        return false;
    };
    let (subject, attributes) = asked.split_at(usize::from(*length).min(asked.len()));
    let version = [2, 1, 0];
    let info = sequence(&[&version, subject, &key().subject_public_key_info(), attributes].concat());
    request(&signed(&info))
}

/// A key algorithm in DER, as it stands beside a signature.
const ECDSA_WITH_SHA256: [u8; 12] = [0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];

/// A request or a certificate of what it says, signed by the one key.
fn signed(info: &[u8]) -> Vec<u8> {
    let signature = key().sign(info).expect("a signature");
    // A bit string without unused bits.
    let signature = tagged(3, &[&[0], signature.as_slice()].concat());
    sequence(&[info, &ECDSA_WITH_SHA256, &signature].concat())
}

fn sequence(content: &[u8]) -> Vec<u8> {
    tagged(0x30, content)
}

/// DER of one value.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let low = u8::try_from(length & 0xff).expect("masked");
    let head = match length {
        0..=0x7f => vec![tag, low],
        0x80..=0xff => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, u8::try_from(length >> 8).unwrap_or(u8::MAX), low],
    };
    [head.as_slice(), content].concat()
}

/// One key for the whole run; what is accepted does not depend on which it is.
fn key() -> &'static KeyPair {
    static KEY: OnceLock<KeyPair> = OnceLock::new();
    KEY.get_or_init(|| KeyPair::generate().expect("a key"))
}

/// An ended certificate that somebody shows: the chain of a recovery, under a root that is the last of it.
fn past(data: &[u8]) -> bool {
    let Ok(recover) = v1::RecoverRequest::decode(data) else {
        return false;
    };
    let Some((root, chain)) = recover.chain.split_last() else {
        return false;
    };
    let roots = [CertificateDer::from(root.clone())];
    let Ok(read) = verify_past(chain, &roots, DEFAULT_TRUST_DOMAIN, now(), DAY * 90) else {
        return false;
    };
    let named = from_certificate(&chain[0], DEFAULT_TRUST_DOMAIN);
    assert_eq!(named, Ok(read.identity), "the identity is that of the leaf");
    true
}

const DAY: Duration = Duration::from_hours(24);

/// A fixed time, so that each run says the same of an input: some day early in 2027.
fn now() -> SystemTime {
    UNIX_EPOCH + DAY * 365 * 57 + DAY * 20
}

fn authority() -> &'static LinkCa {
    static AUTHORITY: OnceLock<LinkCa> = OnceLock::new();
    AUTHORITY.get_or_init(|| LinkCa::create(DEFAULT_TRUST_DOMAIN, now() - DAY).expect("a CA"))
}

/// The trust that comes with a certificate and in the stream.
fn trust(data: &[u8]) -> bool {
    v1::Trust::decode(data).is_ok_and(|wire| read_trust(&wire))
}

fn read_trust(wire: &v1::Trust) -> bool {
    let Ok(trust) = Trust::read(wire) else { return false };
    assert!(
        (1..=limits::TRUST_ROOTS).contains(&trust.roots.len()),
        "roots within the limit"
    );
    assert!(
        (1..=limits::TRUST_ADDRESSES).contains(&trust.hubs.len()),
        "hubs within the limit"
    );
    assert!(
        trust.enrolments.len() <= limits::TRUST_ADDRESSES,
        "enrolments within the limit"
    );
    let again = Trust::read(&trust.write());
    assert_eq!(again.as_ref(), Ok(&trust), "a trust that was read can be sent on");
    assert!(
        again.is_ok_and(|again| again.digest() == trust.digest()),
        "the digest is that of the content"
    );
    assert_eq!(
        trust.bundle().matches("BEGIN CERTIFICATE").count(),
        trust.roots.len(),
        "each root in the bundle"
    );
    true
}

/// Every message of the enrolment port and of renewal, and what reads them.
fn enrolment(data: &[u8]) -> bool {
    let mut accepted = false;
    if let Ok(join) = v1::JoinRequest::decode(data) {
        accepted |= join.token.parse::<Token>().is_ok();
    }
    if let Ok(recover) = v1::RecoverRequest::decode(data) {
        let leaf = recover.chain.first().map(Vec::as_slice).unwrap_or_default();
        accepted |= from_certificate(leaf, DEFAULT_TRUST_DOMAIN).is_ok();
        // The exporter is of a connection that was never made: no proof can hold.
        let proof = verify_proof(leaf, &[0; 32], &recover.request, &recover.proof);
        assert!(proof.is_err(), "a proof holds for its own connection only");
    }
    if let Ok(answer) = v1::JoinResponse::decode(data)
        && let Some(v1::join_response::Outcome::Issued(issued)) = answer.outcome
    {
        accepted |= read_issued(&issued);
    }
    if let Ok(issued) = v1::Issued::decode(data) {
        accepted |= read_issued(&issued);
    }
    accepted
}

fn read_issued(issued: &v1::Issued) -> bool {
    for certificate in &issued.chain {
        let _ = Pin::of_certificate(certificate);
    }
    let leaf = issued.chain.first().map(Vec::as_slice).unwrap_or_default();
    let trusted = issued.trust.as_ref().is_some_and(read_trust);
    from_certificate(leaf, DEFAULT_TRUST_DOMAIN).is_ok() && trusted
}

/// A frame of the stream, in both directions, and what a lane makes of a delta.
fn frames(data: &[u8]) -> bool {
    let from_agent = v1::AgentFrame::decode(data).ok().and_then(|frame| frame.frame);
    let from_hub = v1::HubFrame::decode(data).ok().and_then(|frame| frame.frame);
    let agent = match from_agent {
        Some(v1::agent_frame::Frame::Hello(hello)) => read_hello(hello).is_ok(),
        Some(v1::agent_frame::Frame::Delta(delta)) => delta_is_read(delta),
        Some(v1::agent_frame::Frame::Ack(ack)) => read_ack(ack).is_ok(),
        Some(v1::agent_frame::Frame::Status(status)) => read_status(status).is_ok(),
        Some(v1::agent_frame::Frame::TrustKept(kept)) => TrustDigest::from_bytes(&kept.digest).is_some(),
        _ => false,
    };
    let hub = match from_hub {
        Some(v1::hub_frame::Frame::Delta(delta)) => delta_is_read(delta),
        Some(v1::hub_frame::Frame::Ack(ack)) => read_ack(ack).is_ok(),
        Some(v1::hub_frame::Frame::Trust(trust)) => read_trust(&trust),
        _ => false,
    };
    agent || hub
}

fn delta_is_read(delta: v1::Delta) -> bool {
    let Ok(part) = read_delta(delta) else { return false };
    assert!(
        part.upserts.iter().all(|(key, _)| key.lane() == part.lane),
        "each object is of its lane"
    );
    assert!(
        part.removals.iter().all(|key| key.lane() == part.lane),
        "each removal is of its lane"
    );
    let mut assembly = Assembly::default();
    let added = assembly.add(part.nonce, part.part, part.upserts, part.removals, part.unread);
    let (Ok(()), Some(end)) = (added, part.end) else {
        return false;
    };
    let (change, unread) = assembly.finish(end);
    let mut inbox = Inbox::new(BTreeMap::new(), true);
    let Ok(judged) = inbox.judge(&change, unread, "fuzz", |_, _| Ok(())) else {
        return false;
    };
    inbox.commit(&judged, "fuzz");
    assert!(inbox.len() <= change.upserts.len(), "nothing is held that was not sent");
    true
}

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}
