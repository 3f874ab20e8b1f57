//! A hub that signs for the mesh: central's CA is read, followed and replaced, an old root is forgotten.

use support::eventually::{eventually, seen};
use support::mesh_ca::MeshCa;
use support::pair::Operator;

use crate::cluster::mesh::Mesh;

/// Where Istio keeps a CA that is plugged in, and one of Citadel's own.
const PLUGGED_IN: &str = "cacerts";
const OWN: &str = "istio-ca-secret";

/// The first CA.
pub async fn begins(mesh: &Mesh<'_>) {
    mesh.put_mesh_ca(OWN, &MeshCa::self_signed("first").expect("a CA"))
        .await;
    until_roots(mesh, 1).await;
}

/// Another CA takes its place, and the root of the first is forgotten.
pub async fn changes(mesh: &Mesh<'_>, operator: &Operator) {
    mesh.put_mesh_ca(PLUGGED_IN, &MeshCa::plugged_in("second", None).expect("a CA"))
        .await;
    until_roots(mesh, 2).await;
    let map = mesh
        .central_object("ConfigMap", "remote-istio-mesh-trust")
        .await
        .unwrap_or_default();
    let signing = map["data"]["signer-root"].as_str().expect("who signs").to_owned();
    let keys = map["data"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key.as_str());
    let roots = keys.filter_map(|key| key.strip_prefix("root-")?.strip_suffix(".pem"));
    let old = roots.filter(|root| *root != signing).collect::<Vec<_>>();
    let shown = operator.succeed(&["mesh-ca", "show"]).await.expect("shown");
    assert!(shown.contains(&signing), "{shown}");
    let forgotten = operator.succeed(&["mesh-ca", "forget-root", old[0], "--force"]).await;
    forgotten.unwrap_or_else(|error| panic!("{error:#}"));
    until_roots(mesh, 1).await;
}

async fn until_roots(mesh: &Mesh<'_>, count: usize) {
    eventually(&format!("the hub holds {count} roots"), || async {
        let map = mesh
            .central_object("ConfigMap", "remote-istio-mesh-trust")
            .await
            .unwrap_or_default();
        let now = map["data"].to_string().matches("BEGIN CERTIFICATE").count();
        seen(now == count, now).map_err(|seen| format!("{seen}\n{}", mesh.hub_log()))
    })
    .await;
}
