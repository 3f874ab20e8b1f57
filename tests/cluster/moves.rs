//! The hub is found wherever it goes: trust and addresses travel in the stream and are kept.

use support::eventually::{eventually, seen};
use support::proxy::Traffic;
use support::tunnel::Tunnel;

use crate::mesh::{Etcd, Mesh, Setup, run};
use support::etcd::Etcd as EtcdProcess;
use support::{Cluster, ClusterOptions};

const PILOT: &[(&str, &str)] = &[("istio-pilot", "istio=pilot")];

#[test]
fn hub_that_moved_to_another_address_is_found_also_by_an_agent_that_was_restarted() {
    run(async {
        let mut mesh = Mesh::joinable("moved", 2, Setup::made()).await;
        mesh.enable(PILOT).await;
        mesh.join(0).await;
        mesh.join(1).await;
        let (old_sync, old_enrolment) = (mesh.ways().sync.address(), mesh.ways().enrolment.address());
        // It announces its next address beside the present one.
        let next_sync = support::ports::free().expect("a port");
        mesh.kill_hub().await;
        mesh.hub_mut().publish(&[old_sync, next_sync], &[old_enrolment]);
        mesh.start_hub().await;
        for index in 0..2 {
            eventually("the agent keeps both", || async {
                let kept = mesh.remote(index).kept().await;
                let link = String::from_utf8_lossy(&kept["link.json"]).into_owned();
                seen(link.contains(&next_sync.to_string()), link)
            })
            .await;
        }
        // Then it is there and only there.
        mesh.remote_mut(1).kill_agent().await;
        mesh.kill_hub().await;
        mesh.ways().sync.set(Traffic::Refuse);
        mesh.hub_mut().publish(&[next_sync], &[old_enrolment]);
        mesh.hub_mut()
            .command_mut()
            .set_flag("sync-address", [next_sync.to_string()]);
        mesh.start_hub().await;
        mesh.start_agent(1).await;
        mesh.until_sessions(2).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        for index in 0..2 {
            mesh.remote(index).until_addresses("istio-pilot", &["10.1.0.1"]).await;
        }
    });
}

#[test]
fn remote_behind_a_proxy_joins_and_is_synced_through_it() {
    run(async {
        let mut mesh = Mesh::joinable_without_hub("tunnelled", 1, Setup::made()).await;
        // Names that only the proxy can resolve.
        let (sync, enrolment) = ("sync.hub.test:8444", "enrolment.hub.test:8443");
        let line = mesh.hub_mut().command_mut();
        line.set_flag("public-sync", [sync]);
        line.set_flag("public-enrolment", [enrolment]);
        mesh.start_hub().await;
        let (sync_at, enrolment_at) = (mesh.hub_address(), mesh.enrolment_address());
        let tunnel = Tunnel::start(move |authority| match authority {
            "sync.hub.test:8444" => Some(sync_at),
            "enrolment.hub.test:8443" => Some(enrolment_at),
            _ => None,
        })
        .await
        .expect("a proxy");
        let line = mesh.remote_mut(0).agent_mut().command_mut();
        line.set_variable("HTTPS_PROXY", tunnel.url());
        line.set_variable("NO_PROXY", "127.0.0.0/8");
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.join(0).await;
        mesh.remote(0).until_addresses("istio-pilot", &["10.1.0.1"]).await;
        let asked = tunnel.asked();
        for authority in [sync, enrolment] {
            assert!(asked.iter().any(|asked| asked == authority), "{authority}: {asked:?}");
        }
        assert!(
            asked
                .iter()
                .all(|asked| asked.ends_with(".hub.test:8444") || asked.ends_with(".hub.test:8443"))
        );
    });
}

#[test]
fn remote_whose_store_is_full_asks_for_nothing_until_it_can_keep_its_key() {
    run(async {
        // A remote with a store of its own, which the test fills.
        let etcd = EtcdProcess::start().await.expect("etcd");
        let remote = Cluster::start(ClusterOptions::named("full-remote").on(&etcd)).await;
        let remote = remote.expect("a cluster");
        let mut mesh = Mesh::joinable("full", 0, Setup::made()).await;
        let index = mesh.add_remote(&remote, "full-0").await;
        let invitation = mesh.invite_as("full-0", &[]).await;
        mesh.give_without_token(index, &invitation);
        mesh.launch_agent(index).await;
        // It waits for the token: everything else that it writes at its start is written.
        let file = mesh.token_file(index).display().to_string();
        mesh.until_agent_logs(index, &file).await;
        Etcd(etcd.address()).set_full(true).await.expect("etcd");
        mesh.give(index, &invitation);
        mesh.until_agent_logs(index, "database space exceeded").await;
        assert!(
            mesh.hub_metric("joins_total", &[]).await.abs() < 0.5,
            "no request was sent"
        );
        let token = mesh.token(&invitation).await;
        assert_eq!(token["status"]["state"].as_str().unwrap_or("Unused"), "Unused");
        Etcd(etcd.address()).set_full(false).await.expect("etcd");
        mesh.remote(index).until_certificate().await;
        mesh.until_sessions(1).await;
        mesh.remote_mut(index).kill_agent().await;
    });
}
