//! Objects: endpoint sets, services, injection; also the form in which an agent keeps them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::component;
use crate::lane::{NackReason, Payload};
use crate::limits;
use crate::model::{
    Body, Component, Endpoint, EndpointPatch, EndpointSet, Key, Lane, Object, Port, PortSet, Protocol, ServiceIntent,
    Version,
};
use crate::wire::v1;

/// Why an object does not read, with the reason to nack it by.
pub type Unread = (NackReason, String);

/// Writes an object whole, as one upsert whatever its size: the form in which it is kept.
#[must_use]
pub fn write_upsert(key: &Key, object: &Object) -> v1::Upsert {
    let body = match &object.body {
        Body::Endpoints(set) => v1::upsert::Object::Endpoints(write_set(set)),
        Body::Service(service) => v1::upsert::Object::Service(v1::Service {
            ports: service.ports.iter().map(write_port).collect(),
        }),
        Body::Injection => v1::upsert::Object::Injection(v1::InjectionNamespace {}),
        Body::Mesh(mesh) => v1::upsert::Object::Mesh(*mesh),
        Body::Trust(trust) => v1::upsert::Object::Trust(trust.clone()),
        Body::Citadel(citadel) => v1::upsert::Object::Citadel(citadel.as_ref().clone()),
        Body::Injector(injector) => v1::upsert::Object::Injector(injector.as_ref().clone()),
        Body::Rules(rules) => v1::upsert::Object::Rules(*rules),
    };
    v1::Upsert {
        key: key.to_string(),
        version: object.version.as_bytes().to_vec(),
        position: object.position,
        object: Some(body),
    }
}

/// Reads an upsert that stands under `key`.
///
/// # Errors
/// The reason and the words to nack it with.
pub fn read_upsert(lane: Lane, key: &Key, upsert: v1::Upsert) -> Result<Payload, Unread> {
    let invalid = |text: String| (NackReason::Invalid, text);
    if key.lane() != lane {
        return Err(invalid(format!("{key} does not travel on lane {lane}")));
    }
    let version = Version::from_bytes(&upsert.version).ok_or_else(|| invalid("a version has 16 bytes".to_owned()))?;
    let position = upsert.position;
    let full = |body| Payload::Full(Arc::new(Object::received(version, position, body)));
    match (upsert.object, key) {
        (Some(v1::upsert::Object::Endpoints(set)), Key::Endpoints { .. }) => Ok(full(Body::Endpoints(read_set(set)?))),
        (Some(v1::upsert::Object::EndpointPatch(patch)), Key::Endpoints { .. }) => {
            let base = Version::from_bytes(&patch.base).ok_or_else(|| invalid("a base has 16 bytes".to_owned()))?;
            Ok(Payload::Patch {
                base,
                patch: read_patch(patch)?,
                version,
                position,
            })
        }
        (Some(v1::upsert::Object::Service(service)), Key::Service { .. }) => Ok(full(Body::Service(ServiceIntent {
            ports: read_ports(service.ports)?,
        }))),
        (Some(v1::upsert::Object::Injection(_)), Key::Injection { .. }) => Ok(full(Body::Injection)),
        (Some(object), Key::Component { component, .. }) => Ok(full(read_component(*component, key, object)?)),
        (None, _) => Err((
            NackReason::UnknownKind,
            "this release does not know what the object is".to_owned(),
        )),
        (Some(_), _) => Err(invalid(format!("the object is not of the kind that key {key} names"))),
    }
}

fn read_component(component: Component, key: &Key, object: v1::upsert::Object) -> Result<Body, Unread> {
    use v1::upsert::Object as Wire;
    let body = match (component, object) {
        (Component::Mesh, Wire::Mesh(mesh)) => Body::Mesh(mesh),
        (Component::Trust, Wire::Trust(trust)) => Body::Trust(component::read_trust(trust)?),
        (Component::Citadel, Wire::Citadel(citadel)) => Body::Citadel(Box::new(component::read_citadel(citadel)?)),
        (Component::Injector, Wire::Injector(injector)) => {
            Body::Injector(Box::new(component::read_injector(injector)?))
        }
        (Component::Rules, Wire::Rules(rules)) => Body::Rules(component::read_rules(rules)?),
        _ => {
            let text = format!("the object is not of the kind that key {key} names");
            return Err((NackReason::Invalid, text));
        }
    };
    Ok(body)
}

pub(super) fn write_set(set: &EndpointSet) -> v1::EndpointSet {
    v1::EndpointSet {
        endpoints: set
            .endpoints
            .iter()
            .map(|(address, endpoint)| write_endpoint(*address, endpoint))
            .collect(),
        port_sets: write_port_sets(set),
        continues: false,
    }
}

pub(super) fn write_port_sets(set: &EndpointSet) -> Vec<v1::PortSet> {
    set.port_sets
        .iter()
        .map(|ports| v1::PortSet {
            ports: ports.iter().map(write_port).collect(),
        })
        .collect()
}

pub(super) fn write_endpoint(address: IpAddr, endpoint: &Endpoint) -> v1::Endpoint {
    v1::Endpoint {
        address: address.to_string(),
        ready: endpoint.ready,
        port_set: endpoint.port_set,
        network: endpoint.network.clone(),
        zone: endpoint.zone.clone(),
        weight: endpoint.weight,
    }
}

pub(super) fn write_patch(base: Version, patch: &EndpointPatch) -> v1::EndpointPatch {
    v1::EndpointPatch {
        base: base.as_bytes().to_vec(),
        upserts: patch
            .upserts
            .iter()
            .map(|(address, endpoint)| write_endpoint(*address, endpoint))
            .collect(),
        removals: patch.removals.iter().map(ToString::to_string).collect(),
    }
}

fn write_port(port: &Port) -> v1::Port {
    v1::Port {
        name: port.name.clone(),
        number: u32::from(port.number),
        protocol: port.protocol.as_str().to_owned(),
        app_protocol: port.app_protocol.clone(),
    }
}

fn read_set(set: v1::EndpointSet) -> Result<EndpointSet, Unread> {
    bounded("endpoints", set.endpoints.len(), limits::ENDPOINTS_PER_SET)?;
    bounded("port sets", set.port_sets.len(), limits::PORT_SETS_PER_SET)?;
    let port_sets: Vec<PortSet> = set
        .port_sets
        .into_iter()
        .map(|ports| read_ports(ports.ports))
        .collect::<Result<_, _>>()?;
    let mut read = EndpointSet {
        endpoints: BTreeMap::new(),
        port_sets,
    };
    for endpoint in set.endpoints {
        let (address, endpoint) = read_endpoint(endpoint)?;
        if !read.has_port_set(endpoint.port_set) {
            return Err((
                NackReason::Invalid,
                format!("endpoint {address} refers to ports that the set does not have"),
            ));
        }
        if read.endpoints.insert(address, endpoint).is_some() {
            return Err((
                NackReason::Invalid,
                format!("endpoint {address} stands twice in the set"),
            ));
        }
    }
    Ok(read)
}

fn read_patch(patch: v1::EndpointPatch) -> Result<EndpointPatch, Unread> {
    bounded(
        "patched endpoints",
        patch.upserts.len() + patch.removals.len(),
        limits::ENDPOINTS_PER_SET,
    )?;
    let upserts = patch
        .upserts
        .into_iter()
        .map(read_endpoint)
        .collect::<Result<BTreeMap<_, _>, _>>()?;
    let removals = patch
        .removals
        .iter()
        .map(|text| read_address(text))
        .collect::<Result<BTreeSet<_>, _>>()?;
    if let Some(both) = removals.iter().find(|address| upserts.contains_key(*address)) {
        return Err((NackReason::Invalid, format!("the patch both adds and removes {both}")));
    }
    Ok(EndpointPatch { upserts, removals })
}

fn read_endpoint(endpoint: v1::Endpoint) -> Result<(IpAddr, Endpoint), Unread> {
    let address = read_address(&endpoint.address)?;
    for text in [&endpoint.network, &endpoint.zone] {
        bounded("bytes of a network or zone", text.len(), limits::NAME_MAX_BYTES)?;
    }
    let v1::Endpoint {
        ready,
        port_set,
        network,
        zone,
        weight,
        ..
    } = endpoint;
    Ok((
        address,
        Endpoint {
            ready,
            port_set,
            network,
            zone,
            weight,
        },
    ))
}

fn read_address(text: &str) -> Result<IpAddr, Unread> {
    text.parse().map_err(|_| {
        let text: String = text.chars().take(60).collect();
        (NackReason::Invalid, format!("{text:?} is not an IP address"))
    })
}

fn read_ports(ports: Vec<v1::Port>) -> Result<PortSet, Unread> {
    bounded("ports", ports.len(), limits::PORTS_PER_SET)?;
    ports.into_iter().map(read_port).collect()
}

fn read_port(port: v1::Port) -> Result<Port, Unread> {
    for text in [&port.name, &port.app_protocol] {
        bounded("bytes of a port's name or protocol", text.len(), limits::NAME_MAX_BYTES)?;
    }
    let number = u16::try_from(port.number).ok().filter(|number| *number > 0);
    let number = number.ok_or_else(|| (NackReason::Invalid, format!("{} is not a port number", port.number)))?;
    let protocol = Protocol::parse(&port.protocol)
        .ok_or_else(|| (NackReason::Invalid, "a port's protocol is TCP, UDP or SCTP".to_owned()))?;
    Ok(Port {
        name: port.name,
        number,
        protocol,
        app_protocol: port.app_protocol,
    })
}

pub(super) fn bounded(what: &str, count: usize, limit: usize) -> Result<(), Unread> {
    if count <= limit {
        Ok(())
    } else {
        Err((
            NackReason::TooLarge,
            format!("{count} {what}, at most {limit} are allowed"),
        ))
    }
}
