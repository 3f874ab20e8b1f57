//! What happens when nothing happens: nothing.

use std::time::Duration;

use support::eventually::{eventually, seen};
use support::peer::hello;
use tokio::task::JoinSet;

use crate::mesh::{Mesh, run};

/// Longer than any deferred write, and than a lease's renewal.
const WINDOW: Duration = Duration::from_secs(20);

#[test]
fn idle_pair_writes_nothing_besides_leases() {
    run(async {
        let mesh = Mesh::start("idle").await;
        mesh.enable(&[("istio-pilot", "istio=pilot"), ("istio-policy", "istio=policy")])
            .await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.until_ready(0).await;
        mesh.remote(0).until_quiet().await;
        mesh.central_audit().await.until_quiet().await;
        let (central, remote) = (mesh.central_audit().await, mesh.remote(0).audit().await);
        // The one place where time itself is the condition.
        tokio::time::sleep(WINDOW).await;
        let central = central.since(|event| event.is_ours && event.resource != "leases").await;
        let remote = remote.since(|event| event.is_ours && event.resource != "leases").await;
        assert!(central.is_empty(), "the hub wrote {central:?}");
        assert!(remote.is_empty(), "the agent wrote {remote:?}");
    });
}

#[test]
fn idle_hub_with_twenty_agents_writes_nothing_besides_leases() {
    run(async {
        let mesh = Mesh::without_agents("twenty").await;
        let names: Vec<String> = (0..20).map(|number| format!("twenty-{number}")).collect();
        let mut agents = JoinSet::new();
        for name in &names {
            mesh.create_remote_istio_named(name, &[("istio-pilot", "istio=pilot")])
                .await;
            let agent = mesh.scripted_agent(name, hello(name, 1)).await.expect("a session");
            agents.spawn(agent.obey());
        }
        for name in &names {
            mesh.until_status_of(name, "everything is applied", |status| status["Status"] == "Available")
                .await;
        }
        mesh.central_audit().await.until_quiet().await;
        let audit = mesh.central_audit().await;
        tokio::time::sleep(WINDOW).await;
        let written = audit.since(|event| event.is_ours && event.resource != "leases").await;
        assert!(written.is_empty(), "the hub wrote {written:?}");
        // They are all still there, and it still works.
        mesh.until_sessions(20).await;
        let leases = audit.since(|event| event.is_ours && event.resource == "leases").await;
        assert!(!leases.is_empty(), "the log would show it");
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        eventually("all of them have accepted the change", || async {
            let accepted = mesh
                .hub_metric("propagation_accepted_seconds_count", &["lane=\"endpoints\""])
                .await;
            seen(accepted >= 20.0, accepted)
        })
        .await;
    });
}
