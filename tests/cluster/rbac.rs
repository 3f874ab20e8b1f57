//! Permissions that go and come back while the processes run.

use crate::mesh::{Mesh, run};

const PILOT: &[(&str, &str)] = &[("istio-pilot", "istio=pilot")];

#[test]
fn agent_without_its_role_says_so_and_goes_on_once_it_is_back() {
    run(async {
        let mesh = Mesh::start("rbac-agent").await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.until_ready(0).await;
        let remote = mesh.remote(0);
        remote.forbid_all().await;
        mesh.pod("pilot-b", "istio=pilot", "10.1.0.2").ready().await;
        let applied = mesh.until_condition(0, "Ready", "False").await;
        let said = support::eventually::eventually("the status names what is forbidden", || async {
            let status = mesh.status(0).await.to_string();
            support::eventually::seen(status.to_lowercase().contains("forbidden"), status)
        })
        .await;
        assert!(said.contains("istio-pilot"), "{applied}: {said}");
        assert_eq!(
            remote.addresses("istio-pilot").await.into_iter().collect::<Vec<_>>(),
            ["10.1.0.1"],
            "what was there stays"
        );
        remote.permit_all().await;
        remote.until_addresses("istio-pilot", &["10.1.0.1", "10.1.0.2"]).await;
        mesh.until_ready(0).await;
    });
}

#[test]
fn hub_without_its_role_takes_nothing_away_and_catches_up() {
    run(async {
        let mesh = Mesh::start("rbac-hub").await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.until_ready(0).await;
        let remote = mesh.remote(0);
        let log = remote.record("istio-pilot").await;
        mesh.forbid_hub().await;
        // Standing watches go on until they end: cut, they are asked again and refused.
        mesh.central_api.cut();
        mesh.delete_pod("pilot-a").await;
        mesh.pod("pilot-b", "istio=pilot", "10.1.0.2").ready().await;
        mesh.until_hub_logs("forbidden").await;
        assert_eq!(log.sizes(), [1]);
        mesh.permit_hub().await;
        remote.until_addresses("istio-pilot", &["10.1.0.2"]).await;
        log.until(&["10.1.0.2"]).await;
        assert_eq!(log.deletions(), 0);
        mesh.until_ready(0).await;
    });
}
