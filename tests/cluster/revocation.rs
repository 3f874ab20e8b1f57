//! A remote is cut off: at once, on every replica, for good, and until it joins anew.

use std::time::Instant;

use serde_json::Value;
use support::pair::HubTrust;

use crate::mesh::{Mesh, Setup, run};

const PILOT: &[(&str, &str)] = &[("istio-pilot", "istio=pilot")];

/// F42.
#[test]
fn revoked_remote_is_cut_off_at_once_stays_so_and_may_join_anew() {
    run(async {
        let mut mesh = Mesh::joinable("revoked", 1, Setup::made()).await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.join(0).await;
        mesh.until_ready(0).await;
        mesh.command(&["revoke", "revoked-0", "--reason", "the cluster was sold"])
            .await;
        let started = Instant::now();
        mesh.until_sessions(0).await;
        println!("the session was gone {:?} after the command", started.elapsed());
        mesh.until_agent_logs(0, "certificate revoked").await;
        let condition = mesh.until_condition(0, "Connected", "False").await;
        assert_eq!(condition["reason"], "Revoked", "{condition}");
        assert!(
            condition["message"]
                .as_str()
                .is_some_and(|words| words.contains("the cluster was sold")),
            "{condition}"
        );
        let condition = mesh.until_condition(0, "CertificateValid", "False").await;
        assert_eq!(condition["reason"], "Revoked", "{condition}");
        mesh.until_event("Revoked", "RemoteIstio", "the cluster was sold").await;

        // Its next tries end in the handshake, also after a restart of the hub and of the agent.
        for _ in 0..2 {
            let before = mesh.hub_metric("handshakes_refused_total", &["revoked"]).await;
            mesh.remote_mut(0).kill_agent().await;
            mesh.launch_agent(0).await;
            mesh.until_hub_metric("handshakes_refused_total", &["revoked"], |now| now > before)
                .await;
            mesh.kill_hub().await;
            mesh.start_hub().await;
        }
        mesh.pod("pilot-b", "istio=pilot", "10.1.0.2").ready().await;
        let addresses = mesh.remote(0).addresses("istio-pilot").await;
        assert_eq!(
            addresses.into_iter().collect::<Vec<_>>(),
            ["10.1.0.1"],
            "what it had it keeps"
        );
        mesh.until_sessions(0).await;

        // A token that is made now is a person's word that it may come back.
        let invitation = mesh.invite(0).await;
        mesh.remote_mut(0).kill_agent().await;
        mesh.give(0, &invitation);
        mesh.start_agent(0).await;
        mesh.remote(0)
            .until_addresses("istio-pilot", &["10.1.0.1", "10.1.0.2"])
            .await;
        mesh.until_ready(0).await;
        mesh.until_condition(0, "CertificateValid", "True").await;
        let identity = mesh.identity("revoked-0").await.expect("bound");
        assert!(identity["spec"]["revoked"].is_null(), "{identity}");
    });
}

/// F42.
#[test]
fn revocation_reaches_every_replica() {
    run(async {
        let mut mesh = Mesh::joinable("everywhere", 2, Setup::made()).await;
        let (replica, _central_api) = mesh.prepare_replica(HubTrust::Made, None).await;
        mesh.replica(replica).start().expect("started");
        mesh.replica(replica).ready().await.expect("ready");
        mesh.join(0).await;
        mesh.join(1).await;
        mesh.until_sessions(2).await;
        // The second one goes on at the other replica.
        let other = mesh.replica(replica).sync_address();
        mesh.move_remote(1, other).await;
        mesh.until_replica_sessions(replica, 1.0).await;
        for index in 0..2 {
            let name = mesh.remote_name(index);
            mesh.command(&["revoke", &name]).await;
            mesh.until_agent_logs(index, "certificate revoked").await;
        }
        mesh.until_replica_sessions(replica, 0.0).await;
        mesh.until_sessions(0).await;
    });
}

#[test]
fn token_from_before_a_revocation_opens_nothing() {
    run(async {
        let mut mesh = Mesh::joinable("from-before", 1, Setup::made()).await;
        mesh.join(0).await;
        let early = mesh.invite(0).await;
        mesh.command(&["revoke", "from-before-0"]).await;
        mesh.until_token(&early, "Dead").await;
        mesh.remote_mut(0).kill_agent().await;
        mesh.give(0, &early);
        mesh.launch_agent(0).await;
        mesh.until_agent_logs(0, "the token is not accepted").await;
        let identity = mesh.identity("from-before-0").await.expect("bound");
        assert!(identity["spec"]["revoked"]["at"].is_string(), "{identity}");
    });
}

#[test]
fn names_that_nothing_is_known_of_are_not_revoked_by_a_slip() {
    run(async {
        let mesh = Mesh::joinable("slip", 0, Setup::made()).await;
        let words = mesh.refused_command(&["revoke", "slpi-0"]).await;
        assert!(words.contains("slpi-0"), "{words}");
        assert_eq!(mesh.central_objects("RemoteIdentity").await, Vec::<Value>::new());
    });
}

#[test]
fn remote_with_a_certificate_from_files_is_revoked_too() {
    run(async {
        let mesh = Mesh::start("files-revoked").await;
        mesh.enable(PILOT).await;
        mesh.until_ready(0).await;
        mesh.command(&["revoke", "files-revoked-0"]).await;
        mesh.until_sessions(0).await;
        mesh.until_agent_logs(0, "certificate revoked").await;
        mesh.until_condition(0, "Connected", "False").await;
    });
}
