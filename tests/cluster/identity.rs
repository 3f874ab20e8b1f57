//! Who may speak as a remote, and which of two that say they are one.

use remote_istio::wire::v1::hub_frame;
use serde_json::json;
use support::ca::{Authority, Leaf};
use support::eventually::{eventually, seen};
use support::peer::hello;

use crate::grpcurl;
use crate::mesh::{Mesh, run};
use crate::raw_client;

const PILOT: &[(&str, &str)] = &[("istio-pilot", "istio=pilot")];

#[test]
fn certificates_that_do_not_fit_are_refused_told_and_counted_by_reason() {
    run(async {
        let mesh = Mesh::without_agents("certificates").await;
        let other = Authority::new("another CA").expect("a CA");
        let good = || Leaf::remote("certificates-0");
        let wrong = [
            ("unknown_ca", &other, good(), "UnknownCA|DecryptError"),
            (
                "no_identity",
                mesh.authority(),
                good().without_uri(),
                "CertificateUnknown",
            ),
            (
                "several_identities",
                mesh.authority(),
                good().and_uri("spiffe://remote-istio.local/remote/b"),
                "CertificateUnknown",
            ),
            (
                "foreign_trust_domain",
                mesh.authority(),
                Leaf::foreign("certificates-0"),
                "CertificateUnknown",
            ),
            ("expired", mesh.authority(), good().expired(), "CertificateExpired"),
        ];
        for (reason, authority, leaf, alerts) in wrong {
            let before = mesh.hub_metric("handshakes_refused_total", &[reason]).await;
            let pair = authority.issue(&leaf).expect("a certificate");
            let heard = raw_client::refusal(mesh.hub_address(), &mesh.authority().bundle(), &pair).await;
            assert!(
                alerts.split('|').any(|alert| heard.contains(alert)),
                "{reason}: the client heard {heard}"
            );
            eventually("the refusal is counted", || async {
                let now = mesh.hub_metric("handshakes_refused_total", &[reason]).await;
                seen(now - before >= 1.0, now)
            })
            .await;
        }
        // None of them has hurt anybody.
        let mut agent = mesh
            .scripted_agent("certificates-0", hello("good", 1))
            .await
            .expect("a good one is let in");
        agent.welcome().await.expect("welcomed");
    });
}

#[test]
fn refused_agent_says_in_words_why() {
    run(async {
        let mut mesh = Mesh::without_agents("refused").await;
        let other = Authority::new("another CA").expect("a CA");
        mesh.launch_agent_with(0, &other, &Leaf::remote("refused-0")).await;
        mesh.until_agent_logs(0, "does not trust the CA that signed this agent's certificate")
            .await;
        mesh.remote_mut(0).kill_agent().await;

        for (leaf, words) in [
            (Leaf::remote("refused-0").without_uri(), "URI"),
            (
                Leaf::remote("refused-0").and_uri("spiffe://remote-istio.local/remote/b"),
                "2 URIs",
            ),
            (Leaf::foreign("refused-0"), "trust domain"),
            (Leaf::remote("refused-0").expired(), "expired"),
            (Leaf::hub(), "remote"),
        ] {
            let authority = Authority::new("its own CA").expect("a CA");
            mesh.launch_agent_with(0, &authority, &leaf).await;
            assert_eq!(mesh.remote_mut(0).agent_exit().await, 64, "{leaf:?}");
            mesh.until_agent_logs(0, words).await;
        }
    });
}

#[test]
fn name_without_a_resource_waits_unclaimed_and_is_served_once_there_is_one() {
    run(async {
        let mesh = Mesh::start("unclaimed").await;
        mesh.until_agent_logs(0, "create RemoteIstio").await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        let mut stranger = mesh
            .scripted_agent("stranger", hello("stranger", 1))
            .await
            .expect("a session");
        let claim = stranger.welcome().await.expect("welcomed").claim.unwrap_or_default();
        assert!(!claim.claimed);
        assert!(claim.message.contains("stranger"), "it says what to create: {claim:?}");

        mesh.enable(PILOT).await;
        mesh.remote(0).until_addresses("istio-pilot", &["10.1.0.1"]).await;
        mesh.until_ready(0).await;
        mesh.create_remote_istio_named("stranger", PILOT).await;
        let next = stranger.next().await.expect("a claim");
        assert!(
            matches!(&next, hub_frame::Frame::Claim(claim) if claim.claimed),
            "{next:?}"
        );
    });
}

#[test]
fn second_session_of_a_remote_replaces_the_first_only_when_it_is_newer() {
    run(async {
        let mesh = Mesh::without_agents("second").await;
        let open = async |boot: &str, epoch: u64, connection: u64| {
            let mut hello = hello(boot, epoch);
            hello.connection = connection;
            let mut agent = mesh
                .scripted_agent("second-0", hello)
                .await
                .map_err(|error| format!("{error:#}"))?;
            match agent.welcome().await {
                Ok(_) => Ok(agent),
                Err(error) => Err(format!("{error:#}")),
            }
        };
        let mut first = open("process-1", 5, 1).await.expect("the first");
        // The same process dialled again: its old connection is dead, whether it knows or not.
        let mut again = open("process-1", 5, 2).await.expect("the newer connection");
        let reason = first.ended().await.expect("superseded");
        assert_ne!(reason.message(), "");
        // An older process than the one that is connected.
        let refused = open("process-0", 4, 9).await.expect_err("an older start");
        assert!(refused.contains("newer"), "{refused}");
        // A copy of the certificate in another cluster, with the same counter.
        let refused = open("clone", 5, 1).await.expect_err("a twin");
        assert!(!refused.is_empty());
        // The next process.
        open("process-2", 6, 1).await.expect("a newer start");
        again.ended().await.expect("superseded");
    });
}

#[test]
fn half_written_certificate_keeps_the_old_one_and_a_whole_one_is_taken() {
    run(async {
        let mesh = Mesh::without_agents("half-written").await;
        let fresh = mesh.authority().issue(&Leaf::hub()).expect("a certificate");
        let before = raw_client::certificate(mesh.hub_address(), &mesh.authority().bundle()).await;
        let refused = mesh.hub_metric("tls_reloads_refused_total", &[]).await;
        std::fs::write(&mesh.hub_files().certificate, &fresh.certificate).expect("written");
        eventually("the pair that does not fit was looked at", || async {
            let now = mesh.hub_metric("tls_reloads_refused_total", &[]).await;
            seen(now > refused, now)
        })
        .await;
        let half = raw_client::certificate(mesh.hub_address(), &mesh.authority().bundle()).await;
        assert_eq!(half, before, "the old pair still serves");
        std::fs::write(&mesh.hub_files().key, &fresh.key).expect("written");
        eventually("the new pair serves", || async {
            let now = raw_client::certificate(mesh.hub_address(), &mesh.authority().bundle()).await;
            seen(now != before, now)
        })
        .await;
    });
}

#[test]
fn grpcurl_with_a_remotes_certificate_gets_a_welcome_and_state() {
    run(async {
        let mut mesh = Mesh::start("grpcurl").await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.until_ready(0).await;
        mesh.remote_mut(0).kill_agent().await;
        let hello = json!({"hello": {"protocolMin": 1, "protocolMax": 1}});
        let said = grpcurl::session(mesh.hub_address(), mesh.remote_files(0), &hello, |said| {
            said.contains("\"welcome\"") && said.contains("10.1.0.1")
        })
        .await;
        assert!(said.contains("endpoints/grpcurl/istio-pilot"), "{said}");
        assert!(said.contains("\"claimed\": true"), "{said}");
    });
}
