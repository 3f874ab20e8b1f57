//! The injector's ready pods. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::discovery::v1::EndpointSlice;

/// Where it listens unless the slice says otherwise.
const PORT: u16 = 443;

/// So many pods are asked at most.
const PODS: usize = 16;

/// Addresses of its ready pods, in order.
pub(super) fn ready(slices: &[EndpointSlice]) -> Vec<SocketAddr> {
    let mut addresses = BTreeSet::new();
    for slice in slices {
        let port = slice.ports.iter().flatten().find_map(|port| port.port);
        let port = port.and_then(|port| u16::try_from(port).ok()).unwrap_or(PORT);
        let is_ready = |conditions: Option<bool>| conditions.unwrap_or(true);
        let endpoints = slice.endpoints.iter().flatten();
        let endpoints =
            endpoints.filter(|endpoint| is_ready(endpoint.conditions.as_ref().and_then(|conditions| conditions.ready)));
        // All addresses of an endpoint are of one pod.
        let first = endpoints.filter_map(|endpoint| endpoint.addresses.first()?.parse::<IpAddr>().ok());
        addresses.extend(first.map(|address| SocketAddr::new(address, port)));
    }
    addresses.into_iter().take(PODS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(text: &str) -> EndpointSlice {
        serde_json::from_str(text).expect("a slice")
    }

    #[test]
    fn ready_pods_are_asked_at_the_port_of_their_slice() {
        let slices = [
            slice(
                r#"{"addressType": "IPv4", "ports": [{"port": 8443}], "endpoints": [
                    {"addresses": ["10.0.0.2"], "conditions": {"ready": true}},
                    {"addresses": ["10.0.0.3"], "conditions": {"ready": false}},
                    {"addresses": ["10.0.0.1"]}]}"#,
            ),
            slice(r#"{"addressType": "IPv6", "endpoints": [{"addresses": ["fd00::1"], "conditions": {}}]}"#),
            slice(r#"{"addressType": "FQDN", "endpoints": [{"addresses": ["a.example"]}]}"#),
        ];
        let expected =
            ["10.0.0.1:8443", "10.0.0.2:8443", "[fd00::1]:443"].map(|text| text.parse().expect("an address"));
        assert_eq!(ready(&slices), expected);
    }

    #[test]
    fn same_pod_in_two_slices_is_asked_once() {
        let text = r#"{"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.2"]}]}"#;
        assert_eq!(ready(&[slice(text), slice(text)]).len(), 1);
    }
}
