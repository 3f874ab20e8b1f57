//! Citadel and the injector from their coming to their going; the test plays the controllers.

use serde_json::{Value, json};
use support::ca::Authority;
use support::eventually::{eventually, seen};

use crate::cluster::mesh::{CITADEL, INJECTOR, Mesh, Serving};

/// Both come, are edited and restored, and stand.
pub async fn stand(mesh: &Mesh<'_>, components: &[&'static str]) -> Option<Serving> {
    for name in components {
        mesh.remote(0).set_available(name, 1).await;
        for kind in ["Deployment", "Service"] {
            is_restored(mesh, kind, name).await;
        }
    }
    if components.contains(&CITADEL) {
        intermediate_is_restored(mesh).await;
    }
    if !components.contains(&INJECTOR) {
        return None;
    }
    let ca = Authority::new("the remote's Citadel").expect("a CA");
    let serving = Serving::start(&ca, mesh.namespace()).await;
    mesh.remote(0).publish_injector(&serving).await;
    let hook = webhook_name(mesh);
    until_webhook(mesh, &hook, |object| object["webhooks"][0].is_object()).await;
    mesh.remote(0)
        .merge_cluster_object("MutatingWebhookConfiguration", &hook, &json!({"webhooks": []}))
        .await;
    until_webhook(mesh, &hook, |object| object["webhooks"][0].is_object()).await;
    Some(serving)
}

/// A label of ours is changed by somebody, and put right.
async fn is_restored(mesh: &Mesh<'_>, kind: &str, name: &str) {
    let remote = mesh.remote(0);
    let is_right = |object: &Value| !object["metadata"]["labels"].to_string().contains("somebodys");
    let object = remote.until_object(kind, name, is_right).await;
    let labels = &object["metadata"]["labels"];
    let label = if labels["app"].is_string() { "app" } else { "istio" };
    remote
        .merge(kind, name, &json!({"metadata": {"labels": {label: "somebodys"}}}))
        .await;
    remote.until_object(kind, name, is_right).await;
}

/// Broken by somebody, then deleted by somebody: the remote has a new one each time.
async fn intermediate_is_restored(mesh: &Mesh<'_>) {
    until_intermediate(mesh).await;
    let broken = json!({"data": {"ca-key.pem": "bm9uZQ=="}});
    mesh.remote(0).merge("Secret", "cacerts", &broken).await;
    until_intermediate(mesh).await;
    mesh.remote(0).delete("Secret", "cacerts").await;
    until_intermediate(mesh).await;
}

async fn until_intermediate(mesh: &Mesh<'_>) {
    eventually("the remote has an intermediate CA", || async {
        let data = mesh.remote(0).secret("cacerts").await.unwrap_or_default();
        let key = data.get("ca-key.pem").cloned().unwrap_or_default();
        seen(key.contains("PRIVATE KEY"), data.into_keys().collect::<Vec<_>>())
            .map_err(|seen| format!("{seen}\n{}\n{}", mesh.agent_log(0), mesh.hub_log()))
    })
    .await;
}

fn webhook_name(mesh: &Mesh<'_>) -> String {
    match mesh.namespace() {
        "istio-system" => INJECTOR.to_owned(),
        other => format!("{INJECTOR}-{other}"),
    }
}

async fn until_webhook(mesh: &Mesh<'_>, name: &str, wanted: impl Fn(&Value) -> bool) {
    eventually(&format!("webhook {name} is as wanted"), || async {
        let found = mesh
            .remote(0)
            .cluster_object("MutatingWebhookConfiguration", name)
            .await;
        let found = found.unwrap_or_default();
        seen(wanted(&found), found).map_err(|seen| format!("{seen}\n{}", mesh.agent_log(0)))
    })
    .await;
}
