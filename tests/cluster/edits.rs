//! What people do to a `RemoteIstio`.

use std::time::Duration;

use serde_json::json;
use support::eventually::{eventually, seen};
use support::proxy::Traffic;

use crate::mesh::{Mesh, run};

const PILOT: &[(&str, &str)] = &[("istio-pilot", "istio=pilot")];

#[test]
fn hundred_edits_in_a_second_end_in_the_last_with_few_writes() {
    run(async {
        let mesh = Mesh::start("hundred-edits").await;
        mesh.enable(PILOT).await;
        mesh.until_ready(0).await;
        let audit = mesh.central_audit().await;
        let slices = mesh.remote(0).audit().await;
        let mut pace = tokio::time::interval(Duration::from_millis(10));
        for edit in 1..=100 {
            pace.tick().await;
            let service = json!({"name": "istio-pilot", "podIPs": [format!("10.3.0.{edit}")]});
            mesh.merge_spec(0, json!({"enabledServices": [service]})).await;
        }
        mesh.remote(0).until_addresses("istio-pilot", &["10.3.0.100"]).await;
        mesh.until_ready(0).await;
        let status_writes = audit
            .since(|event| event.resource == "remoteistios" && event.subresource == "status" && event.is_ours)
            .await;
        assert!(
            status_writes.len() <= 20,
            "{} writes of the status for 100 edits",
            status_writes.len()
        );
        let slice_writes = slices
            .since(|event| event.resource == "endpointslices" && event.is_ours)
            .await;
        assert!(slice_writes.len() <= 100, "{} writes of slices", slice_writes.len());
    });
}

#[test]
fn changes_behind_a_slow_remote_merge_and_only_the_last_arrives() {
    run(async {
        let mesh = Mesh::start("merged").await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-0", "istio=pilot", "10.3.1.0").ready().await;
        mesh.until_ready(0).await;
        let remote = mesh.remote(0);
        let log = remote.record("istio-pilot").await;
        let merged = mesh.hub_metric("merged_total", &[]).await;
        remote.api.set(Traffic::Hold);
        for change in 1..=20 {
            mesh.pod(&format!("pilot-{change}"), "istio=pilot", &format!("10.3.1.{change}"))
                .ready()
                .await;
        }
        eventually("the hub has merged", || async {
            let now = mesh.hub_metric("merged_total", &[]).await;
            seen(now > merged, now)
        })
        .await;
        remote.api.set(Traffic::Pass);
        let all: Vec<String> = (0..=20).map(|number| format!("10.3.1.{number}")).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        remote.until_addresses("istio-pilot", &all).await;
        log.until(&all).await;
        assert!(log.sizes().len() <= 5, "merged, not one by one: {:?}", log.sizes());
        mesh.until_ready(0).await;
    });
}

#[test]
fn resource_deleted_and_made_anew_under_its_name_is_served_anew() {
    run(async {
        let mesh = Mesh::start("re-created").await;
        let remote = mesh.remote(0);
        mesh.enable(&[("istio-pilot", "istio=pilot"), ("istio-policy", "istio=policy")])
            .await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.until_ready(0).await;
        mesh.delete_remote_istio(0).await;
        mesh.until_remote_istio_is_gone(0).await;
        remote.until_nothing_is_owned().await;

        mesh.enable(PILOT).await;
        remote.until_addresses("istio-pilot", &["10.1.0.1"]).await;
        mesh.until_ready(0).await;
        assert!(remote.object("Service", "istio-policy").await.is_none());

        // And at once, without waiting for the end of the old one.
        mesh.delete_remote_istio(0).await;
        eventually("the name is free", || async { mesh.try_enable(0, PILOT).await }).await;
        remote.until_addresses("istio-pilot", &["10.1.0.1"]).await;
        mesh.until_ready(0).await;
    });
}

#[test]
fn resource_deleted_while_its_agent_was_away_is_cleaned_up_on_return() {
    run(async {
        let mut mesh = Mesh::start("deleted-away").await;
        mesh.enable(PILOT).await;
        mesh.remote(0).create_namespace("deleted-away-app", json!({})).await;
        mesh.merge_spec(0, json!({"autoInjectionNamespaces": ["deleted-away-app"]}))
            .await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.remote(0)
            .until_label("deleted-away-app", "istio-injection", Some("enabled"))
            .await;
        mesh.until_ready(0).await;
        mesh.remote_mut(0).kill_agent().await;
        mesh.delete_remote_istio(0).await;
        eventually("the status says what it waits for", || async {
            let status = mesh.try_status(0).await.unwrap_or_default().to_string();
            seen(status.contains("finalizer") || status.contains("agent"), status)
        })
        .await;
        assert_eq!(
            mesh.remote(0)
                .addresses("istio-pilot")
                .await
                .into_iter()
                .collect::<Vec<_>>(),
            ["10.1.0.1"],
            "nobody has touched the remote"
        );
        mesh.launch_agent(0).await;
        mesh.until_remote_istio_is_gone(0).await;
        mesh.remote(0).until_nothing_is_owned().await;
        mesh.remote(0)
            .until_label("deleted-away-app", "istio-injection", None)
            .await;
    });
}

#[test]
fn service_that_is_no_longer_enabled_goes_and_what_is_not_ours_stays() {
    run(async {
        let mesh = Mesh::start("disabled").await;
        let remote = mesh.remote(0);
        remote
            .create("Service", "bystander", json!({"spec": {"ports": [{"port": 80}]}}))
            .await;
        mesh.enable(&[("istio-pilot", "istio=pilot"), ("zipkin", "app=jaeger")])
            .await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.until_ready(0).await;
        remote.until_object("Service", "zipkin", |_| true).await;
        mesh.merge_spec(
            0,
            json!({"enabledServices": [{"name": "istio-pilot", "labelSelector": "istio=pilot"}]}),
        )
        .await;
        remote.until_absent("Service", "zipkin").await;
        remote.until_absent("Endpoints", "zipkin").await;
        eventually("the slices are gone", || async {
            let slices = remote.slices("zipkin").await;
            seen(slices.is_empty(), slices)
        })
        .await;
        mesh.until_ready(0).await;
        remote.object("Service", "istio-pilot").await.expect("stays");
        remote.object("Service", "bystander").await.expect("stays");
    });
}

#[test]
fn resource_that_is_forced_away_leaves_the_remote_as_it_is() {
    run(async {
        let mut mesh = Mesh::start("fought-over").await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.until_ready(0).await;
        mesh.remote_mut(0).kill_agent().await;
        mesh.delete_remote_istio(0).await;
        mesh.take_finalizers(0).await;
        mesh.until_remote_istio_is_gone(0).await;
        // The agent that returns finds no resource behind its name: absence is not deletion.
        mesh.launch_agent(0).await;
        mesh.until_agent_logs(0, "create RemoteIstio").await;
        mesh.remote(0).delete("Endpoints", "istio-pilot").await;
        mesh.remote(0).until_object("Endpoints", "istio-pilot", |_| true).await;
        mesh.remote(0).until_addresses("istio-pilot", &["10.1.0.1"]).await;
        mesh.enable(PILOT).await;
        mesh.until_ready(0).await;
    });
}
