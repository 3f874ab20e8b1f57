//! Central: pods, services and `RemoteIstio` resources, and what the hub says of them.

use anyhow::Result;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use support::eventually::{eventually, seen};
use support::workload::{MadePod, NewPod};

use super::objects::{api, cluster_api, json as as_json, object};
use super::{Etcd, Mesh};

/// A pod that is about to be made.
pub struct PodToBe(NewPod);

impl PodToBe {
    /// With an address of the other family.
    pub fn second_ip(self, address: &str) -> Self {
        Self(self.0.ip(address))
    }

    /// With a named container port.
    pub fn port(self, name: &str, port: u16) -> Self {
        Self(self.0.port(name, port))
    }

    /// Stays terminating when it is deleted.
    pub fn held(self) -> Self {
        Self(self.0.held())
    }

    /// Made, and Ready by condition.
    pub async fn ready(self) -> MadePod {
        self.0.ready().create().await.expect("a pod")
    }

    /// Made, and not Ready.
    pub async fn unready(self) -> MadePod {
        self.0.create().await.expect("a pod")
    }
}

/// A spec that enables these services by their selectors.
pub fn enabling(services: &[(&str, &str)]) -> Value {
    let services: Vec<Value> = services
        .iter()
        .map(|(name, selector)| json!({"name": name, "labelSelector": selector}))
        .collect();
    json!({"enabledServices": services})
}

impl Mesh<'_> {
    /// A pod in the control plane's namespace with one label `KEY=VALUE` and one address.
    pub fn pod(&self, name: &str, label: &str, ip: &str) -> PodToBe {
        self.pod_in(&self.namespace, name, label, ip)
    }

    /// A pod anywhere on central.
    pub fn pod_in(&self, namespace: &str, name: &str, label: &str, ip: &str) -> PodToBe {
        let (key, value) = label.split_once('=').expect("KEY=VALUE");
        PodToBe(self.central().pod(namespace, name).label(key, value).ip(ip))
    }

    /// Gone at once, unless it is held.
    pub async fn delete_pod(&self, name: &str) {
        let pods = api(&self.central_client, "Pod", &self.namespace);
        let now = DeleteParams::default().grace_period(0);
        pods.delete(name, &now).await.expect("deleted");
    }

    /// As the API server has it.
    pub async fn read_pod(&self, name: &str) -> Value {
        let pods = api(&self.central_client, "Pod", &self.namespace);
        as_json(&pods.get(name).await.expect("there"))
    }

    /// A namespace on central besides the control plane's.
    pub async fn create_central_namespace(&self, name: &str) {
        let namespaces = cluster_api(&self.central_client, "Namespace");
        let namespace = object("Namespace", name, json!({}));
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .expect("created");
    }

    /// A Service on central.
    pub async fn create_service(&self, name: &str, selector: Value, ports: Value) {
        let service = object("Service", name, json!({"spec": {"selector": selector, "ports": ports}}));
        let services = api(&self.central_client, "Service", &self.namespace);
        services
            .create(&PostParams::default(), &service)
            .await
            .expect("created");
    }

    /// A `RemoteIstio` for each remote that enables these services.
    pub async fn enable(&self, services: &[(&str, &str)]) {
        for index in 0..self.remotes.len() {
            self.try_enable(index, services).await.expect("created");
        }
    }

    /// A `RemoteIstio` for one remote, if the name is free.
    pub async fn try_enable(&self, index: usize, services: &[(&str, &str)]) -> Result<(), String> {
        let name = self.remote_name(index);
        self.try_create_remote_istio(&name, &enabling(services)).await
    }

    /// One more entry in `enabledServices`.
    pub async fn enable_also(&self, index: usize, name: &str, selector: &str) {
        let resource = self.remote_istio(&self.remote_name(index)).await.expect("there");
        let mut services = resource["spec"]["enabledServices"].clone();
        let entry = json!({"name": name, "labelSelector": selector});
        services.as_array_mut().expect("a list").push(entry);
        self.merge_spec(index, json!({"enabledServices": services})).await;
    }

    /// The `RemoteIstio` of one remote.
    pub async fn create_remote_istio(&self, index: usize, spec: Value) {
        let created = self.try_create_remote_istio(&self.remote_name(index), &spec).await;
        created.expect("created");
    }

    /// A `RemoteIstio` of any name.
    pub async fn create_remote_istio_named(&self, name: &str, services: &[(&str, &str)]) {
        let created = self.try_create_remote_istio(name, &enabling(services)).await;
        created.expect("created");
    }

    /// A `RemoteIstio`, or the API server's words.
    pub async fn try_create_remote_istio(&self, name: &str, spec: &Value) -> Result<(), String> {
        let resource = object("RemoteIstio", name, json!({"spec": spec}));
        let created = self.remote_istios().create(&PostParams::default(), &resource).await;
        created.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Applies YAML where an unknown field is an error, and returns what is kept.
    pub async fn apply_strictly(&self, yaml: &str) -> Value {
        let resource: kube::api::DynamicObject = serde_saphyr::from_str(yaml).expect("an object");
        let name = resource.metadata.name.clone().expect("a name");
        let strict = PatchParams::apply("a-user").validation_strict();
        let kept = self
            .remote_istios()
            .patch(&name, &strict, &Patch::Apply(&resource))
            .await;
        as_json(&kept.expect("applied"))
    }

    /// Writes a `RemoteIstio` straight into the store, past every rule of the API server.
    pub async fn store_remote_istio(&self, name: &str, spec: &Value) {
        let stored = json!({
            "apiVersion": "istio.banzaicloud.io/v1beta1",
            "kind": "RemoteIstio",
            "metadata": {
                "name": name, "namespace": self.namespace, "uid": format!("{:032x}", rand::random::<u128>()),
                "generation": 1, "creationTimestamp": "2019-03-01T00:00:00Z",
            },
            "spec": spec,
        });
        let central = self.central();
        let key = format!(
            "/{}/istio.banzaicloud.io/remoteistios/{}/{name}",
            central.name(),
            self.namespace
        );
        Etcd(central.etcd().address())
            .put(&key, &stored.to_string())
            .await
            .expect("stored");
    }

    /// Changes some fields of the spec.
    pub async fn merge_spec(&self, index: usize, fields: Value) {
        let patch = Patch::Merge(json!({"spec": fields}));
        let name = self.remote_name(index);
        let changed = self.remote_istios().patch(&name, &PatchParams::default(), &patch).await;
        changed.expect("changed");
    }

    /// Asks for its deletion; the finalizer may keep it.
    pub async fn delete_remote_istio(&self, index: usize) {
        let name = self.remote_name(index);
        let deleted = self.remote_istios().delete(&name, &DeleteParams::default()).await;
        deleted.expect("deleted");
    }

    /// Takes its finalizers away, as a person who gives the remote up would.
    pub async fn take_finalizers(&self, index: usize) {
        let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        let name = self.remote_name(index);
        let taken = self.remote_istios().patch(&name, &PatchParams::default(), &patch).await;
        taken.expect("taken");
    }

    /// Waits until it is really gone.
    pub async fn until_remote_istio_is_gone(&self, index: usize) {
        let name = self.remote_name(index);
        eventually("the RemoteIstio is gone", || async {
            match self.remote_istio(&name).await {
                None => Ok(()),
                Some(resource) => Err(resource.to_string()),
            }
        })
        .await;
    }

    /// As the API server has it.
    pub async fn remote_istio(&self, name: &str) -> Option<Value> {
        let found = self.remote_istios().get_opt(name).await.expect("central answers");
        found.as_ref().map(as_json)
    }

    fn remote_istios(&self) -> kube::Api<kube::api::DynamicObject> {
        api(&self.central_client, "RemoteIstio", &self.namespace)
    }

    /// The status of a remote's resource, nothing when there is none.
    pub async fn try_status(&self, index: usize) -> Option<Value> {
        let resource = self.remote_istio(&self.remote_name(index)).await?;
        Some(resource["status"].clone())
    }

    /// The status of a remote's resource.
    pub async fn status(&self, index: usize) -> Value {
        self.try_status(index).await.expect("a RemoteIstio")
    }

    /// One of its conditions; `null` when it has none of that type.
    pub async fn condition(&self, index: usize, kind: &str) -> Value {
        condition_of(&self.status(index).await, kind)
    }

    /// Waits for the state of a condition that speaks of the newest spec, and returns the condition.
    pub async fn until_condition(&self, index: usize, kind: &str, state: &str) -> Value {
        let name = self.remote_name(index);
        eventually(&format!("condition {kind} of {name} is {state}"), || async {
            let resource = self.remote_istio(&name).await.unwrap_or_default();
            let condition = condition_of(&resource["status"], kind);
            let current = condition["observedGeneration"] == resource["metadata"]["generation"];
            if condition["status"] == state && current {
                Ok(condition)
            } else {
                Err(format!(
                    "{} with the agent's log\n{}",
                    resource["status"],
                    self.agent_log(index)
                ))
            }
        })
        .await
    }

    /// Waits until everything of the newest spec is applied and acknowledged.
    pub async fn until_ready(&self, index: usize) {
        self.until_condition(index, "Ready", "True").await;
    }

    /// Waits until the status of a resource is as wanted, and returns it.
    pub async fn until_status_of(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(what, || async {
            let status = self.remote_istio(name).await.unwrap_or_default()["status"].clone();
            seen(wanted(&status), status).map_err(|seen| format!("{seen} with the hub's log\n{}", self.hub_log()))
        })
        .await
    }
}

pub(super) fn condition_of(status: &Value, kind: &str) -> Value {
    let conditions = status["conditions"].as_array();
    let found = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == kind);
    found.cloned().unwrap_or_default()
}
