//! Services of another namespace than that of hub and agent, on both sides.

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use support::eventually::{eventually, seen};

use crate::cluster::mesh::Mesh;
use crate::rights::case::clusters;

/// Two services and the addresses of their pods.
const SERVICES: [(&str, &str); 2] = [("shop", "10.2.0"), ("stock", "10.2.1")];

/// Hub and agent look after this namespace, and not after their own.
pub fn look_elsewhere(mesh: &mut Mesh<'_>, namespace: &str) {
    mesh.hub_mut().command_mut().set_flag("service-namespaces", [namespace]);
    let agent = mesh.remote_mut(0).agent_mut();
    agent.command_mut().set_flag("service-namespaces", [namespace]);
}

/// Services come, change, are healed and go.
pub async fn lives(mesh: &Mesh<'_>, namespace: &str) {
    let central: Api<Service> = Api::namespaced(mesh.central().admin(), namespace);
    for (name, network) in SERVICES {
        let service = json!({
            "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80}]},
        });
        let service = serde_json::from_value(service).expect("a Service");
        central.create(&PostParams::default(), &service).await.expect("made");
        for number in [1, 2] {
            let pod = mesh.pod_in(
                namespace,
                &format!("{name}-{number}"),
                &format!("app={name}"),
                &format!("{network}.{number}"),
            );
            pod.ready().await;
        }
    }
    mesh.create_remote_istio(0, spec(namespace, &["shop", "stock"])).await;
    let remote = clusters().await.remote(0).admin();
    for (name, _) in SERVICES {
        until_endpoints(mesh, &remote, namespace, name, 2).await;
        let ports =
            Patch::Merge(json!({"spec": {"ports": [{"name": "http", "port": 80}, {"name": "grpc", "port": 81}]}}));
        central
            .patch(name, &PatchParams::default(), &ports)
            .await
            .expect("changed");
        delete_pod(mesh, namespace, &format!("{name}-2")).await;
        until_endpoints(mesh, &remote, namespace, name, 1).await;
    }
    mesh.until_ready(0).await;
    for left in [&["shop"][..], &["stock"], &[]] {
        let fields = spec(namespace, left);
        mesh.merge_spec(0, fields).await;
        let services: Api<Service> = Api::namespaced(remote.clone(), namespace);
        eventually("the others are gone", || async {
            let now: Vec<_> = services
                .list(&ListParams::default())
                .await
                .expect("listed")
                .iter()
                .map(Service::name_any)
                .collect();
            seen(now == left, now).map_err(|seen| format!("{seen}\n{}", mesh.agent_log(0)))
        })
        .await;
    }
}

fn spec(namespace: &str, names: &[&str]) -> Value {
    let services: Vec<Value> = names
        .iter()
        .map(|name| json!({"name": name, "namespace": namespace}))
        .collect();
    json!({"enabledServices": services})
}

async fn until_endpoints(mesh: &Mesh<'_>, remote: &Client, namespace: &str, service: &str, count: usize) {
    let slices: Api<EndpointSlice> = Api::namespaced(remote.clone(), namespace);
    let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
    eventually(&format!("{service} has {count} endpoints"), || async {
        let found = slices.list(&of_service).await.expect("listed");
        let now: usize = found
            .iter()
            .map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len))
            .sum();
        seen(now == count, now).map_err(|seen| format!("{seen}\n{}\n{}", mesh.agent_log(0), mesh.hub_log()))
    })
    .await;
}

async fn delete_pod(mesh: &Mesh<'_>, namespace: &str, name: &str) {
    let pods: Api<Pod> = Api::namespaced(mesh.central().admin(), namespace);
    pods.delete(name, &DeleteParams::default().grace_period(0))
        .await
        .expect("deleted");
}
