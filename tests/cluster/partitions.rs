//! API servers and connections that fail, and what is missed meanwhile.

use support::proxy::Traffic;

use crate::mesh::{Clusters, Mesh, run};

const PILOT: &[(&str, &str)] = &[("istio-pilot", "istio=pilot")];

#[test]
fn expired_watches_and_relists_that_lost_objects_are_seen_through() {
    run(async {
        let clusters = Clusters::private("expired").await;
        let mesh = Mesh::on(&clusters, "expired").await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.pod("pilot-b", "istio=pilot", "10.1.0.2").ready().await;
        mesh.until_ready(0).await;
        let remote = mesh.remote(0);
        remote.until_quiet().await;

        // Both ends lose their API server; meanwhile objects go that no watch will ever tell of, for a restarted
        // API server keeps no events from before its start.
        mesh.central_api.set(Traffic::Refuse);
        remote.api.set(Traffic::Refuse);
        mesh.delete_pod("pilot-a").await;
        mesh.pod("pilot-c", "istio=pilot", "10.1.0.3").ready().await;
        remote.delete("Service", "istio-pilot").await;
        remote.delete("Endpoints", "istio-pilot").await;
        clusters.central().restart().await.expect("restarted");
        clusters.remote(0).restart().await.expect("restarted");
        mesh.pod("pilot-d", "istio=pilot", "10.1.0.4").ready().await;
        mesh.central_api.set(Traffic::Pass);
        remote.api.set(Traffic::Pass);

        mesh.until_hub_logs("watch expired, listing again").await;
        remote
            .until_addresses("istio-pilot", &["10.1.0.2", "10.1.0.3", "10.1.0.4"])
            .await;
        remote.until_object("Service", "istio-pilot", |_| true).await;
        remote.until_object("Endpoints", "istio-pilot", |_| true).await;
        mesh.until_ready(0).await;
    });
}

#[test]
fn remote_without_api_server_catches_up_with_the_last_state_only() {
    run(async {
        let mesh = Mesh::start("remote-down").await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-0", "istio=pilot", "10.1.0.100").ready().await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.until_ready(0).await;
        let remote = mesh.remote(0);
        let log = remote.record("istio-pilot").await;
        remote.api.set(Traffic::Refuse);
        mesh.delete_pod("pilot-a").await;
        for number in 2..=6 {
            mesh.pod(&format!("pilot-{number}"), "istio=pilot", &format!("10.1.0.{number}"))
                .ready()
                .await;
        }
        mesh.until_condition(0, "Ready", "False").await;
        assert_eq!(
            mesh.condition(0, "Connected").await["status"],
            "True",
            "the session stands"
        );
        remote.api.set(Traffic::Pass);
        let all = ["10.1.0.100", "10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6"];
        remote.until_addresses("istio-pilot", &all).await;
        mesh.until_ready(0).await;
        log.until(&all).await;
        assert!(
            log.history().iter().all(|set| set.contains("10.1.0.100")),
            "a pod that lived through it all was missing: {:?}",
            log.history()
        );
    });
}

#[test]
fn hub_without_api_server_keeps_every_remote_as_it_is_and_catches_up() {
    run(async {
        let mesh = Mesh::start("central-down").await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.pod("pilot-b", "istio=pilot", "10.1.0.2").ready().await;
        mesh.until_ready(0).await;
        let remote = mesh.remote(0);
        let log = remote.record("istio-pilot").await;
        mesh.central_api.set(Traffic::Refuse);
        mesh.delete_pod("pilot-a").await;
        mesh.pod("pilot-c", "istio=pilot", "10.1.0.3").ready().await;
        // The session stands and the agent heals meanwhile.
        remote.delete("Endpoints", "istio-pilot").await;
        remote.until_object("Endpoints", "istio-pilot", |_| true).await;
        mesh.central_api.set(Traffic::Pass);
        remote.until_addresses("istio-pilot", &["10.1.0.2", "10.1.0.3"]).await;
        mesh.until_ready(0).await;
        log.until(&["10.1.0.2", "10.1.0.3"]).await;
        assert!(
            log.history().iter().all(|set| set.contains("10.1.0.2")),
            "a pod that lived through it all was missing: {:?}",
            log.history()
        );
    });
}

#[test]
fn link_that_is_cut_again_and_again_loses_nothing() {
    run(async {
        let mesh = Mesh::start("link-cut").await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-0", "istio=pilot", "10.1.0.100").ready().await;
        mesh.until_ready(0).await;
        let remote = mesh.remote(0);
        for number in 1..=5 {
            mesh.pod(&format!("pilot-{number}"), "istio=pilot", &format!("10.1.0.{number}"))
                .ready()
                .await;
            remote.link.cut();
        }
        remote
            .until_addresses(
                "istio-pilot",
                &["10.1.0.1", "10.1.0.100", "10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5"],
            )
            .await;
        mesh.until_ready(0).await;
    });
}

#[test]
fn one_dead_remote_of_five_holds_back_none_of_the_others() {
    run(async {
        let clusters = Clusters::with_remotes("five", 5).await;
        let mesh = Mesh::on(&clusters, "five").await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-0", "istio=pilot", "10.1.0.100").ready().await;
        for index in 0..5 {
            mesh.until_ready(index).await;
        }
        let dead = mesh.remote(4);
        let log = dead.record("istio-pilot").await;
        dead.api.set(Traffic::Hold);
        let mut now = vec!["10.1.0.100".to_owned()];
        for number in 1..=5 {
            let ip = format!("10.1.0.{number}");
            mesh.pod(&format!("pilot-{number}"), "istio=pilot", &ip).ready().await;
            now.push(ip);
            let now: Vec<&str> = now.iter().map(String::as_str).collect();
            for index in 0..4 {
                mesh.remote(index).until_addresses("istio-pilot", &now).await;
            }
        }
        assert_eq!(log.sizes(), [1], "the dead one is still where it was");
        dead.api.set(Traffic::Pass);
        let now: Vec<&str> = now.iter().map(String::as_str).collect();
        dead.until_addresses("istio-pilot", &now).await;
        mesh.until_ready(4).await;

        // The same with a link that swallows everything.
        dead.link.set(Traffic::Hold);
        mesh.delete_pod("pilot-0").await;
        for index in 0..4 {
            mesh.remote(index).until_addresses("istio-pilot", &now[1..]).await;
        }
        dead.link.set(Traffic::Pass);
        dead.until_addresses("istio-pilot", &now[1..]).await;
    });
}
