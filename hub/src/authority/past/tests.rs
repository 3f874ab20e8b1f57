use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, SanType};

use super::*;
use crate::authority::LinkCa;
use crate::authority::test_authorities::{
    Ca, DAY, TRUST_DOMAIN, below, brought, ca_params, date, issued, made, read, remote, root, today,
};

const GRACE: Duration = Duration::from_hours(24 * 90);

fn judged(ca: &LinkCa, chain: &[CertificateDer<'static>], now: SystemTime) -> Result<PastCertificate, PastError> {
    verify_past(chain, ca.roots(), TRUST_DOMAIN, now, GRACE)
}

/// A certificate as no authority would sign it.
fn odd(ca: &Ca, uris: &[&str], usage: ExtendedKeyUsagePurpose) -> Vec<CertificateDer<'static>> {
    let mut params = CertificateParams::default();
    let uris = uris
        .iter()
        .map(|uri| SanType::URI((*uri).try_into().expect("an ASCII URI")));
    params.subject_alt_names.extend(uris);
    params.extended_key_usages = vec![usage];
    params.not_before = date(today() - DAY);
    params.not_after = date(today());
    let key = KeyPair::generate().expect("a key");
    vec![params.signed_by(&key, ca).expect("it is signed").into()]
}

#[test]
fn certificate_opens_the_way_back_until_the_grace_after_its_end_is_over() {
    let ca = made();
    let certificate = issued(&ca);
    let end = certificate.not_after;
    let expected = PastCertificate {
        identity: remote(),
        not_before: certificate.not_before,
        not_after: end,
        leaf: certificate.chain[0].clone(),
    };
    for now in [today(), end, end + Duration::from_secs(1), end + GRACE] {
        assert_eq!(judged(&ca, &certificate.chain, now), Ok(expected.clone()));
    }
    let late = judged(&ca, &certificate.chain, end + GRACE + Duration::from_secs(1)).expect_err("too late");
    assert!(matches!(late, PastError::TooOld { .. }));
    assert!(late.to_string().contains("more than 90 days ago"), "{late}");
}

#[test]
fn certificate_of_another_ca_opens_nothing() {
    let other = issued(&made());
    assert_eq!(judged(&made(), &other.chain, today()), Err(PastError::AnotherCa));
}

#[test]
fn certificate_from_the_future_is_told_so() {
    let ca = made();
    let early = judged(&ca, &issued(&ca).chain, today() - DAY).expect_err("too early");
    assert!(matches!(early, PastError::NotYetValid { .. }), "{early}");
}

#[test]
fn certificate_that_never_was_good_stays_so_after_its_end() {
    let root = root(ca_params("a root"));
    let roots = [root.der().clone()];
    let good = "spiffe://mesh.test/remote/remote-1";
    let judged = |chain: Vec<_>| verify_past(&chain, &roots, TRUST_DOMAIN, today() + DAY, GRACE);
    assert!(judged(odd(&root, &[good], ExtendedKeyUsagePurpose::ClientAuth)).is_ok());
    let server = judged(odd(&root, &[good], ExtendedKeyUsagePurpose::ServerAuth));
    assert!(matches!(server, Err(PastError::Unusable(_))), "{server:?}");
    for uris in [
        &[][..],
        &[good, "spiffe://mesh.test/remote/remote-2"],
        &["spiffe://other.test/remote/remote-1"],
        &["spiffe://mesh.test/remote/*"],
    ] {
        let refused = judged(odd(&root, uris, ExtendedKeyUsagePurpose::ClientAuth));
        assert!(matches!(refused, Err(PastError::Identity(_))), "{uris:?}: {refused:?}");
    }
}

#[test]
fn chain_below_an_intermediate_is_followed_and_not_one_without_it() {
    let root = root(ca_params("a root"));
    let middle = below(ca_params("in between"), &root);
    let ca = read(&brought(&middle.pem(), middle.key(), &root.pem()));
    let certificate = issued(&ca);
    let later = certificate.not_after + DAY;
    assert!(judged(&ca, &certificate.chain, later).is_ok());
    assert_eq!(judged(&ca, &certificate.chain[..1], later), Err(PastError::AnotherCa));
}

#[test]
fn way_back_stays_open_through_a_rollover_until_the_old_root_is_dropped() {
    let stable = made();
    let begun = stable.begin(today()).expect("begun");
    let switched = begun.switch().expect("switched");
    let dropped = switched.drop_old().expect("dropped");
    let (older, newer) = (issued(&stable), issued(&switched));
    let later = older.not_after + DAY;
    for ca in [&begun, &switched] {
        assert!(judged(ca, &older.chain, later).is_ok());
    }
    assert_eq!(judged(&dropped, &older.chain, later), Err(PastError::AnotherCa));
    assert!(judged(&dropped, &newer.chain, later).is_ok());
}

#[test]
fn chain_of_no_or_too_many_or_wrong_certificates_is_refused() {
    let ca = made();
    let good = issued(&ca).chain;
    let judged = |chain: &[Vec<u8>]| verify_past(chain, ca.roots(), TRUST_DOMAIN, today(), GRACE);
    assert_eq!(judged(&[]), Err(PastError::Count(0)));
    let many = vec![good[0].to_vec(); limits::CHAIN_MAX + 1];
    assert_eq!(judged(&many), Err(PastError::Count(many.len())));
    assert_eq!(judged(&[b"no certificate".to_vec()]), Err(PastError::Unreadable(0)));
    let large = vec![0; limits::CERTIFICATE_MAX_BYTES + 1];
    assert_eq!(judged(&[good[0].to_vec(), large]), Err(PastError::Unreadable(1)));
}

#[test]
fn grace_is_told_in_days_or_seconds() {
    assert_eq!(days(GRACE), "90 days");
    assert_eq!(days(DAY), "1 day");
    assert_eq!(days(Duration::from_secs(5)), "5 seconds");
}
