//! Services, with only the fields that matter here.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use remote_istio::model::Protocol;
use serde::Deserialize;

use super::follow::{Sink, position};
use crate::index::{PortView, ServiceView, Target, Touched};
use crate::state::State;

/// A Service. Never to be written back.
#[derive(kube::Resource, Clone, Debug, Default, Deserialize)]
#[resource(inherit = Service)]
pub(super) struct SlimService {
    #[serde(default)]
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    spec: SlimSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct SlimSpec {
    selector: BTreeMap<String, String>,
    ports: Vec<SlimPort>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SlimPort {
    name: String,
    port: i32,
    protocol: Option<String>,
    app_protocol: Option<String>,
    target_port: Option<IntOrString>,
}

impl SlimService {
    /// What the index needs of it.
    pub(super) fn view(self) -> ServiceView {
        let Self { metadata, spec } = self;
        ServiceView {
            namespace: metadata.namespace.unwrap_or_default(),
            name: metadata.name.unwrap_or_default(),
            selector: spec.selector,
            ports: spec.ports.into_iter().filter_map(SlimPort::view).collect(),
            position: position(&metadata.resource_version.unwrap_or_default()),
        }
    }
}

impl SlimPort {
    /// The API server has checked the numbers; nothing is only said of what it should not have let through.
    fn view(self) -> Option<PortView> {
        let number = u16::try_from(self.port).ok().filter(|number| *number != 0)?;
        let target = match self.target_port {
            Some(IntOrString::String(name)) if !name.is_empty() => Target::Name(name),
            Some(IntOrString::Int(target)) if target != 0 => Target::Number(u16::try_from(target).ok()?),
            _ => Target::Number(number),
        };
        Some(PortView {
            name: self.name,
            number,
            protocol: Protocol::parse(self.protocol.as_deref().unwrap_or("TCP"))?,
            app_protocol: self.app_protocol.unwrap_or_default(),
            target,
        })
    }
}

/// Feeds the index with the Services of one namespace.
pub(super) struct ServiceSink {
    namespace: String,
    state: Arc<State>,
}

impl ServiceSink {
    pub(super) fn new(namespace: &str, state: Arc<State>) -> Self {
        Self {
            namespace: namespace.to_owned(),
            state,
        }
    }
}

impl Sink<SlimService> for ServiceSink {
    fn listed(&self, objects: Vec<SlimService>, position: u64, at: u64) {
        let services = objects.into_iter().map(SlimService::view).collect();
        self.state
            .update(|index| index.services_listed(&self.namespace, services, position, at));
    }

    fn applied(&self, object: SlimService, at: u64) {
        self.state.update(|index| index.service_applied(object.view(), at));
    }

    fn deleted(&self, object: &SlimService, at: u64) {
        let view = object.clone().view();
        self.state
            .update(|index| index.service_deleted(&view.namespace, &view.name, view.position, at));
    }

    fn reached(&self, position: u64) {
        self.state.update(|index| {
            index.services_reached(&self.namespace, position);
            Touched::new()
        });
    }
}
