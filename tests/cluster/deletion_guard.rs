//! Deletions that must not reach a remote by mistake: of the CRD, or of many resources at once.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use support::deploy;
use support::eventually::{eventually, seen};

use crate::mesh::{Clusters, Mesh, Setup, run};

const PILOT: &[(&str, &str)] = &[("istio-pilot", "istio=pilot")];

const CRD: &str = "remoteistios.istio.banzaicloud.io";

/// A person's word on a held deletion.
async fn decide(mesh: &Mesh<'_>, index: usize, word: &str) {
    let annotation = json!({"metadata": {"annotations": {"istio.banzaicloud.io/deletion": word}}});
    mesh.central_merge("RemoteIstio", &mesh.remote_name(index), &annotation)
        .await;
}

async fn until_held(mesh: &Mesh<'_>, index: usize, why: &str) {
    mesh.until_status_of(&mesh.remote_name(index), &format!("held: {why}"), |status| {
        let text = status.to_string();
        text.contains("\"DeletionHeld\"") && text.contains(why)
    })
    .await;
}

async fn until_held_count(mesh: &Mesh<'_>, count: f64) {
    eventually(&format!("{count} deletions are held"), || async {
        let now = mesh.hub_metric("deletions_held", &[]).await;
        seen((now - count).abs() < 0.5, now)
    })
    .await;
}

// Turns red when: anything is withdrawn because the CRD goes, or what was kept is taken away by a resource made anew.
#[test]
fn remote_outlives_the_crd_and_goes_on_with_a_resource_made_anew() {
    run(async {
        let clusters = Clusters::private("held-crd").await;
        let mesh = Mesh::on(&clusters, "held-crd").await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.until_ready(0).await;
        let remote = mesh.remote(0);
        remote.until_addresses("istio-pilot", &["10.1.0.1"]).await;
        remote.until_quiet().await;
        let service = remote.object("Service", "istio-pilot").await.expect("there");
        let audit = remote.audit().await;

        let admin = mesh.central().admin();
        let definitions: Api<CustomResourceDefinition> = Api::all(admin.clone());
        definitions
            .delete(CRD, &DeleteParams::default())
            .await
            .expect("deleted");
        until_held(&mesh, 0, "the CRD is being deleted").await;
        mesh.until_event("DeletionHeld", "RemoteIstio", "deletion=keep").await;
        until_held_count(&mesh, 1.0).await;
        // What is held is still followed.
        mesh.pod("pilot-b", "istio=pilot", "10.1.0.2").ready().await;
        remote.until_addresses("istio-pilot", &["10.1.0.1", "10.1.0.2"]).await;

        decide(&mesh, 0, "keep").await;
        eventually("the CRD is gone", || async {
            let found = definitions.get_opt(CRD).await.map_err(|error| error.to_string())?;
            seen(found.is_none(), found.map(|found| found.status))
        })
        .await;
        until_held_count(&mesh, 0.0).await;
        assert!(mesh.hub_is_ready().await, "it serves what it has");
        remote.until_quiet().await;
        assert_eq!(remote.addresses("istio-pilot").await.len(), 2);

        deploy::crds(&admin).await.expect("applied");
        mesh.enable(PILOT).await;
        mesh.until_ready(0).await;
        let now = remote.object("Service", "istio-pilot").await.expect("kept");
        assert_eq!(now["metadata"]["uid"], service["metadata"]["uid"]);
        assert_eq!(remote.addresses("istio-pilot").await.len(), 2);
        let deletes =
            |event: &crate::audit::Event| event.is_ours && event.verb == "delete" && event.resource != "configmaps";
        assert_eq!(format!("{:?}", audit.since(deletes).await), "[]");
    });
}

// Turns red when: one of too many is withdrawn without a person's word, also by a hub that restarts, or is withdrawn or
// kept against that word.
#[test]
fn more_deletions_at_once_than_allowed_wait_for_a_person() {
    run(async {
        let clusters = Mesh::shared_clusters().await;
        let mut mesh = Box::pin(Mesh::prepare(clusters, "held-many", 2, Setup::default())).await;
        let line = mesh.hub_mut().command_mut();
        line.set_flag("deletion-limit", ["1"]);
        mesh.start_hub().await;
        for index in 0..2 {
            mesh.launch_agent(index).await;
        }
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        for index in 0..2 {
            mesh.until_ready(index).await;
            mesh.remote(index).until_addresses("istio-pilot", &["10.1.0.1"]).await;
        }
        tokio::join!(mesh.delete_remote_istio(0), mesh.delete_remote_istio(1));
        for index in 0..2 {
            until_held(&mesh, index, "2 RemoteIstios are being deleted at once, more than 1").await;
        }
        until_held_count(&mesh, 2.0).await;

        mesh.kill_hub().await;
        mesh.start_hub().await;
        mesh.until_sessions(2).await;
        until_held_count(&mesh, 2.0).await;
        decide(&mesh, 0, "perhaps").await;
        until_held(&mesh, 0, "\\\"perhaps\\\" in that annotation is neither").await;
        for index in 0..2 {
            assert_eq!(mesh.remote(index).addresses("istio-pilot").await.len(), 1);
        }

        decide(&mesh, 0, "withdraw").await;
        mesh.until_remote_istio_is_gone(0).await;
        mesh.remote(0).until_nothing_is_owned().await;
        // The only one left, and held all the same.
        until_held_count(&mesh, 1.0).await;
        mesh.pod("pilot-b", "istio=pilot", "10.1.0.2").ready().await;
        let kept = mesh.remote(1);
        kept.until_addresses("istio-pilot", &["10.1.0.1", "10.1.0.2"]).await;

        decide(&mesh, 1, "keep").await;
        mesh.until_remote_istio_is_gone(1).await;
        kept.until_quiet().await;
        assert_eq!(kept.addresses("istio-pilot").await.len(), 2);
        assert_eq!(
            mesh.central_object("ConfigMap", "remote-istio-gone")
                .await
                .unwrap_or_default()["data"],
            Value::Null,
            "what is kept leaves no tombstone"
        );
    });
}

// Turns red when: a deletion goes on although nobody can say whether the CRD goes too, or stays held once it can be said.
#[test]
fn deletion_waits_while_the_crd_cannot_be_read() {
    run(async {
        let mesh = Mesh::start("held-unread").await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.until_ready(0).await;
        let admin = mesh.central().admin();
        let bindings: Api<k8s_openapi::api::rbac::v1::ClusterRoleBinding> = Api::all(admin.clone());
        let name = "remote-istio-hub-held-unread";
        bindings.delete(name, &DeleteParams::default()).await.expect("deleted");
        mesh.delete_remote_istio(0).await;
        mesh.until_status(0, "held, for the CRD cannot be read", |status| {
            status.to_string().contains("\"DeletionUnchecked\"")
        })
        .await;
        assert_eq!(mesh.remote(0).addresses("istio-pilot").await.len(), 1);
        deploy::roles(&admin, "hub", "held-unread", &[]).await.expect("applied");
        mesh.until_remote_istio_is_gone(0).await;
        mesh.remote(0).until_nothing_is_owned().await;
    });
}
