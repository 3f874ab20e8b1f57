use std::time::SystemTime;

use rcgen::{BasicConstraints, IsCa};
use remote_istio::enrolment::Pin;

use super::super::problem::MeshCaProblem;
use super::super::signer::{Data, MeshSigner};
use super::super::test_authorities::{DAY, below, entries, params, plugged_in, root, self_signed};
use super::samples::{EC_CERTIFICATE, EC_KEY, RSA_CERTIFICATE, RSA_KEY};

fn read(data: &Data) -> Result<Option<MeshSigner>, MeshCaProblem> {
    MeshSigner::read(data, SystemTime::now())
}

fn good(data: &Data) -> MeshSigner {
    read(data).expect("it can sign").expect("it is not empty")
}

fn refused(data: &Data) -> MeshCaProblem {
    read(data).expect_err("it cannot sign")
}

#[test]
fn ca_that_citadel_made_is_its_own_root() {
    let ca = root("mesh");
    let signer = good(&self_signed(&ca));
    assert_eq!(Some(signer.pin), Pin::of_certificate(ca.der()));
    assert_eq!((signer.path.below.len(), signer.roots), (0, vec![ca.der().clone()]));
}

#[test]
fn intermediate_that_was_plugged_in_keeps_its_chain_whatever_its_order_and_the_root_is_not_in_it() {
    let root = root("root");
    let upper = below(params("upper"), &root);
    let lower = below(params("lower"), &upper);
    let chain = [root.pem(), upper.pem(), lower.pem()].concat();
    let signer = good(&plugged_in(&lower, &chain, &root.pem()));
    assert_eq!(signer.path.below, [lower.der().clone(), upper.der().clone()]);
    assert_eq!(signer.path.root, *root.der());
}

#[test]
fn root_that_vouches_for_the_signer_comes_first_of_several() {
    let (other, own) = (root("other"), root("own"));
    let ca = below(params("ca"), &own);
    let both = [other.pem(), own.pem()].concat();
    let signer = good(&plugged_in(&ca, &ca.pem(), &both));
    assert_eq!(signer.roots, [own.der().clone(), other.der().clone()]);
}

#[test]
fn keys_are_read_as_istio_and_openssl_write_them() {
    for (certificate, key) in [(RSA_CERTIFICATE, RSA_KEY), (EC_CERTIFICATE, EC_KEY)] {
        good(&entries(&[("ca-cert.pem", certificate), ("ca-key.pem", key)]));
    }
}

#[test]
fn ca_with_path_length_0_cannot_sign_and_the_remedy_is_said() {
    let root = root("root");
    let mut leaf_only = params("workloads only");
    leaf_only.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let ca = below(leaf_only, &root);
    let problem = refused(&plugged_in(&ca, &ca.pem(), &root.pem()));
    let expected = MeshCaProblem::PathLength {
        subject: "CN=workloads only".to_owned(),
        length: 0,
        needed: 1,
    };
    assert_eq!(problem, expected);
    let text = problem.to_string();
    assert!(
        text.contains("path length 1 or more") && text.contains("--mesh-ca-secret"),
        "{text}"
    );

    let mut enough = params("one below");
    enough.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    let ca = below(enough, &root);
    good(&plugged_in(&ca, &ca.pem(), &root.pem()));
}

#[test]
fn path_length_of_a_root_counts_too() {
    let mut short = params("short");
    short.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    let root = rcgen::CertifiedIssuer::self_signed(short, super::super::test_authorities::key()).expect("a CA");
    let ca = below(params("ca"), &root);
    let problem = refused(&plugged_in(&ca, &ca.pem(), &root.pem()));
    assert!(
        matches!(
            problem,
            MeshCaProblem::PathLength {
                length: 1,
                needed: 2,
                ..
            }
        ),
        "{problem}"
    );
}

#[test]
fn half_of_an_update_is_refused_entry_by_entry() {
    let (root, other) = (root("root"), root("other"));
    let ca = below(params("ca"), &root);
    let whole = plugged_in(&ca, &ca.pem(), &root.pem());
    for entry in ["ca-cert.pem", "ca-key.pem", "root-cert.pem"] {
        let mut half = whole.clone();
        half.remove(entry);
        assert!(
            matches!(refused(&half), MeshCaProblem::Missing(missing) if missing == entry),
            "{entry}"
        );
    }
    let mut mixed = whole.clone();
    mixed.extend(entries(&[("ca-key.pem", &other.key().serialize_pem())]));
    assert_eq!(refused(&mixed), MeshCaProblem::KeyOfAnotherCertificate);
    let mut mixed = whole.clone();
    mixed.extend(entries(&[("root-cert.pem", &other.pem())]));
    assert!(matches!(refused(&mixed), MeshCaProblem::NotBelowRoots(_)));
    let mut damaged = whole;
    damaged.extend(entries(&[("cert-chain.pem", "x")]));
    assert!(matches!(
        refused(&damaged),
        MeshCaProblem::Unreadable("cert-chain.pem", _)
    ));
}

#[test]
fn secret_without_any_entry_of_a_ca_is_none() {
    assert!(
        read(&entries(&[("other", "x"), ("ca-cert.pem", " \n")]))
            .expect("no error")
            .is_none()
    );
}

#[test]
fn chain_with_a_gap_names_what_is_missing() {
    let root = root("root");
    let upper = below(params("upper"), &root);
    let lower = below(params("lower"), &upper);
    let problem = refused(&plugged_in(&lower, &lower.pem(), &root.pem())).to_string();
    assert!(
        problem.contains("CN=upper") && problem.contains("cert-chain.pem"),
        "{problem}"
    );
}

#[test]
fn time_of_each_above_counts_and_the_nearest_end_is_that_of_the_signer() {
    let now = SystemTime::now();
    let mut short = params("short");
    short.not_after = (now + 30 * DAY).into();
    let root = rcgen::CertifiedIssuer::self_signed(short, super::super::test_authorities::key()).expect("a CA");
    let ca = below(params("ca"), &root);
    let data = plugged_in(&ca, &ca.pem(), &root.pem());
    let signer = good(&data);
    let left = signer.not_after.duration_since(now).expect("later");
    assert!(left <= 30 * DAY && left > 29 * DAY, "{left:?}");
    let later = MeshSigner::read(&data, now + 31 * DAY);
    assert!(matches!(later, Err(MeshCaProblem::Ended { subject, .. }) if subject == "CN=short"));
    let earlier = MeshSigner::read(&data, now - 2 * DAY);
    assert!(matches!(earlier, Err(MeshCaProblem::NotYetValid { .. })));
}

#[test]
fn certificate_of_no_ca_cannot_sign() {
    let root = root("root");
    let mut leaf = params("leaf");
    leaf.is_ca = IsCa::ExplicitNoCa;
    let leaf = below(leaf, &root);
    let problem = refused(&plugged_in(&leaf, &leaf.pem(), &root.pem()));
    assert_eq!(problem, MeshCaProblem::NotACa("CN=leaf".to_owned()));
}

#[test]
fn nothing_printed_of_a_signer_holds_its_key() {
    let ca = root("mesh");
    let printed = format!("{:?}", good(&self_signed(&ca)));
    assert_eq!(
        printed,
        format!(
            "MeshSigner {{ pin: {}, .. }}",
            Pin::of_certificate(ca.der()).expect("a pin")
        )
    );
}
