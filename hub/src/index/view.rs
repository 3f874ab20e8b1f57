//! What the watches tell the index: the parts of central's objects that matter.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use remote_istio::identity::RemoteName;
use remote_istio::model::Protocol;

use crate::crd::RemoteIstio;

/// A pod of central.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Ready by its condition.
    pub ready: bool,
    /// Marked for deletion.
    pub terminating: bool,
    /// Its addresses, of all families.
    pub addresses: BTreeSet<IpAddr>,
    /// Named ports of its containers.
    pub ports: Vec<NamedPort>,
    /// Its resourceVersion.
    pub position: u64,
}

impl PodView {
    /// Whether it takes traffic: Ready by its condition, with an address, and not being deleted.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.ready && !self.terminating && !self.addresses.is_empty()
    }

    /// Whether an index computes the same from both: everything but the position is equal.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        let Self {
            namespace,
            name,
            labels,
            ready,
            terminating,
            addresses,
            ports,
            position: _,
        } = self;
        *namespace == other.namespace
            && *name == other.name
            && *labels == other.labels
            && *ready == other.ready
            && *terminating == other.terminating
            && *addresses == other.addresses
            && *ports == other.ports
    }
}

/// A named port of a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedPort {
    /// Its name.
    pub name: String,
    /// Its number.
    pub number: u16,
    /// Its transport protocol.
    pub protocol: Protocol,
}

/// A Service of central.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its selector; empty where it has none.
    pub selector: BTreeMap<String, String>,
    /// Its ports, in its order.
    pub ports: Vec<PortView>,
    /// Its resourceVersion.
    pub position: u64,
}

/// A port of a service, before its target is looked up on the pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortView {
    /// Its name, empty where it has none.
    pub name: String,
    /// Its number on the service.
    pub number: u16,
    /// Its transport protocol.
    pub protocol: Protocol,
    /// Its application protocol, empty where unset.
    pub app_protocol: String,
    /// Where it leads on the pods.
    pub target: Target,
}

/// Where a port leads on the pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A number.
    Number(u16),
    /// The name of a container port.
    Name(String),
}

/// A `RemoteIstio`.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteView {
    /// The remote it describes.
    pub remote: RemoteName,
    /// The object as watched; with an empty spec where it could not be read.
    pub object: Arc<RemoteIstio>,
    /// Why the object could not be read.
    pub broken: Option<String>,
}

impl RemoteView {
    /// Nothing where the object's name names no remote: it is not a DNS label.
    #[must_use]
    pub fn new(object: RemoteIstio) -> Option<Self> {
        let remote = RemoteName::new(object.metadata.name.as_deref()?)?;
        Some(Self {
            remote,
            object: Arc::new(object),
            broken: None,
        })
    }
}
