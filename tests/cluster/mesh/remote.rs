//! A remote: what stands there, seen as administrator, and who may do what.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use support::ca::Files;
use support::eventually::{eventually, seen};
use support::pair::Agent;
use support::proxy::Proxy;

use super::super::audit::Audit;
use super::super::record::{AddressLog, ready_addresses};
use super::objects::{api, cluster_api, json as as_json, object};

/// Kinds that an agent makes.
const KINDS: [&str; 5] = ["Service", "Endpoints", "EndpointSlice", "ConfigMap", "Deployment"];

/// One remote of a mesh.
pub struct Remote {
    /// Name of its `RemoteIstio`.
    pub name: String,
    /// The agent's way to its API server.
    pub api: Proxy,
    /// The agent's way to the hub.
    pub link: Proxy,
    pub(super) namespace: String,
    pub(super) client: Client,
    pub(super) audit_log: std::path::PathBuf,
    pub(super) policy_file: std::path::PathBuf,
    pub(super) files: Files,
    pub(super) agent: Agent,
}

impl Remote {
    /// The ready addresses of one service, over all slices.
    pub async fn addresses(&self, service: &str) -> BTreeSet<String> {
        let slices: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &self.namespace);
        let selector = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
        let slices = slices.list(&selector).await.expect("the remote answers");
        slices.iter().flat_map(ready_addresses).collect()
    }

    /// Waits until these are exactly the addresses of the service, in at least one slice.
    pub async fn until_addresses(&self, service: &str, addresses: &[&str]) {
        let wanted: BTreeSet<String> = addresses.iter().map(ToString::to_string).collect();
        eventually(&format!("{service} is at {addresses:?} in {}", self.name), || async {
            let slices = self.slices(service).await.len();
            let now = self.addresses(service).await;
            seen(slices > 0 && now == wanted, (slices, now))
                .map_err(|seen| format!("{seen} with the agent's log\n{}", self.agent.command().log_tail()))
        })
        .await;
    }

    /// Starts to note what a watch sees of the service's addresses.
    pub async fn record(&self, service: &str) -> AddressLog {
        AddressLog::start(self.client.clone(), &self.namespace, service).await
    }

    /// The slices of one service, by name.
    pub async fn slices(&self, service: &str) -> Vec<Value> {
        let selector = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
        let slices = api(&self.client, "EndpointSlice", &self.namespace)
            .list(&selector)
            .await;
        let mut slices = slices.expect("the remote answers").items;
        slices.sort_by_key(kube::ResourceExt::name_any);
        slices.iter().map(as_json).collect()
    }

    /// One object of the agent's namespace.
    pub async fn object(&self, kind: &str, name: &str) -> Option<Value> {
        let found = api(&self.client, kind, &self.namespace).get_opt(name).await;
        found.expect("the remote answers").as_ref().map(as_json)
    }

    /// Waits until an object is there and as wanted, and returns it.
    pub async fn until_object(&self, kind: &str, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("{kind} {name} in {} is as wanted", self.name), || async {
            let found = self.object(kind, name).await;
            match found {
                Some(object) if wanted(&object) => Ok(object),
                other => Err(format!(
                    "{other:?} with the agent's log\n{}",
                    self.agent.command().log_tail()
                )),
            }
        })
        .await
    }

    /// Waits until there is no such object.
    pub async fn until_absent(&self, kind: &str, name: &str) {
        eventually(&format!("{kind} {name} in {} is gone", self.name), || async {
            match self.object(kind, name).await {
                None => Ok(()),
                Some(object) => Err(object.to_string()),
            }
        })
        .await;
    }

    /// Makes an object as somebody else.
    pub async fn create(&self, kind: &str, name: &str, fields: Value) {
        let created = api(&self.client, kind, &self.namespace)
            .create(&PostParams::default(), &object(kind, name, fields))
            .await;
        created.expect("created");
    }

    /// Makes an object as somebody else, or gives the API server's words.
    pub async fn try_create(&self, kind: &str, name: &str, fields: Value) -> Result<(), String> {
        let created = api(&self.client, kind, &self.namespace)
            .create(&PostParams::default(), &object(kind, name, fields))
            .await;
        created.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Makes an object in another namespace as somebody else, or gives the API server's words.
    pub async fn try_create_in(&self, namespace: &str, kind: &str, name: &str, fields: Value) -> Result<(), String> {
        let created = api(&self.client, kind, namespace)
            .create(&PostParams::default(), &object(kind, name, fields))
            .await;
        created.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Changes the status of an object as its controller would.
    pub async fn merge_status(&self, kind: &str, name: &str, fields: &Value) {
        let merged = api(&self.client, kind, &self.namespace)
            .patch_status(name, &PatchParams::default(), &Patch::Merge(fields))
            .await;
        merged.expect("changed");
    }

    /// Changes an object without a namespace as somebody else.
    pub async fn merge_cluster_object(&self, kind: &str, name: &str, fields: &Value) {
        let merged = cluster_api(&self.client, kind)
            .patch(name, &PatchParams::default(), &Patch::Merge(fields))
            .await;
        merged.expect("changed");
    }

    /// Changes an object as somebody else.
    pub async fn merge(&self, kind: &str, name: &str, fields: &Value) {
        let merged = api(&self.client, kind, &self.namespace)
            .patch(name, &PatchParams::default(), &Patch::Merge(fields))
            .await;
        merged.expect("changed");
    }

    /// Deletes an object as somebody else.
    pub async fn delete(&self, kind: &str, name: &str) {
        let deleted = api(&self.client, kind, &self.namespace)
            .delete(name, &DeleteParams::default())
            .await;
        deleted.expect("deleted");
    }

    /// One object without a namespace.
    pub async fn cluster_object(&self, kind: &str, name: &str) -> Option<Value> {
        let found = cluster_api(&self.client, kind).get_opt(name).await;
        found.expect("the remote answers").as_ref().map(as_json)
    }

    /// Makes an object without a namespace as somebody else.
    pub async fn create_cluster_object(&self, kind: &str, name: &str, fields: Value) {
        let created = cluster_api(&self.client, kind)
            .create(&PostParams::default(), &object(kind, name, fields))
            .await;
        created.expect("created");
    }

    /// Deletes an object without a namespace as somebody else, if it is there.
    pub async fn delete_cluster_object(&self, kind: &str, name: &str) {
        let deleted = cluster_api(&self.client, kind)
            .delete(name, &DeleteParams::default())
            .await;
        if let Err(error) = deleted {
            assert!(error.to_string().contains("not found"), "{error}");
        }
    }

    /// Sets the policy of the remote while its agent runs.
    pub fn set_policy(&self, text: &str) {
        super::replace_file(&self.policy_file, text);
    }

    /// Every object the agent has made in its namespace, by kind and name, as it is.
    pub async fn everything(&self) -> BTreeMap<(String, String), Value> {
        let ours = ListParams::default().labels("app.kubernetes.io/managed-by=remote-istio-agent");
        let mut everything = BTreeMap::new();
        for kind in KINDS {
            let listed = api(&self.client, kind, &self.namespace).list(&ours).await;
            for object in listed.expect("the remote answers") {
                everything.insert((kind.to_owned(), object.name_any()), as_json(&object));
            }
        }
        everything
    }

    /// Waits until nothing of the agent's is left in its namespace.
    pub async fn until_nothing_is_owned(&self) {
        eventually(&format!("nothing is left in {}", self.name), || async {
            let left: Vec<_> = self.everything().await.into_keys().collect();
            seen(left.is_empty(), left)
        })
        .await;
    }

    /// Waits until the agent has written nothing for a while.
    pub async fn until_quiet(&self) {
        self.audit().await.until_quiet().await;
    }

    /// The writes from now on.
    pub async fn audit(&self) -> Audit {
        Audit::from_now(self.audit_log.clone(), &self.namespace).await
    }

    /// A namespace besides the agent's own.
    pub async fn create_namespace(&self, name: &str, labels: Value) {
        let namespace = object("Namespace", name, json!({"metadata": {"labels": labels}}));
        let created = cluster_api(&self.client, "Namespace")
            .create(&PostParams::default(), &namespace)
            .await;
        created.expect("created");
    }

    /// A label of a namespace.
    pub async fn read_label(&self, namespace: &str, label: &str) -> Option<String> {
        let found = cluster_api(&self.client, "Namespace").get(namespace).await;
        found.expect("there").labels().get(label).cloned()
    }

    /// Sets or takes a label of a namespace as a user with kubectl would.
    pub async fn label(&self, namespace: &str, label: &str, value: Option<&str>) {
        let patch = Patch::Merge(json!({"metadata": {"labels": {label: value}}}));
        let user = PatchParams {
            field_manager: Some("kubectl-label".to_owned()),
            ..PatchParams::default()
        };
        let labelled = cluster_api(&self.client, "Namespace")
            .patch(namespace, &user, &patch)
            .await;
        labelled.expect("labelled");
    }

    /// Waits for a label of a namespace to have this value, or to be gone.
    pub async fn until_label(&self, namespace: &str, label: &str, value: Option<&str>) {
        eventually(
            &format!("label {label} of namespace {namespace} is {value:?}"),
            || async {
                let now = self.read_label(namespace, label).await;
                seen(now.as_deref() == value, now)
                    .map_err(|seen| format!("{seen} with the agent's log\n{}", self.agent.command().log_tail()))
            },
        )
        .await;
    }
}
