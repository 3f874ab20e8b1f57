//! Ports of mirrored Services that change on central.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::mesh::{Mesh, run};

// Turns red when: what the agent's POST set stands in the way of its first apply.
#[test]
fn port_that_keeps_its_name_and_gets_another_number_is_followed() {
    run(async {
        let mesh = Mesh::start("port-number").await;
        let port = |number: u16| json!([{"name": "grpc", "port": number}, {"name": "http", "port": 8080}]);
        mesh.create_service("istio-pilot", json!({"istio": "pilot"}), port(15_010))
            .await;
        mesh.enable(&[("istio-pilot", "istio=pilot")]).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        let has = |number: u16| {
            move |service: &Value| {
                let ports = service["spec"]["ports"].as_array().cloned().unwrap_or_default();
                let numbers: BTreeSet<_> = ports.iter().filter_map(|port| port["port"].as_u64()).collect();
                numbers == BTreeSet::from([u64::from(number), 8_080])
            }
        };
        let remote = mesh.remote(0);
        let made = remote.until_object("Service", "istio-pilot", has(15_010)).await;
        mesh.central_merge("Service", "istio-pilot", &json!({"spec": {"ports": port(15_011)}}))
            .await;
        let changed = remote.until_object("Service", "istio-pilot", has(15_011)).await;
        assert_eq!(
            made["metadata"]["uid"], changed["metadata"]["uid"],
            "it is not made anew"
        );
        // Once more, now that an apply has been made.
        mesh.central_merge("Service", "istio-pilot", &json!({"spec": {"ports": port(15_012)}}))
            .await;
        remote.until_object("Service", "istio-pilot", has(15_012)).await;
        mesh.until_ready(0).await;
    });
}
