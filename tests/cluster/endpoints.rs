//! From pods on central to addresses in the remote.

use serde_json::{Value, json};
use support::eventually::{eventually, seen};

use crate::mesh::{Mesh, run};

#[test]
fn three_pods_of_which_one_restarts_go_three_two_three() {
    run(async {
        let mesh = Mesh::start("three-pods").await;
        let remote = mesh.remote(0);
        mesh.enable(&[("istio-pilot", "istio=pilot")]).await;
        for (name, ip) in [
            ("pilot-a", "10.1.0.1"),
            ("pilot-b", "10.1.0.2"),
            ("pilot-c", "10.1.0.3"),
        ] {
            mesh.pod(name, "istio=pilot", ip).ready().await;
        }
        remote
            .until_addresses("istio-pilot", &["10.1.0.1", "10.1.0.2", "10.1.0.3"])
            .await;
        let log = remote.record("istio-pilot").await;

        mesh.delete_pod("pilot-b").await;
        let replacement = mesh.pod("pilot-d", "istio=pilot", "10.1.0.4").unready().await;
        remote.until_addresses("istio-pilot", &["10.1.0.1", "10.1.0.3"]).await;
        replacement.set_ready(true).await.expect("ready");
        remote
            .until_addresses("istio-pilot", &["10.1.0.1", "10.1.0.3", "10.1.0.4"])
            .await;
        log.until(&["10.1.0.1", "10.1.0.3", "10.1.0.4"]).await;
        assert_eq!(log.sizes(), [3, 2, 3], "{:?}", log.history());

        // Who watches the hub sees it too.
        for event in [
            "pod event detected",
            "updating endpoints",
            "remoteconfig status updated",
        ] {
            mesh.until_hub_logs(event).await;
        }
        for histogram in [
            "propagation_accepted_seconds_count",
            "propagation_applied_seconds_count",
        ] {
            eventually("the change was measured", || async {
                let count = mesh.hub_metric(histogram, &["lane=\"endpoints\""]).await;
                seen(count >= 2.0, (histogram, count))
            })
            .await;
        }
    });
}

#[test]
fn pod_that_goes_unready_and_then_away_leaves_once_and_for_good() {
    run(async {
        let mesh = Mesh::start("unready").await;
        let remote = mesh.remote(0);
        mesh.enable(&[("istio-pilot", "istio=pilot")]).await;
        let first = mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.pod("pilot-b", "istio=pilot", "10.1.0.2").ready().await;
        remote.until_addresses("istio-pilot", &["10.1.0.1", "10.1.0.2"]).await;
        let log = remote.record("istio-pilot").await;

        // No other event follows either of the two: each must be enough by itself.
        first.set_ready(false).await.expect("unready");
        remote.until_addresses("istio-pilot", &["10.1.0.2"]).await;
        mesh.delete_pod("pilot-a").await;
        mesh.pod("pilot-c", "istio=pilot", "10.1.0.3").ready().await;
        log.until(&["10.1.0.2", "10.1.0.3"]).await;
        assert_eq!(log.sizes(), [2, 1, 2], "{:?}", log.history());
    });
}

#[test]
fn last_pod_that_is_deleted_without_going_unready_leaves_an_empty_set() {
    run(async {
        let mesh = Mesh::start("last-pod").await;
        let remote = mesh.remote(0);
        mesh.enable(&[("istio-pilot", "istio=pilot")]).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        remote.until_addresses("istio-pilot", &["10.1.0.1"]).await;
        mesh.delete_pod("pilot-a").await;
        remote.until_addresses("istio-pilot", &[]).await;
        assert!(
            !remote.slices("istio-pilot").await.is_empty(),
            "the service is still resolved, to nothing"
        );
        remote
            .object("Service", "istio-pilot")
            .await
            .expect("the service stays");
    });
}

#[test]
fn terminating_pod_is_no_endpoint_although_it_is_ready() {
    run(async {
        let mesh = Mesh::start("terminating").await;
        let remote = mesh.remote(0);
        mesh.enable(&[("istio-pilot", "istio=pilot")]).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        let held = mesh.pod("pilot-b", "istio=pilot", "10.1.0.2").held().ready().await;
        remote.until_addresses("istio-pilot", &["10.1.0.1", "10.1.0.2"]).await;
        mesh.delete_pod("pilot-b").await;
        remote.until_addresses("istio-pilot", &["10.1.0.1"]).await;
        let pod = mesh.read_pod("pilot-b").await;
        assert_eq!(pod["status"]["conditions"][0]["status"], "True", "it still says Ready");
        assert!(pod["metadata"]["deletionTimestamp"].is_string());
        held.release().await.expect("let go");
    });
}

#[test]
fn labelled_pod_in_a_foreign_namespace_is_nobodys_endpoint() {
    run(async {
        let mesh = Mesh::start("foreign-pod").await;
        let remote = mesh.remote(0);
        mesh.enable(&[("istio-pilot", "istio=pilot")]).await;
        mesh.create_central_namespace("foreign-pod-other").await;
        mesh.pod_in("foreign-pod-other", "intruder", "istio=pilot", "10.1.66.6")
            .ready()
            .await;
        // What was made after it has arrived, and it has not.
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        remote.until_addresses("istio-pilot", &["10.1.0.1"]).await;
        mesh.delete_pod("pilot-a").await;
        remote.until_addresses("istio-pilot", &[]).await;
    });
}

#[test]
fn service_that_central_does_not_have_is_served_by_its_selector() {
    run(async {
        let mesh = Mesh::start("absent").await;
        let remote = mesh.remote(0);
        mesh.enable(&[("istio-statsd", "app=statsd"), ("istio-pilot", "istio=pilot")])
            .await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        remote.until_addresses("istio-pilot", &["10.1.0.1"]).await;
        remote.until_addresses("istio-statsd", &[]).await;
        mesh.until_ready(0).await;
        assert_eq!(mesh.status(0).await["Status"], "Available", "it is no error");

        let service = remote.object("Service", "istio-pilot").await.expect("created");
        assert_eq!(service["spec"]["clusterIP"], "None");
        assert_eq!(service["spec"]["selector"], json!(null));
        let endpoints = remote.object("Endpoints", "istio-pilot").await.expect("created");
        assert_eq!(endpoints["subsets"][0]["addresses"][0]["ip"], "10.1.0.1");
        assert_eq!(
            endpoints["subsets"][0]["ports"][0]["port"], 65000,
            "the seed's placeholder"
        );
    });
}

fn port(port: &Value) -> (String, u64) {
    let name = port["name"].as_str().unwrap_or_default().to_owned();
    (name, port["port"].as_u64().unwrap_or_default())
}

#[test]
fn ports_follow_the_central_service_with_named_target_ports_resolved() {
    run(async {
        let mesh = Mesh::start("ports").await;
        let remote = mesh.remote(0);
        mesh.create_service(
            "istio-telemetry",
            json!({"app": "telemetry"}),
            json!([
                {"name": "grpc-mixer", "port": 9091, "targetPort": "mixer"},
                {"name": "http-monitoring", "port": 15014, "targetPort": 15014},
            ]),
        )
        .await;
        mesh.enable(&[("istio-telemetry", "app=telemetry")]).await;
        mesh.pod("telemetry-a", "app=telemetry", "10.1.0.9")
            .port("mixer", 19091)
            .ready()
            .await;
        remote.until_addresses("istio-telemetry", &["10.1.0.9"]).await;
        // Pods and Services of central come by watches of their own: the ports may follow a moment later.
        let wanted = [("grpc-mixer".to_owned(), 19091), ("http-monitoring".to_owned(), 15014)];
        eventually("the slice has the ports of the pod", || async {
            let slices = remote.slices("istio-telemetry").await;
            let mut ports: Vec<(String, u64)> = slices[0]["ports"].as_array().into_iter().flatten().map(port).collect();
            ports.sort();
            seen(ports == wanted, format!("{ports:?}"))
        })
        .await;
        mesh.until_ready(0).await;
        let service = remote.object("Service", "istio-telemetry").await.expect("created");
        assert_eq!(service["spec"]["ports"][0]["port"], 9091);
    });
}

#[test]
fn both_families_of_a_pod_are_in_slices_of_their_own() {
    run(async {
        let mesh = Mesh::start("dual-stack").await;
        let remote = mesh.remote(0);
        mesh.enable(&[("istio-pilot", "istio=pilot")]).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1")
            .second_ip("fd00:10:1::1")
            .ready()
            .await;
        remote
            .until_addresses("istio-pilot", &["10.1.0.1", "fd00:10:1::1"])
            .await;
        let slices = remote.slices("istio-pilot").await;
        let mut families: Vec<&str> = slices
            .iter()
            .filter_map(|slice| slice["addressType"].as_str())
            .collect();
        families.sort_unstable();
        assert_eq!(families, ["IPv4", "IPv6"]);
        for slice in &slices {
            let labels = &slice["metadata"]["labels"];
            assert_eq!(labels["kubernetes.io/service-name"], "istio-pilot");
            assert_eq!(labels["endpointslice.kubernetes.io/managed-by"], "remote-istio-agent");
        }
        mesh.until_ready(0).await;
        let endpoints = remote.object("Endpoints", "istio-pilot").await.expect("created");
        assert_eq!(
            endpoints["metadata"]["labels"]["endpointslice.kubernetes.io/skip-mirror"], "true",
            "no controller mirrors it into slices again"
        );
    });
}

#[test]
fn addresses_given_by_hand_stand_beside_those_of_pods() {
    run(async {
        let mesh = Mesh::start("pod-ips").await;
        let remote = mesh.remote(0);
        mesh.create_remote_istio(
            0,
            json!({"enabledServices": [{"name": "istio-pilot", "labelSelector": "istio=pilot", "podIPs": ["10.2.0.7"]}]}),
        )
        .await;
        remote.until_addresses("istio-pilot", &["10.2.0.7"]).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        remote.until_addresses("istio-pilot", &["10.1.0.1", "10.2.0.7"]).await;
    });
}

#[test]
fn endpoints_objects_come_and_go_with_their_switch() {
    run(async {
        let mut mesh = Mesh::without_agents("switch").await;
        mesh.enable(&[("istio-pilot", "istio=pilot")]).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.launch_agent_saying(0, "--endpoints-objects=false").await;
        mesh.until_ready(0).await;
        assert!(mesh.remote(0).object("Endpoints", "istio-pilot").await.is_none());
        mesh.remote_mut(0).kill_agent().await;
        mesh.launch_agent_saying(0, "--endpoints-objects=true").await;
        mesh.remote(0).until_object("Endpoints", "istio-pilot", |_| true).await;
        mesh.remote(0).until_quiet().await;
        mesh.remote_mut(0).kill_agent().await;
        mesh.launch_agent_saying(0, "--endpoints-objects=false").await;
        mesh.remote(0).until_absent("Endpoints", "istio-pilot").await;
        mesh.remote(0).until_addresses("istio-pilot", &["10.1.0.1"]).await;
    });
}
