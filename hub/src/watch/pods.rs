//! Pods, with only the fields that matter here.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use remote_istio::model::Protocol;
use serde::Deserialize;
use tracing::{debug, info};

use super::follow::{Sink, position};
use crate::index::{NamedPort, PodView, Touched};
use crate::state::State;

/// A pod, a tenth of the size of the whole. Never to be written back.
#[derive(kube::Resource, Clone, Debug, Default, Deserialize)]
#[resource(inherit = Pod)]
pub(super) struct SlimPod {
    #[serde(default)]
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    spec: SlimSpec,
    #[serde(default)]
    status: SlimStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SlimSpec {
    containers: Vec<SlimContainer>,
    init_containers: Vec<SlimContainer>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SlimContainer {
    ports: Vec<SlimPort>,
    restart_policy: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SlimPort {
    name: String,
    container_port: i32,
    protocol: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SlimStatus {
    phase: String,
    conditions: Vec<SlimCondition>,
    #[serde(rename = "podIP")]
    pod_ip: String,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<SlimAddress>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct SlimCondition {
    r#type: String,
    status: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct SlimAddress {
    ip: String,
}

impl SlimPod {
    /// What the index needs of it.
    pub(super) fn view(self) -> PodView {
        let Self { metadata, spec, status } = self;
        let texts = status.pod_ips.iter().map(|address| &address.ip).chain([&status.pod_ip]);
        let addresses = texts
            .filter_map(|text| text.parse::<IpAddr>().ok())
            .map(|address| address.to_canonical());
        PodView {
            namespace: metadata.namespace.unwrap_or_default(),
            name: metadata.name.unwrap_or_default(),
            labels: metadata.labels.unwrap_or_default(),
            ready: status.is_ready(),
            terminating: metadata.deletion_timestamp.is_some(),
            addresses: addresses.collect(),
            ports: spec.named_ports(),
            position: position(&metadata.resource_version.unwrap_or_default()),
        }
    }
}

impl SlimStatus {
    fn is_ready(&self) -> bool {
        let mut conditions = self.conditions.iter();
        conditions.any(|condition| condition.r#type == "Ready" && condition.status == "True")
    }
}

impl SlimSpec {
    /// As Kubernetes looks them up: those of the containers, then those of the init containers that keep running.
    fn named_ports(&self) -> Vec<NamedPort> {
        let sidecars = self.init_containers.iter();
        let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
        let ports = self
            .containers
            .iter()
            .chain(sidecars)
            .flat_map(|container| &container.ports);
        let named = ports.filter(|port| !port.name.is_empty()).filter_map(|port| {
            Some(NamedPort {
                name: port.name.clone(),
                number: u16::try_from(port.container_port).ok()?,
                protocol: Protocol::parse(port.protocol.as_deref().unwrap_or("TCP"))?,
            })
        });
        named.collect()
    }
}

/// Feeds the index with the pods of one namespace.
pub(super) struct PodSink {
    namespace: String,
    state: Arc<State>,
}

impl PodSink {
    pub(super) fn new(namespace: &str, state: Arc<State>) -> Self {
        Self {
            namespace: namespace.to_owned(),
            state,
        }
    }
}

impl Sink<SlimPod> for PodSink {
    fn listed(&self, objects: Vec<SlimPod>, position: u64, at: u64) {
        let pods = objects.into_iter().map(SlimPod::view).collect();
        self.state
            .update(|index| index.pods_listed(&self.namespace, pods, position, at));
    }

    fn applied(&self, object: SlimPod, at: u64) {
        let phase = object.status.phase.clone();
        let view = object.view();
        self.state.update(|index| {
            let event = Event::of(&view, &phase);
            let touched = index.pod_applied(view, at);
            event.log(!touched.is_empty());
            touched
        });
    }

    fn deleted(&self, object: &SlimPod, at: u64) {
        let view = object.clone().view();
        self.state.update(|index| {
            let touched = index.pod_deleted(&view.namespace, &view.name, view.position, at);
            Event::of(&view, "Deleted").log(!touched.is_empty());
            touched
        });
    }

    fn reached(&self, position: u64) {
        self.state.update(|index| {
            index.pods_reached(&self.namespace, position);
            Touched::new()
        });
    }
}

/// One event as the log tells it.
struct Event {
    pod: String,
    addresses: BTreeSet<IpAddr>,
    phase: String,
    ready: bool,
    terminating: bool,
}

impl Event {
    fn of(view: &PodView, phase: &str) -> Self {
        Self {
            pod: format!("{}/{}", view.namespace, view.name),
            addresses: view.addresses.clone(),
            phase: phase.to_owned(),
            ready: view.ready,
            terminating: view.terminating,
        }
    }

    /// A state change where it concerns a remote, else a detail.
    fn log(self, touches: bool) {
        let Self {
            pod,
            addresses,
            phase,
            ready,
            terminating,
        } = self;
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let ip = addresses.join(",");
        if touches {
            info!(%pod, %ip, %phase, ready, terminating, "pod event detected");
        } else {
            debug!(%pod, %ip, %phase, ready, terminating, "pod event detected");
        }
    }
}
