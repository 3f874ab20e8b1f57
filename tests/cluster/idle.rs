//! What happens when nothing happens: nothing.

use std::time::Duration;

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
        let (central, remote) = (mesh.central_audit().await, mesh.remote(0).audit().await);
        // The one place where time itself is the condition.
        tokio::time::sleep(WINDOW).await;
        let central = central.since(|event| event.is_ours && event.resource != "leases").await;
        let remote = remote.since(|event| event.is_ours && event.resource != "leases").await;
        assert!(central.is_empty(), "the hub wrote {central:?}");
        assert!(remote.is_empty(), "the agent wrote {remote:?}");
    });
}
