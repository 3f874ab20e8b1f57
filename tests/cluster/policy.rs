//! What the remote's operator allows: told to central before anyone waits for it, and changed while the agent runs.

use serde_json::{Value, json};
use support::eventually::{eventually, seen};
use support::mesh_ca::MeshCa;

use crate::mesh::{CITADEL, Mesh, Setup, condition, run};

fn allowing(components: &[&str]) -> Value {
    json!({"components": components})
}

// Turns red when: the policy is not kept in the status, or the condition waits for a refusal.
#[test]
fn central_says_what_would_be_refused_also_while_the_remote_is_away() {
    run(async {
        let setup = Setup::components().with_policy(json!({
            "components": ["citadel"],
            "imageRegistries": ["docker.io/istio"],
            "injectionNamespaces": ["policy-told-app"],
        }));
        let mut mesh = Mesh::started("policy-told", setup).await;
        mesh.create_remote_istio(0, json!({"enabledServices": []})).await;
        mesh.until_ready(0).await;
        let status = mesh
            .until_status(0, "the policy is in the status", |status| {
                status["policy"]["digest"].is_string()
            })
            .await;
        assert_eq!(status["policy"]["components"], json!(["citadel"]), "{status}");
        mesh.until_condition(0, "Allowed", "True").await;
        mesh.remote_mut(0).kill_agent().await;
        mesh.until_sessions(0).await;
        mesh.merge_spec(
            0,
            json!({
                "citadel": {"image": "elsewhere.test/citadel:1"},
                "sidecarInjector": {},
                "autoInjectionNamespaces": ["policy-told-app", "policy-told-other"],
            }),
        )
        .await;
        let allowed = mesh.until_condition_says(0, "Allowed", "False", "image-registry").await;
        let message = allowed["message"].as_str().unwrap_or_default();
        for word in ["component-not-allowed", "injection-not-allowed", "elsewhere.test"] {
            assert!(message.contains(word), "{word} is missing in {message}");
        }
        mesh.merge_spec(
            0,
            json!({"citadel": null, "sidecarInjector": null, "autoInjectionNamespaces": []}),
        )
        .await;
        mesh.until_condition(0, "Allowed", "True").await;
    });
}

// Turns red when: what is refused reaches the API server all the same, or is never asked for again.
#[test]
fn component_comes_as_soon_as_the_policy_allows_it_and_a_broken_file_changes_nothing() {
    run(async {
        let mesh = Mesh::with_pods("policy-changes", Setup::components().with_policy(allowing(&[]))).await;
        mesh.put_mesh_ca("istio-ca-secret", &MeshCa::self_signed("central").expect("a CA"))
            .await;
        mesh.create_remote_istio(0, json!({"enabledServices": [], "citadel": {}}))
            .await;
        let remote = mesh.remote(0);
        mesh.until_condition_says(0, "Allowed", "False", "component-not-allowed")
            .await;
        remote.until_quiet().await;
        assert_eq!(remote.object("Deployment", CITADEL).await, None);

        remote.set_policy("components: [citadel, unknown-word");
        mesh.until_agent_logs(0, "policy").await;
        remote.set_policy("components: [citadel]\nsurprise: true\n");
        eventually("the agent names the key it does not know", || async {
            let log = remote.log();
            seen(log.contains("surprise"), mesh.agent_log(0))
        })
        .await;
        assert_eq!(
            remote.object("Deployment", CITADEL).await,
            None,
            "the last good one counts"
        );

        remote.set_policy(&allowing(&["citadel"]).to_string());
        mesh.until_condition(0, "Allowed", "True").await;
        remote
            .until_object("Deployment", CITADEL, |deployment| {
                deployment["status"]["availableReplicas"] == 1
            })
            .await;
        mesh.until_ready(0).await;

        // Taken back: what stands is left standing, is no longer written, and that is said.
        remote.set_policy(&allowing(&[]).to_string());
        mesh.until_condition_says(0, "Allowed", "False", "component-not-allowed")
            .await;
        assert!(remote.object("Deployment", CITADEL).await.is_some());
    });
}

// Turns red when: without a file everything is allowed.
#[test]
fn remote_without_a_policy_file_takes_services_and_no_components() {
    run(async {
        let setup = Setup {
            policy: None,
            ..Setup::components()
        };
        let mesh = Mesh::started("policy-none", setup).await;
        mesh.create_remote_istio(
            0,
            json!({"enabledServices": [{"name": "istio-pilot", "labelSelector": "istio=pilot"}], "citadel": {}}),
        )
        .await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.remote(0).until_addresses("istio-pilot", &["10.1.0.1"]).await;
        let allowed = mesh
            .until_condition_says(0, "Allowed", "False", "component-not-allowed")
            .await;
        assert!(
            allowed["message"].as_str().unwrap_or_default().contains("citadel"),
            "{allowed}"
        );
        assert_eq!(mesh.remote(0).object("ConfigMap", "istio").await, None);
        assert_eq!(mesh.remote(0).object("Deployment", CITADEL).await, None);
    });
}

// Turns red when: the remote's ServiceCIDRs are not read.
#[test]
fn address_in_the_remotes_own_service_range_is_refused_and_the_others_stay() {
    run(async {
        let mesh = Mesh::started("policy-range", Setup::default()).await;
        mesh.enable(&[("istio-pilot", "istio=pilot"), ("istio-policy", "istio=policy")])
            .await;
        mesh.pod("policy-a", "istio=policy", "10.1.1.1").ready().await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        let remote = mesh.remote(0);
        remote.until_addresses("istio-pilot", &["10.1.0.1"]).await;
        // remote-1 hands out 10.91.0.0/16 to its Services.
        mesh.pod("pilot-b", "istio=pilot", "10.91.0.10").ready().await;
        let status = mesh
            .until_status(0, "the rule is named", |status| {
                status.to_string().contains("address-service-range")
            })
            .await;
        assert_ne!(condition(&status, "Ready")["status"], "True", "{status}");
        assert_eq!(
            remote.addresses("istio-pilot").await.into_iter().collect::<Vec<_>>(),
            ["10.1.0.1"]
        );
        assert_eq!(
            remote.addresses("istio-policy").await.into_iter().collect::<Vec<_>>(),
            ["10.1.1.1"]
        );
        mesh.delete_pod("pilot-b").await;
        mesh.until_ready(0).await;
    });
}
