//! `RemoteIstio`: the resource on central that describes one remote. The CRD is generated from these types.

mod component;
mod identity;
mod lifecycle;
mod policy;
mod schema;
mod status;
#[cfg(test)]
mod tests;
mod token;

use kube::{CustomResource, CustomResourceExt as _, KubeSchema};
use serde::{Deserialize, Serialize};

pub use component::{
    Component, NODE_SELECTOR_MAX, PULL_SECRETS_MAX, Proxy, ProxyInit, PullPolicy, PullSecret, Quantity, REPLICAS_MAX,
    RESOURCE_NAMES, Resources, TOLERATIONS_MAX,
};
pub use identity::{RemoteIdentity, RemoteIdentitySpec, RemoteIdentityStatus, Revocation};
pub use lifecycle::{DeletionPolicy, LOST_AFTER_DEFAULT, LostAction, WhenHubLost};
pub use policy::PolicyStatus;
pub use schema::{
    ADDRESSES_MAX, FORBIDDEN_NAMESPACES, NAMESPACES_MAX, PORTS_MAX, RANGES_MAX_BYTES, SELECTOR_MAX_BYTES, SERVICES_MAX,
    is_static_address,
};
pub use status::{ComponentStatus, RemoteIstioStatus, ServiceStatus, SessionStatus, State};
pub use token::{Approval, JoinToken, JoinTokenSpec, JoinTokenStatus, TokenClaim, TokenState};

/// Held by the hub until the remote has let go of what it was sent.
pub const FINALIZER: &str = "istio.banzaicloud.io/remote-istio-hub";

/// Annotation of a `RemoteIstio`: the generation whose removals a person lets through the guard.
pub const RELEASE_GUARD_ANNOTATION: &str = "istio.banzaicloud.io/release-guard";

/// Annotation of a `RemoteIstio` by which a person decides what becomes of a deletion that is held: with `withdraw` it goes
/// on, with `keep` the remote keeps what it has.
pub const DELETION_ANNOTATION: &str = "istio.banzaicloud.io/deletion";

/// Annotation of a `RemoteIstio` that is being deleted: with `true` it no longer waits for a remote that is away, or that
/// cannot remove something.
pub const FORCE_DELETE_ANNOTATION: &str = "istio.banzaicloud.io/force-delete";

/// What one remote should hold.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "istio.banzaicloud.io",
    version = "v1beta1",
    kind = "RemoteIstio",
    plural = "remoteistios",
    singular = "remoteistio",
    namespaced,
    status = "RemoteIstioStatus",
    derive = "Default",
    derive = "PartialEq",
    label("controller-tools.k8s.io", "1.0"),
    validation = Rule::new("size(self.metadata.name) <= 63 && !self.metadata.name.contains('.')")
        .message("the name must be a DNS label, it becomes the remote's name in certificates: use at most 63 characters and '-' in place of '.'"),
    doc = "One remote: what of the central control plane it must resolve, and which of its namespaces are injected.",
    printcolumn(name = "Status", type_ = "string", json_path = ".status.Status"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Connected",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Connected\")].status"
    ),
    printcolumn(name = "Contact", type_ = "date", json_path = ".status.lastContact"),
    printcolumn(name = "Agent", type_ = "string", json_path = ".status.agentVersion"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Error", type_ = "string", json_path = ".status.ErrorMessage", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct RemoteIstioSpec {
    /// Services of central that the remote must resolve.
    #[schemars(length(max = SERVICES_MAX))]
    #[x_kube(validation = Rule::new(
            "self.all(a, self.exists_one(b, a.name == b.name && has(a.__namespace__) == has(b.__namespace__) && (!has(a.__namespace__) || a.__namespace__ == b.__namespace__)))"
        )
        .message("a service stands more than once: remove all but one entry of each name and namespace"))]
    pub enabled_services: Vec<EnabledService>,
    /// Namespaces of the remote whose pods get sidecars.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = NAMESPACES_MAX), inner(length(max = 63)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(n, n.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'))")
            .message("each must be the name of a namespace: lower case letters, digits and '-', at most 63"),
        validation = Rule::new("!self.exists(n, n in ['kube-system', 'kube-public', 'kube-node-lease'])")
            .message("kube-system, kube-public and kube-node-lease are never injected: remove them")
    )]
    pub auto_injection_namespaces: Vec<String>,
    /// Outbound ranges the sidecars capture: "*" (where not given or empty) or CIDRs with commas between.
    #[serde(default, rename = "includeIPRanges", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = RANGES_MAX_BYTES))]
    #[x_kube(validation = Rule::new(schema::INCLUDED_RANGES_RULE)
        .message("must be \"*\", or CIDRs with commas between like 10.0.0.0/8,192.168.0.0/16"))]
    pub include_ip_ranges: Option<String>,
    /// Outbound ranges the sidecars leave alone: CIDRs with commas between; none where not given or empty.
    #[serde(default, rename = "excludeIPRanges", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = RANGES_MAX_BYTES))]
    #[x_kube(validation = Rule::new(schema::EXCLUDED_RANGES_RULE)
        .message("must be CIDRs with commas between like 10.0.0.0/8,192.168.0.0/16, or empty"))]
    pub exclude_ip_ranges: Option<String>,
    /// Mutual TLS between sidecars and the control plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_plane_security_enabled: Option<bool>,
    /// Citadel in the remote; none where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub citadel: Option<Component>,
    /// The sidecar injector in the remote; none where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sidecar_injector: Option<Component>,
    /// The sidecars that it injects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
    /// The init containers that it injects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_init: Option<ProxyInit>,
    /// What becomes of what stands in the remote when this is deleted; `Delete` where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// Nothing that changes is sent to the remote while this is true; it keeps what it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// What the agent does by itself when the hub is lost; nothing where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_hub_lost: Option<WhenHubLost>,
}

/// One service of central that the remote must resolve.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnabledService {
    /// Name of the service, on central and in the remote.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("must be the name of a Service: lower case letters, digits and '-', starting with a letter, at most 63"))]
    pub name: String,
    /// Namespace of the service, on central and in the remote; the `RemoteIstio`'s own where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("must be the name of a namespace: lower case letters, digits and '-', at most 63"))]
    pub namespace: Option<String>,
    /// Selects the pods of central behind it, e.g. "app=pilot,track in (stable,canary)". Where not given or empty,
    /// the selector of the Service on central.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = SELECTOR_MAX_BYTES))]
    #[x_kube(validation = Rule::new(schema::SELECTOR_RULE)
        .message("must be a label selector: requirements with commas between, each like app=pilot, app!=pilot, track in (stable,canary), track notin (old), app or !app"))]
    pub label_selector: Option<String>,
    /// Further addresses that are always among the endpoints.
    #[serde(default, rename = "podIPs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = ADDRESSES_MAX), inner(length(max = 45)))]
    #[x_kube(validation = Rule::new("self.all(a, isIP(a) && ip(a).isGlobalUnicast())")
        .message("each must be an IP address that other clusters reach, like 10.1.2.3 or fd00::1: no loopback, link-local, multicast or unspecified address"))]
    pub pod_ips: Vec<String>,
    /// Ports of the service; those of the Service on central where none are given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = PORTS_MAX))]
    #[x_kube(validation = Rule::new("size(self) <= 1 || self.all(p, has(p.name) && p.name != '')")
        .message("name each port when there are several"))]
    #[x_kube(validation = Rule::new("self.all(p, !has(p.name) || self.exists_one(q, has(q.name) && q.name == p.name))")
        .message("two ports have the same name: rename one"))]
    pub ports: Vec<ServicePort>,
}

/// One port of an enabled service, with the fields of a port of a Service that have a meaning here.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Name of the port; needed when there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    #[x_kube(validation = Rule::new("self == '' || self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("must be the name of a port: lower case letters, digits and '-', at most 63"))]
    pub name: Option<String>,
    /// Number of the port, 1 to 65535.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
    /// TCP (where not given), UDP or SCTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["TCP", "UDP", "SCTP"]))]
    pub protocol: Option<String>,
    /// Application protocol, as in a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub app_protocol: Option<String>,
    /// Number or name of the port on the pods; `port` where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_port: Option<TargetPort>,
}

/// Where a port leads on the pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TargetPort {
    /// The number itself.
    Number(i32),
    /// The name of a container port, looked up on each pod.
    Name(String),
}

/// The definitions as they lie in the hub's chart: the name of each file, and its YAML.
///
/// # Panics
/// Never: the definitions are fixed when the program is built, and a test prints them.
#[must_use]
pub fn crd_files() -> [(&'static str, String); 3] {
    let yaml = |crd| {
        let crd = schema::completed(crd);
        serde_saphyr::to_string(&crd).expect("a fixed definition, printed by a test")
    };
    [
        ("remoteistios.yaml", yaml(RemoteIstio::crd())),
        ("remoteidentities.yaml", yaml(RemoteIdentity::crd())),
        ("jointokens.yaml", yaml(JoinToken::crd())),
    ]
}

/// All definitions in one YAML stream.
#[must_use]
pub fn crd_yaml() -> String {
    let documents = crd_files().map(|(_, yaml)| format!("{}\n", yaml.trim_end()));
    documents.join("---\n")
}

impl schemars::JsonSchema for TargetPort {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TargetPort".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "x-kubernetes-int-or-string": true,
            "minimum": 1,
            "maximum": 65_535,
            "maxLength": 15,
            "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        })
    }
}
