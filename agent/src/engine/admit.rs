//! What this remote lets the hub ask for.

use std::net::IpAddr;

use remote_istio::lane::NackReason;
use remote_istio::model::{Key, Object};

use super::Settings;

/// Namespaces of Kubernetes itself, where nothing is ever written.
const KUBERNETES_NAMESPACES: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// Whether the remote's policy lets the hub ask for this object.
///
/// # Errors
/// The reason and the words to refuse it with.
pub fn admit(settings: &Settings, key: &Key, object: &Object) -> Result<(), (NackReason, String)> {
    let refused = |detail: String| Err((NackReason::Policy, detail));
    let namespace = key.namespace();
    if KUBERNETES_NAMESPACES.contains(&namespace) {
        return refused(format!(
            "namespace {namespace} belongs to Kubernetes, nothing is written there"
        ));
    }
    if let Key::Injection { .. } = key
        && namespace == settings.namespace
    {
        return refused(format!(
            "namespace {namespace} is the agent's own and is never injected"
        ));
    }
    if !serves(settings, key) {
        return refused(format!(
            "namespace {namespace} is not among those the agent may write services into: add it to its flag --service-namespaces"
        ));
    }
    let mut addresses = object.endpoints().into_iter().flat_map(|set| set.endpoints.keys());
    match addresses.find_map(|address| Some((address, misuse(*address)?))) {
        Some((address, what)) => refused(format!("address {address} is {what}, traffic is never sent there")),
        None => Ok(()),
    }
}

/// Whether a key lies in a namespace this agent watches.
#[must_use]
pub fn serves(settings: &Settings, key: &Key) -> bool {
    matches!(key, Key::Injection { .. }) || settings.service_namespaces.contains(key.namespace())
}

/// What makes an address no endpoint, if anything.
fn misuse(address: IpAddr) -> Option<&'static str> {
    let (link_local, broadcast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.is_broadcast()),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => return Some("an IPv4 address written as IPv6"),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), false),
    };
    [
        (address.is_loopback(), "a loopback address"),
        (address.is_unspecified(), "unspecified"),
        (address.is_multicast(), "a multicast address"),
        (link_local, "a link-local address"),
        (broadcast, "the broadcast address"),
    ]
    .into_iter()
    .find_map(|(is, what)| is.then_some(what))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use remote_istio::model::{Body, Endpoint, EndpointSet, ServiceIntent};

    use super::super::tests::settings;
    use super::*;

    fn service() -> Object {
        Object::new(1, None, Body::Service(ServiceIntent::default()))
    }

    fn endpoints(address: &str) -> Object {
        let endpoints = BTreeMap::from([(address.parse().unwrap(), Endpoint::ready())]);
        Object::new(
            1,
            None,
            Body::Endpoints(EndpointSet {
                endpoints,
                port_sets: vec![],
            }),
        )
    }

    #[test]
    fn services_outside_the_named_namespaces_are_refused_by_the_flags_name() {
        let settings = settings();
        assert_eq!(admit(&settings, &Key::service("istio-system", "a"), &service()), Ok(()));
        let (reason, detail) = admit(&settings, &Key::service("default", "a"), &service()).unwrap_err();
        assert_eq!(reason, NackReason::Policy);
        assert!(detail.contains("--service-namespaces"), "{detail}");
    }

    #[test]
    fn kubernetes_namespaces_are_refused_even_when_listed() {
        let mut settings = settings();
        settings.service_namespaces.insert("kube-system".to_owned());
        for key in [
            Key::service("kube-system", "a"),
            Key::injection("kube-public"),
            Key::injection("kube-node-lease"),
        ] {
            assert!(admit(&settings, &key, &service()).is_err(), "{key}");
        }
    }

    #[test]
    fn the_agents_own_namespace_is_never_injected() {
        let injection = Object::new(1, None, Body::Injection);
        assert!(admit(&settings(), &Key::injection("istio-system"), &injection).is_err());
        assert_eq!(admit(&settings(), &Key::injection("default"), &injection), Ok(()));
    }

    #[test]
    fn addresses_that_reach_the_node_itself_are_refused() {
        let key = Key::endpoints("istio-system", "a");
        for address in [
            "127.0.0.1",
            "::1",
            "0.0.0.0",
            "::",
            "169.254.169.254",
            "fe80::1",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "::ffff:127.0.0.1",
        ] {
            let refused = admit(&settings(), &key, &endpoints(address)).map_err(|(reason, _)| reason);
            assert_eq!(refused, Err(NackReason::Policy), "{address}");
        }
        for address in ["10.0.0.1", "192.168.1.1", "2001:db8::1", "fd00::1"] {
            assert_eq!(admit(&settings(), &key, &endpoints(address)), Ok(()), "{address}");
        }
    }
}
