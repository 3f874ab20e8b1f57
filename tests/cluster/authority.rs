//! The link CA: made once whoever starts, brought by others, lost, damaged, and never made a second time by mistake.

use std::collections::BTreeMap;

use futures::future::join_all;
use support::ca::{Authority, Leaf};
use support::eventually::{eventually, seen};
use support::pair::HubTrust;
use support::peer::{Joiner, issued};

use crate::mesh::{CA_SECRET, Mesh, Setup, run};
use crate::x509::Facts;

const PILOT: &[(&str, &str)] = &[("istio-pilot", "istio=pilot")];

#[test]
fn replicas_that_start_at_once_on_an_empty_secret_agree_on_one_ca() {
    run(async {
        let mut mesh = Mesh::joinable_without_hub("agree", 0, Setup::made()).await;
        let mut ways = Vec::new();
        for _ in 0..2 {
            ways.push(mesh.prepare_replica(HubTrust::Made, None).await.1);
        }
        assert_eq!(mesh.ca_secret().await, Some(BTreeMap::new()), "it is empty");
        mesh.launch_hub();
        for index in 0..2 {
            mesh.replica(index).start().expect("started");
        }
        mesh.hub().ready().await.expect("ready");
        for index in 0..2 {
            mesh.replica(index).ready().await.expect("ready");
        }
        let kept = mesh.ca_secret().await.expect("there");
        for key in ["tls.crt", "tls.key", "ca.crt"] {
            assert!(kept.contains_key(key), "{key} of {:?}", kept.keys());
        }
        // Each of the three issues under the same CA.
        let invitations = join_all((0..3).map(|number| {
            let mesh = &mesh;
            async move { mesh.invite_as(&format!("agree-{number}"), &[]).await }
        }))
        .await;
        assert_eq!(invitations[0].pins.len(), 1);
        let hubs = [
            mesh.enrolment_address(),
            mesh.replica(0).enrolment_address(),
            mesh.replica(1).enrolment_address(),
        ];
        let mut roots = Vec::new();
        for (invitation, hub) in invitations.iter().zip(hubs) {
            assert_eq!(invitation.pins, invitations[0].pins);
            let answer = Joiner::new("cluster")
                .join(hub, &invitation.pins, &invitation.token)
                .await;
            let answer = answer.expect("joined");
            let issued = issued(&answer).expect("a certificate");
            roots.push(issued.trust.clone().expect("a trust").roots);
        }
        roots.dedup();
        assert_eq!(roots.len(), 1, "they hand out the same root");
    });
}

#[test]
fn ca_that_is_brought_signs_also_as_an_intermediate() {
    run(async {
        let mut mesh = Mesh::joinable_without_hub("brought", 1, Setup::brought()).await;
        mesh.start_hub().await;
        let pin = mesh.authority().pin();
        let invitation = mesh.join(0).await;
        assert_eq!(invitation.pins, [pin]);
        let certificate = mesh.remote(0).until_certificate().await;
        mesh.remote_mut(0).kill_agent().await;
        mesh.kill_hub().await;

        // Its owner puts an intermediate in its place.
        let below = mesh.authority().intermediate("signs today").expect("a CA");
        let root = mesh.authority().bundle();
        mesh.bring(&format!("{}{root}", below.bundle()), &below.key(), &root)
            .await;
        mesh.start_hub().await;
        mesh.start_agent(0).await;
        let renewed = mesh.remote(0).until_another_certificate(&certificate).await;
        assert!(
            renewed.contains(below.bundle().trim()),
            "the chain leads to the root: {renewed}"
        );
        mesh.until_sessions(1).await;
        let kept = mesh.ca_secret().await.expect("there");
        assert_eq!(
            kept.keys().collect::<Vec<_>>(),
            ["ca.crt", "tls.crt", "tls.key"],
            "it is not ours to write"
        );
    });
}

#[test]
fn hub_without_its_secret_ends_with_64_and_says_what_to_apply() {
    run(async {
        let mut mesh = Mesh::joinable_without_hub("no-secret", 0, Setup::made()).await;
        mesh.delete_ca_secret().await;
        mesh.launch_hub();
        assert_eq!(mesh.hub_mut().wait().await.expect("it ends"), 64);
        let log = mesh.hub_log();
        assert!(
            log.contains(&format!("no-secret/{CA_SECRET}")) && log.contains("apply the roles"),
            "{log}"
        );
    });
}

#[test]
fn brought_ca_that_cannot_sign_ends_the_hub_with_64_and_names_the_entry() {
    run(async {
        let mut mesh = Mesh::joinable_without_hub("damaged", 0, Setup::brought()).await;
        let root = mesh.authority().bundle();
        let key = mesh.authority().key();
        let other = Authority::new("another").expect("a CA");
        let leaf = mesh.authority().issue(&Leaf::hub()).expect("a leaf");
        for (chain, key, roots, named) in [
            (&root, &other.key(), &root, "tls.key"),
            (&root, &key, &other.bundle(), "ca.crt"),
            (&"no PEM".to_owned(), &key, &root, "tls.crt"),
            (&leaf.certificate, &leaf.key, &root, "tls.crt"),
        ] {
            mesh.bring(chain, key, roots).await;
            mesh.launch_hub();
            let code = mesh.hub_mut().wait().await.expect("it ends");
            let log = mesh.hub_log();
            assert_eq!(code, 64, "{named}: {log}");
            assert!(
                log.lines().last().is_some_and(|line| line.contains(named)),
                "{named}: {log}"
            );
        }
    });
}

#[test]
fn secret_deleted_under_a_running_hub_stays_away_and_the_hub_goes_on_and_says_so() {
    run(async {
        let mut mesh = Mesh::joinable("deleted", 2, Setup::made().living("12s")).await;
        mesh.enable(PILOT).await;
        mesh.join(0).await;
        let backup = mesh.ca_secret().await.expect("there");
        mesh.delete_ca_secret().await;
        mesh.until_hub_logs(CA_SECRET).await;
        // It goes on to renew, its own certificate and others', and to let remotes join.
        let certificate = mesh.remote(0).until_certificate().await;
        let renewed = mesh.remote(0).until_another_certificate(&certificate).await;
        mesh.remote(0).until_another_certificate(&renewed).await;
        mesh.join(1).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        for index in 0..2 {
            mesh.remote(index).until_addresses("istio-pilot", &["10.1.0.1"]).await;
        }
        assert_eq!(mesh.ca_secret().await, None, "no other was made");
        let warnings = mesh.whole_hub_log();
        let warned = warnings
            .lines()
            .filter(|line| line.contains("WARN") && line.contains(CA_SECRET));
        assert_eq!(warned.count(), 1, "it is said once");

        // A restart does not make another one either.
        mesh.kill_hub().await;
        mesh.launch_hub();
        assert_eq!(mesh.hub_mut().wait().await.expect("it ends"), 64);
        mesh.restore_ca_secret(&BTreeMap::new()).await;
        mesh.launch_hub();
        assert_eq!(mesh.hub_mut().wait().await.expect("it ends"), 64);
        let log = mesh.hub_log();
        assert!(log.contains("the link CA was lost"), "{log}");
        assert_eq!(mesh.ca_secret().await, Some(BTreeMap::new()), "it is still empty");

        // Its backup is all that it takes.
        mesh.restore_ca_secret(&backup).await;
        mesh.start_hub().await;
        mesh.until_sessions(2).await;
    });
}

/// F44.
#[test]
fn secret_that_is_updated_half_keeps_the_old_ca_until_the_rest_is_there() {
    run(async {
        let mut mesh = Mesh::joinable("half", 1, Setup::brought()).await;
        mesh.join(0).await;
        let next = Authority::new("the next one").expect("a CA");
        let both = format!("{}{}", next.bundle(), mesh.authority().bundle());
        let entry = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), Some(value.as_bytes().to_vec()))]);
        mesh.write_ca_secret(entry("ca.crt", &both)).await;
        mesh.write_ca_secret(entry("tls.crt", &next.bundle())).await;
        mesh.until_hub_logs("tls.key").await;
        // It signs with the old one.
        let invitation = mesh.invite_as("half-other", &[]).await;
        let old = vec![mesh.authority().pin()];
        let answer = Joiner::new("cluster")
            .join(mesh.enrolment_address(), &old, &invitation.token)
            .await;
        let answer = answer.expect("joined");
        let chain = &issued(&answer).expect("a certificate").chain;
        assert_eq!(
            Facts::of_der(&chain[0]).names,
            ["spiffe://remote-istio.local/remote/half-other"]
        );

        let certificate = mesh.remote(0).until_certificate().await;
        mesh.write_ca_secret(entry("tls.key", &next.key())).await;
        eventually("tokens pin the new CA", || async {
            let invitation = mesh.invite_as("half-next", &[]).await;
            seen(invitation.pins.contains(&next.pin()), invitation.pins)
        })
        .await;
        mesh.remote(0).until_another_certificate(&certificate).await;
        mesh.until_sessions(1).await;
        let broken = mesh.sessions_ended_otherwise().await;
        assert!(
            broken.abs() < 0.5,
            "{broken} sessions ended for another reason than a renewal"
        );
    });
}

#[test]
fn certificate_of_the_hub_serves_and_dials_for_the_names_it_is_known_by() {
    run(async {
        let mesh = Mesh::joinable("names", 0, Setup::made()).await;
        let invitation = mesh.invite_as("names-0", &[]).await;
        let link = support::peer::dial(mesh.enrolment_address(), &invitation.pins, None).await;
        let link = link.expect("the hub is there");
        let secret = mesh.ca_secret().await.expect("there");
        let ca = String::from_utf8_lossy(&secret["ca.crt"]).into_owned();
        let shown = crate::raw_client::certificate_for("127.0.0.1", mesh.hub_address(), &ca).await;
        let facts = Facts::of_der(&shown);
        let mut names = facts.names.clone();
        names.sort();
        let mut wanted = vec![
            "[127, 0, 0, 1]".to_owned(),
            "remote-istio-hub".to_owned(),
            "remote-istio-hub.names".to_owned(),
            "remote-istio-hub.names.svc".to_owned(),
            "spiffe://remote-istio.local/hub".to_owned(),
        ];
        wanted.sort();
        assert_eq!(names, wanted);
        assert_eq!(facts.usages, ["client", "server"]);
        assert!(!facts.is_ca);
        assert_eq!(format!("{:?}", link.peer.identity), "Hub");
    });
}
