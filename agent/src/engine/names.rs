//! What the agent's objects are called and labelled.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use remote_istio::identity::RemoteName;
use remote_istio::model::{Canonical, Key};

use super::{Kind, ObjectName, Settings};

/// The labels that say whose an object is.
pub const OWNER_LABELS: [&str; 2] = [MANAGED_BY, OWNER];

/// Who manages an object, for people and tools.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The agent's name there, and as field manager.
pub const AGENT: &str = "remote-istio-agent";
/// Which mesh and remote an object belongs to: two meshes can share a remote.
pub const OWNER: &str = "istio.banzaicloud.io/owner";
/// What a slice keeps: see [`super::kept::Kept`].
pub const KEPT: &str = "istio.banzaicloud.io/kept";
/// Ties a slice to its service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Keeps the built-in controllers away from a slice.
pub const SLICE_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Keeps the built-in controllers from making slices of an `Endpoints` object.
pub const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Says that an `Endpoints` object does not hold all addresses.
pub const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Istio's own label on namespaces.
pub const INJECTION: &str = "istio-injection";
/// The seed's label on namespaces it injects.
pub const MANAGED_INJECTION: &str = "istio-operator-managed-injection";

/// Longest name of an object, bytes: all are DNS labels.
const NAME_MAX: usize = 63;
/// Bytes of a remote's name that the owner label shows before the hash.
const OWNER_READABLE: usize = 40;

/// First `digits` hexadecimal digits of a hash over `texts`.
fn short_hash(kind: &str, texts: &[&str], digits: usize) -> String {
    let canonical = texts
        .iter()
        .fold(Canonical::new(kind), |canonical, text| canonical.text(text));
    let mut hash = canonical.version().to_string();
    hash.truncate(digits);
    hash
}

/// The value of the owner label: readable, and different for every trust domain and remote.
#[must_use]
pub fn owner_of(trust_domain: &str, remote: &RemoteName) -> String {
    let remote = remote.as_str();
    let readable = &remote[..remote.len().min(OWNER_READABLE)];
    format!("{readable}.{}", short_hash("owner", &[trust_domain, remote], 16))
}

/// The labels that every object of this agent carries.
#[must_use]
pub fn owner_labels(settings: &Settings) -> BTreeMap<String, String> {
    BTreeMap::from([
        (MANAGED_BY.to_owned(), AGENT.to_owned()),
        (OWNER.to_owned(), settings.owner.clone()),
    ])
}

/// Whether an object carries the labels of this agent.
#[must_use]
pub fn carries_owner(metadata: &ObjectMeta, owner: &str) -> bool {
    let has = |label: &str, value: &str| {
        metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(label))
            .is_some_and(|found| found == value)
    };
    has(MANAGED_BY, AGENT) && has(OWNER, owner)
}

/// The record of a key. The owner is part of the hash, so that two agents can share a namespace.
#[must_use]
pub fn record(settings: &Settings, key: &Key) -> ObjectName {
    let hash = short_hash("record", &[&settings.owner, &key.to_string()], 24);
    let name = format!("remote-istio-{}-{hash}", key.kind());
    ObjectName {
        kind: Kind::ConfigMap,
        namespace: settings.namespace.clone(),
        name,
    }
}

/// What all slices of a service and address family have before their ordinal. The hash keeps long names with a common
/// start apart.
#[must_use]
pub fn slice_prefix(key: &Key, ipv6: bool) -> String {
    let hash = short_hash("slice", &[&key.to_string()], 10);
    let tail = format!("-v{}-{hash}-", if ipv6 { 6 } else { 4 });
    let name = key.name().unwrap_or_default();
    // Room for four digits of ordinal: 20 000 addresses make 200 slices, one address in each port set some more.
    let room = NAME_MAX - tail.len() - 4;
    format!("{}{tail}", &name[..name.len().min(room)])
}

/// Names of the objects of a service that bear its own name.
#[must_use]
pub fn of_service(kind: Kind, key: &Key) -> ObjectName {
    ObjectName {
        kind,
        namespace: key.namespace().to_owned(),
        name: key.name().unwrap_or_default().to_owned(),
    }
}

/// The name of a namespace.
#[must_use]
pub fn namespace(name: &str) -> ObjectName {
    ObjectName {
        kind: Kind::Namespace,
        namespace: String::new(),
        name: name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::settings;
    use super::*;

    #[test]
    fn names_are_dns_labels_however_long_the_service_is() {
        let long = "a".repeat(63);
        for key in [Key::endpoints("n", &long), Key::endpoints("n", "short")] {
            let slice = format!("{}{}", slice_prefix(&key, true), 9_999);
            assert!(remote_istio::model::is_dns_label(&slice), "{slice}");
            assert!(remote_istio::model::is_dns_label(&record(&settings(), &key).name));
        }
    }

    #[test]
    fn long_names_with_a_common_start_have_slices_of_their_own() {
        let (one, two) = (format!("{}-one", "a".repeat(58)), format!("{}-two", "a".repeat(58)));
        let prefixes = [one, two].map(|name| slice_prefix(&Key::endpoints("n", &name), false));
        assert_ne!(prefixes[0], prefixes[1]);
    }

    #[test]
    fn another_mesh_is_another_owner() {
        let ours = settings();
        let mut theirs = settings();
        theirs.owner = owner_of("other.example", &RemoteName::new("remote-1").unwrap());
        let metadata = ObjectMeta {
            labels: Some(owner_labels(&theirs)),
            ..ObjectMeta::default()
        };
        assert!(carries_owner(&metadata, &theirs.owner));
        assert!(!carries_owner(&metadata, &ours.owner));
        assert_ne!(
            record(&ours, &Key::injection("a")),
            record(&theirs, &Key::injection("a"))
        );
    }
}
