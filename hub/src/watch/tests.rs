//! What is asked of an API server and what is made of its answers. The API server is a script: it says things that
//! a real one says only on bad days.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use kube::client::Body;
use parking_lot::Mutex;
use remote_istio::identity::RemoteName;
use remote_istio::model::{Key, Lane};
use remote_istio::process::Readiness;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::*;
use crate::index::{Index, Settings};

const DEADLINE: Duration = Duration::from_secs(20);

/// Answers in order; a request beyond the last answer is never answered and ends the test.
#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<(StatusCode, String)>>,
    asked: Mutex<Vec<String>>,
    played: Notify,
}

impl Script {
    fn new(answers: Vec<(u16, String)>) -> Arc<Self> {
        let answers = answers.into_iter();
        let answers = answers.map(|(code, body)| (StatusCode::from_u16(code).expect("a status code"), body));
        Arc::new(Self {
            answers: Mutex::new(answers.collect()),
            ..Self::default()
        })
    }

    fn client(self: &Arc<Self>) -> Client {
        let script = Arc::clone(self);
        let service = tower::service_fn(move |request: Request<Body>| {
            let script = Arc::clone(&script);
            let query = request.uri().query().unwrap_or_default().to_owned();
            async move { Ok::<_, Infallible>(script.answer(query).await) }
        });
        Client::new(service, "default")
    }

    async fn answer(&self, query: String) -> Response<Body> {
        self.asked.lock().push(query);
        let answer = self.answers.lock().pop_front();
        let Some((code, body)) = answer else {
            self.played.notify_one();
            return std::future::pending().await;
        };
        let response = Response::builder().status(code).body(Body::from(body.into_bytes()));
        response.expect("a whole response")
    }

    /// The resourceVersion of each watch, and "list" for each list.
    fn asked(&self) -> Vec<String> {
        let asked = self.asked.lock();
        let version = |query: &String| {
            let pairs: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).collect();
            let value = |key: &str| pairs.iter().find_map(|pair| pair.strip_prefix(key));
            match (value("watch="), value("continue=")) {
                (Some(_), _) => value("resourceVersion=").unwrap_or_default().to_owned(),
                (None, Some(token)) => format!("list from {token}"),
                (None, None) => "list".to_owned(),
            }
        };
        asked.iter().map(version).collect()
    }
}

fn list(version: &str, items: &[Value]) -> (u16, String) {
    page(version, "", items)
}

fn page(version: &str, token: &str, items: &[Value]) -> (u16, String) {
    let metadata = json!({"resourceVersion": version, "continue": token});
    (200, json!({"metadata": metadata, "items": items}).to_string())
}

fn events(events: &[(&str, Value)]) -> (u16, String) {
    let line = |(kind, object): &(&str, Value)| format!("{}\n", json!({"type": kind, "object": object}));
    (200, events.iter().map(line).collect())
}

fn bookmark(version: &str) -> (&'static str, Value) {
    let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"resourceVersion": version}});
    ("BOOKMARK", object)
}

fn status(code: u16, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": "x", "message": message})
}

fn pod(number: u8, version: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": format!("pilot-{number}"),
            "namespace": "istio-system",
            "resourceVersion": version,
            "labels": {"istio": "pilot"},
        },
        "spec": {"containers": [{"name": "discovery", "image": "pilot"}]},
        "status": {
            "phase": "Running",
            "podIP": format!("10.0.0.{number}"),
            "conditions": [{"type": "Ready", "status": "True", "lastProbeTime": null}],
        },
    })
}

fn remote(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "istio.banzaicloud.io/v1beta1",
        "kind": "RemoteIstio",
        "metadata": {"name": name, "namespace": "istio-system", "resourceVersion": "5", "uid": name, "generation": 1},
        "spec": spec,
    })
}

fn name(text: &str) -> RemoteName {
    RemoteName::new(text).expect("a DNS label")
}

/// A state that waits for nothing but the pods of one remote.
fn state() -> Arc<State> {
    let mut index = Index::new(Settings {
        namespace: "istio-system".to_owned(),
        service_namespaces: ["istio-system".to_owned()].into(),
    });
    let spec = json!({"enabledServices": [{"name": "istio-pilot", "labelSelector": "istio=pilot"}]});
    let object = serde_json::from_value(remote("r1", &spec)).expect("a RemoteIstio");
    index.services_listed("istio-system", vec![], 1, 1);
    index.remotes_listed(crate::index::RemoteView::new(object).into_iter().collect(), 1);
    State::new(index)
}

/// Follows the pods until the script is at its end. Returns the addresses and the position that the remote has then.
async fn follow_pods(script: &Arc<Script>) -> (Vec<String>, u64) {
    let state = state();
    let api: Api<SlimPod> = Api::namespaced(script.client(), "istio-system");
    let statistics = Statistics::new(vec![WatchStatistics::new("pods", "istio-system")]);
    let sink = PodSink::new("istio-system", Arc::clone(&state));
    tokio::select! {
        () = follow(api, sink, &statistics.watches()[0], &statistics) => {}
        () = script.played.notified() => {}
        () = tokio::time::sleep(DEADLINE) => panic!("the script was not played: {:?}", script.asked()),
    }
    let desired = state.desired(&name("r1")).expect("listed");
    let key = Key::endpoints("istio-system", "istio-pilot");
    let object = desired
        .lanes
        .get(&Lane::Endpoints)
        .and_then(|lane| lane.objects().get(&key));
    let object = object.expect("the pods are listed");
    let set = object.endpoints().expect("endpoints");
    (set.endpoints.keys().map(ToString::to_string).collect(), object.position)
}

#[tokio::test]
async fn watch_goes_on_from_the_list_and_from_the_last_event_or_bookmark() {
    let script = Script::new(vec![
        list("100", &[pod(1, "90")]),
        events(&[("ADDED", pod(2, "110")), ("MODIFIED", pod(2, "111"))]),
        events(&[bookmark("150")]),
        events(&[("DELETED", pod(1, "160"))]),
    ]);
    assert_eq!(follow_pods(&script).await, (vec!["10.0.0.2".to_owned()], 160));
    assert_eq!(script.asked(), ["list", "100", "111", "150", "160"]);
}

#[tokio::test]
async fn position_is_that_of_the_list_also_where_all_objects_are_older() {
    let script = Script::new(vec![list("100", &[pod(1, "90")])]);
    assert_eq!(follow_pods(&script).await, (vec!["10.0.0.1".to_owned()], 100));
}

#[tokio::test]
async fn expired_watch_lists_again_and_what_vanished_is_gone() {
    for expired in [
        events(&[("ERROR", status(410, "too old resource version"))]),
        (410, status(410, "too old resource version").to_string()),
    ] {
        let script = Script::new(vec![
            list("100", &[pod(1, "90"), pod(2, "91")]),
            expired,
            list("200", &[pod(2, "91")]),
        ]);
        assert_eq!(follow_pods(&script).await, (vec!["10.0.0.2".to_owned()], 200));
        assert_eq!(script.asked(), ["list", "100", "list", "200"]);
    }
}

#[tokio::test]
async fn failed_watch_goes_on_from_where_it_was_without_a_list() {
    let script = Script::new(vec![
        list("100", &[pod(1, "90")]),
        events(&[("ADDED", pod(2, "110"))]),
        (403, status(403, "pods is forbidden").to_string()),
        (500, "no".to_owned()),
        events(&[("ERROR", status(500, "etcd"))]),
        events(&[("ADDED", pod(3, "120"))]),
    ]);
    let (addresses, position) = follow_pods(&script).await;
    assert_eq!(addresses, ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    assert_eq!(position, 120);
    assert_eq!(script.asked(), ["list", "100", "110", "110", "110", "110", "120"]);
}

#[tokio::test]
async fn kind_that_the_api_server_no_longer_knows_is_listed_again() {
    let script = Script::new(vec![
        list("100", &[pod(1, "90")]),
        (404, status(404, "not found").to_string()),
        (404, status(404, "not found").to_string()),
        list("200", &[pod(2, "190")]),
    ]);
    assert_eq!(follow_pods(&script).await, (vec!["10.0.0.2".to_owned()], 200));
    assert_eq!(script.asked(), ["list", "100", "list", "list", "200"]);
}

#[tokio::test]
async fn list_in_pages_is_handed_over_whole_or_not_at_all() {
    let script = Script::new(vec![
        page("100", "more", &[pod(1, "90")]),
        (410, status(410, "token expired").to_string()),
        page("200", "more", &[pod(1, "90")]),
        page("200", "", &[pod(2, "91")]),
    ]);
    let (addresses, position) = follow_pods(&script).await;
    assert_eq!(
        (addresses, position),
        (vec!["10.0.0.1".to_owned(), "10.0.0.2".to_owned()], 200)
    );
    assert_eq!(
        script.asked(),
        ["list", "list from more", "list", "list from more", "200"]
    );
}

#[tokio::test]
async fn broken_remote_is_a_problem_of_its_own_and_a_bad_name_is_ignored() {
    let good = json!({"enabledServices": []});
    let script = Script::new(vec![list(
        "100",
        &[
            remote("good", &good),
            remote("broken", &json!({"enabledServices": 7})),
            remote("bad.name", &good),
        ],
    )]);
    let state = State::new(Index::new(Settings {
        namespace: "istio-system".to_owned(),
        service_namespaces: BTreeSet::new(),
    }));
    let watches = Watches::new("istio-system".to_owned(), BTreeSet::new(), Arc::clone(&state));
    let readiness = Readiness::default();
    let condition = readiness.condition("watches");
    assert_eq!(
        watches.statistics().waiting_for(),
        "first list of remoteistios in istio-system"
    );
    tokio::select! {
        () = watches.run(script.client(), condition, CancellationToken::new()) => {}
        () = script.played.notified() => {}
        () = tokio::time::sleep(DEADLINE) => panic!("the script was not played"),
    }
    assert!(*state.remotes_known().borrow());
    assert_eq!(state.remote_names(), [name("broken"), name("good")]);
    let problems = |remote: &str| state.desired(&name(remote)).map(|desired| desired.problems.len());
    assert_eq!((problems("good"), problems("broken")), (Some(0), Some(1)));
    let object = state.remote_object(&name("broken")).expect("with its metadata");
    assert_eq!(object.metadata.generation, Some(1));
}

#[test]
fn pod_is_reduced_to_what_matters() {
    let mut object = pod(1, "90");
    object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    object["status"]["podIPs"] = json!([{"ip": "10.0.0.1"}, {"ip": "fd00::1"}, {"ip": ""}]);
    object["spec"] = json!({
        "containers": [
            {"ports": [{"name": "http", "containerPort": 8080}, {"containerPort": 1}]},
            {"ports": [{"name": "dns", "containerPort": 53, "protocol": "UDP"}]},
        ],
        "initContainers": [
            {"ports": [{"name": "once", "containerPort": 2}]},
            {"restartPolicy": "Always", "ports": [{"name": "sidecar", "containerPort": 3}]},
        ],
    });
    let slim: SlimPod = serde_json::from_value(object).expect("a pod");
    let view = slim.view();
    let ports: Vec<_> = view
        .ports
        .iter()
        .map(|port| (port.name.as_str(), port.number, port.protocol.as_str()))
        .collect();
    assert_eq!(
        ports,
        [("http", 8080, "TCP"), ("dns", 53, "UDP"), ("sidecar", 3, "TCP")]
    );
    let addresses: Vec<String> = view.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.0.0.1", "fd00::1"]);
    assert_eq!((view.ready, view.terminating, view.position), (true, true, 90));
}

#[test]
fn pod_is_ready_by_its_condition_and_nothing_else() {
    for (conditions, ready) in [
        (json!([{"type": "Ready", "status": "True"}]), true),
        (
            json!([{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"}]),
            false,
        ),
        (json!([{"type": "Ready", "status": "Unknown"}]), false),
        (json!([]), false),
    ] {
        let mut object = pod(1, "90");
        object["status"]["conditions"] = conditions.clone();
        let slim: SlimPod = serde_json::from_value(object).expect("a pod");
        assert_eq!(slim.view().ready, ready, "{conditions}");
    }
}

#[test]
fn service_port_leads_to_its_target_or_to_itself() {
    let object = json!({
        "metadata": {"name": "a", "namespace": "b", "resourceVersion": "7"},
        "spec": {
            "selector": {"app": "a"},
            "ports": [
                {"name": "number", "port": 80, "targetPort": 8080, "protocol": "TCP", "appProtocol": "http"},
                {"name": "name", "port": 81, "targetPort": "grpc"},
                {"name": "itself", "port": 82, "targetPort": 0, "protocol": "UDP"},
            ],
        },
    });
    let slim: SlimService = serde_json::from_value(object).expect("a Service");
    let view = slim.view();
    let short = |port: &crate::index::PortView| (port.name.clone(), port.number, port.target.clone());
    assert_eq!(
        view.ports.iter().map(short).collect::<Vec<_>>(),
        [
            ("number".to_owned(), 80, crate::index::Target::Number(8080)),
            ("name".to_owned(), 81, crate::index::Target::Name("grpc".to_owned())),
            ("itself".to_owned(), 82, crate::index::Target::Number(82)),
        ]
    );
    assert_eq!(
        (view.name.as_str(), view.namespace.as_str(), view.position),
        ("a", "b", 7)
    );
}
