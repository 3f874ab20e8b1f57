//! Reads the spec of a `RemoteIstio`: what is asked for, and what of it cannot be done.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use remote_istio::model::{Protocol, is_dns_label};

use super::components::{self, ComponentWanted};
use super::compute::Entry;
use super::selector::Selector;
use super::view::{PortView, Target};
use super::{Problem, Settings};
use crate::crd::{
    EnabledService, FORBIDDEN_NAMESPACES, NAMESPACES_MAX, PORTS_MAX, RemoteIstioSpec, SERVICES_MAX, ServicePort,
    TargetPort, is_static_address,
};

/// What a `RemoteIstio` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Intent {
    /// In the order of the spec; without those that have no usable name.
    pub(super) services: Vec<ServiceWanted>,
    /// Namespaces to inject.
    pub(super) injections: BTreeSet<String>,
    /// What there is at most one of, but for trust.
    pub(super) components: Vec<ComponentWanted>,
    /// Citadel is wanted, and with it a trust.
    pub(super) wants_trust: bool,
    /// What is wrong.
    pub(super) problems: Vec<Problem>,
}

/// One enabled service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServiceWanted {
    /// Where in the spec it stands.
    pub(super) field: String,
    pub(super) namespace: String,
    pub(super) name: String,
    /// `None`: it cannot be read: what was read last goes on.
    pub(super) entry: Option<Entry>,
}

/// Reads `spec`; every field has an effect or a problem.
pub(super) fn read(spec: &RemoteIstioSpec, settings: &Settings) -> Intent {
    let mut intent = Intent::default();
    let mut taken = BTreeMap::new();
    for (index, service) in spec.enabled_services.iter().take(SERVICES_MAX).enumerate() {
        let field = format!("spec.enabledServices[{index}]");
        let namespace = service.namespace.as_deref().unwrap_or(&settings.namespace);
        if let Some(problem) = unusable_name(&field, namespace, &service.name) {
            intent.problems.push(problem);
            continue;
        }
        if let Some(first) = taken.insert((namespace, &service.name), index) {
            taken.insert((namespace, &service.name), first);
            let message = format!(
                "{namespace}/{} stands at {first} already: remove one of them",
                service.name
            );
            intent.problems.push(fatal("DuplicateService", field, message));
            continue;
        }
        let entry = entry(service, namespace, settings, &field, &mut intent.problems);
        intent.services.push(ServiceWanted {
            field,
            namespace: namespace.to_owned(),
            name: service.name.clone(),
            entry,
        });
    }
    if spec.enabled_services.len() > SERVICES_MAX {
        let message = format!("only the first {SERVICES_MAX} are carried out: split the list");
        intent
            .problems
            .push(fatal("TooMany", "spec.enabledServices".to_owned(), message));
    }
    read_injections(spec, &mut intent);
    intent.components = components::read(spec, &settings.namespace, &mut intent.problems);
    intent.wants_trust = spec.citadel.is_some();
    intent
}

fn fatal(reason: &'static str, field: String, message: String) -> Problem {
    Problem {
        reason,
        field,
        message,
        fatal: true,
    }
}

fn unusable_name(field: &str, namespace: &str, name: &str) -> Option<Problem> {
    let (field, text) = match (is_dns_label(namespace), is_dns_label(name)) {
        (true, true) => return None,
        (false, _) => (format!("{field}.namespace"), namespace),
        (true, false) => (format!("{field}.name"), name),
    };
    let message = format!("{text:?} is no DNS label: use lower case letters, digits and '-', at most 63");
    Some(fatal("InvalidName", field, message))
}

fn entry(
    service: &EnabledService,
    namespace: &str,
    settings: &Settings,
    field: &str,
    problems: &mut Vec<Problem>,
) -> Option<Entry> {
    if !settings.service_namespaces.contains(namespace) {
        let served: Vec<&str> = settings.service_namespaces.iter().map(String::as_str).collect();
        let message = format!(
            "the hub does not watch namespace {namespace}, only {}: add it to the hub's service namespaces",
            served.join(", ")
        );
        problems.push(fatal("NamespaceNotServed", format!("{field}.namespace"), message));
        return None;
    }
    let selector = match service.label_selector.as_deref().map(str::trim) {
        None | Some("") => None,
        Some(text) => match Selector::parse(text) {
            Ok(selector) => Some(selector),
            Err(error) => {
                problems.push(fatal(
                    "InvalidSelector",
                    format!("{field}.labelSelector"),
                    error.to_string(),
                ));
                return None;
            }
        },
    };
    let ports = match ports(&service.ports) {
        Ok(ports) => ports,
        Err((at, message)) => {
            problems.push(fatal("InvalidPort", format!("{field}.ports[{at}]"), message));
            return None;
        }
    };
    Some(Entry {
        namespace: namespace.to_owned(),
        name: service.name.clone(),
        selector,
        addresses: addresses(&service.pod_ips, field, problems),
        ports,
    })
}

/// An address that cannot be used is left out and named; the others count.
fn addresses(texts: &[String], field: &str, problems: &mut Vec<Problem>) -> BTreeSet<IpAddr> {
    let mut addresses = BTreeSet::new();
    for (index, text) in texts.iter().enumerate() {
        let address = text.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        let message = match address {
            Some(address) if is_static_address(address) => {
                addresses.insert(address);
                continue;
            }
            Some(_) => format!("{text} cannot be reached from another cluster: use an address of a pod"),
            None => format!("{text:?} is no IP address: write e.g. 10.1.2.3 or fd00::1"),
        };
        problems.push(fatal("InvalidAddress", format!("{field}.podIPs[{index}]"), message));
    }
    addresses
}

/// The ports, or the first that cannot be used and why.
fn ports(ports: &[ServicePort]) -> Result<Vec<PortView>, (usize, String)> {
    let mut names = BTreeSet::new();
    let mut read = Vec::with_capacity(ports.len());
    for (index, port) in ports.iter().enumerate() {
        let port = port_view(port).map_err(|message| (index, message))?;
        if ports.len() > 1 && port.name.is_empty() {
            return Err((index, "has no name: name each port when there are several".to_owned()));
        }
        if !names.insert(port.name.clone()) {
            return Err((index, format!("the name {:?} is taken: use another", port.name)));
        }
        if index >= PORTS_MAX {
            return Err((index, format!("more than {PORTS_MAX} ports: remove some")));
        }
        read.push(port);
    }
    Ok(read)
}

fn port_view(port: &ServicePort) -> Result<PortView, String> {
    let number = |number: i32| {
        let usable = u16::try_from(number).ok().filter(|number| *number != 0);
        usable.ok_or_else(|| format!("{number} is no port number: use 1 to 65535"))
    };
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let own = number(port.port)?;
    Ok(PortView {
        name: port.name.clone().unwrap_or_default(),
        number: own,
        protocol: Protocol::parse(protocol)
            .ok_or_else(|| format!("{protocol:?} is no protocol: use TCP, UDP or SCTP"))?,
        app_protocol: port.app_protocol.clone().unwrap_or_default(),
        target: match &port.target_port {
            None => Target::Number(own),
            Some(TargetPort::Number(target)) => Target::Number(number(*target)?),
            Some(TargetPort::Name(name)) => Target::Name(name.clone()),
        },
    })
}

fn read_injections(spec: &RemoteIstioSpec, intent: &mut Intent) {
    for (index, namespace) in spec.auto_injection_namespaces.iter().take(NAMESPACES_MAX).enumerate() {
        let field = format!("spec.autoInjectionNamespaces[{index}]");
        if !is_dns_label(namespace) {
            let message = format!("{namespace:?} is no name of a namespace: use lower case letters, digits and '-'");
            intent.problems.push(fatal("InvalidName", field, message));
        } else if FORBIDDEN_NAMESPACES.contains(&namespace.as_str()) {
            let message = format!("{namespace} is never injected: remove it from the list");
            intent.problems.push(fatal("NamespaceForbidden", field, message));
        } else {
            intent.injections.insert(namespace.clone());
        }
    }
    if spec.auto_injection_namespaces.len() > NAMESPACES_MAX {
        let message = format!("only the first {NAMESPACES_MAX} are carried out: split the list");
        intent
            .problems
            .push(fatal("TooMany", "spec.autoInjectionNamespaces".to_owned(), message));
    }
}
