//! Templates: what a slice, a service and an `Endpoints` object look like in the remote. The agent owns them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort as SubsetPort, EndpointSubset, Endpoints, Service, ServicePort, ServiceSpec,
};
use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use remote_istio::model::{Endpoint, EndpointSet, Key, Port, Protocol, ServiceIntent};

use super::kept::{Extra, Kept};
use super::packing::Packed;
use super::{Settings, names};

/// Port of an `Endpoints` subset where none is known, since a subset wants one; the seed's.
const PLACEHOLDER_PORT: i32 = 65_000;

/// Most addresses of an `Endpoints` object, as the built-in controller keeps it.
const ENDPOINTS_CAPACITY: usize = 1_000;

/// Names of the families in a slice.
const IPV4: &str = "IPv4";
const IPV6: &str = "IPv6";

/// One slice with what it keeps.
#[must_use]
pub fn slice(settings: &Settings, key: &Key, packed: &Packed, kept: &Kept) -> EndpointSlice {
    let mut labels = names::owner_labels(settings);
    labels.insert(
        names::SERVICE_NAME.to_owned(),
        key.name().unwrap_or_default().to_owned(),
    );
    labels.insert(names::SLICE_MANAGED_BY.to_owned(), names::AGENT.to_owned());
    let annotations = BTreeMap::from([(names::KEPT.to_owned(), kept.to_json())]);
    EndpointSlice {
        address_type: if packed.ipv6 { IPV6 } else { IPV4 }.to_owned(),
        endpoints: Some(
            packed
                .endpoints
                .iter()
                .map(|(address, endpoint)| slice_endpoint(*address, endpoint))
                .collect(),
        ),
        metadata: metadata(key.namespace(), &packed.name, labels, annotations),
        ports: Some(packed.ports.iter().map(slice_port).collect()),
    }
}

fn metadata(
    namespace: &str,
    name: &str,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
) -> ObjectMeta {
    ObjectMeta {
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        labels: Some(labels),
        annotations: (!annotations.is_empty()).then_some(annotations),
        ..ObjectMeta::default()
    }
}

fn slice_endpoint(address: IpAddr, endpoint: &Endpoint) -> SliceEndpoint {
    SliceEndpoint {
        addresses: vec![address.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(endpoint.ready),
            serving: Some(endpoint.ready),
            terminating: Some(false),
        }),
        zone: (!endpoint.zone.is_empty()).then(|| endpoint.zone.clone()),
        ..SliceEndpoint::default()
    }
}

fn slice_port(port: &Port) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone()),
        port: Some(i32::from(port.number)),
        protocol: Some(port.protocol.as_str().to_owned()),
        app_protocol: text(&port.app_protocol),
    }
}

fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Reads a slice of ours back, with what it keeps; nothing when it is not as we write them. Which of the set's port sets
/// its own ports are, only the whole set can say: here it is the first.
#[must_use]
pub fn read_slice(slice: &EndpointSlice) -> Option<(Packed, Kept)> {
    let kept = Kept::from_json(slice.metadata.annotations.as_ref()?.get(names::KEPT)?)?;
    let ports = slice
        .ports
        .iter()
        .flatten()
        .map(read_port)
        .collect::<Option<Vec<Port>>>()?;
    let mut endpoints = BTreeMap::new();
    for endpoint in slice.endpoints.iter().flatten() {
        let address: IpAddr = endpoint.addresses.first()?.parse().ok()?;
        endpoints.insert(address, read_endpoint(endpoint, kept.extra.get(&address)));
    }
    let ipv6 = slice.address_type == IPV6;
    Some((
        Packed {
            name: slice.metadata.name.clone()?,
            ipv6,
            port_set: 0,
            ports,
            endpoints,
        },
        kept,
    ))
}

fn read_endpoint(endpoint: &SliceEndpoint, extra: Option<&Extra>) -> Endpoint {
    let extra = extra.cloned().unwrap_or_default();
    Endpoint {
        ready: endpoint
            .conditions
            .as_ref()
            .and_then(|conditions| conditions.ready)
            .unwrap_or(true),
        port_set: 0,
        network: extra.network,
        zone: endpoint.zone.clone().unwrap_or_default(),
        weight: extra.weight,
    }
}

fn read_port(port: &EndpointPort) -> Option<Port> {
    Some(Port {
        name: port.name.clone().unwrap_or_default(),
        number: u16::try_from(port.port?).ok()?,
        protocol: Protocol::parse(port.protocol.as_deref().unwrap_or("TCP"))?,
        app_protocol: port.app_protocol.clone().unwrap_or_default(),
    })
}

/// A headless service without selector: only names, every address comes from the slices.
#[must_use]
pub fn service(settings: &Settings, key: &Key, intent: &ServiceIntent) -> Service {
    let port = |port: &Port| ServicePort {
        name: text(&port.name),
        port: i32::from(port.number),
        protocol: Some(port.protocol.as_str().to_owned()),
        app_protocol: text(&port.app_protocol),
        ..ServicePort::default()
    };
    Service {
        metadata: metadata(
            key.namespace(),
            key.name().unwrap_or_default(),
            names::owner_labels(settings),
            BTreeMap::new(),
        ),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            ports: (!intent.ports.is_empty()).then(|| intent.ports.iter().map(port).collect()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// The `Endpoints` object for people who look there, marked so that nobody makes slices of it.
#[must_use]
pub fn endpoints(settings: &Settings, key: &Key, set: &EndpointSet) -> Endpoints {
    let mut labels = names::owner_labels(settings);
    labels.insert(names::SKIP_MIRROR.to_owned(), "true".to_owned());
    let mut annotations = BTreeMap::new();
    if set.endpoints.len() > ENDPOINTS_CAPACITY {
        annotations.insert(names::OVER_CAPACITY.to_owned(), "truncated".to_owned());
    }
    // Ready ones first, so that they are not what is cut.
    let mut ordered: Vec<(&IpAddr, &Endpoint)> = set.endpoints.iter().collect();
    ordered.sort_by_key(|(address, endpoint)| (!endpoint.ready, **address));
    ordered.truncate(ENDPOINTS_CAPACITY);
    let mut groups: BTreeMap<u32, EndpointSubset> = BTreeMap::new();
    for (address, endpoint) in ordered {
        let subset = groups
            .entry(endpoint.port_set)
            .or_insert_with(|| subset(set, endpoint.port_set));
        let list = if endpoint.ready {
            &mut subset.addresses
        } else {
            &mut subset.not_ready_addresses
        };
        list.get_or_insert_default().push(EndpointAddress {
            ip: address.to_string(),
            ..EndpointAddress::default()
        });
    }
    Endpoints {
        metadata: metadata(key.namespace(), key.name().unwrap_or_default(), labels, annotations),
        subsets: Some(groups.into_values().collect()),
    }
}

fn subset(set: &EndpointSet, port_set: u32) -> EndpointSubset {
    let port = |port: &Port| SubsetPort {
        name: text(&port.name),
        port: i32::from(port.number),
        protocol: Some(port.protocol.as_str().to_owned()),
        app_protocol: text(&port.app_protocol),
    };
    let mut ports: Vec<SubsetPort> = set
        .port_sets
        .get(port_set as usize)
        .into_iter()
        .flatten()
        .map(port)
        .collect();
    if ports.is_empty() {
        let protocol = Some(Protocol::Tcp.as_str().to_owned());
        ports.push(SubsetPort {
            port: PLACEHOLDER_PORT,
            protocol,
            ..SubsetPort::default()
        });
    }
    EndpointSubset {
        ports: Some(ports),
        ..EndpointSubset::default()
    }
}
