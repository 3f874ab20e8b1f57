//! The judgement of one object.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{EVERY_NAMESPACE, KUBERNETES_NAMESPACES, Policy, Range, Refusal, Runs, image};
use crate::model::{Body, Component, EndpointSet, Key};
use crate::wire::v1;

/// Where clouds hand out credentials to whoever asks, beside the link-local address of most.
const METADATA_SERVICES: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Where everything that can be changed is changed.
const CHANGE: &str = "in the remote's policy (the agent's flag --policy)";

fn refused(rule: &'static str, detail: String) -> Result<(), Refusal> {
    Err(Refusal { rule, detail })
}

impl Policy {
    /// Whether the remote lets the hub ask for this object. `own_namespace`: the agent's.
    ///
    /// # Errors
    /// What it breaks, and what to change where.
    pub fn judge(&self, own_namespace: &str, key: &Key, body: &Body) -> Result<(), Refusal> {
        let namespace = key.namespace();
        if KUBERNETES_NAMESPACES.contains(&namespace) {
            let detail = format!("namespace {namespace} belongs to Kubernetes, nothing is written there");
            return refused("namespace-reserved", detail);
        }
        match (key, body) {
            (Key::Injection { namespace }, Body::Injection) => self.injection(own_namespace, namespace),
            (Key::Service { namespace, name }, Body::Service(_)) => self.service(own_namespace, namespace, name),
            (Key::Endpoints { namespace, name }, Body::Endpoints(set)) => {
                self.service(own_namespace, namespace, name)?;
                self.endpoints(set)
            }
            (Key::Component { component, namespace }, body) => {
                self.component(own_namespace, *component, namespace, body)
            }
            (key, _) => refused(
                "content-mismatch",
                format!("the content of {key} is not what its key says"),
            ),
        }
    }

    /// Whether services may be written into a namespace.
    #[must_use]
    pub fn serves(&self, namespace: &str) -> bool {
        self.namespaces.contains(namespace)
    }

    fn injection(&self, own_namespace: &str, namespace: &str) -> Result<(), Refusal> {
        if namespace == own_namespace {
            let detail = format!("namespace {namespace} is the agent's own and is never injected");
            return refused("injection-own-namespace", detail);
        }
        let allowed = &self.injection_namespaces;
        if allowed.contains(EVERY_NAMESPACE) || allowed.contains(namespace) {
            return Ok(());
        }
        let detail =
            format!("sidecars may not be injected into namespace {namespace}: add it to injectionNamespaces {CHANGE}");
        refused("injection-not-allowed", detail)
    }

    fn service(&self, own_namespace: &str, namespace: &str, name: &str) -> Result<(), Refusal> {
        if !self.serves(namespace) {
            let detail = format!(
                "namespace {namespace} is not among those services may be written into: add it to the agent's flag \
                 --service-namespaces, and to namespaces {CHANGE}"
            );
            return refused("namespace-not-allowed", detail);
        }
        // Also what may not be run: what stands of it is left as it stands, and it may be allowed later.
        let taken = Runs::ALL.into_iter().find(|runs| runs.workload() == name);
        if let Some(runs) = taken.filter(|_| namespace == own_namespace) {
            let detail = format!(
                "service {name} of namespace {namespace} is kept for the remote's own {}: take it out of the enabled \
                 services",
                runs.as_str()
            );
            return refused("name-reserved", detail);
        }
        Ok(())
    }

    fn endpoints(&self, set: &EndpointSet) -> Result<(), Refusal> {
        set.endpoints.keys().try_for_each(|address| self.address(*address))
    }

    fn address(&self, address: IpAddr) -> Result<(), Refusal> {
        let meant = translated(address).unwrap_or(address);
        if let Some((rule, what)) = misuse(address).or_else(|| misuse(meant)) {
            return refused(
                rule,
                format!("address {address} is {what}, traffic is never sent there"),
            );
        }
        let lies_in = |range: &&Range| range.contains(address) || range.contains(meant);
        if let Some(range) = self.refused_ranges.iter().find(lies_in) {
            let detail = format!(
                "address {address} lies in {range}, the remote's own services or API server: traffic is never sent there"
            );
            return refused("address-service-range", detail);
        }
        let is_allowed =
            self.endpoint_ranges.is_empty() || self.endpoint_ranges.iter().any(|range| range.contains(address));
        if is_allowed {
            return Ok(());
        }
        let detail =
            format!("address {address} lies outside of the allowed ranges: add its range to endpointRanges {CHANGE}");
        refused("address-not-allowed", detail)
    }

    fn component(
        &self,
        own_namespace: &str,
        component: Component,
        namespace: &str,
        body: &Body,
    ) -> Result<(), Refusal> {
        if namespace != own_namespace {
            let detail = format!(
                "components are run in the agent's own namespace {own_namespace}, not in {namespace}: create the \
                 RemoteIstio in a namespace of that name, or run the agent in {namespace}"
            );
            return refused("component-namespace", detail);
        }
        match (component, body) {
            (Component::Rules, Body::Rules(_)) => Ok(()),
            (Component::Mesh, Body::Mesh(_)) => self.runs(&Runs::ALL),
            (Component::Trust, Body::Trust(_)) => self.runs(&[Runs::Citadel]),
            (Component::Citadel, Body::Citadel(citadel)) => {
                self.runs(&[Runs::Citadel])?;
                self.image(
                    "citadel.image",
                    workload_image(citadel.workload.as_ref()),
                    image::CITADEL,
                )
            }
            (Component::Injector, Body::Injector(injector)) => self.injector(injector),
            _ => refused(
                "content-mismatch",
                format!(
                    "the content of {}/{namespace} is not what its key says",
                    component.as_str()
                ),
            ),
        }
    }

    fn injector(&self, injector: &v1::SidecarInjector) -> Result<(), Refusal> {
        self.runs(&[Runs::SidecarInjector])?;
        let own = workload_image(injector.workload.as_ref());
        self.image("sidecarInjector.image", own, image::SIDECAR_INJECTOR)?;
        let proxy = injector.proxy.clone().unwrap_or_default();
        self.image("proxy.image", &proxy.image, image::PROXY)?;
        self.image("proxyInit.image", &proxy.init_image, image::PROXY_INIT)?;
        if proxy.privileged && !self.privileged_proxy {
            let detail = format!("sidecars may not be privileged: set privilegedProxy: true {CHANGE}");
            return refused("privileged-proxy", detail);
        }
        Ok(())
    }

    /// Whether one of these may be run.
    fn runs(&self, one_of: &[Runs]) -> Result<(), Refusal> {
        if one_of.iter().any(|runs| self.components.contains(runs)) {
            return Ok(());
        }
        let names: Vec<&str> = one_of.iter().map(|runs| runs.as_str()).collect();
        let detail = format!(
            "the remote does not run {}: add it to components {CHANGE}",
            names.join(" or ")
        );
        refused("component-not-allowed", detail)
    }

    /// `default`: what the agent takes where nothing is asked for. That must be allowed too.
    fn image(&self, field: &str, asked: &str, default: &str) -> Result<(), Refusal> {
        let name = if asked.is_empty() { default } else { asked };
        if !image::is_name(name) {
            return refused("image-name", format!("{field} {name:?} is no name of an image"));
        }
        if self.image_registries.iter().any(|prefix| image::is_under(name, prefix)) {
            return Ok(());
        }
        let detail = format!(
            "{field} {} lies outside of the allowed registries: add its registry to imageRegistries {CHANGE}",
            image::normalised(name)
        );
        refused("image-registry", detail)
    }
}

fn workload_image(workload: Option<&v1::Workload>) -> &str {
    workload.map_or("", |workload| workload.image.as_str())
}

/// The IPv4 address that the well-known prefix of NAT64 translates this one to.
fn translated(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(v6) = address else { return None };
    match v6.octets() {
        [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] => Some(Ipv4Addr::new(a, b, c, d).into()),
        _ => None,
    }
}

/// Whether an IPv4 address is written as IPv6: after `::ffff:`, or, as once was done, after `::`.
fn is_disguised(v6: Ipv6Addr) -> bool {
    v6.to_ipv4().is_some() && !v6.is_unspecified() && !v6.is_loopback()
}

/// What makes an address no endpoint in any remote, if anything.
fn misuse(address: IpAddr) -> Option<(&'static str, &'static str)> {
    let (link_local, broadcast, unspecified) = match address {
        // All of 0.0.0.0/8 is this host itself, and no other.
        IpAddr::V4(v4) => (v4.is_link_local(), v4.is_broadcast(), v4.octets()[0] == 0),
        IpAddr::V6(v6) if is_disguised(v6) => {
            return Some(("address-ipv4-mapped", "an IPv4 address written as IPv6"));
        }
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), false, v6.is_unspecified()),
    };
    [
        (address.is_loopback(), "address-loopback", "a loopback address"),
        (unspecified, "address-unspecified", "unspecified"),
        (address.is_multicast(), "address-multicast", "a multicast address"),
        (link_local, "address-link-local", "a link-local address"),
        (broadcast, "address-broadcast", "the broadcast address"),
        (
            METADATA_SERVICES.contains(&address),
            "address-metadata",
            "that of a cloud's metadata service",
        ),
    ]
    .into_iter()
    .find_map(|(is, rule, what)| is.then_some((rule, what)))
}
