use std::collections::BTreeMap;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DistinguishedName, DnType,
    IsCa, KeyPair,
};

use super::super::secret::{Found, fresh};
use super::*;

/// A CA of the mesh, with or without one of its own below its root.
pub(in crate::mesh_trust) struct MeshCa {
    root: CertifiedIssuer<'static, KeyPair>,
    below: Option<CertifiedIssuer<'static, KeyPair>>,
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

impl MeshCa {
    /// One that signs with its root.
    pub(in crate::mesh_trust) fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let root = CertifiedIssuer::self_signed(named(name), key).expect("a root");
        Self { root, below: None }
    }

    /// One that signs with an intermediate.
    pub(in crate::mesh_trust) fn plugged_in(name: &str) -> Self {
        let ca = Self::new(name);
        let (params, key) = (named(&format!("{name} below")), KeyPair::generate().expect("a key"));
        let below = CertifiedIssuer::signed_by(params, key, &ca.root).expect("an intermediate");
        Self {
            below: Some(below),
            ..ca
        }
    }

    pub(in crate::mesh_trust) fn root(&self) -> Vec<u8> {
        self.root.der().to_vec()
    }

    fn signer(&self) -> &CertifiedIssuer<'static, KeyPair> {
        self.below.as_ref().unwrap_or(&self.root)
    }

    /// With the roots of earlier ones.
    pub(in crate::mesh_trust) fn trust(&self, earlier: &[&Self]) -> v1::MeshTrust {
        let roots = [self]
            .into_iter()
            .chain(earlier.iter().copied())
            .map(Self::root)
            .collect();
        let signer = Pin::of_certificate(self.signer().der()).expect("a certificate");
        v1::MeshTrust {
            signer: signer.as_bytes().to_vec(),
            roots,
        }
    }

    pub(in crate::mesh_trust) fn sign(&self, request: &[u8], life: Life) -> v1::SignResponse {
        self.sign_as(request, life, IsCa::Ca(BasicConstraints::Constrained(0)))
    }

    fn sign_as(&self, request: &[u8], life: Life, is_ca: IsCa) -> v1::SignResponse {
        let request = CertificateSigningRequestParams::from_der(&request.into()).expect("a signing request");
        let mut params = named("remote-1");
        params.is_ca = is_ca;
        params.not_before = life.not_before.into();
        params.not_after = life.not_after.into();
        let certificate = params
            .signed_by(&request.public_key, self.signer())
            .expect("a certificate");
        let below = self.below.iter().map(|below| below.der().to_vec());
        v1::SignResponse {
            chain: [certificate.der().to_vec()].into_iter().chain(below).collect(),
            trust: Some(self.trust(&[])),
        }
    }
}

/// Ninety days that began a day ago, in whole seconds.
pub(in crate::mesh_trust) fn life(now: SystemTime) -> Life {
    let day = Duration::from_hours(24);
    Life {
        not_before: now - day,
        not_after: now + day * 89,
    }
}

pub(in crate::mesh_trust) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours(24) * 365 * 50
}

pub(in crate::mesh_trust) fn labels() -> BTreeMap<String, String> {
    [
        ("managed-by".to_owned(), "us".to_owned()),
        ("owner".to_owned(), "remote-1".to_owned()),
    ]
    .into()
}

/// What this CA signed, as it stands in this agent's Secret.
pub(in crate::mesh_trust) fn signed(ca: &MeshCa, trust: &v1::MeshTrust, life: Life) -> Found {
    let key = CaKey::generate().expect("a key");
    let mut answer = ca.sign(&key.request().expect("a request"), life);
    answer.trust = Some(trust.clone());
    let issued = Issued::read(answer, &key, life.not_before).expect("usable");
    let mut secret = fresh("istio-system", &labels(), &issued, &key).expect("a Secret");
    secret.metadata.uid = Some("uid-1".to_owned());
    Found::new(secret, &labels())
}

struct Case {
    ca: MeshCa,
    key: CaKey,
    answer: v1::SignResponse,
}

impl Case {
    fn new() -> Self {
        let (ca, key) = (MeshCa::plugged_in("mesh"), CaKey::generate().expect("a key"));
        let answer = ca.sign(&key.request().expect("a request"), life(now()));
        Self { ca, key, answer }
    }

    fn read(&self) -> Result<Issued, String> {
        Issued::read(self.answer.clone(), &self.key, now())
    }

    fn trust(&mut self) -> &mut v1::MeshTrust {
        self.answer.trust.as_mut().expect("a trust")
    }
}

#[test]
fn chain_of_a_plugged_in_ca_is_taken_as_it_is() {
    let case = Case::new();
    let trust = case.ca.trust(&[]);
    let expected = Issued {
        chain: case.answer.chain.clone(),
        roots: trust.roots,
        signer: trust.signer,
        life: life(now()),
    };
    assert_eq!(case.answer.chain.len(), 2);
    assert_eq!(case.read(), Ok(expected));
}

#[test]
fn what_cannot_be_used_is_refused_with_a_reason() {
    type Change = fn(&mut Case);
    let cases: [(&str, Change); 9] = [
        ("nothing of whom the mesh trusts", |case| case.answer.trust = None),
        ("its chain has 0", |case| case.answer.chain.clear()),
        ("it names 0 roots", |case| case.trust().roots.clear()),
        ("it names 9 roots", |case| {
            let root = case.ca.root();
            case.trust().roots = vec![root; 9];
        }),
        ("another key", |case| case.key = CaKey::generate().expect("a key")),
        ("not of a CA", |case| {
            let request = case.key.request().expect("a request");
            case.answer = case.ca.sign_as(&request, life(now()), IsCa::ExplicitNoCa);
        }),
        ("was not issued by", |case| drop(case.answer.chain.remove(1))),
        ("another CA than it says", |case| case.trust().signer = vec![0; 32]),
        ("no certificate", |case| case.trust().roots.push(b"junk".to_vec())),
    ];
    for (expected, change) in cases {
        let mut case = Case::new();
        change(&mut case);
        let refused = case.read().expect_err(expected);
        assert!(refused.contains(expected), "{refused}");
    }
}

#[test]
fn certificate_outside_its_life_speaks_of_the_clock() {
    let case = Case::new();
    let life = life(now());
    for (at, word) in [
        (life.not_after, "ended"),
        (life.not_before - Duration::from_secs(1), "not valid yet"),
    ] {
        let refused = Issued::read(case.answer.clone(), &case.key, at).expect_err("outside");
        assert!(refused.contains(word) && refused.contains("clock"), "{refused}");
    }
}

#[test]
fn kept_certificate_must_be_one_and_of_the_key_beside_it() {
    let case = Case::new();
    let (one, two) = (pem_of(&case.answer.chain[..1]), pem_of(&case.answer.chain));
    let key = case.key.pem().expect("PEM");
    let other = CaKey::generate().expect("a key").pem().expect("PEM");
    assert_eq!(kept_life(&one, &key), Ok(life(now())));
    assert!(kept_life(&one, &other).is_err());
    assert!(kept_life(&two, &key).is_err());
    assert!(kept_life(&one, b"junk").is_err());
    assert!(kept_life(b"junk", &key).is_err());
}
