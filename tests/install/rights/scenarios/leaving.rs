//! What the Job of an uninstallation runs: the agent lets go of everything, under the account that is there for it alone.

use std::process::Stdio;
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::rbac::v1::Role;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;
use support::eventually::{eventually, seen};
use support::pair::program;
use tokio::process::Command;

use super::everyday;
use crate::cluster::mesh::Mesh;
use crate::rights::case::clusters;

/// What stays is patched once more: its labels go.
const PATCHED: [&str; 3] = ["services", "endpoints", "endpointslices"];

/// Longer than the command gives itself.
const DEADLINE: Duration = Duration::from_mins(3);

/// Uninstalled, and its identity kept.
pub async fn is_uninstalled(mesh: &mut Mesh<'_>) {
    everyday::stands(mesh, everyday::spec(mesh)).await;
    mesh.remote_mut(0).terminate_agent().await;
    mesh.until_sessions(0).await;
    leave(mesh, &["--keep-identity"]).await;
    mesh.remote(0).until_nothing_is_owned().await;
    everyday::is_given_up(mesh).await;
    mesh.start_agent(0).await;
}

/// Uninstalled while it lets go of objects that are to stay, in which it was held up; its identity goes too.
pub async fn is_uninstalled_half_way(mesh: &mut Mesh<'_>) {
    let mut spec = everyday::spec(mesh);
    spec["deletionPolicy"] = json!("Orphan");
    everyday::stands(mesh, spec).await;
    forbid_patches(mesh.namespace()).await;
    mesh.delete_remote_istio(0).await;
    mesh.until_agent_logs(0, "write failed").await;
    mesh.remote_mut(0).terminate_agent().await;
    leave(mesh, &[]).await;
    mesh.remote(0).until_nothing_is_owned().await;
    mesh.remote(0).until_object("Service", "istio-pilot", |_| true).await;
}

/// Takes the right to let go of services away from the agent, as an operator might by mistake.
async fn forbid_patches(namespace: &str) {
    let client = clusters().await.remote(0).admin();
    let roles: Api<Role> = Api::namespaced(client.clone(), namespace);
    let mut role = roles
        .get("remote-istio-agent")
        .await
        .expect("the chart brings the role");
    for rule in role.rules.iter_mut().flatten() {
        let resources = rule.resources.clone().unwrap_or_default();
        if resources.iter().any(|resource| PATCHED.contains(&resource.as_str())) {
            rule.verbs.retain(|verb| verb != "patch");
        }
    }
    roles
        .replace("remote-istio-agent", &PostParams::default(), &role)
        .await
        .expect("changed");
    for resource in PATCHED {
        until_forbidden(&client, namespace, resource).await;
    }
}

/// The API server's authorizer learns of roles by a watch of its own.
async fn until_forbidden(client: &Client, namespace: &str, resource: &str) {
    let group = (resource == "endpointslices").then(|| "discovery.k8s.io".to_owned());
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{namespace}:remote-istio-agent")),
            resource_attributes: Some(ResourceAttributes {
                namespace: Some(namespace.to_owned()),
                verb: Some("patch".to_owned()),
                group,
                resource: Some(resource.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    eventually("the API server knows the role", || async {
        let answer = reviews
            .create(&PostParams::default(), &review)
            .await
            .expect("an answer");
        let status = answer.status.expect("a decision");
        seen(!status.allowed, status)
    })
    .await;
}

async fn leave(mesh: &Mesh<'_>, arguments: &[&str]) {
    let remote = clusters().await.remote(0);
    let account = remote
        .service_account_kubeconfig(mesh.namespace(), "remote-istio-agent-leave", None)
        .await;
    let running = Command::new(program("remote-istio-agent").expect("built"))
        .args(["leave", "--namespace", mesh.namespace()])
        .args(arguments)
        .arg("--kubeconfig")
        .arg(account.expect("the chart brings the account"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(DEADLINE, running)
        .await
        .expect("it ends")
        .expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}
