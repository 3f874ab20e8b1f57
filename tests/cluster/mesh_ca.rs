//! Central's mesh CA as the hub follows it: Secrets that change, break and go, and the roots that all replicas share.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use remote_istio::wire::v1;
use remote_istio::wire::v1::mesh_ca_client::MeshCaClient;
use remote_istio::wire::v1::upsert;
use serde_json::json;
use support::eventually::{eventually, seen};
use support::mesh_ca::MeshCa;
use support::peer::{ScriptedAgent, hello};
use tonic::{Code, Status};

use crate::mesh::{Mesh, Setup, run};

const SELF_SIGNED: &str = "istio-ca-secret";
const TRUST: &str = "remote-istio-mesh-trust";

/// A hub that signs, and a `RemoteIstio` with Citadel whose agent is the test.
async fn started(name: &str) -> Mesh<'static> {
    let clusters = Mesh::shared_clusters().await;
    let mut mesh = Box::pin(Mesh::prepare(clusters, name, 1, Setup::components())).await;
    mesh.start_hub().await;
    let spec = json!({"enabledServices": [], "citadel": {}});
    mesh.create_remote_istio(0, spec).await;
    mesh
}

fn secrets(mesh: &Mesh<'_>) -> Api<Secret> {
    Api::namespaced(mesh.central().admin(), mesh.namespace())
}

fn maps(mesh: &Mesh<'_>) -> Api<ConfigMap> {
    Api::namespaced(mesh.central().admin(), mesh.namespace())
}

async fn roots(mesh: &Mesh<'_>) -> BTreeMap<String, String> {
    let found = maps(mesh).get_opt(TRUST).await.expect("central answers");
    found.and_then(|found| found.data).unwrap_or_default()
}

/// How many roots stand there.
fn count(roots: &BTreeMap<String, String>) -> usize {
    roots.values().filter(|text| text.contains("BEGIN CERTIFICATE")).count()
}

async fn until_roots(mesh: &Mesh<'_>, what: &str, wanted: impl Fn(&BTreeMap<String, String>) -> bool) {
    eventually(what, || async {
        let now = roots(mesh).await;
        seen(wanted(&now), (now.get("signer").cloned(), count(&now), mesh.hub_log()))
    })
    .await;
}

async fn agent(mesh: &Mesh<'_>) -> ScriptedAgent {
    let name = mesh.remote_name(0);
    let mut agent = mesh.scripted_agent(&name, hello("a", 1)).await.expect("a session");
    agent.welcome().await.expect("welcomed");
    agent
}

async fn sign(agent: &ScriptedAgent) -> Result<v1::SignResponse, Status> {
    let key = rcgen::KeyPair::generate().expect("a key");
    let request = rcgen::CertificateParams::default().serialize_request(&key);
    let request = v1::SignRequest {
        request: request.expect("a request").der().to_vec(),
    };
    let signed = MeshCaClient::new(agent.link().channel.clone()).sign(request).await;
    signed.map(tonic::Response::into_inner)
}

async fn until_usable(mesh: &Mesh<'_>, usable: bool) {
    eventually("the hub has looked at the Secret", || async {
        let now = mesh.hub_metric("mesh_ca_usable", &[]).await;
        seen((now > 0.5) == usable, (now, mesh.hub_log()))
    })
    .await;
}

// Turns red when: a half-written Secret is taken, a lost one ends the signing, or a hub that restarts without it tells
// remotes to let go of their intermediates.
#[test]
fn mesh_ca_that_breaks_or_goes_is_held_and_its_trust_outlives_the_hub() {
    run(async {
        let mut mesh = started("mesh-ca-held").await;
        mesh.put_mesh_ca(SELF_SIGNED, &MeshCa::self_signed("central").expect("a CA"))
            .await;
        until_usable(&mesh, true).await;
        let session = agent(&mesh).await;
        let first = sign(&session).await.expect("signed");

        let other = MeshCa::self_signed("other").expect("a CA");
        let half = json!({"stringData": {"ca-key.pem": other.key}});
        let half = Patch::Merge(half);
        let patched = secrets(&mesh).patch(SELF_SIGNED, &PatchParams::default(), &half).await;
        patched.expect("written");
        until_usable(&mesh, false).await;
        let held = sign(&session).await.expect("signed by what is held");
        assert_eq!(held.trust, first.trust);
        secrets(&mesh)
            .delete(SELF_SIGNED, &DeleteParams::default())
            .await
            .expect("deleted");
        mesh.until_hub_logs("is missing or empty").await;
        assert_eq!(sign(&session).await.expect("signed by what is held").trust, first.trust);
        drop(session);

        mesh.kill_hub().await;
        mesh.start_hub().await;
        mesh.until_hub_logs("mesh CA is missing").await;
        let mut session = agent(&mesh).await;
        let refused = sign(&session).await.expect_err("there is no key");
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains("--mesh-ca-secret"), "{refused}");
        let told = loop {
            let delta = session.delta().await.expect("a delta");
            session.accept(&delta).await.expect("accepted");
            if let Some(trust) = trust_of(&delta) {
                break trust;
            }
        };
        assert_eq!(Some(told), first.trust);
    });
}

/// The trust that is sent in a delta.
fn trust_of(delta: &v1::Delta) -> Option<v1::MeshTrust> {
    let mut sent = delta.upserts.iter().filter_map(|upsert| upsert.object.clone());
    sent.find_map(|object| match object {
        upsert::Object::Trust(trust) => Some(trust),
        _ => None,
    })
}

// Turns red when: roots are kept in memory only, a root that was forgotten comes back, or the command does not wait for
// remotes.
#[test]
fn roots_come_back_when_a_person_deletes_them_and_stay_away_when_one_is_forgotten() {
    run(async {
        let mesh = started("mesh-ca-roots").await;
        let (old, new) = ["old", "new"]
            .map(|name| MeshCa::self_signed(name).expect("a CA"))
            .into();
        mesh.put_mesh_ca(SELF_SIGNED, &old).await;
        until_roots(&mesh, "the root is written", |roots| count(roots) == 1).await;
        mesh.put_mesh_ca(SELF_SIGNED, &new).await;
        until_roots(&mesh, "both roots are written", |roots| count(roots) == 2).await;
        let both = roots(&mesh).await;
        maps(&mesh)
            .delete(TRUST, &DeleteParams::default())
            .await
            .expect("deleted");
        until_roots(&mesh, "the roots are written again", |roots| *roots == both).await;

        let signing = both["signer-root"].clone();
        let is_old = |entry: &&String| entry.strip_suffix(".pem").is_some() && !entry.contains(&signing);
        let old = both.keys().find(is_old).expect("the old root");
        let old = old.trim_start_matches("root-").trim_end_matches(".pem");
        let refused = mesh.refused_command(&["mesh-ca", "forget-root", &signing]).await;
        assert!(refused.contains("change central's mesh CA first"), "{refused}");
        let refused = mesh.refused_command(&["mesh-ca", "forget-root", old]).await;
        assert!(refused.contains(&mesh.remote_name(0)), "{refused}");
        let shown = mesh.command(&["mesh-ca", "show"]).await;
        assert!(shown.contains(old) && shown.contains(&signing), "{shown}");
        mesh.command(&["mesh-ca", "forget-root", old, "--force"]).await;
        assert_eq!(count(&roots(&mesh).await), 1);
        // Another look at the Secret does not bring it back.
        let touched = Patch::Merge(json!({"metadata": {"annotations": {"a": "b"}}}));
        let patched = secrets(&mesh)
            .patch(SELF_SIGNED, &PatchParams::default(), &touched)
            .await;
        patched.expect("touched");
        let session = agent(&mesh).await;
        eventually("the hub trusts one root", || async {
            let trust = sign(&session)
                .await
                .map(|signed| signed.trust.unwrap_or_default().roots.len());
            seen(matches!(trust, Ok(1)), format!("{trust:?}"))
        })
        .await;
        assert_eq!(count(&roots(&mesh).await), 1);
    });
}
