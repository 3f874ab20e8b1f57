//! From one enabled service, the pods and the Service of central to what the remotes hold of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use remote_istio::limits;
use remote_istio::model::{Body, Endpoint, EndpointSet, Object, Port, PortSet, ServiceIntent};

use super::selector::Selector;
use super::view::{PodView, PortView, ServiceView, Target};

/// One enabled service, read. Equal ones of many remotes are computed once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    /// On central and in the remote.
    pub(super) namespace: String,
    /// On central and in the remote.
    pub(super) name: String,
    /// Which pods; `None`: those of the Service on central.
    pub(super) selector: Option<Selector>,
    /// Addresses that are always among the endpoints.
    pub(super) addresses: BTreeSet<IpAddr>,
    /// Empty: those of the Service on central.
    pub(super) ports: Vec<PortView>,
}

impl Entry {
    /// Whether the Service on central has a say in it.
    pub(super) fn uses_service(&self) -> bool {
        self.selector.is_none() || self.ports.is_empty()
    }

    /// Whether a pod with these labels is behind it.
    pub(super) fn selects(&self, service: Option<&ServiceView>, labels: &BTreeMap<String, String>) -> bool {
        match &self.selector {
            Some(selector) => selector.matches(labels),
            None => service
                .and_then(|service| Selector::of_service(&service.selector))
                .is_some_and(|selector| selector.matches(labels)),
        }
    }
}

/// What the remotes hold of one enabled service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Computed {
    /// Nothing where it cannot be computed.
    pub(super) endpoints: Option<Arc<Object>>,
    /// Nothing where it cannot be computed.
    pub(super) service: Option<Arc<Object>>,
    /// What is wrong.
    pub(super) problems: Vec<Fault>,
}

/// Of what cannot be computed.
pub(super) static NOTHING: Computed = Computed {
    endpoints: None,
    service: None,
    problems: Vec::new(),
};

/// A problem of one enabled service, whichever remote asks for it. Always keeps it from being carried out as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// Where the watches stood, and when the cause was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) pods: u64,
    pub(super) services: u64,
    pub(super) at: u64,
}

/// Computes `entry` anew. What has the content it had before stays the same object.
pub(super) fn compute<'a>(
    entry: &Entry,
    pods: impl Iterator<Item = &'a PodView>,
    service: Option<&ServiceView>,
    moment: Moment,
    before: Option<&Computed>,
) -> Computed {
    let ports = match service {
        _ if !entry.ports.is_empty() => entry.ports.as_slice(),
        Some(service) => service.ports.as_slice(),
        None => &[],
    };
    let mut problems: Vec<Fault> = no_pods_to_select(entry, service).into_iter().collect();
    let selector = match &entry.selector {
        Some(selector) => Some(selector.clone()),
        None => service.and_then(|service| Selector::of_service(&service.selector)),
    };
    let chosen = pods.filter(|pod| {
        let selected = || selector.as_ref().is_some_and(|selector| selector.matches(&pod.labels));
        pod.counts() && selected()
    });
    let set = endpoint_set(chosen, &entry.addresses, ports);
    let endpoints = match too_large(&set) {
        Some(fault) => {
            problems.push(fault);
            None
        }
        None => Some(same_or_new(
            before.and_then(|before| before.endpoints.as_ref()),
            moment.pods,
            moment.at,
            Body::Endpoints(set),
        )),
    };
    let intent = ServiceIntent {
        ports: ports.iter().map(|port| resolved(port, port.number)).collect(),
    };
    let service = same_or_new(
        before.and_then(|before| before.service.as_ref()),
        moment.services,
        moment.at,
        Body::Service(intent),
    );
    Computed {
        endpoints,
        service: Some(service),
        problems,
    }
}

/// Without a selector anywhere no pod is chosen: never all of them.
fn no_pods_to_select(entry: &Entry, service: Option<&ServiceView>) -> Option<Fault> {
    if entry.selector.is_some() || !entry.addresses.is_empty() {
        return None;
    }
    let Entry { namespace, name, .. } = entry;
    match service {
        None => Some(Fault {
            reason: "ServiceNotFound",
            message: format!(
                "central has no Service {namespace}/{name} to take the selector from: give labelSelector or create the Service"
            ),
        }),
        Some(service) if service.selector.is_empty() => Some(Fault {
            reason: "NoSelector",
            message: format!("the Service {namespace}/{name} of central has no selector: give labelSelector or podIPs"),
        }),
        Some(_) => None,
    }
}

fn too_large(set: &EndpointSet) -> Option<Fault> {
    let fault = |reason, message| Some(Fault { reason, message });
    let (addresses, sets) = (set.endpoints.len(), set.port_sets.len());
    if addresses > limits::ENDPOINTS_PER_SET {
        let message = format!(
            "{addresses} addresses, at most {} can be sent: narrow the selector",
            limits::ENDPOINTS_PER_SET
        );
        return fault("TooManyAddresses", message);
    }
    if sets > limits::PORT_SETS_PER_SET {
        let message = format!(
            "named target ports lead to {sets} different groups of numbers, at most {} can be sent: use numbers",
            limits::PORT_SETS_PER_SET
        );
        return fault("TooManyPorts", message);
    }
    None
}

fn endpoint_set<'a>(
    pods: impl Iterator<Item = &'a PodView>,
    statics: &BTreeSet<IpAddr>,
    ports: &[PortView],
) -> EndpointSet {
    let mut ports_by_address: BTreeMap<IpAddr, PortSet> = BTreeMap::new();
    for pod in pods {
        let of_pod = ports_of_pod(ports, pod);
        for address in &pod.addresses {
            // Pods that share their node's address: the first by name decides, whatever the order of events.
            ports_by_address.entry(*address).or_insert_with(|| of_pod.clone());
        }
    }
    for address in statics {
        ports_by_address
            .entry(*address)
            .or_insert_with(|| ports_without_pod(ports));
    }
    let mut port_sets: BTreeSet<PortSet> = ports_by_address.values().cloned().collect();
    if port_sets.is_empty() {
        port_sets.insert(ports_without_pod(ports));
    }
    if ports.is_empty() {
        port_sets.clear();
    }
    let port_sets: Vec<PortSet> = port_sets.into_iter().collect();
    let endpoint = |ports: PortSet| {
        let index = port_sets.binary_search(&ports).unwrap_or(0);
        Endpoint {
            port_set: u32::try_from(index).unwrap_or(u32::MAX),
            ..Endpoint::ready()
        }
    };
    let endpoints = ports_by_address
        .into_iter()
        .map(|(address, ports)| (address, endpoint(ports)))
        .collect();
    EndpointSet { endpoints, port_sets }
}

/// A named port that the pod does not have is left out for this pod, as Kubernetes does.
fn ports_of_pod(ports: &[PortView], pod: &PodView) -> PortSet {
    let on_pod = |port: &PortView| match &port.target {
        Target::Number(number) => Some(resolved(port, *number)),
        Target::Name(name) => {
            let named = pod
                .ports
                .iter()
                .find(|named| named.name == *name && named.protocol == port.protocol);
            named.map(|named| resolved(port, named.number))
        }
    };
    ports.iter().filter_map(on_pod).collect()
}

/// Where there is no pod to look a name up on, the service's own number stands for it.
fn ports_without_pod(ports: &[PortView]) -> PortSet {
    let number = |port: &PortView| match port.target {
        Target::Number(number) => number,
        Target::Name(_) => port.number,
    };
    ports.iter().map(|port| resolved(port, number(port))).collect()
}

fn resolved(port: &PortView, number: u16) -> Port {
    Port {
        name: port.name.clone(),
        number,
        protocol: port.protocol,
        app_protocol: port.app_protocol.clone(),
    }
}

fn same_or_new(before: Option<&Arc<Object>>, position: u64, at: u64, body: Body) -> Arc<Object> {
    let object = Object::new(position, Some(at), body);
    match before {
        Some(before) if before.version == object.version => Arc::clone(before),
        _ => Arc::new(object),
    }
}
