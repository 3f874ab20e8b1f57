use proptest::prelude::*;
use remote_istio::identity::RemoteName;
use remote_istio::tls::LeafFacts;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::test_authorities::{DAY, TRUST_DOMAIN, brought_root, ca_params, request, root};
use super::*;

/// One wait of a test.
const DEADLINE: Duration = Duration::from_secs(20);

fn settings() -> Settings {
    let address = |text: &str| text.parse().expect("an address");
    Settings {
        namespace: "istio-system".to_owned(),
        secret_name: LINK_CA_SECRET.to_owned(),
        mode: Mode::Made,
        trust_domain: TRUST_DOMAIN.to_owned(),
        replica: "hub-1".to_owned(),
        public: PublicAddresses {
            hubs: vec![address("hub.test:8444"), address("[2001:db8::1]:8444")],
            enrolments: vec![address("hub.test:8443"), address("10.0.0.1:8443")],
        },
        public_service: None,
        lifetime: DAY,
        recovery: 90 * DAY,
    }
}

fn ca() -> LinkCa {
    LinkCa::create(TRUST_DOMAIN, SystemTime::now()).expect("a CA is made")
}

fn authority(ca: &LinkCa) -> Arc<Authority> {
    Authority::with_ca(ca.clone(), settings()).expect("it starts")
}

fn remote() -> Identity {
    Identity::Remote(RemoteName::new("remote-1").expect("a DNS label"))
}

fn is_within(time: SystemTime, expected: SystemTime, slack: Duration) -> bool {
    time >= expected - slack && time <= expected + slack
}

#[test]
fn own_certificate_is_the_hubs_under_its_public_and_service_names() {
    let authority = authority(&ca());
    let own = authority.tls().own();
    assert_eq!(own.identity, Identity::Hub);
    let made = own::make(
        &authority.ca.load(),
        &authority.settings,
        &authority.public.load(),
        SystemTime::now(),
    )
    .expect("it is signed");
    let leaf = certificate::certificates(&made.material.certificate)
        .expect("PEM")
        .swap_remove(0);
    let (_, leaf) = X509Certificate::from_der(&leaf).expect("a certificate");
    let names = leaf.subject_alternative_name().expect("readable").expect("names").value;
    let version_6 = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    assert_eq!(
        names.general_names,
        [
            GeneralName::DNSName("hub.test"),
            GeneralName::IPAddress(&version_6),
            GeneralName::IPAddress(&[10, 0, 0, 1]),
            GeneralName::DNSName("remote-istio-hub"),
            GeneralName::DNSName("remote-istio-hub.istio-system"),
            GeneralName::DNSName("remote-istio-hub.istio-system.svc"),
            GeneralName::URI("spiffe://mesh.test/hub"),
        ]
    );
}

#[test]
fn each_own_certificate_has_a_key_of_its_own() {
    let (ca, settings) = (ca(), settings());
    let key = || {
        own::make(&ca, &settings, &settings.public, SystemTime::now())
            .expect("it is signed")
            .material
            .key
            .clone()
    };
    assert_ne!(key(), key());
}

#[test]
fn certificate_is_backdated_and_lives_as_long_as_is_set() {
    let authority = authority(&ca());
    let now = SystemTime::now();
    let slack = Duration::from_secs(5);
    let issued = authority.issue(&remote(), &request().0, None).expect("it is signed");
    assert!(is_within(issued.not_before, now - limits::BACKDATED, slack));
    assert!(is_within(issued.not_after, now + DAY, slack));

    let begins = SystemTime::UNIX_EPOCH + Duration::from_secs(certificate::seconds_of(now) - 10);
    let issued = authority
        .issue(&remote(), &request().0, Some(begins))
        .expect("it is signed");
    assert_eq!(issued.not_before, begins);
    // Life counts from the issue.
    assert!(is_within(issued.not_after, now + DAY, slack));
    let chain: Vec<_> = issued.chain.iter().map(|der| der.to_vec()).collect();
    let past = authority.verify_past(&chain).expect("one of ours");
    let facts = LeafFacts {
        identity: past.identity,
        serial: issued.serial.clone(),
        not_before: past.not_before,
        not_after: past.not_after,
    };
    let expected = LeafFacts {
        identity: remote(),
        serial: issued.serial,
        not_before: issued.not_before,
        not_after: issued.not_after,
    };
    assert_eq!(facts, expected);
}

#[test]
fn same_secret_changes_nothing() {
    let ca = ca();
    let authority = authority(&ca);
    let (mut trust, serial) = (authority.trust(), authority.tls().own().serial);
    trust.mark_unchanged();
    authority.found(&ca.to_secret());
    assert!(!trust.has_changed().expect("the authority lives"));
    assert_eq!(authority.tls().own().serial, serial);
}

#[test]
fn each_step_of_a_rollover_is_taken_from_the_secret() {
    let stable = ca();
    let authority = authority(&stable);
    let now = SystemTime::now();
    let begun = stable.begin(now).expect("begun");
    let switched = begun.switch().expect("switched");
    let dropped = switched.drop_old().expect("dropped");
    let mut trust = authority.trust();
    let first = trust.borrow().clone();
    assert_eq!(
        (first.epoch, first.roots.as_slice(), first.signer),
        (1, stable.roots(), stable.signer())
    );
    assert_eq!(
        (&first.hubs, &first.enrolments),
        (&settings().public.hubs, &settings().public.enrolments)
    );
    for ca in [begun, switched, dropped] {
        let serial = authority.tls().own().serial;
        trust.mark_unchanged();
        authority.found(&ca.to_secret());
        assert!(trust.has_changed().expect("the authority lives"));
        let expected = Trust {
            epoch: ca.epoch(),
            roots: ca.roots().to_vec(),
            signer: ca.signer(),
            ..(*first).clone()
        };
        assert_eq!(**trust.borrow(), expected);
        assert_ne!(authority.tls().own().serial, serial);
        assert_eq!(authority.signer(), ca.signer());
        let facts = authority.facts();
        assert_eq!(
            (facts.stage, facts.epoch, facts.signer_end),
            (ca.stage(), ca.epoch(), ca.signer_end())
        );
    }
}

#[test]
fn secret_that_is_lost_or_half_written_changes_nothing_but_what_is_reported() {
    let held = ca();
    let authority = authority(&held);
    let (mut trust, serial) = (authority.trust(), authority.tls().own().serial);
    trust.mark_unchanged();
    let mut half = held.to_secret();
    half.insert("tls.key".to_owned(), ca().to_secret()["tls.key"].clone());
    authority.found(&half);
    assert!(matches!(authority.facts().secret, SecretState::Unusable(why) if why.starts_with("entry tls.key: ")));
    authority.found(&BTreeMap::new());
    assert_eq!(authority.facts().secret, SecretState::Empty);
    authority.lost(SecretState::Missing);
    assert_eq!(authority.facts().secret, SecretState::Missing);

    assert_eq!(
        (authority.signer(), authority.tls().own().serial),
        (held.signer(), serial)
    );
    assert!(!trust.has_changed().expect("the authority lives"));
    assert!(authority.issue(&remote(), &request().0, None).is_ok());
    authority.found(&held.to_secret());
    assert_eq!(authority.facts().secret, SecretState::InUse);
}

#[test]
fn ca_that_its_owner_replaced_is_taken() {
    let params = || {
        let mut params = ca_params("brought");
        params.not_before = (SystemTime::now() - DAY).into();
        params.not_after = (SystemTime::now() + DAY).into();
        params
    };
    let (one, two) = (brought_root(&root(params())), brought_root(&root(params())));
    let read = |data| {
        LinkCa::from_secret(data, SystemTime::now())
            .expect("good")
            .expect("not empty")
    };
    let authority = authority(&read(&one));
    authority.found(&two);
    assert_eq!(authority.signer(), read(&two).signer());
    assert_eq!(authority.trust().borrow().roots, read(&two).roots());
}

#[test]
fn hub_without_an_address_to_tell_is_refused() {
    let mut without = settings();
    without.public.enrolments.clear();
    let refused = Authority::with_ca(ca(), without).expect_err("nobody would find it");
    assert!(matches!(refused, AuthorityError::Addresses { hubs: 2, enrolments: 0 }));
}

#[test]
fn what_joining_takes_is_published_without_any_key() {
    let ca = ca();
    let trust = trust_of(&ca, &settings(), &settings().public);
    let contents = publish::contents(&trust, ca.pin(), None);
    let expected = [
        ("ca.crt", trust.bundle()),
        ("enrolments", "hub.test:8443,10.0.0.1:8443".to_owned()),
        ("epoch", "1".to_owned()),
        ("hubs", "hub.test:8444,[2001:db8::1]:8444".to_owned()),
        ("pin", ca.signer().to_string()),
        ("trust-domain", TRUST_DOMAIN.to_owned()),
    ];
    let expected = expected.map(|(entry, value)| (entry.to_owned(), value));
    assert_eq!(contents, BTreeMap::from(expected));
    assert!(!contents["ca.crt"].contains("PRIVATE"));
}

#[tokio::test]
async fn own_certificate_of_short_life_is_renewed_before_its_end() {
    let short = Settings {
        lifetime: Duration::from_secs(3),
        ..settings()
    };
    let authority = Authority::with_ca(ca(), short).expect("it starts");
    let first = authority.tls().own();
    let mut status = authority.tls().status();
    let renewed = tokio::time::timeout(DEADLINE, status.wait_for(|status| status.reloads >= 1));
    tokio::select! {
        renewed = renewed => drop(renewed.expect("in time").expect("the source lives")),
        () = own::renew(&authority) => unreachable!("it never returns"),
    }
    assert_ne!(authority.tls().own().serial, first.serial);
    assert!(authority.tls().own().not_after > first.not_after);
    assert_eq!(authority.facts().renewal_failure, None);
}

proptest! {
    #[test]
    fn renewal_is_planned_around_two_thirds(rest in 1_u64..1_000_000) {
        let now = SystemTime::now();
        let rest = Duration::from_secs(rest);
        let due = Renewal::planned(now, now + rest).due().duration_since(now).expect("later");
        prop_assert!(due >= rest.mul_f64(0.59) && due <= rest.mul_f64(0.74), "{:?} of {:?}", due, rest);
    }
}
