//! Where endpoints must never lie in this cluster: its service ranges and its API server.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::ListParams;
use kube::{Api, Client, Error};
use remote_istio::policy::Range;

use crate::apply::explain;

/// The API server keeps its own addresses in the slice of this name.
const API_SERVER_SLICE: (&str, &str) = ("default", "kubernetes");

/// A pod finds the address of its API server in this variable.
const API_SERVER_VARIABLE: &str = "KUBERNETES_SERVICE_HOST";

/// Where to look.
#[derive(Clone)]
pub struct Surroundings {
    /// For calls.
    pub client: Client,
    /// The API server as it was configured.
    pub url: String,
}

/// The ranges that endpoints must never lie in. What is known of the API server beside its slice counts in any case.
///
/// # Errors
/// The service ranges cannot be read: without them nothing may be judged.
pub(super) async fn ranges(surroundings: &Surroundings) -> Result<BTreeSet<Range>, String> {
    let listed = Api::<ServiceCIDR>::all(surroundings.client.clone())
        .list(&ListParams::default())
        .await
        .map_err(|error| unlisted(&error))?;
    let mut ranges = service_ranges(&listed.items);
    let host = std::env::var(API_SERVER_VARIABLE).ok();
    ranges.extend(host.as_deref().and_then(literal).map(Range::single));
    ranges.extend(host_of(&surroundings.url).and_then(literal).map(Range::single));
    let (namespace, name) = API_SERVER_SLICE;
    let slices = Api::<EndpointSlice>::namespaced(surroundings.client.clone(), namespace);
    match slices.get_opt(name).await {
        Ok(slice) => ranges.extend(slice.iter().flat_map(addresses).map(Range::single)),
        Err(error) => {
            let error = explain(&error);
            tracing::warn!(
                %error, "the API server's own addresses cannot be read, so that of its configuration alone is never an \
                         endpoint; let the agent's role get endpointslice kubernetes of namespace default"
            );
        }
    }
    Ok(ranges)
}

/// Why there are no ranges, and what to do.
fn unlisted(error: &Error) -> String {
    let remedy = match error {
        Error::Api(status) if status.code == 404 => {
            "this cluster does not serve servicecidrs of networking.k8s.io/v1, which Kubernetes has since 1.33: upgrade \
             it, or keep the agent at the release before"
        }
        _ => "let the agent's role list servicecidrs of networking.k8s.io",
    };
    let error = explain(error);
    format!("the service ranges of this cluster cannot be listed ({error}); {remedy}")
}

fn service_ranges(listed: &[ServiceCIDR]) -> BTreeSet<Range> {
    let texts = listed.iter().filter_map(|range| range.spec.as_ref());
    // The API server takes no others than those that can be read.
    let ranges = texts.flat_map(|spec| spec.cidrs.iter().flatten());
    ranges.filter_map(|text| text.parse().ok()).collect()
}

fn addresses(slice: &EndpointSlice) -> Vec<IpAddr> {
    let endpoints = slice
        .endpoints
        .iter()
        .flatten()
        .flat_map(|endpoint| &endpoint.addresses);
    endpoints.filter_map(|text| literal(text)).collect()
}

fn literal(text: &str) -> Option<IpAddr> {
    text.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn host_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split('/').next()?;
    if authority.starts_with('[') {
        return authority.split(']').next().map(|host| &host[1..]);
    }
    authority.split(':').next()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::networking::v1::ServiceCIDRSpec;
    use kube::core::Status;

    use super::*;

    #[test]
    fn cluster_without_service_ranges_to_read_is_told_from_a_missing_right() {
        let answered =
            |message: &str, code| unlisted(&Error::Api(Box::new(Status::failure(message, "").with_code(code))));
        let old = answered("404 page not found", 404);
        assert!(
            old.contains("404 page not found") && old.contains("since 1.33"),
            "{old}"
        );
        assert!(!old.contains("role"), "{old}");
        let forbidden = answered("forbidden", 403);
        assert!(
            forbidden.contains("forbidden") && forbidden.contains("role"),
            "{forbidden}"
        );
        assert!(!forbidden.contains("1.33"), "{forbidden}");
    }

    #[test]
    fn every_service_range_of_both_families_counts() {
        let range = |cidrs: &[&str]| ServiceCIDR {
            spec: Some(ServiceCIDRSpec {
                cidrs: Some(cidrs.iter().map(|&text| text.to_owned()).collect()),
            }),
            ..ServiceCIDR::default()
        };
        let listed = [range(&["10.96.0.0/12", "fd00:10::/108"]), range(&["10.120.0.0/16"])];
        let expected = ["10.96.0.0/12", "fd00:10::/108", "10.120.0.0/16"].map(|text| text.parse().unwrap());
        assert_eq!(service_ranges(&listed), BTreeSet::from(expected));
    }

    #[test]
    fn api_server_counts_where_it_is_given_by_an_address() {
        for (url, address) in [
            ("https://10.1.2.3:6443/", Some("10.1.2.3")),
            ("https://10.1.2.3", Some("10.1.2.3")),
            ("https://[fd00::1]:6443/path", Some("fd00::1")),
            ("https://api.example:6443/", None),
        ] {
            let found = host_of(url).and_then(literal);
            assert_eq!(found, address.map(|text| text.parse().unwrap()), "{url}");
        }
    }
}
