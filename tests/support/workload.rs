//! Pods that are exactly what a test says, on an API server without kubelet or scheduler.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// Keeps a deleted pod terminating until a test lets go of it.
const FINALIZER: &str = "tests.remote-istio.local/hold";

/// A pod to be made.
#[derive(Clone)]
pub struct NewPod {
    client: Client,
    namespace: String,
    name: String,
    labels: BTreeMap<String, String>,
    addresses: Vec<IpAddr>,
    ports: Vec<(String, u16)>,
    ready: bool,
    held: bool,
}

/// A pod that a test has made.
#[derive(Clone)]
pub struct MadePod {
    pods: Api<Pod>,
    name: String,
}

impl Cluster {
    /// Starts the description of a pod.
    #[must_use]
    pub fn pod(&self, namespace: &str, name: &str) -> NewPod {
        NewPod {
            client: self.admin(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            labels: BTreeMap::new(),
            addresses: Vec::new(),
            ports: Vec::new(),
            ready: false,
            held: false,
        }
    }
}

impl NewPod {
    /// Adds a label.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Adds an address; the second one should be of the other family.
    ///
    /// # Panics
    /// The text is no address.
    #[must_use]
    pub fn ip(mut self, address: &str) -> Self {
        self.addresses
            .push(address.parse().expect("a test writes an address here"));
        self
    }

    /// Adds a named container port.
    #[must_use]
    pub fn port(mut self, name: &str, port: u16) -> Self {
        self.ports.push((name.to_owned(), port));
        self
    }

    /// Ready from the start.
    #[must_use]
    pub fn ready(mut self) -> Self {
        self.ready = true;
        self
    }

    /// With a finalizer, so that it stays terminating when it is deleted.
    #[must_use]
    pub fn held(mut self) -> Self {
        self.held = true;
        self
    }

    /// Makes it and writes its status.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn create(self) -> Result<MadePod> {
        let ports: Vec<Value> = self
            .ports
            .iter()
            .map(|(name, port)| json!({"name": name, "containerPort": port}))
            .collect();
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {
                "name": self.name,
                "labels": self.labels,
                "finalizers": if self.held { vec![FINALIZER] } else { vec![] },
            },
            "spec": {"containers": [{"name": "main", "image": "none", "ports": ports}]},
        }))
        .context("a pod")?;
        let pods: Api<Pod> = Api::namespaced(self.client, &self.namespace);
        pods.create(&PostParams::default(), &pod)
            .await
            .with_context(|| format!("creating pod {}/{}", self.namespace, self.name))?;
        let made = MadePod { pods, name: self.name };
        made.patch_status(&status(&self.addresses, self.ready)).await?;
        Ok(made)
    }
}

impl MadePod {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Changes the Ready condition and nothing else.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn set_ready(&self, ready: bool) -> Result<()> {
        self.patch_status(&json!({"conditions": [condition(ready)]})).await
    }

    /// Gives it other addresses, as a restarted sandbox has.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn set_addresses(&self, addresses: &[IpAddr], ready: bool) -> Result<()> {
        self.patch_status(&status(addresses, ready)).await
    }

    /// Deletes it; gone at once unless it is held: then it is terminating.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn delete(&self) -> Result<()> {
        let parameters = DeleteParams::default().grace_period(0);
        self.pods
            .delete(&self.name, &parameters)
            .await
            .with_context(|| format!("deleting pod {}", self.name))?;
        Ok(())
    }

    /// Lets go of a held pod.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn release(&self) -> Result<()> {
        let patch = json!({"metadata": {"finalizers": null}});
        self.pods
            .patch(&self.name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .with_context(|| format!("letting go of pod {}", self.name))?;
        Ok(())
    }

    async fn patch_status(&self, status: &Value) -> Result<()> {
        let patch = json!({"status": status});
        self.pods
            .patch_status(&self.name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .with_context(|| format!("writing the status of pod {}", self.name))?;
        Ok(())
    }
}

fn status(addresses: &[IpAddr], ready: bool) -> Value {
    let ips: Vec<Value> = addresses.iter().map(|address| json!({"ip": address})).collect();
    json!({
        "phase": "Running",
        "podIP": addresses.first(),
        "podIPs": ips,
        "conditions": [condition(ready)],
    })
}

fn condition(ready: bool) -> Value {
    json!({"type": "Ready", "status": if ready { "True" } else { "False" }})
}

/// The pods that match a selector.
///
/// # Errors
/// The API server does not answer.
pub async fn pods(client: &Client, namespace: &str, selector: &str) -> Result<Vec<Pod>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let listed = pods.list(&ListParams::default().labels(selector)).await;
    Ok(listed
        .with_context(|| format!("listing pods {selector} in {namespace}"))?
        .items)
}

/// Ready by condition, with an address, not being deleted.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let ready = status
        .and_then(|status| status.conditions.as_ref())
        .is_some_and(|conditions| {
            conditions
                .iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True")
        });
    ready && address(pod).is_some() && pod.meta().deletion_timestamp.is_none()
}

/// The first address.
#[must_use]
pub fn address(pod: &Pod) -> Option<String> {
    pod.status.as_ref()?.pod_ip.clone()
}

/// Name and first address, for messages.
#[must_use]
pub fn described(pod: &Pod) -> String {
    format!("{} {}", pod.name_any(), address(pod).unwrap_or_default())
}
