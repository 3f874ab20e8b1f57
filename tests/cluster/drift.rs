//! What others do to the objects in the remote.

use serde_json::json;
use support::eventually::{eventually, seen};

use crate::mesh::{Mesh, Remote, run};

const PILOT: &[(&str, &str)] = &[("istio-pilot", "istio=pilot")];

/// Deletes and edits one of everything and waits until it is as it was.
async fn heals(remote: &Remote) {
    for kind in ["Service", "Endpoints"] {
        let old = remote.object(kind, "istio-pilot").await.expect("there");
        remote.delete(kind, "istio-pilot").await;
        remote
            .until_object(kind, "istio-pilot", |new| {
                new["metadata"]["uid"] != old["metadata"]["uid"]
            })
            .await;
    }
    let slice = remote.slices("istio-pilot").await.remove(0);
    let name = slice["metadata"]["name"].as_str().expect("a name").to_owned();
    remote.delete("EndpointSlice", &name).await;
    remote.until_addresses("istio-pilot", &["10.1.0.1"]).await;

    let slice = remote.slices("istio-pilot").await.remove(0);
    let name = slice["metadata"]["name"].as_str().expect("a name").to_owned();
    let wrong = json!({"endpoints": [{"addresses": ["10.9.9.9"], "conditions": {"ready": true}}]});
    remote.merge("EndpointSlice", &name, &wrong).await;
    remote.until_addresses("istio-pilot", &["10.1.0.1"]).await;

    let wrong = json!({"subsets": [{"addresses": [{"ip": "10.9.9.9"}], "ports": [{"port": 1}]}]});
    remote.merge("Endpoints", "istio-pilot", &wrong).await;
    remote
        .until_object("Endpoints", "istio-pilot", |endpoints| {
            endpoints["subsets"][0]["addresses"] == json!([{"ip": "10.1.0.1"}])
        })
        .await;

    let wrong = json!({"spec": {"ports": [{"name": "wrong", "port": 1}]}});
    remote.merge("Service", "istio-pilot", &wrong).await;
    remote
        .until_object("Service", "istio-pilot", |service| service["spec"]["ports"].is_null())
        .await;
}

#[test]
fn deleted_and_edited_objects_are_restored_with_the_hub() {
    run(async {
        let mesh = Mesh::start("drift").await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.until_ready(0).await;
        heals(mesh.remote(0)).await;
        let repaired = mesh.remote(0).metric("drift_repaired_total").await;
        assert!(repaired >= 6.0, "each repair is counted: {repaired}");
    });
}

#[test]
fn deleted_and_edited_objects_are_restored_without_the_hub_also_after_a_restart() {
    run(async {
        let mut mesh = Mesh::start("drift-alone").await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.until_ready(0).await;
        mesh.remote(0).until_quiet().await;
        mesh.kill_hub().await;
        heals(mesh.remote(0)).await;

        mesh.remote_mut(0).kill_agent().await;
        let remote = mesh.remote(0);
        for slice in remote.slices("istio-pilot").await {
            remote
                .delete("EndpointSlice", slice["metadata"]["name"].as_str().expect("a name"))
                .await;
        }
        remote.delete("Endpoints", "istio-pilot").await;
        remote
            .merge(
                "Service",
                "istio-pilot",
                &json!({"spec": {"ports": [{"name": "wrong", "port": 1}]}}),
            )
            .await;
        mesh.launch_agent(0).await;
        let remote = mesh.remote(0);
        remote.until_addresses("istio-pilot", &["10.1.0.1"]).await;
        remote.until_object("Endpoints", "istio-pilot", |_| true).await;
        remote
            .until_object("Service", "istio-pilot", |service| service["spec"]["ports"].is_null())
            .await;
        mesh.start_hub().await;
        mesh.until_ready(0).await;
    });
}

#[test]
fn slice_edited_while_the_agent_was_down_is_restored() {
    run(async {
        let mut mesh = Mesh::start("drift-down").await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.until_ready(0).await;
        mesh.remote_mut(0).kill_agent().await;
        let slice = mesh.remote(0).slices("istio-pilot").await.remove(0);
        let wrong = json!({"endpoints": [{"addresses": ["10.9.9.9"], "conditions": {"ready": true}}]});
        mesh.remote(0)
            .merge(
                "EndpointSlice",
                slice["metadata"]["name"].as_str().expect("a name"),
                &wrong,
            )
            .await;
        mesh.start_agent(0).await;
        mesh.remote(0).until_addresses("istio-pilot", &["10.1.0.1"]).await;
    });
}

#[test]
fn foreign_objects_of_the_same_name_are_left_alone_and_reported() {
    run(async {
        let mesh = Mesh::start("foreign").await;
        let remote = mesh.remote(0);
        remote
            .create(
                "Service",
                "istio-pilot",
                json!({"spec": {"clusterIP": "None", "selector": {"mine": "yes"}, "ports": [{"port": 80}]}}),
            )
            .await;
        remote
            .create(
                "Endpoints",
                "istio-pilot",
                json!({"subsets": [{"addresses": [{"ip": "10.7.7.7"}], "ports": [{"port": 80}]}]}),
            )
            .await;
        let before = (
            remote.object("Service", "istio-pilot").await,
            remote.object("Endpoints", "istio-pilot").await,
        );
        mesh.enable(&[("istio-pilot", "istio=pilot"), ("istio-policy", "istio=policy")])
            .await;
        mesh.pod("policy-a", "istio=policy", "10.1.1.1").ready().await;
        remote.until_addresses("istio-policy", &["10.1.1.1"]).await;
        remote.until_object("Service", "istio-policy", |_| true).await;
        let name = mesh.remote_name(0);
        let status = mesh
            .until_status_of(&name, "the foreign object is named", |status| {
                let applied = status["conditions"].as_array().into_iter().flatten();
                let mut messages = applied.filter(|condition| condition["type"] == "Applied");
                messages.any(|applied| {
                    let message = applied["message"].to_string();
                    message.contains("istio-pilot") && message.contains("Foreign")
                })
            })
            .await;
        assert_eq!(status["Status"], "ReconcileFailed", "{status}");

        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.pod("policy-b", "istio=policy", "10.1.1.2").ready().await;
        remote.until_addresses("istio-policy", &["10.1.1.1", "10.1.1.2"]).await;
        let after = (
            remote.object("Service", "istio-pilot").await,
            remote.object("Endpoints", "istio-pilot").await,
        );
        assert_eq!(after, before, "not a byte of them was touched");

        // Out of the way, ours takes its place by itself.
        remote.delete("Service", "istio-pilot").await;
        remote.delete("Endpoints", "istio-pilot").await;
        remote
            .until_object("Service", "istio-pilot", |service| {
                service["spec"]["selector"].is_null()
            })
            .await;
        mesh.until_ready(0).await;
    });
}

#[test]
fn foreign_slice_under_our_name_is_left_alone_and_the_service_goes_on() {
    run(async {
        let mut mesh = Mesh::start("foreign-slice").await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.until_ready(0).await;
        mesh.remote_mut(0).kill_agent().await;
        // Somebody takes the name of our slice while nobody looks.
        let remote = mesh.remote(0);
        let slice = remote.slices("istio-pilot").await.remove(0);
        let name = slice["metadata"]["name"].as_str().expect("a name").to_owned();
        remote.delete("EndpointSlice", &name).await;
        remote
            .create(
                "EndpointSlice",
                &name,
                json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.7.7.7"]}], "ports": []}),
            )
            .await;
        let before = remote.object("EndpointSlice", &name).await;
        mesh.start_agent(0).await;
        let applied = mesh.until_condition(0, "Applied", "False").await;
        assert!(
            applied["message"].as_str().unwrap_or_default().contains("istio-pilot"),
            "{applied}"
        );
        assert_eq!(mesh.remote(0).object("EndpointSlice", &name).await, before);
    });
}

#[test]
fn injection_label_comes_and_goes_with_the_list() {
    run(async {
        let mesh = Mesh::start("inject").await;
        let remote = mesh.remote(0);
        remote.create_namespace("inject-a", json!({})).await;
        remote
            .create_namespace("inject-b", json!({"istio-injection": "enabled"}))
            .await;
        remote.create_namespace("inject-c", json!({})).await;
        mesh.create_remote_istio(
            0,
            json!({"enabledServices": [], "autoInjectionNamespaces": ["inject-a", "inject-b", "inject-c"]}),
        )
        .await;
        remote.until_label("inject-a", "istio-injection", Some("enabled")).await;
        remote
            .until_label("inject-a", "istio-operator-managed-injection", Some("enabled"))
            .await;
        mesh.until_ready(0).await;
        // Taken away by hand: restored.
        remote.label("inject-a", "istio-injection", None).await;
        remote.until_label("inject-a", "istio-injection", Some("enabled")).await;

        mesh.merge_spec(0, json!({"autoInjectionNamespaces": ["inject-c"]}))
            .await;
        remote.until_label("inject-a", "istio-injection", None).await;
        remote
            .until_label("inject-a", "istio-operator-managed-injection", None)
            .await;
        remote
            .until_label("inject-b", "istio-operator-managed-injection", None)
            .await;
        assert_eq!(
            remote.read_label("inject-b", "istio-injection").await.as_deref(),
            Some("enabled"),
            "the user had set it himself"
        );
        remote.until_label("inject-c", "istio-injection", Some("enabled")).await;
    });
}

#[test]
fn user_who_disabled_injection_wins_and_it_is_reported() {
    run(async {
        let mesh = Mesh::start("user-disabled").await;
        let remote = mesh.remote(0);
        remote
            .create_namespace("user-disabled-a", json!({"istio-injection": "disabled"}))
            .await;
        remote.create_namespace("user-disabled-b", json!({})).await;
        mesh.create_remote_istio(
            0,
            json!({"enabledServices": [], "autoInjectionNamespaces": ["user-disabled-a", "user-disabled-b"]}),
        )
        .await;
        remote
            .until_label("user-disabled-b", "istio-injection", Some("enabled"))
            .await;
        let said = eventually("the status names the namespace", || async {
            let status = mesh.status(0).await.to_string();
            seen(status.contains("user-disabled-a"), status)
        })
        .await;
        assert!(said.contains("user-disabled-a"));
        assert_eq!(
            remote.read_label("user-disabled-a", "istio-injection").await.as_deref(),
            Some("disabled")
        );
        // A change of mind later counts too.
        remote
            .label("user-disabled-b", "istio-injection", Some("disabled"))
            .await;
        remote
            .until_label("user-disabled-b", "istio-operator-managed-injection", None)
            .await;
        assert_eq!(
            remote.read_label("user-disabled-b", "istio-injection").await.as_deref(),
            Some("disabled")
        );
    });
}

#[test]
fn namespace_that_appears_later_is_labelled_then() {
    run(async {
        let mesh = Mesh::start("late-namespace").await;
        let remote = mesh.remote(0);
        mesh.create_remote_istio(
            0,
            json!({"enabledServices": [], "autoInjectionNamespaces": ["late-namespace-app"]}),
        )
        .await;
        let applied = mesh.until_condition(0, "Applied", "False").await;
        let message = applied["message"].as_str().unwrap_or_default();
        assert!(message.contains("late-namespace-app"), "{message}");
        remote.create_namespace("late-namespace-app", json!({})).await;
        remote
            .until_label("late-namespace-app", "istio-injection", Some("enabled"))
            .await;
        mesh.until_ready(0).await;
    });
}

#[test]
fn tug_of_war_slows_down_and_is_reported() {
    run(async {
        let mesh = Mesh::start("tug").await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.until_ready(0).await;
        let remote = mesh.remote(0);
        remote.until_quiet().await;
        // Five repairs within a minute are made at once, the sixth is not.
        let wrong = json!({"subsets": [{"addresses": [{"ip": "10.9.9.9"}], "ports": [{"port": 1}]}]});
        for _ in 0..5 {
            remote.merge("Endpoints", "istio-pilot", &wrong).await;
            remote
                .until_object("Endpoints", "istio-pilot", |endpoints| {
                    endpoints["subsets"][0]["addresses"] == json!([{"ip": "10.1.0.1"}])
                })
                .await;
        }
        remote.merge("Endpoints", "istio-pilot", &wrong).await;
        eventually("the status says who is fought with", || async {
            let status = mesh.status(0).await.to_string();
            seen(status.contains("Contended"), status)
        })
        .await;
        // It is restored all the same.
        remote
            .until_object("Endpoints", "istio-pilot", |endpoints| {
                endpoints["subsets"][0]["addresses"] == json!([{"ip": "10.1.0.1"}])
            })
            .await;
    });
}
