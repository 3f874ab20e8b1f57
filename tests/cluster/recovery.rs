//! A remote whose certificate ended while it was away comes back by proving its old key.

use std::time::{Duration, SystemTime};

use remote_istio::wire::v1;
use serde_json::json;
use support::ca::{Leaf, Pair};
use support::eventually::{eventually, seen};
use support::peer::Joiner;
use tonic::{Code, Status};

use crate::mesh::{Mesh, Setup, run};
use crate::x509::Facts;

const PILOT: &[(&str, &str)] = &[("istio-pilot", "istio=pilot")];

/// Waits until a certificate has ended.
async fn ended(certificate: &str) {
    let end = Facts::of(certificate).not_after;
    eventually("the certificate has ended", || {
        let left = end.duration_since(SystemTime::now()).unwrap_or_default();
        std::future::ready(seen(left.is_zero(), left))
    })
    .await;
}

/// F40.
#[test]
fn remote_that_was_off_past_its_certificates_end_recovers_without_a_token() {
    run(async {
        let mut mesh = Mesh::joinable("was-off", 1, Setup::made().living("10s")).await;
        mesh.enable(PILOT).await;
        let invitation = mesh.join(0).await;
        mesh.until_ready(0).await;
        mesh.remote_mut(0).kill_agent().await;
        let certificate = mesh.remote(0).until_certificate().await;
        let bound = mesh.identity("was-off-0").await.expect("bound");
        ended(&certificate).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.start_agent(0).await;
        mesh.remote(0).until_addresses("istio-pilot", &["10.1.0.1"]).await;
        let recovered = mesh.remote(0).until_certificate().await;
        assert_ne!(Facts::of(&recovered).serial, Facts::of(&certificate).serial);
        let now = mesh.identity("was-off-0").await.expect("bound");
        assert_eq!(now["spec"], bound["spec"], "it joined no second time");
        assert_eq!(mesh.token(&invitation).await["status"]["state"], "Used");
        mesh.until_hub_metric("recoveries_total", &[], |count| count >= 1.0)
            .await;
    });
}

/// F40.
#[test]
fn remote_that_was_away_for_too_long_needs_a_token_and_says_so() {
    run(async {
        let mut mesh = Mesh::joinable_without_hub("too-long", 1, Setup::made().living("5s")).await;
        mesh.hub_mut().command_mut().set_flag("recovery-period", ["1s"]);
        mesh.start_hub().await;
        mesh.join(0).await;
        mesh.remote_mut(0).kill_agent().await;
        let certificate = mesh.remote(0).until_certificate().await;
        let end = Facts::of(&certificate).not_after + Duration::from_secs(2);
        eventually("the time to recover is over", || {
            let left = end.duration_since(SystemTime::now()).unwrap_or_default();
            std::future::ready(seen(left.is_zero(), left))
        })
        .await;
        mesh.launch_agent(0).await;
        mesh.until_agent_logs(0, "join anew with a token").await;
        mesh.until_sessions(0).await;
        let invitation = mesh.invite(0).await;
        mesh.remote_mut(0).kill_agent().await;
        mesh.give(0, &invitation);
        mesh.start_agent(0).await;
    });
}

#[test]
fn revoked_remote_does_not_recover() {
    run(async {
        let mut mesh = Mesh::joinable("no-recovery", 1, Setup::made().living("8s")).await;
        mesh.join(0).await;
        mesh.remote_mut(0).kill_agent().await;
        let certificate = mesh.remote(0).until_certificate().await;
        mesh.command(&["revoke", "no-recovery-0"]).await;
        ended(&certificate).await;
        mesh.launch_agent(0).await;
        mesh.until_agent_logs(0, "certificate revoked").await;
        mesh.until_sessions(0).await;
    });
}

/// One that is signed by the brought CA, and that ended an hour ago.
fn past(mesh: &Mesh<'_>, name: &str) -> Pair {
    let hour = Duration::from_hours(1);
    let leaf = Leaf::remote(name)
        .from(SystemTime::now() - hour * 2)
        .until(SystemTime::now() - hour);
    mesh.authority().issue(&leaf).expect("a certificate")
}

/// The answer to a recovery; one a second is let through for each remote, and a test is faster.
async fn answer(mesh: &Mesh<'_>, joiner: &Joiner, ended: &Pair) -> Result<v1::Issued, Status> {
    let pins = vec![mesh.authority().pin()];
    eventually("the hub has time for this remote", || async {
        match joiner.recover(mesh.enrolment_address(), &pins, ended).await {
            Err(status) if matches!(status.code(), Code::Unavailable | Code::ResourceExhausted) => Err(status),
            answer => Ok(answer),
        }
    })
    .await
}

#[test]
fn recovery_takes_the_key_the_cluster_and_the_connection() {
    run(async {
        let mut mesh = Mesh::joinable("proofs", 1, Setup::brought()).await;
        mesh.join(0).await;
        let uid = mesh.remote(0).cluster_uid().await;
        // The binding goes back to before the certificates that this test signs.
        let bound_since = async |when: &str| {
            let fields = json!({"spec": {"notBefore": when}});
            mesh.central_merge("RemoteIdentity", "proofs-0", &fields).await;
        };
        bound_since("2020-01-01T00:00:00Z").await;
        let good = past(&mesh, "proofs-0");
        let (mine, foreign) = (Joiner::new(&uid), Joiner::new("another-cluster"));
        answer(&mesh, &foreign, &good).await.expect_err("another cluster");
        let mut stolen = good.clone();
        stolen.key = Joiner::new("a thief").key();
        answer(&mesh, &mine, &stolen).await.expect_err("another key");
        answer(&mesh, &mine, &past(&mesh, "proofs-9"))
            .await
            .expect_err("no such remote");
        let issued = answer(&mesh, &mine, &good).await.expect("the right one recovers");
        assert_eq!(
            Facts::of_der(&issued.chain[0]).names,
            ["spiffe://remote-istio.local/remote/proofs-0"]
        );
        // After a new join the old certificates are worth nothing.
        bound_since("2100-01-01T00:00:00Z").await;
        mesh.until_agent_logs(0, "certificate revoked").await;
        answer(&mesh, &mine, &good).await.expect_err("it joined anew since");
    });
}
