//! Bounds and rules of the CRD, and what the derive cannot say.

use std::net::IpAddr;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

/// Enabled services of one `RemoteIstio`.
pub const SERVICES_MAX: usize = 128;

/// Namespaces of one `RemoteIstio`.
pub const NAMESPACES_MAX: usize = 1_000;

/// Static addresses of one enabled service.
pub const ADDRESSES_MAX: usize = 100;

/// Ports of one enabled service.
pub const PORTS_MAX: usize = 32;

/// Bytes of a label selector.
pub const SELECTOR_MAX_BYTES: usize = 512;

/// Bytes of a list of IP ranges.
pub const RANGES_MAX_BYTES: usize = 4_096;

/// The notation of [`crate::index::Selector`], or nothing.
pub(super) const SELECTOR_RULE: &str = "!self.trim().endsWith(',') && self.matches('^( *(! *([-a-z0-9.]+/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?|([-a-z0-9.]+/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?( *(=|==|!=) *([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?| +(in|notin) *[(] *([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?( *, *([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?)* *[)])?) *(,|$))*$')";

/// "*", or what [`EXCLUDED_RANGES_RULE`] says.
pub(super) const INCLUDED_RANGES_RULE: &str = "self.trim() == '*' || self.matches('^ *((((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])/(3[0-2]|[12]?[0-9])|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*/(12[0-8]|1[01][0-9]|[1-9]?[0-9])) *(, *(((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])/(3[0-2]|[12]?[0-9])|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*/(12[0-8]|1[01][0-9]|[1-9]?[0-9])) *)*)?$')";

/// CIDRs with commas between, or nothing. Expressions alone: to look at each range is dearer than the API server allows.
/// Of IPv6 the hub looks closer, see [`crate::index`].
pub(super) const EXCLUDED_RANGES_RULE: &str = "self.matches('^ *((((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])/(3[0-2]|[12]?[0-9])|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*/(12[0-8]|1[01][0-9]|[1-9]?[0-9])) *(, *(((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])/(3[0-2]|[12]?[0-9])|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*/(12[0-8]|1[01][0-9]|[1-9]?[0-9])) *)*)?$')";

/// Namespaces that are never injected.
pub const FORBIDDEN_NAMESPACES: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// Whether an address can be reached from another cluster at all.
#[must_use]
pub fn is_static_address(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(link_local || address.is_loopback() || address.is_multicast() || address.is_unspecified())
}

/// The derived definition as it is.
pub(super) fn completed(crd: CustomResourceDefinition) -> CustomResourceDefinition {
    crd
}
