//! Services, endpoints, labels, status, restarts and deletions: what every pair does, whoever signs its certificates.

use serde_json::{Value, json};
use support::eventually::{eventually, seen};

use crate::cluster::mesh::Mesh;

/// Name, selector's key and value, address of its first pod.
const SERVICES: [(&str, &str, &str, &str); 2] = [
    ("istio-pilot", "istio", "pilot", "10.1.0"),
    ("zipkin", "app", "jaeger", "10.1.1"),
];

/// A person says that a remote is given up.
const FORCE: &str = "istio.banzaicloud.io/force-delete";

/// The remote holds both services and both labels, and everything in it changed once.
pub async fn lives(mesh: &Mesh<'_>) {
    arrives(mesh).await;
    changes(mesh).await;
    heals(mesh).await;
}

/// What a remote asks for.
pub fn spec(mesh: &Mesh<'_>) -> Value {
    let services =
        SERVICES.map(|(name, key, value, _)| json!({"name": name, "labelSelector": format!("{key}={value}")}));
    json!({"enabledServices": services, "autoInjectionNamespaces": injected(mesh)})
}

/// Namespaces of the remote with injection.
fn injected(mesh: &Mesh<'_>) -> [String; 2] {
    ["a", "b"].map(|end| format!("{}-{end}", mesh.namespace()))
}

async fn arrives(mesh: &Mesh<'_>) {
    let remote = mesh.remote(0);
    for namespace in injected(mesh) {
        remote.create_namespace(&namespace, json!({})).await;
    }
    for (name, key, value, network) in SERVICES {
        let ports = json!([{"name": "grpc", "port": 15010}]);
        mesh.create_service(name, json!({key: value}), ports).await;
        let label = format!("{key}={value}");
        mesh.pod(&format!("{name}-1"), &label, &format!("{network}.1"))
            .ready()
            .await;
    }
    mesh.create_remote_istio(0, spec(mesh)).await;
    // One more, without an agent.
    mesh.create_remote_istio_named(&nobodys(mesh), &[("istio-pilot", "istio=pilot")])
        .await;
    for (name, _, _, network) in SERVICES {
        remote.until_addresses(name, &[&format!("{network}.1")]).await;
    }
    for namespace in injected(mesh) {
        remote.until_label(&namespace, "istio-injection", Some("enabled")).await;
    }
    mesh.until_ready(0).await;
}

/// A `RemoteIstio` whose remote never came.
fn nobodys(mesh: &Mesh<'_>) -> String {
    format!("{}-nobodys", mesh.namespace())
}

/// More addresses, more ports.
async fn changes(mesh: &Mesh<'_>) {
    let remote = mesh.remote(0);
    for (name, key, value, network) in SERVICES {
        let label = format!("{key}={value}");
        mesh.pod(&format!("{name}-2"), &label, &format!("{network}.2"))
            .ready()
            .await;
        remote
            .until_addresses(name, &[&format!("{network}.1"), &format!("{network}.2")])
            .await;
        let ports = json!({"spec": {"ports": [{"name": "grpc", "port": 15010}, {"name": "http", "port": 15014}]}});
        mesh.central_merge("Service", name, &ports).await;
        remote
            .until_object("Service", name, |service| {
                service["spec"]["ports"].to_string().contains("15014")
            })
            .await;
    }
    mesh.until_ready(0).await;
}

/// What somebody took away is put right.
async fn heals(mesh: &Mesh<'_>) {
    let remote = mesh.remote(0);
    for (name, _, _, network) in SERVICES {
        for slice in remote.slices(name).await {
            let slice = slice["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            remote.delete("EndpointSlice", &slice).await;
        }
        remote
            .until_addresses(name, &[&format!("{network}.1"), &format!("{network}.2")])
            .await;
    }
    mesh.until_ready(0).await;
}

/// Hub and agent start anew: leases are read and raised.
pub async fn restarts(mesh: &mut Mesh<'_>) {
    mesh.terminate_hub().await;
    mesh.start_hub().await;
    mesh.remote_mut(0).terminate_agent().await;
    mesh.start_agent(0).await;
    mesh.until_ready(0).await;
}

/// One service is no longer wanted, then everything goes with the `RemoteIstio`.
pub async fn leaves(mesh: &mut Mesh<'_>) {
    for (name, _, _, _) in SERVICES {
        let others: Vec<Value> = SERVICES
            .iter()
            .filter(|other| other.0 != name)
            .map(|other| json!({"name": other.0, "labelSelector": format!("{}={}", other.1, other.2)}))
            .collect();
        mesh.merge_spec(0, json!({"enabledServices": others})).await;
        mesh.remote(0).until_absent("Service", name).await;
    }
    mesh.delete_remote_istio(0).await;
    mesh.until_remote_istio_is_gone(0).await;
    mesh.remote(0).until_nothing_is_owned().await;
}

/// A `RemoteIstio` that is made anew, until the remote holds what it asks for. The pods are there.
pub async fn stands(mesh: &Mesh<'_>, spec: Value) {
    mesh.create_remote_istio(0, spec).await;
    for (name, _, _, network) in SERVICES {
        let addresses = [format!("{network}.1"), format!("{network}.2")];
        mesh.remote(0)
            .until_addresses(name, &[&addresses[0], &addresses[1]])
            .await;
    }
    for namespace in injected(mesh) {
        mesh.remote(0)
            .until_label(&namespace, "istio-injection", Some("enabled"))
            .await;
    }
    mesh.until_ready(0).await;
}

/// Deleted by force.
pub async fn is_given_up(mesh: &Mesh<'_>) {
    mesh.delete_remote_istio(0).await;
    let name = mesh.remote_name(0);
    mesh.until_status_of(&name, "it says what it waits for", |status| {
        status.to_string().contains(FORCE)
    })
    .await;
    let force = json!({"metadata": {"annotations": {FORCE: "true"}}});
    mesh.central_merge("RemoteIstio", &name, &force).await;
    mesh.until_remote_istio_is_gone(0).await;
}

/// Deleted by force while the remote is away, twice, and cleared when it is back.
pub async fn is_left_behind(mesh: &mut Mesh<'_>) {
    for _ in 0..2 {
        stands(mesh, spec(mesh)).await;
        mesh.remote_mut(0).terminate_agent().await;
        mesh.until_sessions(0).await;
        is_given_up(mesh).await;
        until_tombstone(mesh, true).await;
        mesh.start_agent(0).await;
        mesh.remote(0).until_nothing_is_owned().await;
        until_tombstone(mesh, false).await;
    }
}

async fn until_tombstone(mesh: &Mesh<'_>, there: bool) {
    let name = mesh.remote_name(0);
    eventually(&format!("the tombstone is there: {there}"), || async {
        let all = mesh
            .central_object("ConfigMap", "remote-istio-gone")
            .await
            .unwrap_or_default();
        seen(all["data"][&name].is_string() == there, all).map_err(|seen| format!("{seen}\n{}", mesh.hub_log()))
    })
    .await;
}
