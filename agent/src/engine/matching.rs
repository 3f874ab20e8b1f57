//! Whether an observed object is as it should be. Only fields the agent writes count; what the API server or anybody
//! else adds beside them is theirs.

#[cfg(test)]
mod tests;
mod written;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, EndpointSubset, Endpoints, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort as SlicePort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Resource;

/// Whether `observed` is `wanted`, as far as the agent writes it.
#[must_use]
pub fn matches(wanted: &Resource, observed: &Resource) -> bool {
    match (wanted, observed) {
        (Resource::Service(wanted), Resource::Service(observed)) => service(wanted, observed),
        (Resource::EndpointSlice(wanted), Resource::EndpointSlice(observed)) => slice(wanted, observed),
        (Resource::Endpoints(wanted), Resource::Endpoints(observed)) => endpoints(wanted, observed),
        (Resource::ConfigMap(wanted), Resource::ConfigMap(observed)) => record(wanted, observed),
        (Resource::Deployment(wanted), Resource::Deployment(observed)) => {
            metadata(&wanted.metadata, &observed.metadata) && written::holds(&wanted.spec, &observed.spec)
        }
        (Resource::MutatingWebhook(wanted), Resource::MutatingWebhook(observed)) => {
            metadata(&wanted.metadata, &observed.metadata) && written::holds(&wanted.webhooks, &observed.webhooks)
        }
        _ => false,
    }
}

fn metadata(wanted: &ObjectMeta, observed: &ObjectMeta) -> bool {
    holds(wanted.labels.as_ref(), observed.labels.as_ref())
        && holds(wanted.annotations.as_ref(), observed.annotations.as_ref())
}

fn holds(wanted: Option<&BTreeMap<String, String>>, observed: Option<&BTreeMap<String, String>>) -> bool {
    wanted
        .into_iter()
        .flatten()
        .all(|(name, value)| observed.and_then(|observed| observed.get(name)) == Some(value))
}

fn list<T>(list: Option<&Vec<T>>) -> &[T] {
    list.map_or(&[], Vec::as_slice)
}

fn same<T>(wanted: &[T], observed: &[T], alike: impl Fn(&T, &T) -> bool) -> bool {
    wanted.len() == observed.len()
        && wanted
            .iter()
            .zip(observed)
            .all(|(wanted, observed)| alike(wanted, observed))
}

fn same_map(wanted: Option<&BTreeMap<String, String>>, observed: Option<&BTreeMap<String, String>>) -> bool {
    holds(wanted, observed) && holds(observed, wanted)
}

/// Absent and empty are the same to the API server.
fn text(text: Option<&String>) -> &str {
    text.map_or("", String::as_str)
}

fn protocol(protocol: Option<&String>) -> &str {
    protocol.map_or("TCP", String::as_str)
}

fn slice(wanted: &EndpointSlice, observed: &EndpointSlice) -> bool {
    let endpoint = |wanted: &Endpoint, observed: &Endpoint| {
        wanted.addresses == observed.addresses
            && wanted.conditions == observed.conditions
            && wanted.zone == observed.zone
            && observed.target_ref.is_none()
            && observed.hostname.is_none()
    };
    let port = |wanted: &SlicePort, observed: &SlicePort| {
        text(wanted.name.as_ref()) == text(observed.name.as_ref())
            && wanted.port == observed.port
            && protocol(wanted.protocol.as_ref()) == protocol(observed.protocol.as_ref())
            && text(wanted.app_protocol.as_ref()) == text(observed.app_protocol.as_ref())
    };
    metadata(&wanted.metadata, &observed.metadata)
        && wanted.address_type == observed.address_type
        && same(
            list(wanted.endpoints.as_ref()),
            list(observed.endpoints.as_ref()),
            endpoint,
        )
        && same(list(wanted.ports.as_ref()), list(observed.ports.as_ref()), port)
}

fn service(wanted: &Service, observed: &Service) -> bool {
    let (Some(wanted_spec), Some(observed_spec)) = (&wanted.spec, &observed.spec) else {
        return false;
    };
    let port = |wanted: &ServicePort, observed: &ServicePort| {
        text(wanted.name.as_ref()) == text(observed.name.as_ref())
            && wanted.port == observed.port
            && protocol(wanted.protocol.as_ref()) == protocol(observed.protocol.as_ref())
            && text(wanted.app_protocol.as_ref()) == text(observed.app_protocol.as_ref())
            && (wanted.target_port.is_none() || wanted.target_port == observed.target_port)
    };
    let address = wanted_spec.cluster_ip.is_none() || wanted_spec.cluster_ip == observed_spec.cluster_ip;
    metadata(&wanted.metadata, &observed.metadata)
        && address
        && same_map(wanted_spec.selector.as_ref(), observed_spec.selector.as_ref())
        && same(
            list(wanted_spec.ports.as_ref()),
            list(observed_spec.ports.as_ref()),
            port,
        )
}

fn endpoints(wanted: &Endpoints, observed: &Endpoints) -> bool {
    let annotation = |endpoints: &Endpoints| {
        let annotations = endpoints.metadata.annotations.as_ref();
        annotations
            .and_then(|annotations| annotations.get(super::names::OVER_CAPACITY))
            .cloned()
    };
    metadata(&wanted.metadata, &observed.metadata)
        && annotation(wanted) == annotation(observed)
        && pairs(wanted) == pairs(observed)
}

/// One address with one of its ports, and whether it is ready.
type Pair<'a> = (&'a str, i32, &'a str, &'a str, bool);

/// What the subsets say, however they are cut: the API server packs them anew.
fn pairs(endpoints: &Endpoints) -> BTreeSet<Pair<'_>> {
    endpoints.subsets.iter().flatten().flat_map(subset_pairs).collect()
}

fn subset_pairs(subset: &EndpointSubset) -> Vec<Pair<'_>> {
    let ready = subset.addresses.iter().flatten().map(|address| (address, true));
    let not_ready = subset
        .not_ready_addresses
        .iter()
        .flatten()
        .map(|address| (address, false));
    let addresses: Vec<_> = ready.chain(not_ready).collect();
    let mut pairs = Vec::new();
    for port in subset.ports.iter().flatten() {
        for (address, is_ready) in &addresses {
            let (name, protocol) = (text(port.name.as_ref()), protocol(port.protocol.as_ref()));
            pairs.push((name, port.port, protocol, address.ip.as_str(), *is_ready));
        }
    }
    pairs
}

fn record(wanted: &ConfigMap, observed: &ConfigMap) -> bool {
    metadata(&wanted.metadata, &observed.metadata)
        && holds(wanted.data.as_ref(), observed.data.as_ref())
        && wanted.binary_data == observed.binary_data
}
