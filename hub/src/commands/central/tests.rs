//! Changes when others write the same object, which a real API server does only on bad days. The API server is a
//! script.

mod steps;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use http::{Method, Request, Response};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::commands::test_objects::{at, identity};

type Answers = Arc<Mutex<VecDeque<(u16, Value)>>>;

pub(in crate::commands) type Asked = Arc<Mutex<Vec<(Method, String, Value)>>>;

/// Central with an API server that gives these answers, one after the other, and what it was asked.
pub(in crate::commands) fn script(answers: impl IntoIterator<Item = (u16, Value)>) -> (Central, Asked) {
    let answers: Answers = Arc::new(Mutex::new(answers.into_iter().collect()));
    let asked = Asked::default();
    let noted = Arc::clone(&asked);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (answers, asked) = (Arc::clone(&answers), Arc::clone(&noted));
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap_or_default();
            let body = serde_json::from_slice(&body).unwrap_or_default();
            asked.lock().push((parts.method, parts.uri.path().to_owned(), body));
            let (code, answer) = answers.lock().pop_front().expect("a request too many");
            let answer = Body::from(answer.to_string().into_bytes());
            Ok::<_, Infallible>(Response::builder().status(code).body(answer).expect("an answer"))
        }
    });
    (Central::new(Client::new(service, "default"), "mesh", at(0)), asked)
}

fn stands(version: &str, released: bool) -> (u16, Value) {
    let mut identity = identity("remote-1");
    identity.metadata.resource_version = Some(version.to_owned());
    identity.spec.released = released;
    (200, serde_json::to_value(identity).expect("JSON"))
}

pub(in crate::commands) fn refused(code: u16, reason: &str) -> (u16, Value) {
    let answer = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": reason, "code": code,
    });
    (code, answer)
}

/// The API server has this.
pub(in crate::commands) fn answered<K: Serialize>(object: K) -> (u16, Value) {
    (200, serde_json::to_value(object).expect("JSON"))
}

/// The API server has these and no more.
pub(in crate::commands) fn listed(items: impl IntoIterator<Item = (u16, Value)>) -> (u16, Value) {
    let items: Vec<Value> = items.into_iter().map(|(_, item)| item).collect();
    let metadata = json!({"resourceVersion": "1"});
    (
        200,
        json!({"apiVersion": "v1", "kind": "List", "metadata": metadata, "items": items}),
    )
}

#[tokio::test]
async fn time_is_the_api_servers_and_not_this_machines() {
    let client = |answer| script([answer]).0.client;
    let dated = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview",
        "metadata": {"creationTimestamp": "2027-01-15T08:00:10Z"}, "spec": {},
    });
    let central = Central::at_servers_time(client((201, dated)), "mesh").await;
    assert_eq!(central.expect("a time").now, at(10));
    let error = Central::at_servers_time(client(refused(403, "Forbidden")), "mesh").await;
    let error = error.map(|central| central.now).expect_err("no time").to_string();
    assert!(error.starts_with("central cannot be asked for its time: no"), "{error}");
}

async fn release(central: &Central) -> Result<Option<()>, CommandError> {
    let change = |identity: &mut RemoteIdentity| {
        identity.spec.released = true;
        Ok(())
    };
    central.change("remote-1", Part::Whole, "no change", change).await
}

#[tokio::test]
async fn change_is_decided_anew_on_what_another_writer_left() {
    let answers = [
        stands("1", false),
        refused(409, "Conflict"),
        stands("2", false),
        stands("3", true),
    ];
    let (central, asked) = script(answers);
    assert_eq!(release(&central).await.expect("changed"), Some(()));
    let asked = asked.lock();
    let methods: Vec<&Method> = asked.iter().map(|(method, ..)| method).collect();
    assert_eq!(methods, [Method::GET, Method::PUT, Method::GET, Method::PUT]);
    let path = "/apis/istio.banzaicloud.io/v1beta1/namespaces/mesh/remoteidentities/remote-1";
    assert!(asked.iter().all(|(_, asked, _)| asked == path));
    assert_eq!(asked[1].2["metadata"]["resourceVersion"], "1");
    assert_eq!(asked[3].2["metadata"]["resourceVersion"], "2");
    assert_eq!(asked[3].2["spec"]["released"], true);
}

#[tokio::test]
async fn nothing_is_written_where_nothing_changes_or_nothing_is_there() {
    let (central, asked) = script([stands("1", true)]);
    assert_eq!(release(&central).await.expect("it stands"), Some(()));
    assert_eq!(asked.lock().len(), 1);
    let (central, asked) = script([refused(404, "NotFound")]);
    assert_eq!(release(&central).await.expect("nothing"), None);
    assert_eq!(asked.lock().len(), 1);
}

#[tokio::test]
async fn change_that_always_comes_second_ends() {
    let rounds = (0..ATTEMPTS).flat_map(|_| [stands("1", false), refused(409, "Conflict")]);
    let (central, _) = script(rounds);
    let error = release(&central).await.expect_err("contended").to_string();
    assert_eq!(error, "no change: others write it at the same time; try again");
}

#[tokio::test]
async fn object_that_is_there_already_is_told_from_a_refusal() {
    let made = |code, reason| async move {
        let (central, _) = script([refused(code, reason)]);
        central.create(&identity("remote-1"), "not made").await
    };
    assert_eq!(made(409, "AlreadyExists").await.expect("it is there"), None);
    let error = made(403, "Forbidden").await.expect_err("forbidden").to_string();
    assert!(error.starts_with("not made: no"), "{error}");
    let error = made(404, "NotFound").await.expect_err("no definition").to_string();
    assert!(error.contains("remote-istio-hub crd"), "{error}");
}

#[tokio::test]
async fn lists_are_read_to_their_last_page() {
    let page = |name: &str, more: &str| {
        let item = serde_json::to_value(identity(name)).expect("JSON");
        let metadata = json!({"resourceVersion": "1", "continue": more});
        (
            200,
            json!({"apiVersion": "v1", "kind": "List", "metadata": metadata, "items": [item]}),
        )
    };
    let (central, asked) = script([page("a", "more"), page("b", "")]);
    let all = central.identities().await.expect("two pages");
    let names: Vec<String> = all.iter().map(ResourceExt::name_any).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(asked.lock().len(), 2);
}

#[tokio::test]
async fn missing_link_says_that_no_hub_runs_there() {
    let (central, _) = script([refused(404, "NotFound")]);
    let error = central.published().await.expect_err("no hub").to_string();
    assert!(
        error.starts_with("no hub runs in namespace mesh, or it runs with --link-ca files"),
        "{error}"
    );
}
