//! Two agents with one identity: a copy is told from a restart and from a rolling update.

use support::eventually::{eventually, seen};

use crate::mesh::{Mesh, Setup, run};

const PILOT: &[(&str, &str)] = &[("istio-pilot", "istio=pilot")];

/// Whether the conflict was ever said.
async fn alarmed(mesh: &Mesh<'_>) -> bool {
    let condition = mesh.condition(0, "IdentityConflict").await;
    condition["status"] == "True" || !mesh.events("IdentityConflict").await.is_empty()
}

/// F32.
#[test]
fn copy_in_another_cluster_is_refused_and_both_are_named() {
    run(async {
        let mut mesh = Mesh::joinable("copied", 1, Setup::made()).await;
        mesh.enable(PILOT).await;
        mesh.join(0).await;
        mesh.until_ready(0).await;
        let twin = mesh.prepare_twin(0, 1, "copied").await;
        mesh.remote(twin).keep(mesh.remote(0).kept().await).await;
        mesh.launch_agent(twin).await;
        let condition = mesh.until_condition(0, "IdentityConflict", "True").await;
        let message = condition["message"].as_str().expect("words");
        for index in [0, twin] {
            let uid = mesh.remote(index).cluster_uid().await;
            assert!(message.contains(&uid), "both are named: {message}");
        }
        mesh.until_event("IdentityConflict", "RemoteIstio", "").await;
        // The first stays, and works.
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.remote(0).until_addresses("istio-pilot", &["10.1.0.1"]).await;
        mesh.until_ready(0).await;
        assert_eq!(mesh.remote(twin).addresses("istio-pilot").await.len(), 0);
    });
}

/// F32.
#[test]
fn copy_of_the_whole_cluster_is_found_by_asking_the_one_that_is_connected() {
    run(async {
        let mut mesh = Mesh::joinable("cloned", 1, Setup::made()).await;
        mesh.enable(PILOT).await;
        mesh.join(0).await;
        mesh.until_ready(0).await;
        // The same cluster by its UID; its Lease is another, for it is in another namespace.
        let twin = mesh.prepare_twin(0, 0, "cloned-copy").await;
        mesh.remote(twin).keep(mesh.remote(0).kept().await).await;
        mesh.launch_agent(twin).await;
        mesh.until_condition(0, "IdentityConflict", "True").await;
        mesh.until_event("IdentityConflict", "RemoteIstio", "").await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.remote(0).until_addresses("istio-pilot", &["10.1.0.1"]).await;
        mesh.until_ready(0).await;
        let asked = mesh.hub_metric("challenges_total", &[]).await;
        assert!(asked >= 1.0, "{asked}");
    });
}

/// F33.
#[test]
fn rolling_update_and_restart_are_no_alarm() {
    run(async {
        let mut mesh = Mesh::joinable("rolling", 1, Setup::made()).await;
        mesh.enable(PILOT).await;
        mesh.join(0).await;
        mesh.until_ready(0).await;
        // The pod of the new version comes before the old one goes: same namespace, same Secret, same Lease.
        let next = mesh.prepare_twin(0, 0, "rolling").await;
        let superseded = mesh.hub_metric("sessions_ended_total", &["superseded"]).await;
        mesh.launch_agent(next).await;
        eventually("the new pod has the session", || async {
            let now = mesh.hub_metric("sessions_ended_total", &["superseded"]).await;
            seen(now > superseded, now).map_err(|now| format!("{now}:\n{}", mesh.hub_log()))
        })
        .await;
        mesh.remote_mut(next).until_agent_is_ready().await;
        assert_eq!(mesh.remote_mut(0).terminate_agent().await, 0);
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.remote(0).until_addresses("istio-pilot", &["10.1.0.1"]).await;
        // And the old one at once again, as a roll-back does; then a plain crash.
        mesh.start_agent(0).await;
        assert_eq!(mesh.remote_mut(next).terminate_agent().await, 0);
        mesh.remote_mut(0).kill_agent().await;
        mesh.start_agent(0).await;
        mesh.until_ready(0).await;
        assert!(!alarmed(&mesh).await, "{}", mesh.status(0).await);
    });
}
