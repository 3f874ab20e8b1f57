mod components;
mod lifecycle;
mod order;
mod pods;
mod remotes;
mod services;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use remote_istio::model::{Body, EndpointSet, Lane, Object, Port, Protocol, ServiceIntent, Snapshot};

use super::*;
use crate::crd::{EnabledService, RemoteIstioSpec, ServicePort, TargetPort};

const NAMESPACE: &str = "istio-system";

fn name(text: &str) -> RemoteName {
    RemoteName::new(text).expect("a DNS label")
}

fn touched(names: &[&str]) -> Touched {
    names.iter().map(|text| name(text)).collect()
}

fn labels(text: &str) -> BTreeMap<String, String> {
    let pair = |pair: &str| pair.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
    text.split(',').filter_map(pair).collect()
}

/// A ready pod with one address.
fn pod(name: &str, of: &str, address: &str) -> PodView {
    PodView {
        namespace: NAMESPACE.to_owned(),
        name: name.to_owned(),
        labels: labels(of),
        ready: true,
        addresses: [address.parse().expect("an address")].into(),
        ..PodView::default()
    }
}

fn pilot(number: u8) -> PodView {
    pod(&format!("pilot-{number}"), "istio=pilot", &format!("10.0.0.{number}"))
}

fn service(name: &str, selector: &str, ports: &[PortView]) -> ServiceView {
    ServiceView {
        namespace: NAMESPACE.to_owned(),
        name: name.to_owned(),
        selector: labels(selector),
        ports: ports.to_vec(),
        position: 0,
    }
}

fn port(name: &str, number: u16, target: Target) -> PortView {
    PortView {
        name: name.to_owned(),
        number,
        protocol: Protocol::Tcp,
        app_protocol: String::new(),
        target,
    }
}

fn number(name: &str, number: u16) -> Port {
    Port {
        name: name.to_owned(),
        number,
        protocol: Protocol::Tcp,
        app_protocol: String::new(),
    }
}

fn enabled(name: &str, selector: &str) -> EnabledService {
    EnabledService {
        name: name.to_owned(),
        label_selector: Some(selector.to_owned()).filter(|selector| !selector.is_empty()),
        ..EnabledService::default()
    }
}

/// A `RemoteIstio` of generation 1.
fn remote(name: &str, services: &[EnabledService]) -> RemoteView {
    let mut object = RemoteIstio::new(
        name,
        RemoteIstioSpec {
            enabled_services: services.to_vec(),
            ..RemoteIstioSpec::default()
        },
    );
    object.metadata.uid = Some(format!("uid-{name}"));
    object.metadata.generation = Some(1);
    RemoteView::new(object).expect("a DNS label")
}

fn edited(view: &RemoteView, edit: impl FnOnce(&mut RemoteIstio)) -> RemoteView {
    let mut object = RemoteIstio::clone(&view.object);
    object.metadata.generation = object.metadata.generation.map(|generation| generation + 1);
    edit(&mut object);
    RemoteView {
        object: Arc::new(object),
        ..view.clone()
    }
}

fn deleting(view: &RemoteView) -> RemoteView {
    edited(view, |object| {
        object.metadata.deletion_timestamp = Some(Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH));
    })
}

/// Nothing holds the deletion of this remote.
fn withdrawn(index: &mut Index, name: &str) -> Touched {
    index.rulings(ruled(name, Ruling::Withdrawn), 3)
}

fn ruled(remote: &str, ruling: Ruling) -> Rulings {
    [(name(remote), (format!("uid-{remote}"), ruling))].into()
}

fn empty() -> Index {
    Index::new(Settings {
        namespace: NAMESPACE.to_owned(),
        service_namespaces: [NAMESPACE.to_owned(), "other".to_owned()].into(),
    })
}

/// Everything listed: these pods, Services and remotes; positions 100.
fn index(pods: &[PodView], services: &[ServiceView], remotes: &[RemoteView]) -> Index {
    let mut index = empty();
    index.pods_listed(NAMESPACE, pods.to_vec(), 100, 1);
    index.services_listed(NAMESPACE, services.to_vec(), 100, 1);
    index.remotes_listed(remotes.to_vec(), 1);
    index
}

fn desired(index: &Index, remote: &str) -> Arc<Desired> {
    index.desired(&name(remote)).expect("a RemoteIstio of that name")
}

fn lane(index: &Index, remote: &str, lane: Lane) -> Arc<Snapshot> {
    Arc::clone(&desired(index, remote).lanes[&lane])
}

fn object(index: &Index, remote: &str, key: &Key) -> Option<Arc<Object>> {
    lane(index, remote, key.lane()).objects().get(key).cloned()
}

fn set(index: &Index, remote: &str, service: &str) -> EndpointSet {
    let object = object(index, remote, &Key::endpoints(NAMESPACE, service)).expect("the service is sent");
    object.endpoints().expect("endpoints").clone()
}

fn intent(index: &Index, remote: &str, service: &str) -> ServiceIntent {
    let object = object(index, remote, &Key::service(NAMESPACE, service)).expect("the service is sent");
    match &object.body {
        Body::Service(intent) => intent.clone(),
        other => panic!("{other:?} is no service"),
    }
}

fn addresses(index: &Index, remote: &str, service: &str) -> Vec<String> {
    let set = set(index, remote, service);
    set.endpoints.keys().map(IpAddr::to_string).collect()
}

fn problems(index: &Index, remote: &str) -> Vec<(&'static str, String, bool)> {
    let desired = desired(index, remote);
    let short = |problem: &Problem| (problem.reason, problem.field.clone(), problem.fatal);
    desired.problems.iter().map(short).collect()
}
