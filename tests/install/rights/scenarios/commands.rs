//! The hub's commands as they run in its pod: under its own account. Joining, revoking, releasing, a change of the CA.

use std::time::Duration;

use kube::Api;
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use support::eventually::{eventually, eventually_within, seen};
use support::pair::{Invitation, Operator};
use support::peer::{Joiner, issued};

use crate::cluster::mesh::Mesh;

/// A hub looks for tokens that ended long ago every five minutes, give or take half.
const SWEPT: Duration = Duration::from_secs(8 * 60 + 20);

/// Tokens that ended long ago.
const ENDED: [&str; 2] = ["aaaaaaaa", "bbbbbbbb"];

/// Names that are bound to clusters of the test's own.
const OTHERS: [&str; 2] = ["other-1", "other-2"];

/// Who types the commands in the hub's pod.
pub async fn operator(mesh: &Mesh<'_>) -> Operator {
    let account = mesh
        .central()
        .service_account_kubeconfig(mesh.namespace(), "remote-istio-hub", None)
        .await
        .expect("the chart brings the account");
    Operator::new(mesh.namespace(), &account).expect("the hub is built")
}

async fn says(operator: &Operator, arguments: &[&str]) -> String {
    let said = operator.succeed(arguments).await;
    said.unwrap_or_else(|error| panic!("{error:#}"))
}

async fn invite(operator: &Operator, name: &str, more: &[&str]) -> Invitation {
    let invitation = operator.invite(name, more).await;
    invitation.unwrap_or_else(|error| panic!("{error:#}"))
}

/// The agent joins by a token in its Secret; that Secret is empty afterwards.
pub async fn join(mesh: &mut Mesh<'_>, operator: &Operator) {
    let invitation = invite(operator, &mesh.remote_name(0), &[]).await;
    let token = json!({"stringData": {"token": invitation.token}});
    mesh.remote(0).create("Secret", "remote-istio-agent-token", token).await;
    mesh.give(0, &invitation);
    mesh.start_agent(0).await;
    let blank = |secret: &Value| secret["data"]["token"].as_str().unwrap_or_default().is_empty();
    mesh.remote(0)
        .until_object("Secret", "remote-istio-agent-token", blank)
        .await;
}

/// Records of tokens that ended long ago: they are removed some time.
pub async fn leave_ended_tokens(mesh: &Mesh<'_>) {
    for id in ENDED {
        let token = json!({
            "apiVersion": "istio.banzaicloud.io/v1beta1", "kind": "JoinToken", "metadata": {"name": id},
            "spec": {"remote": "long-ago", "secretHash": "0".repeat(64), "expiresAt": "2020-01-01T00:00:00Z",
                     "approval": "Automatic", "createdBy": "somebody"},
        });
        let token: DynamicObject = serde_json::from_value(token).expect("an object");
        tokens(mesh).create(&PostParams::default(), &token).await.expect("made");
    }
}

/// Waits until they are gone.
pub async fn until_ended_tokens_are_gone(mesh: &Mesh<'_>) {
    eventually_within(SWEPT, "the tokens that ended long ago are gone", || async {
        let listed = tokens(mesh)
            .list(&ListParams::default())
            .await
            .expect("central answers");
        let left: Vec<_> = listed
            .items
            .into_iter()
            .filter_map(|token| token.metadata.name)
            .collect();
        seen(!ENDED.iter().any(|id| left.iter().any(|name| name == id)), left)
    })
    .await;
}

fn tokens(mesh: &Mesh<'_>) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("istio.banzaicloud.io", "v1beta1", "JoinToken");
    let resource = ApiResource::from_gvk_with_plural(&kind, "jointokens");
    Api::namespaced_with(mesh.central().admin(), mesh.namespace(), &resource)
}

/// Two other remotes: one waits for a person, one joins at once. Each token is shown again by a thief; each joins twice, so
/// that it is counted.
pub async fn others_join(mesh: &Mesh<'_>, operator: &Operator) {
    for (name, more) in OTHERS.into_iter().zip([&["--approval", "manual"][..], &[]]) {
        mesh.create_remote_istio_named(name, &[("istio-pilot", "istio=pilot")])
            .await;
        let invitation = invite(operator, name, more).await;
        let joiner = Joiner::new(name);
        let join = || joiner.join(mesh.enrolment_address(), &invitation.pins, &invitation.token);
        if !more.is_empty() {
            let answer = join().await.expect("an answer");
            assert!(issued(&answer).is_none(), "a person has to say so");
            assert!(says(operator, &["join", "list"]).await.contains(name));
            says(operator, &["join", "approve", name]).await;
        }
        eventually(&format!("{name} joins"), || async {
            let answer = join().await.map_err(|status| status.to_string())?;
            seen(issued(&answer).is_some(), "pending")
        })
        .await;
        let thief = Joiner::new("a thief");
        let answer = thief
            .join(mesh.enrolment_address(), &invitation.pins, &invitation.token)
            .await;
        answer.expect_err("the token is used");
        // Its cluster joins again.
        let again = invite(operator, name, &[]).await;
        let joiner = Joiner::new(name);
        eventually(&format!("{name} joins again"), || async {
            let answer = joiner.join(mesh.enrolment_address(), &again.pins, &again.token).await;
            answer.map(|_| ()).map_err(|status| status.to_string())
        })
        .await;
    }
    let invitation = invite(operator, "denied", &["--approval", "manual"]).await;
    let joiner = Joiner::new("denied");
    let answer = joiner
        .join(mesh.enrolment_address(), &invitation.pins, &invitation.token)
        .await;
    assert!(issued(&answer.expect("an answer")).is_none());
    says(operator, &["join", "deny", "denied"]).await;
}

/// Tokens are listed and revoked, names listed, revoked and released.
pub async fn take_back(mesh: &Mesh<'_>, operator: &Operator) {
    let invitation = invite(operator, "never", &[]).await;
    assert!(says(operator, &["token", "list"]).await.contains("never"));
    says(operator, &["token", "revoke", invitation.id()]).await;
    assert!(says(operator, &["identity", "list"]).await.contains(OTHERS[0]));
    says(operator, &["revoke", OTHERS[0]]).await;
    says(operator, &["release", OTHERS[1]]).await;
    mesh.until_event("Revoked", "RemoteIstio", OTHERS[0]).await;
}

/// Where certificates lie in files: names are cut off, and let in again.
pub async fn cut_off_without_tokens(mesh: &Mesh<'_>, operator: &Operator) {
    for name in OTHERS {
        mesh.create_remote_istio_named(name, &[("istio-pilot", "istio=pilot")])
            .await;
        for reason in ["sold", "stolen"] {
            says(operator, &["revoke", name, "--reason", reason]).await;
        }
        mesh.until_event("Revoked", "RemoteIstio", name).await;
    }
    assert!(says(operator, &["identity", "list"]).await.contains(OTHERS[0]));
}

/// The CA of the link is replaced; who does not come along is named.
pub async fn change_ca(mesh: &Mesh<'_>, operator: &Operator) {
    let certificate = mesh.remote(0).until_certificate().await;
    says(operator, &["ca", "show"]).await;
    says(operator, &["ca", "begin"]).await;
    // Not before every replica and remote has both.
    eventually("the new CA signs", || async {
        let said = operator.run(&["ca", "switch"]).await.expect("it runs");
        if said.code == 0 { Ok(()) } else { Err(said.err) }
    })
    .await;
    mesh.remote(0).until_another_certificate(&certificate).await;
    eventually("the old CA is dropped", || async {
        let forget = OTHERS.join(",");
        let said = operator
            .run(&["ca", "drop", "--forget", &forget])
            .await
            .expect("it runs");
        if said.code == 0 { Ok(()) } else { Err(said.err) }
    })
    .await;
}

/// Waits until an event that came again was counted up.
pub async fn until_events_are_counted(mesh: &Mesh<'_>, reason: &str) {
    eventually("a repeated event is counted", || async {
        let events = mesh.events(reason).await;
        let is_counted = events.iter().any(|event| event["series"]["count"].is_number());
        seen(is_counted, events).map_err(|seen| format!("{seen}\n{}", mesh.hub_log()))
    })
    .await;
}
